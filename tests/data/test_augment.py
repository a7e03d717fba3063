"""Waveform augmentation has the stated effect, in numbers; random numbers depend on seed, epoch and clip only."""

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import soxr
import tensorflow as tf
from sounds import RATE, noise, tone

from emokeras.config import AugmentConfig
from emokeras.data import augment


def draws(**given: float) -> dict[str, tf.Tensor]:
    """Return the given random numbers, and 0.5, which changes nothing, for the others."""
    return {name: tf.constant(given.get(name, 0.5)) for name in augment.DRAWS}


def drawn(seed: int, epoch: int, clip: int) -> tuple:
    """Return all random numbers of a clip, and the seed for more."""
    numbers, noise_seed = augment.draw(seed, tf.constant(epoch, tf.int64), tf.constant(clip, tf.int64))
    return (*(float(numbers[name]) for name in augment.DRAWS), tuple(noise_seed.numpy().tolist()))


# Random numbers


def test_another_seed_epoch_or_clip_gives_other_random_numbers():
    cases = [drawn(0, 0, 0), drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1), drawn(0, 1, 1), drawn(1, 1, 0)]
    for values in zip(*cases, strict=True):
        assert len(set(values)) == len(cases)


def all_draws(threads: int, order: np.ndarray) -> dict[int, tuple]:
    dataset = tf.data.Dataset.from_tensor_slices(order)
    dataset = dataset.map(lambda clip: (clip, augment.draw(7, tf.constant(2, tf.int64), clip)), threads)
    return {int(clip): (*map(float, values.values()), tuple(key.numpy())) for clip, (values, key) in dataset}


def test_random_numbers_do_not_depend_on_threads_or_order():
    one = all_draws(1, np.arange(40))
    assert one == all_draws(4, np.arange(40)[::-1].copy())
    assert one[5] == drawn(7, 2, 5)


def test_random_numbers_of_earlier_kinds_are_those_of_earlier_versions():
    """Runs whose rows are kept can be made again. New kinds draw after these."""
    earlier = [0.76960969, 0.93671536, 0.04411769, 0.16457212, 0.63444686, 0.22859848, 0.89520025, 0.22418964]
    earlier += [0.15599334, 0.75426066, 0.26009750, 0.01036870, 0.59685028, 0.31429255, 0.01699090, 0.23756194]
    earlier += [0.72574270, 0.06506109, 0.02484834]
    np.testing.assert_allclose(drawn(7, 2, 5)[: len(earlier)], earlier, atol=1e-7)


def test_random_numbers_are_uniform_and_independent():
    clips = tf.range(500, dtype=tf.int64)
    signature = dict.fromkeys(augment.DRAWS, tf.float32)
    sample = tf.function(
        lambda: tf.map_fn(
            lambda clip: augment.draw(0, tf.constant(0, tf.int64), clip)[0], clips, fn_output_signature=signature
        )
    )()
    table = np.stack([sample[name].numpy() for name in augment.DRAWS])
    for values in table:
        assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(table) - np.eye(len(table))
    assert np.abs(correlation).max() < 0.2  # more than four standard deviations of 500 pairs


# Speed


def at_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    return augment.change_speed(tf.constant(waveform), tf.constant(factor), 0.25).numpy()


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_speed_changes_pitch_and_length(factor):
    faster = at_speed(tone(440.0), factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=1)
    padded = np.abs(np.fft.rfft(faster * np.hanning(len(faster)), 10 * RATE))  # bins of 0.1 Hz
    assert padded.argmax() / 10 == pytest.approx(440.0 * factor, abs=0.2)
    assert np.abs(faster[100:-100]).max() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.0, 1.1, 1.25])
def test_speed_equals_resampling_by_soxr(factor):
    """For a sound below half of either rate."""
    sound = soxr.resample(noise(4000), 4000, RATE)
    faster, expected = at_speed(sound, factor), soxr.resample(sound, factor, 1.0, "VHQ")
    length = min(len(faster), len(expected))
    np.testing.assert_allclose(faster[100 : length - 100], expected[100 : length - 100], atol=2e-3)


def test_speed_gives_no_aliases():
    """7.5 kHz at 1.25 times the speed is 9.4 kHz, above half the sample rate. It must not appear as 6.6 kHz."""
    assert np.abs(at_speed(tone(7500.0), 1.25)[500:-500]).max() < 0.05


def test_speed_has_no_drift_in_a_long_clip():
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
def test_speed_leaves_at_least_a_sample(factor, most):
    assert len(augment.change_speed(tf.constant([0.5]), tf.constant(factor), most)) >= 1


def test_speed_is_rounded_to_a_step_within_its_bounds():
    """There are no filters for the next step beyond a bound between two steps."""
    sound = noise(1600)
    slowest = augment.change_speed(tf.constant(sound), tf.constant(1 - 0.053125 - 1e-6), 0.053125)
    np.testing.assert_array_equal(slowest, augment.change_speed(tf.constant(sound), tf.constant(152 / 160), 0.053125))


