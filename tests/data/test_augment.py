"""Augmentation does what it says, by the numbers; its draws depend on seed, epoch and clip and on nothing else."""

import numpy as np
import pytest
import scipy.interpolate
import scipy.signal
import scipy.stats
import soxr
import tensorflow as tf

from emokeras.config import AugmentConfig
from emokeras.data import augment

RATE = 16000
NOTHING = AugmentConfig()


def tone(hertz: float, samples: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / RATE).astype(np.float32)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=samples).astype(np.float32)


def draws(**given: float) -> dict[str, tf.Tensor]:
    """Return the draws given, 0.5 (the middle: nothing moves) for the others."""
    return {name: tf.constant(given.get(name, 0.5)) for name in augment.NAMES}


def drawn(seed: int, epoch: int, clip: int) -> tuple:
    """Return all that is drawn for a clip: the numbers, and last the seed of its noise."""
    numbers, noise_seed = augment.draw(seed, tf.constant(epoch, tf.int64), tf.constant(clip, tf.int64))
    return (*(float(numbers[name]) for name in augment.NAMES), tuple(noise_seed.numpy().tolist()))


# Draws


def test_the_same_seed_epoch_and_clip_draw_the_same():
    assert drawn(3, 1, 4) == drawn(3, 1, 4)


def test_another_seed_epoch_or_clip_draws_everything_anew():
    cases = [drawn(0, 0, 0), drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1), drawn(0, 1, 1), drawn(1, 1, 0)]
    for values in zip(*cases, strict=True):
        assert len(set(values)) == len(cases)


def all_draws(threads: int, order: np.ndarray) -> dict[int, tuple]:
    dataset = tf.data.Dataset.from_tensor_slices(order)
    dataset = dataset.map(lambda clip: (clip, augment.draw(7, tf.constant(2, tf.int64), clip)), threads)
    return {int(clip): (*map(float, values.values()), tuple(key.numpy())) for clip, (values, key) in dataset}


def test_draws_do_not_depend_on_threads_or_order():
    one = all_draws(1, np.arange(40))
    assert one == all_draws(4, np.arange(40)[::-1].copy())
    assert one[5] == drawn(7, 2, 5)


def test_draws_are_uniform_and_independent():
    clips = tf.range(500, dtype=tf.int64)
    signature = dict.fromkeys(augment.NAMES, tf.float32)
    sample = tf.function(
        lambda: tf.map_fn(
            lambda clip: augment.draw(0, tf.constant(0, tf.int64), clip)[0], clips, fn_output_signature=signature
        )
    )()
    table = np.stack([sample[name].numpy() for name in augment.NAMES])
    for values in table:
        assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(table) - np.eye(len(table))
    assert np.abs(correlation).max() < 0.2  # More than four standard deviations of 500 pairs.


# Speed


def at_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    return augment.change_speed(tf.constant(waveform), tf.constant(factor), 0.25).numpy()


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_speed_moves_the_pitch_and_the_length(factor):
    faster = at_speed(tone(440.0), factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=1)
    padded = np.abs(np.fft.rfft(faster * np.hanning(len(faster)), 10 * RATE))  # bins of 0.1 Hz
    assert padded.argmax() / 10 == pytest.approx(440.0 * factor, abs=0.2)
    assert np.abs(faster[100:-100]).max() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.0, 1.1, 1.25])
def test_speed_is_a_resampling(factor):
    """As soxr's, where both rates can hold the sound."""
    sound = soxr.resample(noise(4000), 4000, RATE)
    faster, expected = at_speed(sound, factor), soxr.resample(sound, factor, 1.0, "VHQ")
    length = min(len(faster), len(expected))
    np.testing.assert_allclose(faster[100 : length - 100], expected[100 : length - 100], atol=2e-3)


def test_speed_gives_no_aliases():
    """7.5 kHz at 1.25 times the speed is 9.4 kHz, which 16 kHz cannot hold: it goes, and does not come back as 6.6."""
    assert np.abs(at_speed(tone(7500.0), 1.25)[500:-500]).max() < 0.05


def test_speed_stays_true_to_the_end_of_a_long_clip():
    faster = at_speed(tone(1000.0, 5 * RATE), 1.1)
    true = np.sin(2 * np.pi * 1100.0 * np.arange(len(faster)) / RATE)
    np.testing.assert_allclose(faster[100:-100], true[100:-100], atol=2e-3)


@pytest.mark.parametrize("samples", [1, 2, 1000])
def test_speed_of_one_changes_nothing(samples):
    waveform = noise(samples)
    np.testing.assert_allclose(at_speed(waveform, 1.0), waveform, atol=1e-6)


