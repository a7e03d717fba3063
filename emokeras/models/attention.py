"""Self-attention: the blocks of a transformer, and the encoder that divides a spectrogram into patches.

Shapes in this module leave out the batch axis.
"""

import keras

from emokeras.config import TransformerConfig
from emokeras.errors import UsageError
from emokeras.models.layers import PositionEmbedding


def transformer(features, mask, config: TransformerConfig):
    """An audio spectrogram transformer (AST, Gong et al. 2021), trained from scratch: patches that do not overlap, with
    learned positions, then blocks of self-attention; the patches of one time are averaged to a step.

    Raises UsageError when a patch is larger than the spectrogram, or the heads do not divide the units.
    """
    frames, bands = features.shape[1:]
    times, heights = frames // config.patch_frames, bands // config.patch_bands
    if not times or not heights:
        raise UsageError(
            f"encoder.patch_frames × patch_bands = {config.patch_frames} × {config.patch_bands} is more than the "
            f"{frames} frames × {bands} bands of the input: give smaller patches"
        )
    image = keras.layers.Reshape((frames, bands, 1))(features)
    patches = keras.layers.Conv2D(
        config.units,
        (config.patch_frames, config.patch_bands),
        (config.patch_frames, config.patch_bands),
        kernel_regularizer=keras.regularizers.L2(config.l2),
    )(image)  # [times, heights, units]
    mask = keras.layers.MaxPooling1D(config.patch_frames)(mask)  # [times, 1]
    patches = keras.layers.Reshape((times * heights, config.units))(patches)
    patches = keras.layers.Dropout(config.dropout)(PositionEmbedding()(patches))
    patch_mask = keras.ops.repeat(mask, heights, axis=1)  # [times × heights, 1]
    for _ in range(config.num_blocks):
        patches = transformer_block(patches, patch_mask, config)
    patches = keras.layers.LayerNormalization(epsilon=1e-6)(patches)
    patches = keras.layers.Reshape((times, heights, config.units))(patches)
    return keras.ops.mean(patches, axis=2), mask


def transformer_block(frames, mask, config: TransformerConfig):
    """Self-attention over the valid steps of frames [steps, units], then `feed_forward`, both residual.

    Layer normalization comes before each (Xiong et al. 2020): it trains from scratch without a long warm-up.
    """
    normalized = keras.layers.LayerNormalization(epsilon=1e-6)(frames)
    regularizer = keras.regularizers.L2(config.l2)
    attended = self_attention(normalized, mask, config.num_heads, config.dropout, kernel_regularizer=regularizer)
    frames = keras.layers.Add()([frames, keras.layers.Dropout(config.dropout)(attended)])
    return feed_forward(frames, config.dropout, config.l2)


def feed_forward(frames, dropout: float, l2: float):
    """Layer normalization and two dense layers on each step of frames [steps, units], residual."""
    units, regularizer = frames.shape[-1], keras.regularizers.L2(l2)
    hidden = keras.layers.LayerNormalization(epsilon=1e-6)(frames)
    hidden = keras.layers.Dense(4 * units, activation="gelu", kernel_regularizer=regularizer)(hidden)
    hidden = keras.layers.Dense(units, kernel_regularizer=regularizer)(hidden)
    return keras.layers.Add()([frames, keras.layers.Dropout(dropout)(hidden)])


def self_attention(frames, mask, num_heads: int, dropout: float, name: str | None = None, **options):
    """Multi-head attention from every step of frames [steps, units] to the steps where mask [steps, 1] is 1. Raises
    UsageError when the heads do not divide the units."""
    units = frames.shape[-1]
    if units % num_heads:
        raise UsageError(f"encoder.num_heads={num_heads} does not divide encoder.units={units}: change one of them")
    keys = keras.ops.transpose(mask, (0, 2, 1)) > 0  # [1, steps]: the same for every query
    layer = keras.layers.MultiHeadAttention(num_heads, units // num_heads, dropout=dropout, name=name, **options)
    return layer(frames, frames, attention_mask=keys)
