"""Windows of speech as features: those of the whole clip, not dependent on other clips, on padding or on the graph."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import tensorflow as tf
from sounds import RATE, noise, real_clips, syllables, vowel

from emokeras.config import (
    AudioConfig,
    AugmentConfig,
    CnnConfig,
    Config,
    MfccConfig,
    ProsodyConfig,
    SpectrogramConfig,
    TcnConfig,
)
from emokeras.data import features
from emokeras.data.activity import find_speech, without_offset
from emokeras.data.frames import speech_samples, window_start
from emokeras.data.spectrogram import log_mel_spectrogram, warped_filterbanks
from emokeras.data.speech import encode_speech

HOP = 160  # of the activity and of the default spectrogram, in samples
CONFIG = Config("tiny", {"spectrogram": CnnConfig()})
REAL = ("01-01-01-01-01", "05-02-02-01-12", "06-01-01-02-17")


def serve(waveforms: np.ndarray, config: Config = CONFIG) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return inputs and weights of clips [batch, samples], as NumPy."""
    inputs, weights = features.serving_inputs(config, {"waveform": tf.constant(waveforms)})
    return {name: value.numpy() for name, value in inputs.items()}, weights.numpy()


def taken(waveform: np.ndarray, config: Config = CONFIG) -> np.ndarray:
    return features.taken_speech(waveform[np.newaxis], config)[0].numpy()