@pytest.mark.parametrize(
    ("factor", "most"), [(0.5, 0.5), (0.88, 0.12), (1.12, 0.12), (2.0, 1.0), (0.1, 1.0), (0.02, 0.99)]
)
def test_speed_leaves_a_clip_of_one_sample_something(factor, most):
    assert len(augment.change_speed(tf.constant([0.5]), tf.constant(factor), most)) >= 1


def test_speed_keeps_within_its_bounds():
    """Where a bound lies between two steps, rounding must not lead to a step that has no filters."""
    sound = noise(1600)
    slowest = augment.change_speed(tf.constant(sound), tf.constant(1 - 0.053125 - 1e-6), 0.053125)
    np.testing.assert_array_equal(slowest, augment.change_speed(tf.constant(sound), tf.constant(152 / 160), 0.053125))


# Shift


@pytest.mark.parametrize("amount", [0, 1, 250, -1, -250])
def test_shift_moves_an_impulse_by_exactly_so_many_samples(amount):
    impulse = np.zeros(1000, np.float32)
    impulse[500] = 1.0
    moved = augment.shift(tf.constant(impulse), tf.constant(amount), 10).numpy()
    assert len(moved) == 1000
    assert np.flatnonzero(moved).tolist() == [500 + amount]
    assert moved[500 + amount] == 1.0


@pytest.mark.parametrize("amount", [30, -30])
def test_shift_loses_one_end_fills_the_other_and_fades_both_edges(amount):
    """Linearly over the samples of the fade, from 0 to 1 and back, as tensorflow_io does."""
    waveform = noise(200) + 1.0
    moved = augment.shift(tf.constant(waveform), tf.constant(amount), 16).numpy()
    fade = np.ones(170)
    fade[:16] = np.linspace(0, 1, 16)
    fade[-16:] *= np.linspace(1, 0, 16)
    if amount > 0:
        expected = np.concatenate([np.zeros(30), waveform[:170] * fade])
    else:
        expected = np.concatenate([waveform[30:] * fade, np.zeros(30)])
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_shift_keeps_at_least_half_of_a_clip():
    moved = augment.shift(tf.ones([100]), tf.constant(90), 0).numpy()
    np.testing.assert_array_equal(moved, [0.0] * 50 + [1.0] * 50)


def test_a_fade_of_nothing_leaves_the_edges():
    moved = augment.shift(tf.ones([100]), tf.constant(-10), 0).numpy()
    np.testing.assert_array_equal(moved, [1.0] * 90 + [0.0] * 10)


@pytest.mark.parametrize("samples", [1, 2, 50, 79, 81, 159])
@pytest.mark.parametrize("amount", [0, 3, -40])
def test_a_clip_shorter_than_its_fades_is_shifted_too(samples, amount):
    moved = augment.shift(tf.ones([samples]), tf.constant(amount), 80).numpy()
    assert moved.shape == (samples,)
    assert np.isfinite(moved).all()
    assert np.abs(moved).max() <= 1.0


# Equalisation and reverberation


def test_equalisation_gives_each_octave_its_gain():
    """Half the rate is 8 kHz: the points lie at 125, 250, ... 8000 Hz; between two the decibels run straight."""
    gains = np.array([-6.0, 4.0, 0.0, 3.0, -2.0, 6.0, -4.0], np.float32)
    for hertz in (60.0, 125.0, 176.78, 500.0, 1000.0, 2828.4, 4000.0, 6000.0):
        decibels = np.interp(np.log2(hertz), np.log2(125.0 * 2.0 ** np.arange(7)), gains)
        sound = tone(hertz)
        heard = augment.equalise(tf.constant(sound), tf.constant(gains)).numpy()
        assert heard.shape == sound.shape
        expected = sound * 10 ** (decibels / 20)  # as it was, but louder: no delay
        np.testing.assert_allclose(heard[4000:-4000], expected[4000:-4000], atol=0.02)


@pytest.mark.parametrize("samples", [1, 100, 4097])
def test_the_same_gain_at_every_octave_is_a_gain(samples):
    waveform = noise(samples)
    louder = augment.equalise(tf.constant(waveform), tf.fill([7], 20.0)).numpy()
    np.testing.assert_allclose(louder, 10 * waveform, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 100, 4096, 20000])
def test_a_room_adds_its_echo(samples):
    waveform, echo = noise(samples), 0.1 * noise(8000, seed=1)
    heard = augment.reverberate(tf.constant(waveform), tf.constant(echo)).numpy()
    expected = scipy.signal.fftconvolve(waveform, np.concatenate([[1.0], echo]))[:samples]
    np.testing.assert_allclose(heard, expected, atol=1e-5)


