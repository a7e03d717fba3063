"""A network on a frozen speech encoder is trained on cached frames, and served, exported and fused as any other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_arguments
from sounds import RATE, noise, syllables

from emokeras import ensemble, evaluate, export, runs, train
from emokeras.config import read_config
from emokeras.data.audio import load_waveforms
from emokeras.errors import RunError, UsageError
from emokeras.hub import speech_settings
from emokeras.models.late import combine, read_combination
from emokeras.recognizer import load_recognizer

CLIPS = [syllables(1.3), syllables(0.15, seed=1), syllables(13.0, silence_seconds=0.4, seed=2), noise(RATE)]


def train_speech(folder: Path, encoder: Path, corpus: Path, *arguments: str) -> Path:
    given = ["--corpus", str(corpus), "--run-dir", str(folder), "--set", f"model.pretrained={encoder}"]
    assert train.main(["speech-tcn", *given, *tiny_arguments("speech-tcn"), *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def encoder(whisper_model, tmp_path_factory):
    """Return a copy of the tiny Whisper, which tests may move away."""
    return Path(shutil.copytree(whisper_model, tmp_path_factory.mktemp("encoder") / "whisper"))


@pytest.fixture(scope="module")
def speech_run(encoder, demo_folder, tmp_path_factory):
    """Return the folder of a run of the shrunken speech-tcn on two layers of Whisper, on clips and their variants."""
    settings = ("speech.layers=3,1", "augment.num_variants=1", "training.learning_rate=0.02")
    arguments = [part for setting in settings for part in ("--set", setting)]
    return train_speech(tmp_path_factory.mktemp("runs") / "speech-tcn", encoder, demo_folder, *arguments)


@pytest.fixture(scope="module")
def exported(speech_run, tmp_path_factory):
    target = tmp_path_factory.mktemp("saved_models") / "speech-tcn"
    assert export.main([str(speech_run), str(target)]) == 0
    return target


@pytest.fixture
def without_encoder(encoder, speech_run):
    """Take the encoder away from where the run has it."""
    encoder.rename(encoder.with_name("away"))
    yield
    encoder.with_name("away").rename(encoder)


def signature_of(exported: Path) -> set[str]:
    return set(tf.saved_model.load(str(exported / "1")).signatures["serving_default"].structured_input_signature[1])


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """Return logits with a mean of 0 over the emotions."""
    logits = np.log(probabilities)
    return logits - logits.mean(axis=1, keepdims=True)


def test_the_configuration_has_what_was_read_from_the_encoder(speech_run, encoder):
    config = read_config(speech_run / "config.json")
    found = speech_settings(str(encoder))
    assert (config.speech.family, config.speech.units, config.speech.sha256) == ("whisper", 12, found["sha256"])
    assert config.speech.num_features == 24
    assert config.takes_waveform


def test_serving_gives_the_test_clips_the_answers_of_the_training(speech_run, demo_corpus):
    """Which was on cached frames, rounded to float16; here the graph encodes the waveforms."""
    names, _, _, _, trained = runs.read_predictions(speech_run / "predictions.csv")
    clip_of = {clip.name: clip for clip in demo_corpus.clips}
    served = load_recognizer(speech_run).predict(load_waveforms([clip_of[name] for name in names], RATE))
    assert np.ptp(logits_of(trained), axis=0).max() > 0.4  # The clips have different answers.
    np.testing.assert_allclose(logits_of(served), logits_of(trained), atol=5e-3)


def test_evaluate_computes_the_metrics_of_run_and_export(speech_run, exported, demo_folder):
    for model in (speech_run, exported):
        scores = evaluate.evaluate(model, corpus=str(demo_folder), say=lambda line: None)
        expected = runs.read_metrics(speech_run)["test"]
        assert scores["accuracy"] == pytest.approx(expected["accuracy"])
        assert scores["cross_entropy"] == pytest.approx(expected["cross_entropy"], abs=1e-2)


def test_the_export_takes_the_waveform_alone_and_gives_the_answers_of_the_run(speech_run, exported):
    assert signature_of(exported) == {"waveform"}
    expected = load_recognizer(speech_run).predict(CLIPS)
    assert np.isnan(expected[3]).all()  # noise
    assert np.isfinite(expected[:3]).all()
    np.testing.assert_allclose(load_recognizer(exported).predict(CLIPS), expected, atol=1e-5)
    for number, clip in enumerate(CLIPS):
        alone = load_recognizer(exported).predict([clip])[0]
        np.testing.assert_allclose(alone, expected[number], atol=1e-5)


def test_the_export_holds_the_encoder_in_float16(speech_run, exported):
    variables = tf.train.load_checkpoint(str(exported / "1" / "variables" / "variables"))
    dtypes = list(variables.get_variable_to_dtype_map().values())
    assert dtypes.count(tf.float16) == len(load_recognizer(speech_run).encoder.values) > 40
    assert dtypes.count(tf.float32) > 40  # those of the trained network


def test_an_export_needs_no_encoder_and_a_run_does(exported, speech_run, without_encoder):
    assert np.isfinite(load_recognizer(exported).predict(CLIPS[:1])).all()
    with pytest.raises(UsageError, match=r"config\.json.*give a speech model of transformers") as caught:
        load_recognizer(speech_run)
    assert "\n" not in str(caught.value)


def test_a_run_is_not_served_with_another_encoder(exported, speech_run, encoder, without_encoder):
    other = shutil.copytree(encoder.with_name("away"), encoder)
    try:
        content = bytearray((other / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (other / "model.safetensors").write_bytes(content)
        with pytest.raises(RunError, match="has other weights"):
            load_recognizer(speech_run)
        assert np.isfinite(load_recognizer(exported).predict(CLIPS[:1])).all()
    finally:
        shutil.rmtree(other)


@pytest.mark.slow
def test_an_ensemble_with_a_network_on_a_speech_encoder_is_served_and_exported(speech_run, trained_run, tmp_path):
    folder, members = tmp_path / "both", (trained_run, speech_run)
    assert ensemble.main([*map(str, members), "--run-dir", str(folder), "--method", "mean-logits"]) == 0
    each = [load_recognizer(member).predict(CLIPS) for member in members]
    expected = combine(np.stack(each), read_combination(folder / "ensemble.json"))
    assert np.abs(each[0] - each[1])[:3].max() > 0.01
    np.testing.assert_allclose(load_recognizer(folder).predict(CLIPS), expected, atol=1e-5)
    assert export.main([str(folder), str(tmp_path / "exported")]) == 0
    assert signature_of(tmp_path / "exported") == {"waveform"}
    np.testing.assert_allclose(load_recognizer(tmp_path / "exported").predict(CLIPS), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("without_graphs", "without_pictures")
def test_the_export_on_a_hubert_takes_its_frames(small_folder, small_corpus, speech_model, tmp_path):
    """PyTorch runs it beside the graph."""
    arguments = ("--set", "speech.layers=-1", "--epochs", "1")
    folder = train_speech(tmp_path / "run", speech_model, small_folder, *arguments)
    assert read_config(folder / "config.json").speech.family == "wav2vec2"
    assert export.main([str(folder), str(tmp_path / "exported")]) == 0
    assert signature_of(tmp_path / "exported") == {"speech", "speech_mask"}
    run, written = load_recognizer(folder), load_recognizer(tmp_path / "exported")
    expected = run.predict(CLIPS)
    assert np.isnan(expected[3]).all()
    assert np.isfinite(expected[:3]).all()
    np.testing.assert_allclose(written.predict(CLIPS), expected, atol=1e-5)
    names, _, _, _, trained = runs.read_predictions(folder / "predictions.csv")
    clip_of = {clip.name: clip for clip in small_corpus.clips}
    served = run.predict_clips([clip_of[name] for name in names], small_corpus)
    np.testing.assert_allclose(logits_of(served), logits_of(trained), atol=5e-3)
