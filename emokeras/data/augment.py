"""Augmentation of training waveforms, in graph: speed, shift, equalization, band, reverberation, noise, gain.

Every random number is from `draw`, which depends on seed, epoch and clip only. Band shift and mixup are in
`augment_features`, vocal tract length perturbation in `spectrogram`, SpecAugment in `models.layers`; `variants` are
copies of clips by `augment_acoustics`, made once, and coded.
"""

import functools
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from emokeras.config import AugmentConfig
from emokeras.errors import UsageError

BLOCK = 160  # output samples per block of `change_speed`, whose steps are 1 / BLOCK
REACH, KAISER_BETA = 16, 8.0  # of its filters: samples on either side, and a window with side lobes below -70 dB
EQUALIZED_OCTAVES = 6  # below half the sample rate; lower frequencies get the gain of the lowest point
BAND_ORDER = 8  # of the slopes of a limited band: 6 dB per octave each
LOWEST_NOISE_HZ = 50.0  # Below it noise is flat: no network takes lower frequencies.
FFT_STEP = 4096  # Fourier transforms of multiples of this length are fast.
DRAWS = (
    *("speed", "shift", "gain", "noise", "noise_snr", "window", "bands", "mixup", "variant"),
    # A kind that was removed drew the last two: those after them keep their numbers.
    *("reverberation", "decay", "reverberation_ratio", "warp", "free_1", "free_2"),
    # New ones go to the end: those before them keep their numbers.
    *("band_limit", "band_low", "band_high", "noise_slope"),
)