@pytest.mark.parametrize(("seconds", "ratio"), [(0.2, 10.0), (0.5, 0.0)])
def test_an_echo_decays_by_60_decibels_and_has_its_share_of_the_energy(seconds, ratio):
    decay = tf.constant(seconds * RATE, tf.float32)
    echo = augment.room_echo(decay, tf.constant(ratio), RATE // 2, tf.constant([1, 2], tf.int64)).numpy()
    assert -10 * np.log10(np.sum(echo**2)) == pytest.approx(ratio, abs=1e-3)
    part = round(0.1 * RATE)
    early, late = echo[:part], echo[part : 2 * part]
    assert 10 * np.log10(np.mean(early**2) / np.mean(late**2)) == pytest.approx(60 * 0.1 / seconds, abs=1.0)


def test_equalisation_stays_within_its_decibels_and_depends_on_the_clip():
    config = AugmentConfig(equalization_decibels=6.0)
    impulse = np.zeros(RATE, np.float32)
    impulse[RATE // 2] = 1.0
    responses = []
    for clip in range(20):
        clip_seed = tf.constant([clip, 0], tf.int64)
        heard = augment.recolour_waveform(tf.constant(impulse), draws(), clip_seed, config, RATE)
        responses.append(20 * np.log10(np.abs(np.fft.rfft(heard))))
    responses = np.array(responses)
    assert 5.0 < np.abs(responses).max() < 6.05
    assert responses.std(axis=0).min() > 1.5  # Uniform from -6 to 6 has 3.5 at the points, less between them.


def test_a_room_is_heard_as_often_as_its_probability():
    config = AugmentConfig(reverberation_probability=0.3)
    np.testing.assert_array_equal(recolour(config, room=0.31), tone(440.0))
    assert np.abs(recolour(config, room=0.29) - tone(440.0)).max() > 0.1


# Noise and gain


@pytest.mark.parametrize("decibels", [0.0, 15.0, 40.0])
def test_noise_has_its_ratio_to_the_clip(decibels):
    waveform = 0.3 * tone(440.0)
    noisy = augment.add_noise(tf.constant(waveform), tf.constant(decibels), tf.constant([1, 2], tf.int64)).numpy()
    added = noisy - waveform
    assert 10 * np.log10(np.mean(waveform**2) / np.mean(added**2)) == pytest.approx(decibels, abs=0.2)
    assert scipy.stats.kstest(added / added.std(), "norm").pvalue > 1e-3
    halves = np.abs(np.fft.rfft(added)[1:8001].reshape(2, 4000)) ** 2
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.15)  # white: as much above 4 kHz as below


def test_silence_gets_no_noise():
    silent = augment.add_noise(tf.zeros([100]), tf.constant(15.0), tf.constant([1, 2], tf.int64)).numpy()
    np.testing.assert_array_equal(silent, 0.0)


def recolour(config: AugmentConfig, **given: float) -> np.ndarray:
    clip_seed = tf.constant([1, 2], tf.int64)
    return augment.recolour_waveform(tf.constant(tone(440.0)), draws(**given), clip_seed, config, RATE).numpy()


@pytest.mark.parametrize(("number", "decibels"), [(0.0, -6.0), (0.25, -3.0), (0.5, 0.0), (0.75, 3.0)])
def test_gain_runs_from_minus_to_plus_its_decibels(number, decibels):
    louder = recolour(AugmentConfig(gain_decibels=6.0), gain=number)
    np.testing.assert_allclose(louder, tone(440.0) * 10 ** (decibels / 20), rtol=1e-5)


def test_noise_comes_as_often_as_its_probability_and_at_the_ratio_drawn():
    config = AugmentConfig(noise_probability=0.3, noise_snr_decibels=(10.0, 30.0))
    np.testing.assert_array_equal(recolour(config, noise=0.31), tone(440.0))
    for number, decibels in ((0.0, 10.0), (0.5, 20.0), (1.0, 30.0)):
        added = recolour(config, noise=0.29, snr=number) - tone(440.0)
        assert 10 * np.log10(0.5 / np.mean(added**2)) == pytest.approx(decibels, abs=0.2)


# All that moves in time


def test_everything_off_is_identity():
    waveform = tf.constant(noise(500))
    for number in (0.0, 0.3, 0.99):
        numbers = draws(**dict.fromkeys(augment.NAMES, number))
        same = augment.reshape_waveform(waveform, numbers, NOTHING, RATE)
        same = augment.recolour_waveform(same, numbers, tf.constant([1, 2]), NOTHING, RATE)
        np.testing.assert_array_equal(same, waveform)
        assert float(augment.mixup_share(numbers, tf.constant([1, 2]), NOTHING)) == 1.0


@pytest.mark.parametrize(("number", "factor"), [(0.0, 0.88), (0.5, 1.0), (0.75, 1.06)])
def test_speed_runs_from_less_to_more(number, factor):
    config = AugmentConfig(speed_change=0.12)
    waveform = augment.reshape_waveform(tf.constant(noise(8800)), draws(speed=number), config, RATE)
    assert len(waveform) == pytest.approx(8800 / (round(factor * augment.BLOCK) / augment.BLOCK), abs=1)


@pytest.mark.parametrize(("number", "samples"), [(0.0, -200), (0.25, -100), (0.5, 0), (0.75, 100)])
def test_shift_runs_from_earlier_to_later(number, samples):
    config = AugmentConfig(shift_seconds=0.0125, fade_seconds=0.0)
    impulse = np.zeros(1000, np.float32)
    impulse[500] = 1.0
    moved = augment.reshape_waveform(tf.constant(impulse), draws(shift=number), config, RATE).numpy()
    assert np.flatnonzero(moved).tolist() == [500 + samples]


# Bands


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, [0, 0, 0, 1, 2, 3]),
        (0.2, [0, 0, 1, 2, 3, 4]),
        (0.5, [0, 1, 2, 3, 4, 5]),
        (0.6, [1, 2, 3, 4, 5, 5]),
        (0.99999994, [2, 3, 4, 5, 5, 5]),
    ],
)
def test_bands_move_and_the_edge_is_repeated(number, expected):
    features = np.random.default_rng(0).normal(size=(2, 1, 4, 6)).astype(np.float32)
    shifted = augment.shift_bands(tf.constant(features), tf.constant([0.5, number]), 2).numpy()
    np.testing.assert_array_equal(shifted[0], features[0])  # each clip by its own draw
    np.testing.assert_array_equal(shifted[1], features[1][..., expected])