# Shift


@pytest.mark.parametrize("amount", [0, 1, 250, -1, -250])
def test_shift_moves_an_impulse_by_its_samples(amount):
    impulse = np.zeros(1000, np.float32)
    impulse[500] = 1.0
    moved = augment.shift(tf.constant(impulse), tf.constant(amount), 10).numpy()
    assert len(moved) == 1000
    assert np.flatnonzero(moved).tolist() == [500 + amount]
    assert moved[500 + amount] == 1.0


@pytest.mark.parametrize("amount", [30, -30])
def test_shift_fills_with_zeros_and_fades_both_edges(amount):
    """Linearly from 0 to 1 over the samples of the fade."""
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


def test_a_fade_of_0_samples_changes_no_edge():
    moved = augment.shift(tf.ones([100]), tf.constant(-10), 0).numpy()
    np.testing.assert_array_equal(moved, [1.0] * 90 + [0.0] * 10)


@pytest.mark.parametrize("samples", [1, 2, 50, 79, 81, 159])
@pytest.mark.parametrize("amount", [0, 3, -40])
def test_a_clip_shorter_than_its_fades_can_be_shifted(samples, amount):
    moved = augment.shift(tf.ones([samples]), tf.constant(amount), 80).numpy()
    assert moved.shape == (samples,)
    assert np.isfinite(moved).all()
    assert np.abs(moved).max() <= 1.0


# Equalization, limited band and reverberation


def equalize(waveform: np.ndarray, gains_decibels: np.ndarray) -> np.ndarray:
    gains = tf.constant(gains_decibels, tf.float32)
    return augment.equalize(tf.constant(waveform), lambda frequency: augment.octave_gains(frequency, gains)).numpy()


def test_equalization_interpolates_its_gains_over_octaves():
    """Half the rate is 8 kHz, so the points are at 125, 250, ... 8000 Hz."""
    gains = np.array([-6.0, 4.0, 0.0, 3.0, -2.0, 6.0, -4.0], np.float32)
    for hertz in (60.0, 125.0, 176.78, 500.0, 1000.0, 2828.4, 4000.0, 6000.0):
        decibels = np.interp(np.log2(hertz), np.log2(125.0 * 2.0 ** np.arange(7)), gains)
        sound = tone(hertz)
        filtered = equalize(sound, gains)
        assert filtered.shape == sound.shape
        expected = sound * 10 ** (decibels / 20)  # without delay
        np.testing.assert_allclose(filtered[4000:-4000], expected[4000:-4000], atol=0.02)


@pytest.mark.parametrize("samples", [1, 100, 4097])
def test_the_same_gain_at_every_octave_is_a_gain(samples):
    waveform = noise(samples)
    louder = equalize(waveform, np.full(7, 20.0))
    np.testing.assert_allclose(louder, 10 * waveform, atol=1e-5)


