"""The demo corpus: its files, its determinism, how hard it is, and its acoustics against the literature."""

import csv
import dataclasses
import re

import librosa
import numpy as np
import pytest
import soundfile
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emokeras.data.demo import corpus, make_demo_corpus
from emokeras.data.demo.cues import DEMO_EMOTIONS, EMOTIONS
from emokeras.errors import CorpusError, UsageError

NAME = re.compile(r"Actor_(\d\d)/03-01-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)\.wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("demo") / "corpus"
    make_demo_corpus(made)
    return made


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def waveforms(folder, rows):
    return [soundfile.read(folder / row["path"], dtype="float32")[0] for row in rows]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_are_enough_clips_of_every_speaker_and_emotion(folder, rows):
    assert len(rows) >= 480
    assert len(rows) == len(list(folder.rglob("*.wav")))
    speakers = {row["speaker"] for row in rows}
    assert len(speakers) >= 12
    counts = {(row["speaker"], row["emotion"]) for row in rows}
    assert len(counts) == len(speakers) * 8
    assert tuple(dict.fromkeys(row["emotion"] for row in rows)) == DEMO_EMOTIONS


def test_names_follow_ravdess_and_agree_with_the_manifest(folder, rows):
    for row in rows:
        actor, emotion, intensity, _, _, again = NAME.fullmatch(row["path"]).groups()
        assert actor == again == row["speaker"]
        assert DEMO_EMOTIONS[int(emotion) - 1] == row["emotion"]
        assert intensity == "01" or row["emotion"] != "neutral"
        assert (folder / row["path"]).is_file()
    assert {row["path"].split("-")[3] for row in rows if row["emotion"] == "sad"} == {"01", "02"}


def test_clips_are_16_khz_16_bit_mono_and_as_long_as_a_sentence(folder, rows):
    for row in rows:
        info = soundfile.info(folder / row["path"])
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 1.5 <= info.duration <= 3.5


def test_clips_begin_and_end_in_low_noise_and_never_reach_full_scale(waveforms):
    for waveform in waveforms:
        loudest = np.abs(waveform).max()
        assert 0.02 < loudest < 0.98
        assert 0 < np.abs(waveform[:800]).max() < 0.2 * loudest
        assert 0 < np.abs(waveform[-800:]).max() < 0.2 * loudest


def test_transcripts_are_short_sentences_some_with_an_ending(rows):
    assert all(re.fullmatch(r"[a-z]+( [a-z]+){3,7}[!?]?", row["transcript"]) for row in rows)
    for ending in "!?":
        assert 0.04 < np.mean([row["transcript"].endswith(ending) for row in rows]) < 0.35


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        make_demo_corpus(tmp_path / name, num_speakers=2, takes=1, seed=seed)
    first, second, other = (contents(tmp_path / name) for name in ("first", "second", "other"))
    assert first == second
    assert first.keys() == other.keys()
    assert not any(first[path] == other[path] for path in first)


def test_a_clip_does_not_depend_on_how_many_others_there_are(tmp_path, folder, rows):
    make_demo_corpus(tmp_path / "small", num_speakers=1, takes=2)
    small = contents(tmp_path / "small")
    whole = contents(folder)
    assert len(small) == 17
    assert all(whole[path] == small[path] for path in small if path.suffix == ".wav")


def mean_score(classifier, inputs, rows):
    """Return the accuracy in percent on speakers that were not trained on, mean of five folds."""
    emotions = [row["emotion"] for row in rows]
    speakers = [row["speaker"] for row in rows]
    return 100 * cross_val_score(classifier, inputs, emotions, groups=speakers, cv=GroupKFold(5)).mean()


def test_the_average_spectrum_alone_is_not_enough(waveforms, rows):
    means = [librosa.feature.mfcc(y=waveform, sr=16000, n_mfcc=20).mean(axis=1) for waveform in waveforms]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    assert 40 < mean_score(classifier, means, rows) < 70


def test_the_words_alone_are_not_enough(rows):
    classifier = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=2000))
    assert 40 < mean_score(classifier, [row["transcript"] for row in rows], rows) < 80


def pitch_hz(waveform):
    """Return the median pitch of the louder half of a clip."""
    track = librosa.yin(waveform, fmin=60, fmax=600, sr=16000, frame_length=1024)
    level = librosa.feature.rms(y=waveform, frame_length=1024, hop_length=256)[0][: len(track)]
    return np.median(track[: len(level)][level > np.median(level)])


def test_women_have_a_higher_pitch_than_men(waveforms, rows):
    neutral = [index for index, row in enumerate(rows) if row["emotion"] == "neutral"]
    male = [pitch_hz(waveforms[index]) for index in neutral if int(rows[index]["speaker"]) % 2 == 1]
    female = [pitch_hz(waveforms[index]) for index in neutral if int(rows[index]["speaker"]) % 2 == 0]
    assert 85 < np.median(male) < 145
    assert 160 < np.median(female) < 260


def test_emotions_differ_as_in_the_literature(waveforms, rows):
    measured = {"level": {}, "brightness": {}, "seconds": {}, "pitch": {}, "range": {}}
    for emotion in ("sad", "angry", "happy"):
        chosen = [waveform for waveform, row in zip(waveforms, rows, strict=True) if row["emotion"] == emotion]
        measured["level"][emotion] = np.mean([np.sqrt(np.mean(waveform**2)) for waveform in chosen])
        measured["brightness"][emotion] = np.mean([high_share(waveform) for waveform in chosen])
        measured["seconds"][emotion] = np.mean([len(waveform) for waveform in chosen]) / 16000
        measured["pitch"][emotion] = np.mean([pitch_hz(waveform) for waveform in chosen[::3]])
    for louder in ("angry", "happy"):
        assert measured["level"][louder] > 1.3 * measured["level"]["sad"]
        assert measured["brightness"][louder] > measured["brightness"]["sad"]
        assert measured["pitch"][louder] > 1.1 * measured["pitch"]["sad"]
        assert measured["seconds"][louder] < 0.85 * measured["seconds"]["sad"]


def high_share(waveform):
    """Return the share of a clip's energy between 1 and 4 kHz."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return power[len(power) // 8 : len(power) // 2].sum() / power.sum()


def test_every_emotion_has_cues_of_its_own():
    assert len({dataclasses.astuple(cues) for cues in EMOTIONS.values()}) == 8
    surprised, sad, fearful = (EMOTIONS[emotion] for emotion in ("surprised", "sad", "fearful"))
    assert surprised.final_semitones > 0 > sad.final_semitones
    assert fearful.tremor_semitones == max(cues.tremor_semitones for cues in EMOTIONS.values())


@pytest.mark.parametrize("wrong", [{"num_speakers": 0}, {"num_speakers": 25}, {"takes": 5}, {"takes": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        make_demo_corpus(tmp_path / "corpus", **wrong)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CorpusError, match="not empty"):
        make_demo_corpus(tmp_path, num_speakers=1, takes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "make_clip", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_demo_corpus(tmp_path / "corpus", num_speakers=1, takes=1)
    assert not any(tmp_path.iterdir())