def test_all_band_shifts_are_equally_likely():
    ramp = tf.tile(tf.range(20.0)[tf.newaxis, tf.newaxis, tf.newaxis], [700, 1, 1, 1])
    numbers = tf.constant((np.arange(700) + 0.5) / 700, tf.float32)
    by = augment.shift_bands(ramp, numbers, 3).numpy()[:, 0, 0, 10] - 10
    assert dict(zip(*np.unique(by, return_counts=True), strict=True)) == dict.fromkeys(range(-3, 4), 100)


# Crop


@pytest.mark.parametrize(("cut", "place"), [(0.0, 0.3), (0.5, 0.0), (0.99, 1.0), (0.7, 0.4)])
def test_a_part_is_stretched_over_the_frames_of_the_whole(cut, place):
    """Compared with SciPy's interpolation; the two clips are valid elsewhere."""
    features = np.random.default_rng(0).normal(size=(2, 1, 20, 3)).astype(np.float32)
    mask = np.zeros((2, 1, 20), np.float32)
    mask[0, 0, :15], mask[1, 0, 4:] = 1, 1
    inputs = {"mfcc": features * mask[..., np.newaxis], "mfcc_mask": mask, "tokens": np.ones((2, 1, 4))}
    given = {name: tf.constant([value] * 2) for name, value in (("cut", cut), ("place", place))}
    cropped = augment.crop({name: tf.constant(value) for name, value in inputs.items()}, given, 0.6)
    assert cropped.keys() == inputs.keys()
    for unchanged in ("mfcc_mask", "tokens"):
        np.testing.assert_array_equal(cropped[unchanged], inputs[unchanged])
    for clip, (first, valid) in enumerate([(0, 15), (4, 16)]):
        last = first + valid - 1
        length = (1 - 0.6 * cut) * (last - first)
        start = first + place * (last - first - length)
        expected = np.zeros((20, 3))
        whole = scipy.interpolate.interp1d(np.arange(20), inputs["mfcc"][clip, 0], axis=0)
        expected[first : last + 1] = whole(np.clip(np.linspace(start, start + length, valid), first, last))
        np.testing.assert_allclose(cropped["mfcc"][clip, 0], expected, atol=1e-5)


# Mixup


def shares(config: AugmentConfig, count: int, **given: float) -> np.ndarray:
    keys = tf.stack([tf.range(count), tf.range(count) * 7 + 1], 1)
    numbers = draws(**given)
    each = tf.function(
        lambda: tf.map_fn(lambda key: augment.mixup_share(numbers, key, config), keys, fn_output_signature=tf.float32)
    )
    return each().numpy()


