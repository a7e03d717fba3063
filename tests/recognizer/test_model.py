"""The graph of one batch measures the recordings and gives no answer without speech; long recordings are pooled."""

import numpy as np
import pytest
import tensorflow as tf
from sounds import noise, syllables

from emokeras import export
from emokeras.config import Config, EnsembleConfig, ExperimentConfig, SpeechConfig, TcnConfig
from emokeras.data import features
from emokeras.data.activity import recording_quality
from emokeras.recognizer import Recognizer, answers, load_recognizer
from emokeras.recognizer.answers import QUALITY
from emokeras.recognizer.model import input_signature

RATE = 16000
WITHOUT_SPEECH = {
    "silence": np.zeros(RATE),
    "offset": np.full(RATE, 0.3),
    "10 ms": syllables(0.01),
    "NaN": np.full(RATE, np.nan),
    "infinite": np.where(np.arange(RATE) == 5000, np.inf, syllables(1.0)),
    "steady noise": noise(2 * RATE),
}


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    return export.export(trained_run, tmp_path_factory.mktemp("saved_models") / "tiny", say=lambda line: None)


@pytest.fixture(scope="module", params=["run", "export"])
def model(request, trained_run, exported):
    return load_recognizer(trained_run if request.param == "run" else exported)


def batch_of(model, *waveforms: np.ndarray) -> dict[str, np.ndarray]:
    longest = max(map(len, waveforms))
    padded = np.stack([np.pad(waveform, (0, longest - len(waveform))) for waveform in waveforms])
    outputs = model.predict_batch(waveform=tf.constant(padded, tf.float32))
    return {name: value.numpy() for name, value in outputs.items()}


def test_speech_gets_an_emotion_and_its_quality(model):
    clips = [syllables(0.7), syllables(2.0, silence_seconds=0.5) + noise(3 * RATE, 3e-3)]
    outputs = batch_of(model, *clips)
    assert set(outputs) == {"probabilities", "emotion", *QUALITY}
    assert outputs["probabilities"].shape == (2, len(model.emotions))
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1.0, atol=1e-5)
    expected = [model.emotions[number] for number in outputs["probabilities"].argmax(axis=1)]
    assert [name.decode() for name in outputs["emotion"]] == expected
    for number, clip in enumerate(clips):
        for name, value in recording_quality(clip[np.newaxis], RATE).items():
            assert outputs[name][number] == pytest.approx(float(value[0]), rel=1e-3), name


@pytest.mark.parametrize("name", WITHOUT_SPEECH)
def test_without_speech_there_is_no_emotion(model, name):
    outputs = batch_of(model, WITHOUT_SPEECH[name])
    assert np.isnan(outputs["probabilities"]).all()
    assert outputs["emotion"].tolist() == [b""]
    assert outputs["speech_seconds"] == 0


def test_what_is_no_speech_changes_nothing_beside_it(model):
    """A NaN in one recording is not in the answers for the others."""
    clip = syllables(1.5)
    together = batch_of(model, *WITHOUT_SPEECH.values(), clip)
    alone = batch_of(model, clip)
    np.testing.assert_allclose(together["probabilities"][-1:], alone["probabilities"], atol=1e-5)
    assert np.isnan(together["probabilities"][:-1]).all()
    assert together["emotion"][-1] == alone["emotion"][0] != b""


