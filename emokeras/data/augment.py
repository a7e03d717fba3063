"""What happens to a training clip: on its waveform (speed, shift, gain, noise), on its features (band shift), and
between two clips (mixup). All draws come from `draw`, stateless in (seed, epoch, clip); SpecAugment is a layer of
`models.layers`.
"""

import functools
import warnings

import numpy as np
import soxr
import tensorflow as tf

from emokeras.config import AugmentConfig
from emokeras.errors import UsageError

NAMES = ("speed", "shift", "gain", "noise", "snr", "crop", "bands", "mixup", "variant")


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


def change_speed(waveform: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Play a waveform [samples] `factor` times as fast, pitch and all: resampled by soxr, several times as fast as an
    interpolation in the graph, and without aliasing."""

    def resample(samples: np.ndarray, factor: np.ndarray) -> np.ndarray:
        faster = soxr.resample(samples, float(factor), 1.0, quality="LQ")
        return faster if len(faster) else samples[:1]

    faster = tf.numpy_function(resample, [waveform, factor], tf.float32, stateful=False)
    faster.set_shape([None])
    return faster


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
        waveform = change_speed(waveform, 1.0 + config.speed_change * (2.0 * draws["speed"] - 1.0))
    if config.shift_seconds:
        shift_samples = config.shift_seconds * sample_rate_hz * (2.0 * draws["shift"] - 1.0)
        fade_samples = round(config.fade_seconds * sample_rate_hz)
        waveform = shift(waveform, tf.cast(shift_samples, tf.int32), fade_samples)
    return waveform


def recolour_waveform(
    waveform: tf.Tensor, draws: dict[str, tf.Tensor], noise_seed: tf.Tensor, config: AugmentConfig
) -> tf.Tensor:
    """Apply what leaves the sound where it is, to a waveform [samples]: noise, then gain."""
    if config.noise_probability:
        low, high = config.noise_snr_decibels
        snr_decibels = low + (high - low) * draws["snr"]
        waveform = tf.cond(
            draws["noise"] < config.noise_probability,
            lambda: add_noise(waveform, snr_decibels, noise_seed),
            lambda: waveform,
        )
    if config.gain_decibels:
        waveform *= 10.0 ** (config.gain_decibels * (2.0 * draws["gain"] - 1.0) / 20.0)
    return waveform


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
    seed = tf.random.experimental.stateless_fold_in(seed, 1)  # The noise has drawn from the seed itself.
    own, other = tf.unstack(tf.random.stateless_gamma([2], seed, config.mixup_alpha))
    return tf.where(draws["mixup"] < config.mixup_probability, own / (own + other), 1.0)


def mix(inputs: dict[str, tf.Tensor], labels: tf.Tensor, shares: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Mix each clip of a batch with the one before it (mixup, Zhang et al. 2018): `shares` [batch] stay its own.

    Where only one of the two has a frame, that one stands unmixed.
    """
    mixed = {}
    for name in [name for name in inputs if not name.endswith("_mask")]:
        mask = inputs[f"{name}_mask"]  # [batch, windows, frames]
        own = shares[:, tf.newaxis, tf.newaxis] * mask
        other = (1.0 - shares)[:, tf.newaxis, tf.newaxis] * tf.roll(mask, 1, 0)
        own_share = tf.math.divide_no_nan(own, own + other)[..., tf.newaxis]
        mixed_mask = tf.cast(own + other > 0, tf.float32)
        values = own_share * inputs[name] + (1.0 - own_share) * tf.roll(inputs[name], 1, 0)
        mixed |= {name: values * mixed_mask[..., tf.newaxis], f"{name}_mask": mixed_mask}
    labels = shares[:, tf.newaxis] * labels + (1.0 - shares)[:, tf.newaxis] * tf.roll(labels, 1, 0)
    return mixed, labels