def test_shares_come_from_the_beta_distribution():
    sample = shares(AugmentConfig(mixup_alpha=0.4, mixup_probability=0.5), 2000, mixup=0.49)
    assert scipy.stats.kstest(sample, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
    assert sample.mean() == pytest.approx(0.5, abs=0.04)
    assert sample.std() == pytest.approx(scipy.stats.beta(0.4, 0.4).std(), abs=0.02)


def test_a_clip_beyond_the_probability_stays_its_own():
    np.testing.assert_array_equal(shares(AugmentConfig(mixup_alpha=0.4, mixup_probability=0.5), 5, mixup=0.5), 1.0)


def test_shares_of_a_small_alpha_are_numbers():
    sample = shares(AugmentConfig(mixup_alpha=0.01, mixup_probability=1.0), 500, mixup=0.0)
    assert ((sample >= 0) & (sample <= 1)).all()


def batch(masks: list[list[int]]) -> dict[str, np.ndarray]:
    mask = np.array(masks, np.float32)[:, np.newaxis]
    values = np.random.default_rng(0).normal(size=(*mask.shape, 3)).astype(np.float32)
    return {"spectrogram": values * mask[..., np.newaxis], "spectrogram_mask": mask}


def mixed(inputs, labels, shares):
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    mixed_inputs, mixed = augment.mix(inputs, {"emotion": tf.constant(labels)}, tf.constant(shares, tf.float32))
    mixed_labels = mixed["emotion"]
    return {name: value.numpy() for name, value in mixed_inputs.items()}, mixed_labels.numpy()


def test_mix_is_the_weighted_mean_where_both_have_frames():
    inputs = batch([[1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    share = np.array([0.25, 1.0, 0.6], np.float32)
    result, _ = mixed(inputs, np.eye(3, dtype=np.float32), share)
    values, mask = inputs["spectrogram"], inputs["spectrogram_mask"]
    for clip in range(3):
        for frame in range(4):
            own, other = values[clip, 0, frame], values[clip - 1, 0, frame]
            has_own, has_other = mask[clip, 0, frame], mask[clip - 1, 0, frame] * (share[clip] < 1)
            if has_own and has_other:
                expected = share[clip] * own + (1 - share[clip]) * other
            else:  # One stands unmixed, or none.
                expected = has_own * own + has_other * other
            np.testing.assert_allclose(result["spectrogram"][clip, 0, frame], expected, atol=1e-6)
            assert result["spectrogram_mask"][clip, 0, frame] == max(has_own, has_other)


def test_mixed_labels_sum_to_one_and_carry_the_shares():
    inputs = batch([[1, 1]] * 3)
    _, labels = mixed(inputs, np.eye(3, dtype=np.float32), [0.25, 1.0, 0.6])
    np.testing.assert_allclose(labels, [[0.25, 0, 0.75], [0, 1, 0], [0, 0.4, 0.6]], atol=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1.0, atol=1e-6)


def test_labels_as_heard_have_the_mean_share_of_the_frames():
    inputs = batch([[1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    shares = tf.constant([0.25, 1.0, 0.6])
    _, labels = augment.mix(tensors, {"emotion": tf.eye(3)}, shares, as_heard=True)
    own = [(0.25 * 3 + 0) / 4, 1.0, (1 + 0.6 * 2 + 1) / 4]  # The first's last frame is the third's alone.
    expected = [[own[0], 0, 1 - own[0]], [0, 1, 0], [0, 1 - own[2], own[2]]]
    np.testing.assert_allclose(labels["emotion"], expected, atol=1e-6)


def test_shares_of_one_and_of_nothing():
    inputs = batch([[1, 0, 1], [0, 1, 1]])
    labels = np.eye(2, dtype=np.float32)
    same, same_labels = mixed(inputs, labels, [1.0, 1.0])
    other, other_labels = mixed(inputs, labels, [0.0, 0.0])
    for name, value in inputs.items():
        np.testing.assert_array_equal(same[name], value)
        np.testing.assert_array_equal(other[name], value[::-1])
    np.testing.assert_array_equal(same_labels, labels)
    np.testing.assert_array_equal(other_labels, labels[::-1])


def test_a_clip_alone_in_its_batch_is_mixed_with_itself():
    inputs = batch([[1, 1, 0]])
    same, labels = mixed(inputs, np.eye(1, dtype=np.float32), [0.3])
    np.testing.assert_allclose(same["spectrogram"], inputs["spectrogram"], atol=1e-6)
    np.testing.assert_allclose(labels, [[1.0]])