def test_a_call_with_more_than_ten_minutes_is_refused(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one call takes at most 600 s: cut the recording"):
        model.predict_batch(waveform=tf.zeros([1, 600 * RATE + 1]))


def test_the_answer_is_the_mean_over_the_windows_of_the_speech(trained_run):
    model = load_recognizer(trained_run)
    clip = np.concatenate([syllables(2.0), np.zeros(RATE, np.float32), syllables(3.0, seed=1)])
    inputs, weights = features.serving_inputs(model.config, {"waveform": clip[np.newaxis]})
    assert weights.shape[1] > 5
    windows = {name: value[0] for name, value in inputs.items()}
    logits = model.members[0].network(windows)["emotion"].numpy()
    np.testing.assert_allclose(model.predict([clip])[0], tf.nn.softmax(logits.mean(axis=0)), atol=1e-5)


def test_a_recording_is_answered_in_blocks_by_their_speech(model, monkeypatch):
    monkeypatch.setattr(answers, "BLOCK_SECONDS", 2.0)
    clip = np.concatenate([syllables(3.0), np.zeros(4 * RATE, np.float32), syllables(2.5, seed=1)])
    blocks = list(answers.blocks_of([clip], RATE))
    assert len(blocks) == 4
    alone = [batch_of(model, block) for block in blocks]
    speech = np.array([one["speech_seconds"][0] for one in alone])
    assert speech[2] == 0
    logarithms = np.log(np.stack([one["probabilities"][0] for one in alone])[speech > 0])
    expected = tf.nn.softmax(speech[speech > 0] @ logarithms / speech.sum())
    (_, answer), (_, short) = model.answer([blocks, blocks[:1]])
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)
    assert answer.quality["speech_seconds"] == pytest.approx(speech.sum(), abs=1e-3)
    np.testing.assert_allclose(short.probabilities, alone[0]["probabilities"][0], atol=1e-5)
    np.testing.assert_allclose(model.predict([clip, blocks[0]]), [answer.probabilities, short.probabilities], atol=1e-6)


def test_each_clip_has_a_row_also_one_without_samples(model):
    clip = syllables(1.0)
    probabilities = model.predict([clip, np.zeros(0, np.float32), clip])
    assert np.isnan(probabilities[1]).all()
    np.testing.assert_allclose(probabilities[[0, 2]], model.predict([clip, clip]), atol=1e-6)
    assert model.predict([]).shape == (0, len(model.emotions))


OF_TORCH = SpeechConfig(layers=(-1, 4), family="wav2vec2", units=12)


@pytest.mark.parametrize(
    ("inputs", "speech", "expected"),
    [
        (["speech"], SpeechConfig(), {"waveform": (None, None)}),
        (["speech"], OF_TORCH, {"speech": (None, None, 24), "speech_mask": (None, None)}),
        (["mfcc", "speech"], SpeechConfig(), {"waveform": (None, None)}),
        (
            ["mfcc", "speech"],
            OF_TORCH,
            {"waveform": (None, None), "speech": (None, None, 24), "speech_mask": (None, None)},
        ),
        (["speech", "tokens"], SpeechConfig(), {"waveform": (None, None), "transcript": (None,)}),
    ],
)
def test_a_graph_begins_at_the_waveform_or_at_the_frames_of_an_encoder_that_it_cannot_hold(inputs, speech, expected):
    config = Config("tiny", {name: TcnConfig() for name in inputs}, speech=speech)
    assert {spec.name: tuple(spec.shape) for spec in input_signature(config)} == expected
    others = EnsembleConfig("both", {"a": config, "b": Config("mel", {"spectrogram": TcnConfig()})}, "vote")
    assert {spec.name: tuple(spec.shape) for spec in input_signature(others)} == expected | {"waveform": (None, None)}


def test_a_speech_encoder_alone_gives_no_answer_without_speech():
    """Its graph begins at the frames, so the recordings are measured before it."""
    emotions = ("calm", "angry")
    config = Config("tiny", {"speech": TcnConfig()}, ExperimentConfig(emotions=emotions), speech=OF_TORCH)

    def predict_batch(speech, speech_mask):
        answer = tf.fill([len(speech), len(emotions)], 1 / len(emotions))
        return {"probabilities": answer, "emotion": tf.fill([len(speech)], emotions[0])}

    def encoder(waveforms):
        return {"speech": np.ones((len(waveforms), 250, 24)), "speech_mask": np.ones((len(waveforms), 250))}

    model = Recognizer(config, (), predict_batch, speech_encoder=encoder)
    spoken, silent = (answer for _, answer in model.answer([[syllables(1.0)], [noise(RATE)]]))
    assert spoken.is_given
    assert spoken.quality["speech_seconds"] == pytest.approx(1.0, abs=0.05)
    assert not silent.is_given
    assert silent.quality == dict.fromkeys(QUALITY, 0.0)


def test_a_model_of_transcripts_measures_nothing(text_run):
    outputs = load_recognizer(text_run).predict_batch(transcript=tf.constant(["hello", ""]))
    assert set(outputs) == {"probabilities", "emotion"}