@functools.cache
def _fade():
    """Return tensorflow_io's fade. Its native library does not load with this TensorFlow, its graph functions do."""
    import logging

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            import tensorflow_io
    except ImportError as error:
        raise UsageError(
            "augment.shift_seconds needs tensorflow-io: pip install tensorflow-io==0.37.1, "
            "or --set augment.shift_seconds=0"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return tensorflow_io.audio.fade


def draw(seed: int, epoch: tf.Tensor, clip: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Return a number in [0, 1) for each of DRAWS, and a seed, int64 [2], for further random numbers."""
    fold_in = tf.random.experimental.stateless_fold_in
    key = fold_in(fold_in(tf.constant([seed, 0x5EED], tf.int64), epoch), clip)
    uniform = tf.unstack(tf.random.stateless_uniform([len(DRAWS)], key))
    return dict(zip(DRAWS, uniform, strict=True)), fold_in(key, 1)


@functools.lru_cache(maxsize=8)
def _resampling_filters(slowest: int, fastest: int) -> np.ndarray:
    """Return resampling filters, float32 [blocks, fastest + 2 REACH, BLOCK], for block lengths `slowest` to `fastest`.

    A filter turns `block` samples with REACH more on either side into BLOCK samples by a Kaiser-windowed sinc, cut off
    at half the lower of the two rates. Rows beyond a shorter block are 0.
    """
    filters = np.zeros((fastest - slowest + 1, fastest + 2 * REACH, BLOCK), np.float32)
    for row, block in enumerate(range(slowest, fastest + 1)):
        moments = REACH + np.arange(BLOCK) * block / BLOCK
        distance = np.arange(block + 2 * REACH)[:, np.newaxis] - moments
        cutoff = min(1.0, BLOCK / block)
        window = np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (distance / REACH) ** 2, 0, None))) * (abs(distance) < REACH)
        taps = np.sinc(cutoff * distance) * window
        filters[row, : len(taps)] = taps / taps.sum(axis=0)
    return filters


def change_speed(waveform: tf.Tensor, factor: tf.Tensor, most: float) -> tf.Tensor:
    """Return a waveform [samples] played `factor` times as fast, which also changes the pitch.

    Blocks of BLOCK * `factor` samples become BLOCK samples by one matrix product. soxr is as fast, but it is a Python
    function, and tf.data's threads that wait for one would block the exit of the program.

    Parameters
    ----------
    factor: float32 [], from 1 - `most` to 1 + `most`; rounded to a multiple of 1 / BLOCK.
    """
    slowest, fastest = max(REACH, round(BLOCK * (1 - most))), round(BLOCK * (1 + most))
    block = tf.clip_by_value(tf.cast(tf.round(BLOCK * factor), tf.int32), slowest, fastest)
    samples = tf.shape(waveform)[0]
    blocks = tf.reshape(tf.pad(waveform, [[block, 2 * block - samples % block]]), [-1, block])
    around = tf.concat([blocks[:-2, -REACH:], blocks[1:-1], blocks[2:, :REACH]], axis=1)
    filters = tf.constant(_resampling_filters(slowest, fastest))[block - slowest, : block + 2 * REACH]
    return tf.reshape(around @ filters, [-1])[: tf.maximum(samples * BLOCK // block, 1)]


def shift(waveform: tf.Tensor, shift_samples: tf.Tensor, fade_samples: int) -> tf.Tensor:
    """Return a waveform [samples] moved later, or earlier if negative, at most by half its length.

    The free end is filled with zeros; both edges of the rest are faded over `fade_samples`.
    """
    length = tf.shape(waveform)[0]
    amount = tf.minimum(tf.abs(shift_samples), length // 2)
    kept = tf.where(shift_samples < 0, waveform[amount:], waveform[: length - amount])
    fade_samples = tf.minimum(fade_samples, (length - amount) // 2)
    kept = _fade()(kept, fade_samples, fade_samples, mode="linear")
    zeros = tf.zeros([amount])
    return tf.where(shift_samples < 0, tf.concat([kept, zeros], 0), tf.concat([zeros, kept], 0))


def octave_gains(frequency: tf.Tensor, gains_decibels: tf.Tensor) -> tf.Tensor:
    """Return the gain, a factor, at each frequency of an equalizer.

    Parameters
    ----------
    frequency: float32 [bins], as a share of half the sample rate, above 0.
    gains_decibels: float32 [points]. The last is at half the sample rate, each other an octave below the next. Between
        points gains are interpolated linearly over octaves; below the first they are constant.
    """
    points = gains_decibels.shape[0]
    point = tf.maximum(points - 1 + tf.math.log(frequency) / np.log(2), 0.0)  # fractional, from 0
    below = tf.minimum(tf.cast(point, tf.int32), points - 2)
    share = point - tf.cast(below, tf.float32)
    gains = (1.0 - share) * tf.gather(gains_decibels, below) + share * tf.gather(gains_decibels, below + 1)
    return 10.0 ** (gains / 20.0)


def band_gains(frequency: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Return the gain, a factor, at each frequency [bins] of a limited band, by Butterworth's filters of BAND_ORDER.

    `frequency`, `low` and `high` have the same unit. At both edges the gain is -3 dB.
    """
    attenuation = (1.0 + (low / frequency) ** (2 * BAND_ORDER)) * (1.0 + (frequency / high) ** (2 * BAND_ORDER))
    return tf.math.rsqrt(attenuation)


def equalize(waveform: tf.Tensor, gains: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Return a waveform [samples] filtered without delay.

    Parameters
    ----------
    gains: returns the factor [bins] at each frequency, float32 [bins], a share of half the sample rate, above 0.
    """
    length = _fft_length(2 * tf.shape(waveform)[0])  # A filter without delay extends to both sides.
    bins = tf.cast(tf.maximum(tf.range(length // 2 + 1), 1), tf.float32)
    return _filtered(waveform, tf.cast(gains(bins / bins[-1]), tf.complex64), length)


def reverberate(waveform: tf.Tensor, echo: tf.Tensor) -> tf.Tensor:
    """Return a waveform [samples] with reverberation.

    Parameters
    ----------
    echo: float32 [samples], the impulse response of the room without the direct sound, from one sample after it.
    """
    length = _fft_length(tf.shape(waveform)[0] + tf.shape(echo)[0] + 1)
    return _filtered(waveform, tf.signal.rfft(tf.concat([[1.0], echo], 0), [length]), length)


def room_echo(decay: tf.Tensor, ratio_decibels: tf.Tensor, samples: int, seed: tf.Tensor) -> tf.Tensor:
    """Return the impulse response [samples] of a room without the direct sound (Polack's model, 1988).

    It is noise that decays by 60 dB in `decay` samples; the direct sound has `ratio_decibels` more energy.
    """
    echo = tf.random.stateless_normal([samples], seed) * 10.0 ** (-3.0 * tf.range(samples, dtype=tf.float32) / decay)
    return echo * tf.sqrt(10.0 ** (-ratio_decibels / 10.0) / tf.reduce_sum(echo**2))


def _fft_length(samples: tf.Tensor) -> tf.Tensor:
    """Return the next multiple of FFT_STEP."""
    return (samples + FFT_STEP - 1) // FFT_STEP * FFT_STEP


def _filtered(waveform: tf.Tensor, response: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Return a waveform [samples] filtered by a frequency response, complex64 [length / 2 + 1]."""
    return tf.signal.irfft(tf.signal.rfft(waveform, [length]) * response, [length])[: tf.shape(waveform)[0]]


def add_noise(waveform: tf.Tensor, snr_decibels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return a waveform [samples] with white noise at a signal-to-noise ratio."""
    power = tf.reduce_mean(waveform**2)
    level = tf.sqrt(power * 10.0 ** (-snr_decibels / 10.0))
    return waveform + level * tf.random.stateless_normal(tf.shape(waveform), seed)


def colored_noise(samples: tf.Tensor, slope_decibels: tf.Tensor, seed: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Return noise [samples] whose power changes by `slope_decibels` per octave above LOWEST_NOISE_HZ."""
    length = _fft_length(samples)
    bins = length // 2 + 1
    real, imaginary = tf.unstack(tf.random.stateless_normal([2, bins], seed))
    hertz = tf.linspace(0.0, sample_rate_hz / 2.0, bins)
    octaves = tf.math.log(tf.maximum(hertz / LOWEST_NOISE_HZ, 1.0)) / np.log(2)
    gains = 10.0 ** (slope_decibels * octaves / 20.0)
    return tf.signal.irfft(tf.complex(gains * real, gains * imaginary), [length])[:samples]


def add_sound(waveform: tf.Tensor, sound: tf.Tensor, snr_decibels: tf.Tensor) -> tf.Tensor:
    """Return a waveform [samples] with another sound [samples] at a signal-to-noise ratio."""
    ratio = tf.math.divide_no_nan(tf.reduce_mean(waveform**2), tf.reduce_mean(sound**2))
    return waveform + sound * tf.sqrt(ratio * 10.0 ** (-snr_decibels / 10.0))


def augment_timing(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], config: AugmentConfig, sample_rate_hz: int
) -> tf.Tensor:
    """Return a waveform [samples] with changed speed, then shifted in time."""
    if config.speed_change:
        factor = 1.0 + config.speed_change * (2.0 * draws["speed"] - 1.0)
        waveform = change_speed(waveform, factor, config.speed_change)
    if config.shift_seconds:
        shift_samples = config.shift_seconds * sample_rate_hz * (2.0 * draws["shift"] - 1.0)
        fade_samples = round(config.fade_seconds * sample_rate_hz)
        waveform = shift(waveform, tf.cast(shift_samples, tf.int32), fade_samples)
    return waveform


def augment_acoustics(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], seed: tf.Tensor, config: AugmentConfig, sample_rate_hz: int
) -> tf.Tensor:
    """Return a waveform [samples] with equalization, limited band, reverberation, noise, gain, in this order."""
    if config.equalization_decibels or config.band_limit_probability:
        waveform = _equalize_randomly(waveform, draws, seed, config, sample_rate_hz)
    if config.reverberation_probability:
        decay = sample_rate_hz * _between(config.reverberation_seconds, draws["decay"])
        ratio_decibels = _between(config.reverberation_ratio_decibels, draws["reverberation_ratio"])
        samples = round(sample_rate_hz * config.reverberation_seconds[1])
        echo_seed = tf.random.experimental.stateless_fold_in(seed, 3)
        waveform = tf.cond(
            draws["reverberation"] < config.reverberation_probability,
            lambda: reverberate(waveform, room_echo(decay, ratio_decibels, samples, echo_seed)),
            lambda: waveform,
        )
    if config.noise_probability:
        waveform = tf.cond(
            draws["noise"] < config.noise_probability,
            lambda: _add_random_noise(waveform, draws, seed, config, sample_rate_hz),
            lambda: waveform,
        )
    if config.gain_decibels:
        waveform *= 10.0 ** (config.gain_decibels * (2.0 * draws["gain"] - 1.0) / 20.0)
    return waveform


def _equalize_randomly(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], seed: tf.Tensor, config: AugmentConfig, sample_rate_hz: int
) -> tf.Tensor:
    """Return a waveform [samples] with equalization and limited band, by one filter."""
    is_limited = draws["band_limit"] < config.band_limit_probability

    def gains(frequency):
        factors = tf.ones_like(frequency)
        if config.equalization_decibels:
            octaves_seed = tf.random.experimental.stateless_fold_in(seed, 2)
            octaves = tf.random.stateless_uniform([EQUALIZED_OCTAVES + 1], octaves_seed, -1.0, 1.0)
            factors = octave_gains(frequency, config.equalization_decibels * octaves)
        if config.band_limit_probability:
            low, high = (
                tf.exp(_between(np.log(np.float32(hertz)), draws[name])) / (sample_rate_hz / 2)
                for hertz, name in ((config.band_low_hz, "band_low"), (config.band_high_hz, "band_high"))
            )
            factors *= tf.where(is_limited, band_gains(frequency, low, high), 1.0)
        return factors

    if config.equalization_decibels:
        return equalize(waveform, gains)
    return tf.cond(is_limited, lambda: equalize(waveform, gains), lambda: waveform)


def _add_random_noise(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], seed: tf.Tensor, config: AugmentConfig, sample_rate_hz: int
) -> tf.Tensor:
    """Return a waveform [samples] with white noise, or with colored noise where there is a slope."""
    snr_decibels = _between(config.noise_snr_decibels, draws["noise_snr"])
    if not any(config.noise_slope_decibels):
        return add_noise(waveform, snr_decibels, seed)
    slope_decibels = _between(config.noise_slope_decibels, draws["noise_slope"])
    return add_sound(waveform, colored_noise(tf.size(waveform), slope_decibels, seed, sample_rate_hz), snr_decibels)


def _between(bounds: tuple[float, float], number: tf.Tensor) -> tf.Tensor:
    """Return the value at `number`, 0 to 1, between the bounds."""
    low, high = bounds
    return low + (high - low) * number
