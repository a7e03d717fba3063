"""The encoders of branches: features [frames, bands] and mask [frames, 1] -> frames [steps, channels] and their mask.

There is one function for each `kind` of a configuration, in `ENCODERS`. The transformer is in `attention`, encoders
with pretrained weights are in `pretrained`. Shapes in this module leave out the batch axis.
"""

import keras

from emokeras.config import (
    CnnConfig,
    CrnnConfig,
    EncoderConfig,
    IdentityConfig,
    RecurrentConfig,
    ResnetConfig,
    TcnConfig,
)
from emokeras.errors import UsageError
from emokeras.models.attention import transformer
from emokeras.models.layers import SqueezeExcitation, WeightedSum, halve_mask
from emokeras.models.normalization import MOMENTUM, BatchNormalization, NormalizedConvolution
from emokeras.models.pretrained import bert, imagenet


def identity(features, mask, config: IdentityConfig):
    """The frames as they are, with dropout."""
    return keras.layers.Dropout(config.dropout)(features), mask


def cnn(features, mask, config: CnnConfig | CrnnConfig):
    """Blocks of convolution, batch normalization, ReLU, 2 × 2 max-pooling and dropout; one block per filter count.

    The remaining bands are folded into the channels: [steps, bands / 2^blocks × filters]. Raises UsageError when the
    blocks leave no frames or bands.
    """
    if 2 ** len(config.filters) > min(features.shape[1:]):
        frames, bands = features.shape[1:]
        raise UsageError(
            f"encoder.filters: {len(config.filters)} halvings of {frames} frames × {bands} bands leave nothing: "
            "give fewer filter counts"
        )
    frames = keras.layers.Reshape((*features.shape[1:], 1))(features)
    for filters in config.filters:
        frames = _convolution(frames, filters, config.kernel_size, config)
        frames = keras.layers.MaxPooling2D(2)(frames)
        frames = keras.layers.ReLU()(frames)  # Before the pooling the result is the same, with four times the work.
        frames = keras.layers.SpatialDropout2D(config.dropout)(frames)
        mask = keras.layers.MaxPooling1D(2)(mask)
    return _fold_bands(frames), mask


def crnn(features, mask, config: CrnnConfig):
    """The blocks of `cnn`, then bidirectional GRUs over their steps (Choi et al. 2017)."""
    frames, mask = cnn(features, mask, config)
    for units in config.recurrent_units:
        layer = _recurrent_layer("gru", units, config)
        frames = keras.layers.Bidirectional(layer)(frames, mask=_steps_of(mask))
        frames = keras.layers.Dropout(config.dropout)(frames)
    return frames, mask


def recurrent(features, mask, config: RecurrentConfig):
    """LSTMs or GRUs over words or frames; the number of steps is unchanged."""
    frames = keras.layers.Dropout(config.dropout)(features)
    for units in config.units:
        layer = _recurrent_layer(config.cell, units, config)
        layer = keras.layers.Bidirectional(layer) if config.bidirectional else layer
        frames = layer(frames, mask=_steps_of(mask))
        frames = keras.layers.Dropout(config.dropout)(frames)
    return frames, mask


def _recurrent_layer(cell: str, units: int, config: EncoderConfig):
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    # cuDNN needs the valid steps at the start of each clip, and its exports run on GPUs only.
    return layer(units, return_sequences=True, use_cudnn=False, kernel_regularizer=keras.regularizers.L2(config.l2))


def _steps_of(mask):
    """Return a mask [steps, 1] as recurrent layers take it: bool [steps]."""
    return keras.ops.squeeze(mask, -1) > 0


def tcn(features, mask, config: TcnConfig):
    """A bidirectional temporal convolutional network: TIM-Net (Ye et al. 2023) with the residual blocks of Bai et al.
    (2018).

    The first convolution halves the steps. Each direction is a chain of blocks of two dilated causal convolutions; the
    outputs of both directions are added per dilation, then summed over the dilations with learned weights.
    """
    frames = keras.layers.ReLU()(_convolution(features, config.filters, 5, config, strides=2))
    mask = halve_mask(mask)
    frames = keras.layers.Multiply()([frames, mask])
    forward = _dilated_chain(frames, mask, config)
    backward = _dilated_chain(keras.ops.flip(frames, 1), keras.ops.flip(mask, 1), config)
    scales = [keras.layers.Add()([one, keras.ops.flip(two, 1)]) for one, two in zip(forward, backward, strict=True)]
    return WeightedSum()(scales) if len(scales) > 1 else scales[0], mask


