"""Windows cover the speech evenly, leave out frames that are not speech, and are aligned for inputs of any hop."""

import numpy as np
import pytest
import tensorflow as tf

from emokeras.config import AudioConfig
from emokeras.data.frames import gather_windows, serving_windows, speech_hops, speech_samples, window_start

HOP = 160  # of the activity and of the default spectrogram, in samples
WINDOW, STEP = 40960, 32000
AUDIO = AudioConfig()


def speech_in(total: int, *parts: tuple[int, int]) -> np.ndarray:
    """Return which hops are speech, bool [total]: those from the first to the second number of each part."""
    number = np.arange(total)
    return np.any([(first <= number) & (number < stop) for first, stop in parts], axis=0)


def with_pauses(seconds: float, seed: int = 0) -> np.ndarray:
    """Return hops of speech in parts of 5 to 80, with pauses of 51 to 150 between them."""
    random = np.random.default_rng(seed)
    hops, is_speech = [], False
    while len(hops) < 100 * seconds:
        hops += [is_speech] * random.integers(*((5, 81) if is_speech else (51, 151)))
        is_speech = not is_speech
    return np.array(hops)


def windows_of(speech: np.ndarray, starts: list[int], num_frames: int = 256, hop: int = HOP) -> np.ndarray:
    """Return the numbers of the frames in each window, from 0; -1 for padding. Checks the mask."""
    frames = tf.range(1.0, len(speech) * HOP // hop + 1)[tf.newaxis, :, tf.newaxis]
    windows, mask = gather_windows(frames, speech[np.newaxis], tf.constant([starts]), num_frames, hop, HOP)
    assert windows.shape == (1, len(starts), num_frames, 1)
    np.testing.assert_array_equal(mask.numpy(), windows.numpy()[..., 0] > 0)
    return windows[0, :, :, 0].numpy().astype(int) - 1


# Where windows begin


def test_samples_of_speech_are_those_of_its_hops():
    speech = np.stack([speech_in(1000, (10, 20), (500, 1000)), np.zeros(1000, bool)])
    assert speech_samples(speech, AUDIO).numpy().tolist() == [510 * HOP, 0]
    assert speech_samples(speech, AudioConfig(sample_rate_hz=8000)).numpy().tolist() == [510 * 80, 0]


def test_windows_begin_at_their_positions():
    samples = tf.constant([[160000], [WINDOW], [8960]])
    starts = window_start(samples, tf.constant([[0.0, 0.5, 1.0]] * 3), AUDIO).numpy().tolist()
    assert starts[0] == [0, (160000 - WINDOW) // 2, 160000 - WINDOW]
    assert starts[1] == [0, 0, 0]  # exactly as long as the window
    assert starts[2] == [0, -16000, -32000]  # shorter: from the window's beginning to its end


@pytest.mark.parametrize("hops", [1, 50, 256, 257, 456, 457, 1000, 6000])
def test_the_windows_of_serving_cover_the_speech_evenly(hops):
    """One at least every two seconds; one is enough for what is no longer than a window."""
    speech = speech_in(hops + 100, (40, 40 + hops))[np.newaxis]
    starts, weights = (value[0].numpy() for value in serving_windows(speech, AUDIO))
    count = 1 if hops <= 256 else int(np.ceil((hops * HOP - WINDOW) / STEP)) + 1
    assert len(starts) == count
    np.testing.assert_allclose(weights, 1 / count)
    if count == 1:
        assert starts[0] == pytest.approx((hops * HOP - WINDOW) / 2, abs=1)  # in the middle
    else:
        assert (starts[0], starts[-1]) == (0, hops * HOP - WINDOW)
        steps = np.diff(starts)
        assert steps.max() <= STEP
        assert np.ptp(steps) <= 1


@pytest.mark.parametrize("step_seconds", [0.5, 2.56])
def test_the_step_is_that_of_the_configuration(step_seconds):
    config = AudioConfig(sample_rate_hz=8000, window_seconds=1.0, window_step_seconds=step_seconds)
    starts, _ = serving_windows(speech_in(1000, (0, 900))[np.newaxis], config)
    assert len(starts[0]) == np.ceil(8.0 / step_seconds) + 1
    assert np.diff(starts[0]).max() <= 8000 * step_seconds


def test_the_windows_of_a_clip_do_not_depend_on_its_batch():
    """It has more beside a longer clip; those have no weight."""
    speech = np.stack([with_pauses(30.0)[:2900], speech_in(2900, (100, 150)), speech_in(2900, (7, 600), (900, 1000))])
    together, weights = (value.numpy() for value in serving_windows(speech, AUDIO))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    for row in range(3):
        starts, alone = (value[0].numpy() for value in serving_windows(speech[row : row + 1], AUDIO))
        np.testing.assert_array_equal(together[row, : len(starts)], starts)
        np.testing.assert_allclose(weights[row, : len(starts)], alone)
        assert not weights[row, len(starts) :].any()


# Gathering them


def test_speech_as_long_as_the_window_fills_it():
    (window,) = windows_of(speech_in(600, (2, 258)), [0])
    assert window.tolist() == list(range(2, 258))


def test_short_speech_is_at_its_position_in_the_window():
    first, middle, last = windows_of(speech_in(600, (2, 102)), [0, -78 * HOP, -156 * HOP])
    inside = list(range(2, 102))
    assert first.tolist() == inside + [-1] * 156
    assert middle.tolist() == [-1] * 78 + inside + [-1] * 78
    assert last.tolist() == [-1] * 156 + inside


@pytest.mark.parametrize("hops", [1, 2, 33, 255])
def test_short_speech_is_complete_at_every_position(hops):
    starts = window_start(tf.constant(hops * HOP), tf.constant([0.0, 0.25, 0.5, 0.9, 1.0]), AUDIO).numpy().tolist()
    for window in windows_of(speech_in(400, (30, 30 + hops)), starts):
        assert [number for number in window if number >= 0] == list(range(30, 30 + hops))


def test_frames_that_are_not_speech_are_left_out():
    speech = speech_in(900, (10, 110), (200, 300), (500, 700))
    numbers = np.flatnonzero(speech)
    for start, window in zip((0, 50, 144), windows_of(speech, [0, 50 * HOP, 144 * HOP]), strict=True):
        np.testing.assert_array_equal(window, numbers[start : start + 256])


@pytest.mark.parametrize("seed", range(3))
def test_the_windows_of_serving_have_every_frame_of_speech_and_no_other(seed):
    speech = with_pauses(40.0, seed)
    starts, _ = serving_windows(speech[np.newaxis], AUDIO)
    windows = windows_of(speech, starts[0].numpy().tolist())
    assert (windows >= 0).all()
    np.testing.assert_array_equal(np.unique(windows), np.flatnonzero(speech))


@pytest.mark.parametrize("hop", [100, 256, 320])
def test_windows_of_any_hop_have_speech_only(hop):
    speech = speech_in(1000, (5, 100), (250, 480), (800, 990))
    windows = windows_of(speech, [0, 10000, 41440], WINDOW // hop, hop)
    assert (windows >= 0).all()
    hops = windows * hop // HOP
    assert speech[hops].all()
    assert hops.min() == pytest.approx(5, abs=2)
    assert hops.max() == pytest.approx(989, abs=2)
    assert (np.diff(windows) > 0).all()


@pytest.mark.parametrize("hop", [100, 256, 320])
def test_inputs_of_different_hops_are_aligned_after_many_pauses(hop):
    """A window begins at the same moment in each, to a frame; within it each pause may add a frame."""
    speech = with_pauses(120.0)
    starts, _ = serving_windows(speech[np.newaxis], AUDIO)
    starts = starts[0].numpy().tolist()
    assert len(starts) > 15
    own, others = windows_of(speech, starts), windows_of(speech, starts, WINDOW // hop, hop)
    place = np.cumsum(speech) * HOP  # of each hop, in samples of speech
    for window, other in zip(own, others, strict=True):
        begins = [place[window[0]], place[other[0] * hop // HOP]]
        assert abs(begins[0] - begins[1]) <= HOP + hop
        pauses = (np.diff(window) > 50).sum()
        ends = [place[window[-1]], place[other[other >= 0][-1] * hop // HOP]]
        assert abs(ends[0] - ends[1]) <= (1 + pauses) * (HOP + hop)


# The hops of a window


def test_the_hops_of_a_window_are_its_first_and_its_last():
    speech = speech_in(900, (10, 110), (200, 300), (500, 700))
    numbers = np.flatnonzero(speech)
    for start in (0, 50, 100, 144):
        first, last = speech_hops(tf.constant(speech), tf.constant(start * HOP), AUDIO)
        assert first == numbers[start]
        assert last == numbers[min(start + 256, 399)]
    first, last = speech_hops(tf.constant(speech_in(300, (7, 20))), tf.constant(-30 * HOP), AUDIO)
    assert (first, last) == (7, 19)