def whole(waveform: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Return a waveform as a batch, and all of it as its speech."""
    return tf.constant(waveform[np.newaxis]), tf.ones([1, len(waveform) // HOP + 1], tf.bool)


def log_mel_of(waveform: np.ndarray) -> np.ndarray:
    return log_mel_spectrogram(without_offset(waveform[np.newaxis]), CONFIG.spectrogram, RATE)[0].numpy()


def two_parts(pause_seconds: float = 1.5) -> np.ndarray:
    """Return syllables with a long pause inside."""
    pause = noise(round(pause_seconds * RATE), 1e-5)
    return np.concatenate([syllables(1.7, silence_seconds=0.3), pause, syllables(2.4, seed=1)])


# The speech that is taken


def test_a_recording_without_speech_is_taken_whole():
    """So that training has its frames; in serving it gets no answer."""
    for waveform in (noise(20000), np.zeros(3000, np.float32), np.ones(1, np.float32)):
        expected = find_speech(waveform[np.newaxis], CONFIG.audio).recorded[0]
        padded = taken(np.pad(waveform, (0, 4000)))
        np.testing.assert_array_equal(padded[: len(expected)], expected)
        assert not padded[len(expected) :].any()


def test_of_a_recording_with_speech_the_speech_is_taken():
    waveform = two_parts()
    speech = taken(waveform)
    np.testing.assert_array_equal(speech, find_speech(waveform[np.newaxis], CONFIG.audio).speech[0])
    assert 380 < speech.sum() < 430
    assert not speech[:20].any()
    assert not speech[240:340].any()


# Inputs of a network


def test_serving_gives_the_windows_of_the_log_mel_spectrogram():
    """Of its frames that are speech, with long pauses left out."""
    for waveform in (syllables(3.2, silence_seconds=0.2), two_parts()):
        inputs, weights = serve(waveform[np.newaxis])
        assert {name: value.shape for name, value in inputs.items()} == {
            "spectrogram": (1, 2, 256, 80),
            "spectrogram_mask": (1, 2, 256),
        }
        spoken = log_mel_of(waveform)[taken(waveform)]
        np.testing.assert_allclose(inputs["spectrogram"][0, 0], spoken[:256], atol=1e-4)
        np.testing.assert_allclose(inputs["spectrogram"][0, 1], spoken[-256:], atol=1e-4)
        assert inputs["spectrogram_mask"].all()
        np.testing.assert_array_equal(weights, [[0.5, 0.5]])


def test_padding_is_0_in_features_and_mask():
    waveform = syllables(0.8, silence_seconds=0.2)
    inputs, _ = serve(waveform[np.newaxis])
    mask = inputs["spectrogram_mask"]
    assert set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_array_equal(mask.sum(axis=2), taken(waveform).sum())
    assert (inputs["spectrogram"][mask == 0] == 0).all()
    assert (inputs["spectrogram"][mask == 1] < 0).any()


def test_a_constant_offset_changes_nothing():
    waveform = syllables(1.5, silence_seconds=0.3)
    expected, _ = serve(waveform[np.newaxis])
    found, _ = serve(waveform[np.newaxis] + np.float32(0.1))
    np.testing.assert_array_equal(found["spectrogram_mask"], expected["spectrogram_mask"])
    np.testing.assert_allclose(found["spectrogram"], expected["spectrogram"], atol=0.5)  # near silence is rounded
    loud = expected["spectrogram"] > -60
    np.testing.assert_allclose(found["spectrogram"][loud], expected["spectrogram"][loud], atol=0.02)


def test_a_clip_gives_the_same_features_alone_and_in_a_batch_of_longer_ones():
    """To two millionths of their range of 100 dB. Windows that only a longer clip needs have no weight."""
    clips = [syllables(0.5, seed=1), syllables(1.3, silence_seconds=0.4), np.ones(1, np.float32), two_parts()]
    clips += [syllables(7.5, seed=2), vowel(0.02), np.zeros(700, np.float32), *real_clips(REAL[:2])]
    longest = max(map(len, clips)) + 1234
    together, weights = serve(np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips]))
    assert weights.shape[1] == 4
    for number, clip in enumerate(clips):
        alone, own_weights = serve(clip[np.newaxis])
        count = own_weights.shape[1]
        np.testing.assert_allclose(weights[number], np.pad(own_weights[0], (0, 4 - count)))
        for name, tolerance in (("spectrogram_mask", 0), ("spectrogram", 2e-4)):
            np.testing.assert_allclose(together[name][number, :count], alone[name][0], atol=tolerance, rtol=0)


@pytest.mark.parametrize("samples", [1, 100, 511])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_clip_shorter_than_a_frame_has_at_least_one(samples, level):
    inputs, weights = serve(level * noise(samples, 1.0)[np.newaxis])
    assert np.isfinite(inputs["spectrogram"]).all()
    expected = samples // HOP + 1 if level and samples > 1 else 1  # One sample is an offset.
    np.testing.assert_array_equal(inputs["spectrogram_mask"].sum(axis=2), expected)
    np.testing.assert_array_equal(weights, 1.0)


def test_a_silent_clip_is_one_frame_at_minus_100_decibels():
    inputs, _ = serve(np.zeros((1, 20000), np.float32))
    np.testing.assert_array_equal(inputs["spectrogram_mask"].sum(axis=2), 1)
    np.testing.assert_allclose(inputs["spectrogram"][inputs["spectrogram_mask"] == 1], -100.0, atol=1e-4)


def test_each_clip_of_a_batch_has_its_own_warp():
    config = replace(CONFIG, augment=AugmentConfig(vocal_tract_change=0.1))
    waveforms = tf.constant(np.stack([vowel(1.0), vowel(1.0, seed=1)]))
    speech, starts = tf.ones([2, 101], tf.bool), tf.zeros([2, 1], tf.int32)
    warped = features.extract(waveforms, config, speech, starts, tf.constant([3, 10]))["spectrogram"].numpy()
    unwarped = features.extract(waveforms, config, speech, starts)["spectrogram"].numpy()
    np.testing.assert_allclose(warped[1], unwarped[1], atol=1e-4)
    filterbank = warped_filterbanks(config.spectrogram, RATE, 0.1)[3]
    expected = log_mel_spectrogram(waveforms[:1], config.spectrogram, RATE, filterbank)[0]
    assert np.abs(warped[0, 0] - unwarped[0, 0]).max() > 3
    np.testing.assert_allclose(warped[0, 0, :101], expected, atol=1e-4)


THREE = Config(
    "tiny",
    {name: TcnConfig() for name in ("spectrogram", "mfcc", "prosody")},
    mfcc=MfccConfig(hop_seconds=0.016),
    prosody=ProsodyConfig(hop_seconds=0.02),
)


@pytest.mark.parametrize("clip", ["short", "as long as a window", "long", "with a pause", "with pauses"])
@pytest.mark.parametrize("speech_decibels", [0.0, 40.0])
def test_the_part_cut_around_a_window_gives_the_same_window(clip, speech_decibels):
    """For inputs with three hops, at positions where something is before and after the window."""
    waveform = {
        "short": syllables(0.3, silence_seconds=0.37),
        "as long as a window": syllables(2.56, silence_seconds=0.37),
        "long": syllables(6.0, silence_seconds=0.37),
        "with a pause": two_parts(),
        "with pauses": np.concatenate([two_parts(0.9), two_parts(2.1), two_parts(0.7)]),
    }[clip]
    config = replace(THREE, audio=AudioConfig(speech_decibels=speech_decibels))
    speech = taken(waveform, config)
    for position in (0.0, 0.4, 0.731, 1.0):
        start = window_start(speech_samples(speech[np.newaxis], config.audio)[0], tf.constant(position), config.audio)
        expected = features.extract(waveform[np.newaxis], config, speech[np.newaxis], tf.reshape(start, [1, 1]))
        part, part_speech, part_start = features.cut_window(tf.constant(waveform), speech, start, config)
        found = features.extract(part[tf.newaxis], config, part_speech[tf.newaxis], tf.reshape(part_start, [1, 1]))
        if clip == "long":
            assert len(part) < 3.0 * RATE
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)
            assert name.endswith("mask") or np.abs(value).max() > 1


def test_the_number_of_frames_is_the_configurations():
    audio = AudioConfig(window_seconds=1.2, window_step_seconds=0.25)
    config = replace(CONFIG, audio=audio, spectrogram=replace(CONFIG.spectrogram, hop_seconds=0.02, num_bands=30))
    inputs, weights = serve(syllables(2.0)[np.newaxis], config)
    assert inputs["spectrogram"].shape == (1, 5, 60, 30)
    np.testing.assert_allclose(weights, 0.2)


def test_mfcc_and_spectrogram_have_the_same_windows():
    both = Config("both", {"spectrogram": CnnConfig(), "mfcc": CnnConfig()})
    inputs, _ = serve(two_parts()[np.newaxis], both)
    np.testing.assert_array_equal(inputs["mfcc_mask"], inputs["spectrogram_mask"])
    mask = inputs["mfcc_mask"][0, 1] > 0
    expected = librosa.feature.mfcc(S=inputs["spectrogram"][0, 1].T, n_mfcc=40).T
    np.testing.assert_allclose(inputs["mfcc"][0, 1][mask], expected[mask], atol=1e-2)


def test_features_are_the_same_in_a_graph_of_unknown_shape():
    """As the exported model calls them."""
    config = replace(CONFIG, encoders={name: TcnConfig() for name in features.FEATURES})
    in_graph = tf.function(
        lambda waveform: features.serving_inputs(config, {"waveform": waveform}),
        input_signature=[tf.TensorSpec([None, None], tf.float32)],
    )
    for seconds in (0.1, 1.0, 4.0):
        waveforms = np.stack([syllables(seconds, seed=1), syllables(seconds, seed=2)])
        traced, (eager, weights) = in_graph(waveforms), serve(waveforms, config)
        assert set(traced.inputs) == set(eager)
        np.testing.assert_array_equal(traced.weights, weights)
        for name in eager:
            np.testing.assert_allclose(traced.inputs[name].numpy(), eager[name], atol=1e-3 if name == "mfcc" else 1e-4)


def test_tokens_are_repeated_for_each_window_and_need_no_waveform():
    tokens = np.arange(6).reshape(2, 3)
    waveforms = np.stack([np.pad(syllables(0.5), (0, 6 * RATE)), syllables(6.5, seed=1)])
    config = replace(CONFIG, encoders=CONFIG.encoders | {"tokens": TcnConfig()})
    inputs, weights = features.serving_inputs(config, {"waveform": tf.constant(waveforms), "tokens": tokens})
    assert weights.shape == (2, 3)
    np.testing.assert_array_equal(inputs["tokens"], np.repeat(tokens[:, np.newaxis], 3, axis=1))
    config = replace(CONFIG, encoders={"tokens": TcnConfig()})
    inputs, weights = features.serving_inputs(config, {"tokens": tf.constant(tokens)})
    np.testing.assert_array_equal(inputs["tokens"][:, 0], tokens)
    np.testing.assert_array_equal(weights, [[1.0], [1.0]])


# Frames of a speech encoder

SPEECH = Config("tiny", {"speech": TcnConfig()}, audio=AudioConfig(window_seconds=1.2, window_step_seconds=0.5))


def frames_and_mask(*counts: int) -> dict[str, tf.Tensor]:
    """Return frames whose features are the clip and the place, counted from 1, and their mask."""
    mask = np.arange(max(counts)) < np.array(counts)[:, np.newaxis]
    clips, places = np.meshgrid(1 + np.arange(len(counts)), 1 + np.arange(max(counts)), indexing="ij")
    frames = np.stack([clips, places], axis=2) * mask[..., np.newaxis]
    return {"speech": tf.constant(frames, tf.float32), "speech_mask": tf.constant(mask, tf.float32)}


def test_windows_of_frames_cover_a_clip_evenly_and_need_no_waveform():
    inputs, weights = features.serving_inputs(SPEECH, frames_and_mask(100, 60, 25))
    assert {name: value.shape for name, value in inputs.items()} == {
        "speech": (3, 3, 60, 2),
        "speech_mask": (3, 3, 60),
    }
    np.testing.assert_allclose(weights, [[1 / 3] * 3, [1, 0, 0], [1, 0, 0]])
    for window, first in enumerate((1, 21, 41)):
        np.testing.assert_array_equal(inputs["speech"][0, window, :, 1], np.arange(first, first + 60))
    np.testing.assert_array_equal(inputs["speech"][1, 0, :, 1], np.arange(1, 61))
    short, mask = inputs["speech"][2, 0].numpy(), inputs["speech_mask"][2, 0].numpy()
    np.testing.assert_array_equal(np.flatnonzero(mask), np.arange(25) + 17)  # in the middle
    np.testing.assert_array_equal(short[mask > 0], [(3, place) for place in range(1, 26)])
    assert not short[mask == 0].any()


def test_a_clip_has_the_same_windows_of_frames_alone_and_in_a_batch():
    together, weights = features.serving_inputs(SPEECH, frames_and_mask(1, 59, 61, 157))
    for row, count in enumerate((1, 59, 61, 157)):
        alone, own_weights = features.serving_inputs(SPEECH, frames_and_mask(count))
        windows = own_weights.shape[1]
        np.testing.assert_allclose(weights[row], np.pad(own_weights[0], (0, weights.shape[1] - windows)))
        np.testing.assert_array_equal(together["speech_mask"][row, :windows], alone["speech_mask"][0])
        np.testing.assert_array_equal(together["speech"][row, :windows, :, 1], alone["speech"][0, ..., 1])


@pytest.mark.parametrize("clip", ["long", "with a pause", "short"])
def test_windows_of_waveform_and_frames_are_of_the_same_speech(clip):
    """To a frame at either end of a part: a frame of the encoder is speech where one of its two hops is."""
    clips = {"long": syllables(4.1), "with a pause": two_parts(), "short": syllables(0.7, silence_seconds=0.33)}
    waveform = tf.constant(clips[clip][np.newaxis])
    both = replace(
        SPEECH,
        encoders={"spectrogram": CnnConfig(), "speech": TcnConfig()},
        spectrogram=SpectrogramConfig(hop_seconds=0.02),
    )
    _, mask = encode_speech(waveform, both, lambda blocks, samples: tf.reshape(blocks, [1, -1, 320]))
    places = tf.range(mask.shape[1], dtype=tf.float32)[tf.newaxis, :, tf.newaxis]
    inputs, weights = features.serving_inputs(both, {"waveform": waveform, "speech": places, "speech_mask": mask})
    spectra = log_mel_spectrogram(without_offset(waveform), both.spectrogram, RATE)[0].numpy()
    spoken = spectra[taken(clips[clip], both)[::2]]
    assert weights.shape[1] == {"long": 7, "with a pause": 7, "short": 1}[clip]
    for window in range(weights.shape[1]):
        valid = (inputs["spectrogram_mask"][0, window] * inputs["speech_mask"][0, window]).numpy() > 0
        assert valid.sum() >= (35 if clip == "short" else 58)
        found = inputs["spectrogram"][0, window].numpy()[valid]
        distances = np.abs(spoken - found[:, np.newaxis]).max(axis=2)
        assert distances.min(axis=1).max() < 1e-3
        differences = distances.argmin(axis=1) - inputs["speech"][0, window, :, 0].numpy()[valid]
        assert np.abs(differences).max() <= 2