IMPULSE = np.zeros(RATE, np.float32)
IMPULSE[RATE // 2] = 1.0
BINS_HZ = np.fft.rfftfreq(RATE, 1 / RATE)


def response_of(config: AugmentConfig, clip: int = 0, **given: float) -> np.ndarray:
    """Return the complex frequency response, relative to the middle of the clip, at BINS_HZ."""
    clip_seed = tf.constant([clip, 0], tf.int64)
    filtered = augment.augment_acoustics(tf.constant(IMPULSE), draws(**given), clip_seed, config, RATE)
    return np.fft.rfft(filtered) / np.fft.rfft(IMPULSE)


def butterworth(low_hz: float, high_hz: float) -> np.ndarray:
    """Return the gain of analog filters of order 8, 48 dB per octave, at BINS_HZ."""
    _, high_pass = scipy.signal.freqs(*scipy.signal.butter(8, low_hz, "highpass", analog=True), BINS_HZ)
    _, low_pass = scipy.signal.freqs(*scipy.signal.butter(8, high_hz, "lowpass", analog=True), BINS_HZ)
    return np.abs(high_pass * low_pass)


@pytest.mark.parametrize(
    ("low", "high", "low_hz", "high_hz"), [(0.0, 0.0, 100, 2500), (1.0, 1.0, 400, 7000), (0.5, 0.5, 200, 4183.3)]
)
def test_a_limited_band_has_log_uniform_edges_and_the_slopes_of_butterworth(low, high, low_hz, high_hz):
    config = AugmentConfig(band_limit_probability=0.3, band_low_hz=(100, 400), band_high_hz=(2500, 7000))
    response = response_of(config, band_limit=0.29, band_low=low, band_high=high)
    np.testing.assert_allclose(response, butterworth(low_hz, high_hz), atol=2e-3)  # real: without delay


def test_a_limited_band_has_its_probability():
    np.testing.assert_array_equal(augmented_tone(AugmentConfig(band_limit_probability=0.3)), tone(440.0))
    with_other = AugmentConfig(band_limit_probability=0.3, equalization_decibels=6.0)
    only_other = AugmentConfig(equalization_decibels=6.0)
    np.testing.assert_array_equal(response_of(with_other), response_of(only_other))


def test_equalization_and_limited_band_are_one_filter():
    settings = {"band_low": 0.5, "band_high": 0.5, "band_limit": 0.0}
    both = response_of(AugmentConfig(band_limit_probability=1.0, equalization_decibels=6.0), clip=3, **settings)
    equalized = response_of(AugmentConfig(equalization_decibels=6.0), clip=3)
    np.testing.assert_allclose(both, equalized * butterworth(200, 4183.3), atol=4e-3)


@pytest.mark.parametrize("samples", [1, 2, 5000])
def test_a_limited_band_of_any_clip_is_finite(samples):
    config = AugmentConfig(band_limit_probability=1.0)
    limited = augment.augment_acoustics(
        tf.constant(noise(samples)), draws(), tf.constant([1, 2], tf.int64), config, RATE
    )
    assert limited.shape == (samples,)
    assert np.isfinite(limited).all()


@pytest.mark.parametrize("samples", [1, 100, 4096, 20000])
def test_reverberation_is_convolution_with_the_echo(samples):
    waveform, echo = noise(samples), 0.1 * noise(8000, seed=1)
    found = augment.reverberate(tf.constant(waveform), tf.constant(echo)).numpy()
    expected = scipy.signal.fftconvolve(waveform, np.concatenate([[1.0], echo]))[:samples]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("seconds", "ratio"), [(0.2, 10.0), (0.5, 0.0)])
def test_an_echo_has_its_energy_and_decays_by_60_decibels(seconds, ratio):
    decay = tf.constant(seconds * RATE, tf.float32)
    echo = augment.room_echo(decay, tf.constant(ratio), RATE // 2, tf.constant([1, 2], tf.int64)).numpy()
    assert -10 * np.log10(np.sum(echo**2)) == pytest.approx(ratio, abs=1e-3)
    part = round(0.1 * RATE)
    early, late = echo[:part], echo[part : 2 * part]
    assert 10 * np.log10(np.mean(early**2) / np.mean(late**2)) == pytest.approx(60 * 0.1 / seconds, abs=1.0)


def test_equalization_is_within_its_decibels_and_differs_between_clips():
    config = AugmentConfig(equalization_decibels=6.0)
    responses = np.array([20 * np.log10(np.abs(response_of(config, clip))) for clip in range(20)])
    assert 5.0 < np.abs(responses).max() < 6.05
    assert responses.std(axis=0).min() > 1.5  # Uniform from -6 to 6 it is 3.5 at the points, less between them.


def test_reverberation_has_its_probability():
    config = AugmentConfig(reverberation_probability=0.3)
    np.testing.assert_array_equal(augmented_tone(config, reverberation=0.31), tone(440.0))
    assert np.abs(augmented_tone(config, reverberation=0.29) - tone(440.0)).max() > 0.1


# Noise and gain


@pytest.mark.parametrize("decibels", [0.0, 15.0, 40.0])
def test_noise_has_its_ratio_to_the_clip(decibels):
    waveform = 0.3 * tone(440.0)
    noisy = augment.add_noise(tf.constant(waveform), tf.constant(decibels), tf.constant([1, 2], tf.int64)).numpy()
    added = noisy - waveform
    assert 10 * np.log10(np.mean(waveform**2) / np.mean(added**2)) == pytest.approx(decibels, abs=0.2)
    assert scipy.stats.kstest(added / added.std(), "norm").pvalue > 1e-3
    halves = np.abs(np.fft.rfft(added)[1:8001].reshape(2, 4000)) ** 2
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.15)  # white: the same power above 4 kHz as below


def test_silence_gets_no_noise():
    silent = augment.add_noise(tf.zeros([100]), tf.constant(15.0), tf.constant([1, 2], tf.int64)).numpy()
    np.testing.assert_array_equal(silent, 0.0)


def augmented_tone(config: AugmentConfig, **given: float) -> np.ndarray:
    clip_seed = tf.constant([1, 2], tf.int64)
    return augment.augment_acoustics(tf.constant(tone(440.0)), draws(**given), clip_seed, config, RATE).numpy()


@pytest.mark.parametrize(("number", "decibels"), [(0.0, -6.0), (0.25, -3.0), (0.5, 0.0), (0.75, 3.0)])
def test_gain_is_uniform_between_minus_and_plus_its_decibels(number, decibels):
    louder = augmented_tone(AugmentConfig(gain_decibels=6.0), gain=number)
    np.testing.assert_allclose(louder, tone(440.0) * 10 ** (decibels / 20), rtol=1e-5)


