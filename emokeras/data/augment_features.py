"""Augmentation of the features of a training batch, in graph: band shift and mixup."""

import tensorflow as tf

from emokeras.config import AugmentConfig


def shift_bands(features: tf.Tensor, draw: tf.Tensor, most: int) -> tf.Tensor:
    """Return features moved by up to `most` bands up or down; the edge band is repeated.

    Parameters
    ----------
    features: float32 [batch, windows, frames, bands].
    draw: float32 [batch], in [0, 1), chooses the number of bands.
    """
    bands = features.shape[-1]
    amount = tf.cast(tf.floor(draw * (2 * most + 1)), tf.int32) - most  # [batch]
    index = tf.clip_by_value(tf.range(bands) + amount[:, tf.newaxis], 0, bands - 1)  # [batch, bands]
    channels_first = tf.transpose(features, [0, 3, 1, 2])  # [batch, bands, windows, frames]
    return tf.transpose(tf.gather(channels_first, index, batch_dims=1), [0, 2, 3, 1])


def mixup_share(draws: dict[str, tf.Tensor], seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Return the mixup weight λ of the clip itself: from Beta(alpha, alpha), or 1 where the clip is not mixed."""
    if not config.mixup_alpha:
        return tf.constant(1.0)
    seed = tf.random.experimental.stateless_fold_in(seed, 1)  # The seed itself is that of the noise.
    own, other = tf.unstack(tf.random.stateless_gamma([2], seed, config.mixup_alpha))
    return tf.where(draws["mixup"] < config.mixup_probability, own / (own + other), 1.0)


def mix(inputs: dict[str, tf.Tensor], shares: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the inputs of a batch, each clip mixed with the one before it (mixup, Zhang et al., ICLR 2018).

    Where only one of the two clips has a valid frame, that frame is not mixed. Inputs without a mask are not mixed.

    Parameters
    ----------
    inputs: features float32 [batch, windows, frames, features] with their masks.
    shares: float32 [batch], the weight λ of each clip itself.
    """
    mixed = dict(inputs)
    for name in inputs:
        mask = inputs.get(f"{name}_mask")  # [batch, windows, frames]
        if mask is None:
            continue
        own = shares[:, tf.newaxis, tf.newaxis] * mask
        other = (1.0 - shares)[:, tf.newaxis, tf.newaxis] * tf.roll(mask, 1, 0)
        own_share = tf.math.divide_no_nan(own, own + other)[..., tf.newaxis]
        mixed_mask = tf.cast(own + other > 0, tf.float32)
        values = own_share * inputs[name] + (1.0 - own_share) * tf.roll(inputs[name], 1, 0)
        mixed |= {name: values * mixed_mask[..., tf.newaxis], f"{name}_mask": mixed_mask}
    return mixed


def mix_values(values: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Return labels [batch, emotions], or weights [batch, 1], mixed as `mix` mixes inputs."""
    return shares[:, tf.newaxis] * values + (1.0 - shares)[:, tf.newaxis] * tf.roll(values, 1, 0)


def mixed_targets(labels: tf.Tensor, masks: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Return the targets of a masked loss (`training.optimizer.MaskedCrossEntropy`) for a batch that `mix` mixes,
    float32 [batch, 4 emotions]: of each clip its labels times its share, and its mask; then those of the one before it.

    Parameters
    ----------
    labels: float32 [batch, emotions].
    masks: float32 [batch, emotions], 1 at the emotions that the clip's corpus has.
    """
    own, other = shares[:, tf.newaxis], (1.0 - shares)[:, tf.newaxis]
    before = tf.roll(labels, 1, 0), tf.roll(masks, 1, 0)
    return tf.concat([own * labels, masks, other * before[0], before[1]], axis=1)
