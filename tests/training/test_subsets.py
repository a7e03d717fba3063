"""Each subset has of its clips what the network takes: waveforms, variants, tokens, frames; each is made once."""

import numpy as np
import pytest
from conftest import tiny

from emokeras.config import Config, override, with_experiment
from emokeras.data.audio import load_waveforms
from emokeras.data.speech import encode_clips
from emokeras.data.splits import SUBSETS, draw_split
from emokeras.data.variants import make_variants
from emokeras.hub import speech_settings
from emokeras.recipes import RECIPES
from emokeras.recognizer.speech import load_speech_encoder
from emokeras.training import subsets
from emokeras.training.subsets import load_subsets, with_validation

CHANNEL = {"augment.num_variants": 2, "augment.equalization_decibels": 12.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "waveforms"


def config_of(recipe: str, folder, corpus, **values) -> Config:
    config = override(tiny(RECIPES[recipe].config), CHANNEL | values)
    if folder:
        found = {f"speech.{key}": value for key, value in speech_settings(str(folder)).items()}
        config = override(config, {"model.pretrained": str(folder)} | found)
    return with_experiment(config, emotions=corpus.emotions)


def load(config: Config, corpus, folder) -> dict[str, subsets.Subset]:
    return load_subsets(config, corpus, draw_split(corpus, config.experiment), folder, lambda line: None)


def test_each_subset_has_the_waveforms_of_its_clips_and_their_variants_in_the_order_of_their_numbers(
    small_corpus, tmp_path
):
    config = config_of("mel-cnn3", "", small_corpus)
    waveform_of = dict(zip(small_corpus.clips, load_waveforms(small_corpus.clips, 16000), strict=True))
    own, split = load(config, small_corpus, tmp_path), draw_split(small_corpus, config.experiment)
    for subset in SUBSETS:
        clips = own[subset].clips
        assert clips == [small_corpus.clips[number] for number in split.indices(subset)]
        assert [small_corpus.emotions[label] for label in own[subset].labels] == [clip.emotion for clip in clips]
        assert own[subset].tokens is own[subset].speech is None
        for clip, waveform, varied in zip(clips, own[subset].waveforms, own[subset].variants, strict=True):
            np.testing.assert_array_equal(waveform, waveform_of[clip])
            assert len(varied) == 2
            for number, variant in enumerate(varied, 1):
                (expected,) = make_variants(number, [clip], [waveform], config.augment, 16000)
                np.testing.assert_array_equal(variant, expected)


def test_each_subset_has_the_frames_of_its_clips_and_then_of_their_variants(small_corpus, whisper_model, tmp_path):
    config = config_of("speech-tcn", whisper_model, small_corpus, **{"speech.layers": [-1, 1]})
    own = load(config, small_corpus, tmp_path)
    encoder, versions = load_speech_encoder(config), {}
    waveforms = load_waveforms(small_corpus.clips, 16000)
    for number in range(3):
        varied = waveforms
        if number:
            varied = make_variants(number, small_corpus.clips, waveforms, config.augment, 16000)
        frames = encode_clips(
            small_corpus.clips, lambda varied=varied: varied, config, lambda: encoder, f"test {number}"
        )
        versions |= {(clip, number): one for clip, one in zip(small_corpus.clips, frames, strict=True)}
    for subset in SUBSETS:
        assert own[subset].waveforms == []
        assert own[subset].variants is None
        for clip, frames in zip(own[subset].clips, own[subset].speech, strict=True):
            assert len(frames) == 3
            for number, one in enumerate(frames):
                assert one.shape[1] == 24
                np.testing.assert_array_equal(one, versions[clip, number])


def forbid(monkeypatch, *places) -> None:
    def fail(*_, **__):
        raise AssertionError("what is cached is made again")

    for module, name in places:
        monkeypatch.setattr(module, name, fail)


def test_cached_frames_need_neither_waveforms_nor_variants_nor_the_encoder(
    small_corpus, whisper_model, cache, tmp_path, monkeypatch
):
    config = config_of("speech-tcn", whisper_model, small_corpus)
    first = load(config, small_corpus, tmp_path)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 3
    names = [(subsets, "load_waveforms"), (subsets, "make_variants"), (subsets, "load_speech_encoder")]
    forbid(monkeypatch, *names)
    again = load(config, small_corpus, tmp_path)
    for subset in SUBSETS:
        for frames, others in zip(first[subset].speech, again[subset].speech, strict=True):
            for one, other in zip(frames, others, strict=True):
                np.testing.assert_array_equal(one, other)


def test_further_variants_are_all_that_is_made(small_corpus, whisper_model, tmp_path, monkeypatch):
    """Each number is cached for itself; the encoder is loaded once for all of them."""
    load(config_of("speech-tcn", whisper_model, small_corpus), small_corpus, tmp_path)
    made, loaded = [], []
    make, load_encoder = subsets.make_variants, subsets.load_speech_encoder
    monkeypatch.setattr(subsets, "make_variants", lambda number, *given: made.append(number) or make(number, *given))
    monkeypatch.setattr(subsets, "load_speech_encoder", lambda config: loaded.append(1) or load_encoder(config))
    more = config_of("speech-tcn", whisper_model, small_corpus, **{"augment.num_variants": 4})
    load(more, small_corpus, tmp_path)
    assert made == [3, 4]
    assert loaded == [1]


def test_validation_clips_join_the_training_clips_with_all_that_they_have(small_corpus, whisper_model, tmp_path):
    config = config_of("early-mel-text", "", small_corpus)
    config = override(config, {"model.branches": []})
    before = load(config, small_corpus, tmp_path)
    after = with_validation(before)
    np.testing.assert_array_equal(
        after["train"].tokens, np.concatenate([before["train"].tokens, before["validation"].tokens])
    )
    assert [len(varied) for varied in after["train"].variants] == [2] * 16
    before = load(config_of("speech-tcn", whisper_model, small_corpus), small_corpus, tmp_path)
    after = with_validation(before)
    assert len(after["validation"].clips) == 0
    assert after["test"] is before["test"]
    for frames, own in zip(after["train"].speech, before["train"].speech + before["validation"].speech, strict=True):
        assert frames is own
