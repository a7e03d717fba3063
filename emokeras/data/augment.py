"""What happens to a training clip: on its waveform (speed, shift, equalisation, reverberation, noise, gain), on its
features (crop, band shift), and between two clips (mixup). All draws come from `draw`, stateless in (seed, epoch,
clip). `features` hears other vocal tracts; SpecAugment is a layer of `models.layers`.
"""

import functools
import warnings

import numpy as np
import tensorflow as tf

from emokeras.config import AugmentConfig
from emokeras.errors import UsageError

BLOCK = 160  # samples that a change of speed makes at once: its steps are 1 / 160
REACH, KAISER_BETA = 16, 8.0  # how far its filters reach on either side, in samples, and how they fade: below -70 dB

EQUALISED_OCTAVES = 6  # below half the sample rate; what is lower is as loud as the lowest
FFT_STEP = 4096  # Lengths that are multiples of it are quick to transform.

NAMES = (
    *("speed", "shift", "gain", "noise", "snr", "crop", "bands", "mixup", "variant"),
    *("room", "decay", "distance", "tract", "cut", "place"),
)


@functools.cache
def _fade():
    """Return tensorflow_io's fade. Its native library does not load under this TensorFlow; its graph ops work."""
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
    """Return one number in [0, 1) for each of NAMES, and a seed [2] for what needs more: the same in every process."""
    fold_in = tf.random.experimental.stateless_fold_in
    key = fold_in(fold_in(tf.constant([seed, 0x5EED], tf.int64), epoch), clip)
    uniform = tf.unstack(tf.random.stateless_uniform([len(NAMES)], key))
    return dict(zip(NAMES, uniform, strict=True)), fold_in(key, 1)


