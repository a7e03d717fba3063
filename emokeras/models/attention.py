"""Self-attention: the transformer's block, and the encoder that takes a spectrogram as patches."""

import keras

from emokeras.config import TransformerConfig
from emokeras.errors import UsageError
from emokeras.models.layers import PositionEmbedding


def transformer(features, mask, config: TransformerConfig):
    """An audio spectrogram transformer (AST, Gong et al. 2021), from scratch: patches that do not overlap, a learned
    position for each, blocks of self-attention; the patches of one time are averaged to a step."""
    frames, bands = features.shape[1:]
    times, heights = frames // config.patch_frames, bands // config.patch_bands
    if not times or not heights:
        raise UsageError(
            f"encoder.patch_frames × patch_bands = {config.patch_frames} × {config.patch_bands} is more than the "
            f"{frames} frames × {bands} bands there are: take smaller patches"
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
    is_valid = keras.ops.repeat(mask, heights, axis=1)  # [times × heights, 1]
    for _ in range(config.num_blocks):
        patches = prenorm_block(patches, is_valid, config.num_heads, config.dropout, config.l2)
    patches = keras.layers.LayerNormalization(epsilon=1e-6)(patches)
    patches = keras.layers.Reshape((times, heights, config.units))(patches)
    return keras.ops.mean(patches, axis=2), mask


def prenorm_block(frames, mask, num_heads: int, dropout: float, l2: float):
    """Self-attention over the valid steps of frames [steps, units], then two dense layers, each added to what came in;
    normalised before each (Xiong et al. 2020), which learns from scratch without a long warm-up."""
    return feed_forward(_self_attention(frames, mask, num_heads, dropout, l2), dropout, l2)


def _self_attention(frames, mask, num_heads: int, dropout: float, l2: float):
    """Add to each step of frames [steps, units] what it finds at the valid steps, normalised."""
    normalised = keras.layers.LayerNormalization(epsilon=1e-6)(frames)
    attended = attend(normalised, mask, num_heads, dropout, kernel_regularizer=keras.regularizers.L2(l2))
    return keras.layers.Add()([frames, keras.layers.Dropout(dropout)(attended)])


def feed_forward(frames, dropout: float, l2: float):
    """Add to each step of frames [steps, units] what two dense layers make of it, normalised."""
    units, regularizer = frames.shape[-1], keras.regularizers.L2(l2)
    hidden = keras.layers.LayerNormalization(epsilon=1e-6)(frames)
    hidden = keras.layers.Dense(4 * units, activation="gelu", kernel_regularizer=regularizer)(hidden)
    hidden = keras.layers.Dense(units, kernel_regularizer=regularizer)(hidden)
    return keras.layers.Add()([frames, keras.layers.Dropout(dropout)(hidden)])


def attend(frames, mask, num_heads: int, dropout: float, name: str | None = None, **options):
    """Let every step of frames [steps, units] look at all steps where mask [steps, 1] is 1."""
    units = frames.shape[-1]
    if units % num_heads:
        raise UsageError(f"encoder.num_heads={num_heads} does not divide encoder.units={units}")
    keys = keras.ops.transpose(mask, (0, 2, 1)) > 0  # [1, steps]: for every query the same keys
    layer = keras.layers.MultiHeadAttention(num_heads, units // num_heads, dropout=dropout, name=name, **options)
    return layer(frames, frames, attention_mask=keys)