def _dilated_chain(frames, mask, config):
    """Return the frames [steps, filters] after each block."""
    scales = []
    for dilation in config.dilations:
        shortcut = frames
        frames = keras.layers.ReLU()(_causal_convolution(frames, dilation, config))
        frames = keras.layers.SpatialDropout1D(config.dropout)(frames)
        frames = _causal_convolution(keras.layers.Multiply()([frames, mask]), dilation, config)
        frames = _end_of_block(keras.layers.Add()([frames, shortcut]), mask, config)
        scales.append(frames)
    return scales


def _causal_convolution(frames, dilation, config):
    """A dilated causal convolution of frames [steps, channels], as a 1 × 1 convolution of shifted copies: on a CPU a
    dilated Conv1D is several times slower."""
    copies = [frames]
    for tap in range(1, config.kernel_size):
        steps = min(tap * dilation, frames.shape[1])
        kept, _ = keras.ops.split(frames, [frames.shape[1] - steps], axis=1)  # trains faster than cropping on a CPU
        copies.append(keras.layers.ZeroPadding1D((steps, 0))(kept))
    return _convolution(keras.layers.Concatenate()(copies), config.filters, 1, config)


def resnet(features, mask, config: ResnetConfig):
    """A residual network over time (He et al. 2016): a stem of two 2-D convolutions, then 1-D residual blocks.

    The first of `filters` is the stem's, each other a block's; a block with more filters than channels halves the
    steps. Raises UsageError without a block.
    """
    if len(config.filters) < 2:
        raise UsageError(f"encoder.filters={list(config.filters)}: give the stem's and a block's at least")
    stem_filters, *block_filters = config.filters
    frames = keras.layers.Reshape((*features.shape[1:], 1))(features)
    for place in ("first", "second"):
        strides = (2 if place == config.stem_halves_steps else 1, 2)  # of steps and bands
        frames = _convolution(frames, stem_filters, config.kernel_size, config, strides)
        frames = keras.layers.ReLU()(frames)
    mask = halve_mask(mask)
    frames = _convolution(_fold_bands(frames), block_filters[0], 1, config)
    frames = keras.layers.ReLU()(frames)
    for filters in block_filters:
        frames, mask = _residual_block(frames, mask, filters, config)
    return frames, mask


def _residual_block(frames, mask, filters, config):
    strides = 2 if filters > frames.shape[-1] else 1
    shortcut = frames
    if strides == 2:
        shortcut = keras.layers.AveragePooling1D(2, padding="same")(frames)
        mask = halve_mask(mask)
    if filters != frames.shape[-1]:
        shortcut = _convolution(shortcut, filters, 1, config)
    frames = _convolution(frames, filters, config.kernel_size, config, strides)
    frames = keras.layers.ReLU()(frames)
    frames = keras.layers.Dropout(config.dropout)(frames)
    frames = _convolution(frames, filters, config.kernel_size, config)
    if config.squeeze_excitation:
        frames = SqueezeExcitation(kernel_regularizer=keras.regularizers.L2(config.l2))([frames, mask])
    return _end_of_block(keras.layers.Add()([frames, shortcut]), mask, config), mask


def _end_of_block(frames, mask, config: ResnetConfig | TcnConfig):
    """Layer normalization where it is set, then ReLU; padding is 0 again after that."""
    if config.layer_normalization:
        frames = keras.layers.LayerNormalization()(frames)
    frames = keras.layers.ReLU()(frames)
    return keras.layers.Multiply()([frames, mask])


def _convolution(frames, filters, kernel_size, config, strides=1):
    """Convolution of [steps, channels] or [steps, bands, channels], and batch normalization where it is set."""
    regularizer = keras.regularizers.L2(config.l2)
    if config.batch_normalization and len(frames.shape) == 4 and frames.shape[-1] == 1:
        layer = NormalizedConvolution(filters, kernel_size, strides, MOMENTUM, kernel_regularizer=regularizer)
        return layer(frames)
    layer = keras.layers.Conv1D if len(frames.shape) == 3 else keras.layers.Conv2D
    frames = layer(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=not config.batch_normalization,
        kernel_initializer="he_normal",
        kernel_regularizer=regularizer,
    )(frames)
    return BatchNormalization(momentum=MOMENTUM)(frames) if config.batch_normalization else frames


def _fold_bands(frames):
    """Fold the bands of [steps, bands, channels] into the channels."""
    steps, bands, channels = frames.shape[1:]
    return keras.layers.Reshape((steps, bands * channels))(frames)


ENCODERS = {
    "identity": identity,
    "cnn": cnn,
    "crnn": crnn,
    "resnet": resnet,
    "tcn": tcn,
    "transformer": transformer,
    "imagenet": imagenet,
    "recurrent": recurrent,
    "bert": bert,
}
