"""Active spans and windows are where they should be; a clip's features do not depend on other clips or on padding."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import tensorflow as tf
from sounds import RATE, real_clips, vowel

from emokeras.config import AudioConfig, AugmentConfig, CnnConfig, Config, MfccConfig, TcnConfig
from emokeras.data import features
from emokeras.data.spectrogram import log_mel_spectrogram, warped_filterbanks

HOP = 160  # of trimming and of the default spectrogram, in samples
WINDOW = 40960
CONFIG = Config("tiny", {"spectrogram": CnnConfig()})
REAL = ("01-01-01-01-01", "05-02-02-01-12", "06-01-01-02-17")


def span(waveform: np.ndarray, config: AudioConfig | None = None) -> tuple[int, int]:
    first, stop = features.active_span(waveform[np.newaxis], config or AudioConfig())[0].numpy()
    return int(first), int(stop)


def librosa_span(waveform: np.ndarray, decibels: float = 40.0, hop: int = HOP) -> tuple[int, int]:
    first, stop = librosa.effects.trim(waveform, top_db=decibels, frame_length=4 * hop, hop_length=hop)[1]
    return int(first), int(stop)


def extract(waveforms: np.ndarray, config: Config = CONFIG, **options) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in features.extract(tf.constant(waveforms), config, **options).items()}


def log_mel_of(waveform: np.ndarray) -> np.ndarray:
    return log_mel_spectrogram(waveform[np.newaxis], CONFIG.spectrogram, RATE)[0].numpy()


# Active span


@pytest.mark.parametrize("decibels", [20.0, 40.0, 60.0])
@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_active_span_equals_librosa_trim(rate, decibels):
    config = AudioConfig(sample_rate_hz=rate, trim_decibels=decibels)
    for waveform in [vowel(0.7, rate, 0.31), vowel(0.31, rate), vowel(1.5, rate, 0.2), *real_clips(REAL, rate)]:
        assert span(waveform, config) == librosa_span(waveform, decibels, round(0.01 * rate))


def test_active_span_does_not_depend_on_the_level():
    waveform = vowel(0.5, silence_seconds=0.3)
    assert span(waveform) == span(0.01 * waveform) == librosa_span(waveform)
    assert 3000 < span(waveform)[0] < span(waveform)[1] < len(waveform) - 3000


def test_a_pause_within_a_clip_is_active():
    pause = np.zeros(8000, np.float32)
    waveform = np.concatenate([pause, vowel(0.3), pause, vowel(0.3), 1e-6 * np.ones(8000, np.float32)])
    first, stop = span(waveform)
    assert 8000 - 640 <= first <= 8000
    assert len(waveform) - 8000 <= stop <= len(waveform) - 8000 + 640


def test_zeros_after_a_clip_do_not_change_its_span():
    for waveform in (vowel(0.5), vowel(0.5, silence_seconds=0.3), vowel(0.3)[:4799]):
        alone = span(waveform)
        for zeros in (1, 159, 160, 5000):
            assert span(np.pad(waveform, (0, zeros))) == alone


def test_trim_decibels_of_0_cuts_nothing_but_padding():
    config = AudioConfig(trim_decibels=0.0)
    waveform = vowel(0.5, silence_seconds=0.3)
    assert span(waveform, config) == (0, len(waveform))
    assert span(np.pad(waveform, (0, 4000)), config) == (0, len(waveform))


def test_a_span_is_never_empty():
    for samples in (1, 100, 160, 5000):
        assert span(np.ones(samples, np.float32)) == (0, samples)
        first, stop = span(np.zeros(samples, np.float32))
        assert first == 0
        assert 1 <= stop <= HOP


# Windows


def test_windows_begin_at_their_positions():
    config = AudioConfig()
    spans = tf.constant([[1600, 161600], [0, WINDOW], [3200, 3200 + 8960]])
    starts = features.window_starts(spans, tf.constant([[0.0, 0.5, 1.0]] * 3), config).numpy()
    assert starts[0].tolist() == [1600, 1600 + (160000 - WINDOW) // 2, 161600 - WINDOW]
    assert starts[1].tolist() == [0, 0, 0]  # exactly as long as the window
    assert starts[2].tolist() == [3200, 3200 - 16000, 3200 - 32000]  # shorter: from the window's beginning to its end


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0.5]), (2, [0, 1]), (3, [0, 0.5, 1]), (5, [0, 0.25, 0.5, 0.75, 1])]
)
def test_the_positions_of_serving_are_evenly_spaced(count, expected):
    np.testing.assert_allclose(features.even_positions(count), expected)


def numbered(count: int) -> tf.Tensor:
    """Return frames [1, count, 1] whose value is their number, from 1."""
    return tf.range(1.0, count + 1)[tf.newaxis, :, tf.newaxis]


def window_numbers(span: tuple[int, int], positions: list[float], frames: int = 1200) -> list[list[int]]:
    """Return the numbers of the frames of `numbered` in each window, 0 for padding."""
    spans = tf.constant([span])
    starts = features.window_starts(spans, tf.constant([positions], tf.float32), AudioConfig())
    windows, mask = features.gather_windows(numbered(frames), spans, starts, 256, HOP)
    np.testing.assert_array_equal(mask.numpy(), windows.numpy()[..., 0] > 0)
    return windows[0, :, :, 0].numpy().astype(int).tolist()


def test_a_span_as_long_as_the_window_fills_it():
    for window in window_numbers((320, 320 + WINDOW), [0.0, 0.3, 1.0]):
        assert window == list(range(3, 259))


def test_a_short_span_is_at_its_position_in_the_window():
    first, middle, last = window_numbers((320, 320 + 100 * HOP), [0.0, 0.5, 1.0])
    inside = list(range(3, 103))
    assert first == inside + [0] * 156
    assert middle == [0] * 78 + inside + [0] * 78
    assert last == [0] * 156 + inside


@pytest.mark.parametrize("samples", [1, 5, 159, 160, 161, 20000, 40799])
def test_a_short_span_is_complete_in_every_window(samples):
    """Also where the clip ends between two frames: the last frame that has some of it is in the window."""
    for window in window_numbers((0, samples), [0.0, 0.25, 0.5, 0.9, 1.0]):
        assert [number for number in window if number] == list(range(1, (samples - 1) // HOP + 2))


@pytest.mark.parametrize(("first", "stop"), [(1600, 161600), (0, 160000), (0, 160005), (0, 159999)])
def test_the_windows_of_a_long_span_cover_its_ends(first, stop):
    windows = window_numbers((first, stop), [0.0, 0.5, 1.0])
    assert all(0 not in window for window in windows)
    first_frame, last_frame = first // HOP + 1, (stop - 1) // HOP + 1
    assert windows[0] == list(range(first_frame, first_frame + 256))
    assert windows[2] == list(range(last_frame - 255, last_frame + 1))


@pytest.mark.parametrize("hop", [100, 160, 203])
def test_windows_of_any_hop_have_active_frames_only(hop):
    spans = tf.constant([[800, 30000]])
    starts = features.window_starts(spans, tf.constant([[0.0, 0.37, 1.0]]), AudioConfig())
    windows, _ = features.gather_windows(numbered(1000), spans, starts, round(WINDOW / hop), hop)
    numbers = np.unique(windows.numpy().astype(int))
    assert numbers[numbers > 0].min() == 800 // hop + 1
    assert numbers.max() <= 29999 // hop + 1


# Inputs of a network


def test_extract_gives_the_windows_of_the_log_mel_spectrogram():
    waveform = vowel(3.2, silence_seconds=0.2)
    inputs = extract(waveform[np.newaxis])
    assert {name: value.shape for name, value in inputs.items()} == {
        "spectrogram": (1, 3, 256, 80),
        "spectrogram_mask": (1, 3, 256),
    }
    log_mel = log_mel_of(waveform)
    first, stop = span(waveform)
    np.testing.assert_array_equal(inputs["spectrogram"][0, 0], log_mel[first // HOP : first // HOP + 256])
    np.testing.assert_array_equal(inputs["spectrogram"][0, 2], log_mel[stop // HOP - 256 : stop // HOP])
    middle = (first + stop - WINDOW) // 2 // HOP
    candidates = [log_mel[begin : begin + 256] for begin in (middle, middle + 1)]  # It may be between two frames.
    assert any(np.array_equal(inputs["spectrogram"][0, 1], candidate) for candidate in candidates)
    assert inputs["spectrogram_mask"].all()


def test_padding_is_0_in_features_and_mask():
    waveform = vowel(0.8, silence_seconds=0.2)
    inputs = extract(waveform[np.newaxis])
    mask = inputs["spectrogram_mask"]
    assert set(np.unique(mask)) == {0.0, 1.0}
    first, stop = span(waveform)
    np.testing.assert_array_equal(mask.sum(axis=2), (stop - first) // HOP)
    assert (inputs["spectrogram"][mask == 0] == 0).all()
    assert (inputs["spectrogram"][mask == 1] < 0).any()


def test_a_clip_gives_the_same_features_alone_and_in_a_batch_of_longer_ones():
    """To a millionth of their range of 100 dB."""
    clips = [vowel(0.5, seed=1), vowel(1.3, silence_seconds=0.4), np.ones(1, np.float32), vowel(3.7, seed=2)]
    clips += [vowel(0.02), np.zeros(700, np.float32), *real_clips(REAL[:2])]
    longest = max(map(len, clips)) + 1234
    together = extract(np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips]))
    for number, clip in enumerate(clips):
        alone = extract(clip[np.newaxis])
        np.testing.assert_array_equal(together["spectrogram_mask"][number], alone["spectrogram_mask"][0])
        np.testing.assert_allclose(together["spectrogram"][number], alone["spectrogram"][0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [0, 1, 100, 511])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_clip_shorter_than_a_frame_has_at_least_one(samples, level):
    inputs = extract(np.full((1, samples), level, np.float32))
    assert np.isfinite(inputs["spectrogram"]).all()
    expected = max(1, -(-samples // HOP)) if level else 1
    np.testing.assert_array_equal(inputs["spectrogram_mask"].sum(axis=2), expected)


def test_a_silent_clip_is_one_frame_at_minus_100_decibels():
    inputs = extract(np.zeros((1, 20000), np.float32))
    np.testing.assert_array_equal(inputs["spectrogram_mask"].sum(axis=2), 1)
    np.testing.assert_allclose(inputs["spectrogram"][inputs["spectrogram_mask"] == 1], -100.0, atol=1e-4)


def test_positions_and_spans_can_be_given():
    waveform = vowel(4.0)
    inputs = extract(waveform[np.newaxis], positions=tf.constant([[1.0]]), spans=tf.constant([[1600, 4800]]))
    np.testing.assert_array_equal(inputs["spectrogram"][0, 0, -20:], log_mel_of(waveform)[10:30])
    assert (inputs["spectrogram"][0, 0, :-20] == 0).all()


def test_each_clip_of_a_batch_has_its_own_warp():
    config = replace(CONFIG, augment=AugmentConfig(vocal_tract_change=0.1))
    waveforms = np.stack([vowel(1.0), vowel(1.0, seed=1)])
    spans = tf.constant([[0, RATE], [0, RATE]])
    warped = extract(waveforms, config, spans=spans, warps=tf.constant([3, 10]))["spectrogram"]
    unwarped = extract(waveforms, config, spans=spans)["spectrogram"]
    np.testing.assert_allclose(warped[1], unwarped[1], atol=1e-4)
    frames = log_mel_spectrogram(
        waveforms[:1], config.spectrogram, RATE, warped_filterbanks(config.spectrogram, RATE, 0.1)[3]
    )
    alone, _ = features.gather_windows(frames, spans[:1], tf.constant([[0] * 3]), 256, HOP)
    assert np.abs(warped[0, 0] - unwarped[0, 0]).max() > 3
    np.testing.assert_allclose(warped[0, 0], alone[0, 0], atol=1e-4)


@pytest.mark.parametrize("seconds", [0.3, 2.3, 2.6, 5.0])
@pytest.mark.parametrize("trim_decibels", [0.0, 40.0])
def test_the_part_cut_around_a_window_gives_the_same_window(seconds, trim_decibels):
    """For inputs with three hops, at positions where something is before and after the window."""
    three = {name: TcnConfig() for name in ("spectrogram", "mfcc", "prosody")}
    audio = AudioConfig(trim_decibels=trim_decibels)
    config = Config("tiny", three, audio=audio, mfcc=MfccConfig(hop_seconds=0.016))
    waveform = vowel(seconds, RATE, 0.37)
    span = features.active_span(waveform[np.newaxis], config.audio)
    for position in (0.0, 0.4, 0.731, 1.0):
        whole = features.extract(waveform[np.newaxis], config, tf.constant([[position]]), span)
        part, part_span = features.cut_window(tf.constant(waveform), span[0], tf.constant(position), config)
        assert len(part) < 3.0 * RATE
        found = features.extract(part[np.newaxis], config, tf.constant([[position]]), part_span[np.newaxis])
        for name, value in whole.items():
            np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)


def test_the_number_of_windows_and_frames_is_the_configurations():
    audio = AudioConfig(window_seconds=1.2, num_windows=5)
    config = replace(CONFIG, audio=audio, spectrogram=replace(CONFIG.spectrogram, hop_seconds=0.02, num_bands=30))
    assert extract(vowel(2.0)[np.newaxis], config)["spectrogram"].shape == (1, 5, 60, 30)


def test_mfcc_and_spectrogram_have_the_same_windows():
    both = Config("both", {"spectrogram": CnnConfig(), "mfcc": CnnConfig()})
    inputs = extract(vowel(3.0)[np.newaxis], both)
    np.testing.assert_array_equal(inputs["mfcc_mask"], inputs["spectrogram_mask"])
    mask = inputs["mfcc_mask"][0, 1] > 0
    expected = librosa.feature.mfcc(S=inputs["spectrogram"][0, 1].T, n_mfcc=40).T
    np.testing.assert_allclose(inputs["mfcc"][0, 1][mask], expected[mask], atol=1e-2)


def test_features_are_the_same_in_a_graph_of_unknown_shape():
    """As the exported model calls them."""
    config = replace(CONFIG, encoders={name: TcnConfig() for name in features.FEATURES})
    signature = tf.TensorSpec([None, None], tf.float32)
    in_graph = tf.function(lambda waveforms: features.extract(waveforms, config), input_signature=[signature])
    for seconds in (0.1, 1.0):
        waveforms = np.stack([vowel(seconds, seed=1), vowel(seconds, seed=2)])
        traced, eager = in_graph(waveforms), extract(waveforms, config)
        assert set(traced) == set(eager)
        for name in eager:
            np.testing.assert_allclose(traced[name].numpy(), eager[name], atol=1e-3 if name == "mfcc" else 1e-4)