def test_noise_has_its_probability_and_its_random_ratio():
    config = AugmentConfig(noise_probability=0.3, noise_snr_decibels=(10.0, 30.0))
    np.testing.assert_array_equal(augmented_tone(config, noise=0.31), tone(440.0))
    for number, decibels in ((0.0, 10.0), (0.5, 20.0), (1.0, 30.0)):
        added = augmented_tone(config, noise=0.29, noise_snr=number) - tone(440.0)
        assert 10 * np.log10(0.5 / np.mean(added**2)) == pytest.approx(decibels, abs=0.2)


def slope_of(sound: np.ndarray) -> float:
    """Return the change of power from 100 Hz to 7 kHz in decibels per octave."""
    hertz, power = scipy.signal.welch(sound, RATE, nperseg=2048)
    octaves = np.arange(np.log2(100), np.log2(7000), 0.5)
    means = [power[(hertz >= 2**low) & (hertz < 2 ** (low + 0.5))].mean() for low in octaves]
    return np.polyfit(octaves, 10 * np.log10(means), 1)[0]


@pytest.mark.parametrize(("number", "slope"), [(0.0, -6.0), (0.5, -3.0), (1.0, 0.0)])
def test_colored_noise_has_its_slope_and_its_ratio(number, slope):
    config = AugmentConfig(noise_probability=0.3, noise_snr_decibels=(10, 30), noise_slope_decibels=(-6, 0))
    clip = tone(440.0, 10 * RATE)
    clip_seed = tf.constant([1, 2], tf.int64)
    for ratio, decibels in ((0.0, 10.0), (1.0, 30.0)):
        numbers = draws(noise=0.29, noise_snr=ratio, noise_slope=number)
        added = augment.augment_acoustics(tf.constant(clip), numbers, clip_seed, config, RATE).numpy() - clip
        assert 10 * np.log10(0.5 / np.mean(added**2)) == pytest.approx(decibels, abs=0.01)
        assert slope_of(added) == pytest.approx(slope, abs=0.15)
        assert scipy.stats.skew(added) == pytest.approx(0.0, abs=0.1)
    np.testing.assert_array_equal(augmented_tone(config, noise=0.31, noise_slope=number), tone(440.0))


def test_without_a_slope_noise_is_that_of_earlier_versions():
    config = AugmentConfig(noise_probability=1.0, noise_snr_decibels=(15.0, 15.0))
    expected = augment.add_noise(tf.constant(tone(440.0)), tf.constant(15.0), tf.constant([1, 2], tf.int64))
    np.testing.assert_array_equal(augmented_tone(config, noise_slope=0.3), expected)


@pytest.mark.parametrize("samples", [1, 2, 4097])
def test_colored_noise_of_any_clip_is_finite_and_of_silence_silent(samples):
    config = AugmentConfig(noise_probability=1.0, noise_slope_decibels=(-6, 0))
    for clip in (noise(samples), np.zeros(samples, np.float32)):
        noisy = augment.augment_acoustics(tf.constant(clip), draws(), tf.constant([1, 2], tf.int64), config, RATE)
        assert noisy.shape == (samples,)
        assert np.isfinite(noisy).all()
        assert np.any(noisy) == np.any(clip)


# Timing


def test_the_default_settings_change_nothing():
    waveform, config = tf.constant(noise(500)), AugmentConfig()
    for number in (0.0, 0.3, 0.99):
        numbers = draws(**dict.fromkeys(augment.DRAWS, number))
        same = augment.augment_timing(waveform, numbers, config, RATE)
        same = augment.augment_acoustics(same, numbers, tf.constant([1, 2]), config, RATE)
        np.testing.assert_array_equal(same, waveform)


@pytest.mark.parametrize(("number", "factor"), [(0.0, 0.88), (0.5, 1.0), (0.75, 1.06)])
def test_speed_is_uniform_around_1(number, factor):
    config = AugmentConfig(speed_change=0.12)
    waveform = augment.augment_timing(tf.constant(noise(8800)), draws(speed=number), config, RATE)
    assert len(waveform) == pytest.approx(8800 / (round(factor * augment.BLOCK) / augment.BLOCK), abs=1)


@pytest.mark.parametrize(("number", "samples"), [(0.0, -200), (0.25, -100), (0.5, 0), (0.75, 100)])
def test_shift_is_uniform_between_earlier_and_later(number, samples):
    config = AugmentConfig(shift_seconds=0.0125, fade_seconds=0.0)
    impulse = np.zeros(1000, np.float32)
    impulse[500] = 1.0
    moved = augment.augment_timing(tf.constant(impulse), draws(shift=number), config, RATE).numpy()
    assert np.flatnonzero(moved).tolist() == [500 + samples]