@functools.lru_cache(maxsize=8)
def _resampling_filters(slowest: int, fastest: int) -> np.ndarray:
    """Return what turns `block` samples and REACH more on either side into BLOCK samples, for each block from `slowest`
    to `fastest`: [blocks, fastest + 2 REACH, BLOCK], 0 where a block is shorter.

    Each output is a Kaiser-windowed sinc's sum of the inputs around it, cut off at the lower of the two rates' halves.
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
    """Play a waveform [samples] `factor` times as fast, pitch and all: from 1 - `most` to 1 + `most`, to the nearest
    step of 1 / BLOCK.

    Blocks of BLOCK times `factor` samples become BLOCK each, by one product of matrices: several times as fast as
    `tf.image.resize`. (soxr is as fast, but is Python's: tf.data's threads that wait for it would hang an exit.)
    """
    slowest, fastest = max(REACH, round(BLOCK * (1 - most))), round(BLOCK * (1 + most))
    block = tf.clip_by_value(tf.cast(tf.round(BLOCK * factor), tf.int32), slowest, fastest)
    samples = tf.shape(waveform)[0]
    blocks = tf.reshape(tf.pad(waveform, [[block, 2 * block - samples % block]]), [-1, block])
    around = tf.concat([blocks[:-2, -REACH:], blocks[1:-1], blocks[2:, :REACH]], axis=1)
    filters = tf.constant(_resampling_filters(slowest, fastest))[block - slowest, : block + 2 * REACH]
    return tf.reshape(around @ filters, [-1])[: tf.maximum(samples * BLOCK // block, 1)]


def shift(waveform: tf.Tensor, shift_samples: tf.Tensor, fade_samples: int) -> tf.Tensor:
    """Move a waveform [samples] later (or earlier, if negative): one end is lost, the other filled with zeros; the
    edges of what is left are faded."""
    length = tf.shape(waveform)[0]
    amount = tf.minimum(tf.abs(shift_samples), length // 2)
    kept = tf.where(shift_samples < 0, waveform[amount:], waveform[: length - amount])
    fade_samples = tf.minimum(fade_samples, (length - amount) // 2)
    kept = _fade()(kept, fade_samples, fade_samples, mode="linear")
    zeros = tf.zeros([amount])
    return tf.where(shift_samples < 0, tf.concat([kept, zeros], 0), tf.concat([zeros, kept], 0))


def equalise(waveform: tf.Tensor, gains_decibels: tf.Tensor) -> tf.Tensor:
    """Filter a waveform [samples], without delay, to these gains [points]: the last at half the sample rate, each other
    an octave below the next, straight lines between them, and below the first as there."""
    samples, points = tf.shape(waveform)[0], gains_decibels.shape[0]
    length = _fft_length(2 * samples)  # A filter without delay reaches to either side.
    bins = length // 2 + 1
    hertz = tf.cast(tf.maximum(tf.range(bins), 1), tf.float32)  # up to a factor
    place = tf.maximum(points - 1 + tf.math.log(hertz / hertz[-1]) / np.log(2), 0.0)  # among the points, the first at 0
    below = tf.minimum(tf.cast(place, tf.int32), points - 2)
    share = place - tf.cast(below, tf.float32)
    gains = (1.0 - share) * tf.gather(gains_decibels, below) + share * tf.gather(gains_decibels, below + 1)
    return _filtered(waveform, tf.cast(10.0 ** (gains / 20.0), tf.complex64), length)


def reverberate(waveform: tf.Tensor, echo: tf.Tensor) -> tf.Tensor:
    """Add to a waveform [samples] its echo: what a room answers to an impulse, from one sample after it [samples]."""
    length = _fft_length(tf.shape(waveform)[0] + tf.shape(echo)[0] + 1)
    return _filtered(waveform, tf.signal.rfft(tf.concat([[1.0], echo], 0), [length]), length)


def room_echo(decay: tf.Tensor, ratio_decibels: tf.Tensor, samples: int, seed: tf.Tensor) -> tf.Tensor:
    """Return the echo [samples] of a room: noise that has lost 60 dB after `decay` samples, with the energy of the
    direct sound less `ratio_decibels` (Polack's model, 1988)."""
    echo = tf.random.stateless_normal([samples], seed) * 10.0 ** (-3.0 * tf.range(samples, dtype=tf.float32) / decay)
    return echo * tf.sqrt(10.0 ** (-ratio_decibels / 10.0) / tf.reduce_sum(echo**2))


def _fft_length(samples: tf.Tensor) -> tf.Tensor:
    return (samples + FFT_STEP - 1) // FFT_STEP * FFT_STEP


def _filtered(waveform: tf.Tensor, response: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Filter a waveform [samples] by a frequency response [length / 2 + 1]."""
    return tf.signal.irfft(tf.signal.rfft(waveform, [length]) * response, [length])[: tf.shape(waveform)[0]]


def add_noise(waveform: tf.Tensor, snr_decibels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Add white noise to a waveform [samples] at this ratio of their mean powers."""
    power = tf.reduce_mean(waveform**2)
    level = tf.sqrt(power * 10.0 ** (-snr_decibels / 10.0))
    return waveform + level * tf.random.stateless_normal(tf.shape(waveform), seed)


def reshape_waveform(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], config: AugmentConfig, sample_rate_hz: int
) -> tf.Tensor:
    """Apply what moves the sound in time, to a waveform [samples]: speed, then shift."""
    if config.speed_change:
        factor = 1.0 + config.speed_change * (2.0 * draws["speed"] - 1.0)
        waveform = change_speed(waveform, factor, config.speed_change)
    if config.shift_seconds:
        shift_samples = config.shift_seconds * sample_rate_hz * (2.0 * draws["shift"] - 1.0)
        fade_samples = round(config.fade_seconds * sample_rate_hz)
        waveform = shift(waveform, tf.cast(shift_samples, tf.int32), fade_samples)
    return waveform


def recolour_waveform(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], seed: tf.Tensor, config: AugmentConfig, sample_rate_hz: int
) -> tf.Tensor:
    """Apply what leaves the sound where it is, to a waveform [samples]: equalisation, reverberation, noise, gain."""
    fold_in = tf.random.experimental.stateless_fold_in
    if config.equalization_decibels:
        number = tf.random.stateless_uniform([EQUALISED_OCTAVES + 1], fold_in(seed, 2), -1.0, 1.0)
        waveform = equalise(waveform, config.equalization_decibels * number)
    if config.reverberation_probability:
        decay = sample_rate_hz * _between(config.reverberation_seconds, draws["decay"])
        ratio_decibels = _between(config.reverberation_ratio_decibels, draws["distance"])
        samples = round(sample_rate_hz * config.reverberation_seconds[1])
        waveform = tf.cond(
            draws["room"] < config.reverberation_probability,
            lambda: reverberate(waveform, room_echo(decay, ratio_decibels, samples, fold_in(seed, 3))),
            lambda: waveform,
        )
    if config.noise_probability:
        snr_decibels = _between(config.noise_snr_decibels, draws["snr"])
        waveform = tf.cond(
            draws["noise"] < config.noise_probability,
            lambda: add_noise(waveform, snr_decibels, seed),
            lambda: waveform,
        )
    if config.gain_decibels:
        waveform *= 10.0 ** (config.gain_decibels * (2.0 * draws["gain"] - 1.0) / 20.0)
    return waveform


def _between(bounds: tuple[float, float], number: tf.Tensor) -> tf.Tensor:
    low, high = bounds
    return low + (high - low) * number


def _masked(inputs: dict[str, tf.Tensor]) -> list[str]:
    """Return the names of the inputs that have a mask, as words have none."""
    return [name for name in inputs if f"{name}_mask" in inputs]


def crop(inputs: dict[str, tf.Tensor], draws: dict[str, tf.Tensor], most: float) -> dict[str, tf.Tensor]:
    """Cut up to the share `most` off what is valid of each clip, and stretch the rest over as many frames.

    `inputs` has features [batch, windows, frames, bands] with their masks; what has no mask stays.
    """
    kept = (1.0 - most * draws["cut"])[:, tf.newaxis]  # [batch, windows], as all below
    place = draws["place"][:, tf.newaxis]
    cropped = dict(inputs)
    for name in _masked(inputs):
        mask = inputs[f"{name}_mask"]
        first = tf.cast(tf.argmax(mask, -1), tf.float32)
        valid = tf.reduce_sum(mask, -1)
        start = first + place * (1.0 - kept) * (valid - 1.0)
        frames = tf.range(tf.shape(mask)[-1], dtype=tf.float32)
        moments = start[..., tf.newaxis] + kept[..., tf.newaxis] * (frames - first[..., tf.newaxis])
        below = tf.clip_by_value(tf.floor(moments), 0.0, frames[-1] - 1.0)  # [batch, windows, frames]
        share = tf.clip_by_value(moments - below, 0.0, 1.0)[..., tf.newaxis]
        index = tf.cast(below, tf.int32)
        early, late = (tf.gather(inputs[name], index + step, axis=2, batch_dims=2) for step in (0, 1))
        cropped[name] = ((1.0 - share) * early + share * late) * mask[..., tf.newaxis]
    return cropped


def shift_bands(features: tf.Tensor, draw: tf.Tensor, most: int) -> tf.Tensor:
    """Move features [batch, ..., bands] by up to `most` bands up or down, the edge band repeated: another vocal tract.

    `draw` [batch] in [0, 1) tells by how many.
    """
    bands = features.shape[-1]
    amount = tf.cast(tf.floor(draw * (2 * most + 1)), tf.int32) - most  # [batch]
    index = tf.clip_by_value(tf.range(bands) + amount[:, tf.newaxis], 0, bands - 1)  # [batch, bands]
    channels_first = tf.transpose(features, [0, 3, 1, 2])  # [batch, bands, windows, frames]
    return tf.transpose(tf.gather(channels_first, index, batch_dims=1), [0, 2, 3, 1])


def mixup_share(draws: dict[str, tf.Tensor], seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Return how much of a clip stays its own: 1 where it is not mixed, else a number from Beta(alpha, alpha)."""
    if not config.mixup_alpha:
        return tf.constant(1.0)
    seed = tf.random.experimental.stateless_fold_in(seed, 1)  # Noise draws from the seed itself.
    own, other = tf.unstack(tf.random.stateless_gamma([2], seed, config.mixup_alpha))
    return tf.where(draws["mixup"] < config.mixup_probability, own / (own + other), 1.0)


def mix(inputs: dict[str, tf.Tensor], labels: tf.Tensor, shares: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Mix each clip of a batch with the one before it (mixup, Zhang et al. 2018): `shares` [batch] stay its own.

    Labels are [batch, emotions]. Where only one of the two has a valid frame, it is kept unmixed. Inputs without a
    mask, such as tokens, are kept unmixed too.
    """
    mixed = dict(inputs)
    for name in _masked(inputs):
        mask = inputs[f"{name}_mask"]  # [batch, windows, frames]
        own = shares[:, tf.newaxis, tf.newaxis] * mask
        other = (1.0 - shares)[:, tf.newaxis, tf.newaxis] * tf.roll(mask, 1, 0)
        own_share = tf.math.divide_no_nan(own, own + other)[..., tf.newaxis]
        mixed_mask = tf.cast(own + other > 0, tf.float32)
        values = own_share * inputs[name] + (1.0 - own_share) * tf.roll(inputs[name], 1, 0)
        mixed |= {name: values * mixed_mask[..., tf.newaxis], f"{name}_mask": mixed_mask}
    own, other = shares[:, tf.newaxis], (1.0 - shares)[:, tf.newaxis]
    return mixed, own * labels + other * tf.roll(labels, 1, 0)
