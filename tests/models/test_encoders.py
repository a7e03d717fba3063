"""Encoders: frames and masks of matching steps, the sizes of the configuration, padding, reach over time."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emokeras.config import (
    ENCODER_CONFIGS,
    CnnConfig,
    CrnnConfig,
    EncoderConfig,
    RecurrentConfig,
    ResnetConfig,
    TcnConfig,
    TransformerConfig,
)
from emokeras.errors import UsageError
from emokeras.models.encoders import ENCODERS, _causal_convolution, cnn
from emokeras.models.normalization import NormalizedConvolution

BANDS = 16


def encoder(config: EncoderConfig, steps: int = 20, bands: int = BANDS) -> keras.Model:
    """Return an encoder as a model: [features, mask] -> [frames, mask], with all weights away from their start."""
    keras.utils.set_random_seed(0)
    features, mask = keras.Input((steps, bands)), keras.Input((steps, 1))
    model = keras.Model([features, mask], list(ENCODERS[config.kind](features, mask, config)))
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + random.normal(scale=0.1, size=weight.shape))
    return model


def features(steps: int = 20, lengths=(20, 7), seed: int = 0, bands: int = BANDS) -> tuple[np.ndarray, np.ndarray]:
    mask = (np.arange(steps) < np.array(lengths)[:, np.newaxis]).astype(np.float32)[..., np.newaxis]
    values = np.random.default_rng(seed).normal(size=(len(lengths), steps, bands)).astype(np.float32)
    return values * mask, mask


def of_kind(model: keras.Model, kind) -> list:
    """Return the layers of a kind, also those within a NormalizedConvolution."""
    parts = (
        (layer.convolution, layer.normalization) if isinstance(layer, NormalizedConvolution) else (layer,)
        for layer in model.layers
    )
    return [layer for layers in parts for layer in layers if isinstance(layer, kind)]


def difference_over_steps(model: keras.Model, steps: int, changed_frame: int) -> np.ndarray:
    """Return by how much each output step [steps] changes when one frame of the input does."""
    values, mask = features(steps, lengths=(steps, steps))
    changed = values.copy()
    changed[:, changed_frame] += 1.0
    return np.abs(np.array(model((changed, mask))[0]) - np.array(model((values, mask))[0])).max(axis=(0, 2))


CONFIGS = {
    "cnn": CnnConfig(filters=(3, 5)),
    "resnet": ResnetConfig(filters=(3, 6, 6, 8)),
    "resnet, squeeze": ResnetConfig(filters=(3, 6, 8), squeeze_excitation=True),
}


def test_every_kind_of_encoder_has_its_function():
    assert ENCODERS.keys() == ENCODER_CONFIGS.keys()
    assert ENCODERS["cnn"] is cnn


@pytest.mark.parametrize("steps", [16, 19, 20, 21])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_mask_has_a_step_for_each_step_of_the_frames(name, steps):
    frames, mask = encoder(CONFIGS[name], steps)(features(steps, (steps, 7)))
    assert mask.shape == (*frames.shape[:2], 1)
    assert set(np.unique(mask)) <= {0.0, 1.0}


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 9), (21, 21), (20, 1)])
def test_the_cnn_halves_steps_and_bands_per_block_and_folds_the_bands(steps, valid):
    frames, mask = encoder(CONFIGS["cnn"], steps)(features(steps, (steps, valid)))
    assert frames.shape == (2, steps // 4, BANDS // 4 * 5)
    # A step covers four frames, and is valid where one of them is.
    expected = [valid > 4 * step for step in range(steps // 4)]
    np.testing.assert_array_equal(np.array(mask)[1, :, 0], expected)


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 9), (21, 21), (20, 1)])
def test_the_resnet_halves_steps_in_its_stem_and_in_blocks_with_more_channels(steps, valid):
    frames, mask = encoder(CONFIGS["resnet"], steps)(features(steps, (steps, valid)))
    assert frames.shape == (2, -(-steps // 4), 8)  # halved by the stem and the last block
    expected = [valid > 4 * step for step in range(-(-steps // 4))]
    np.testing.assert_array_equal(np.array(mask)[1, :, 0], expected)


@pytest.mark.parametrize(("place", "strides"), [("first", [(2, 2), (1, 2)]), ("second", [(1, 2), (2, 2)])])
def test_the_stem_halves_the_steps_in_the_convolution_that_is_set(place, strides):
    model = encoder(replace(CONFIGS["resnet"], stem_halves_steps=place))
    assert [layer.strides for layer in of_kind(model, keras.layers.Conv2D)] == strides


@pytest.mark.parametrize("name", ["resnet", "resnet, squeeze"])
def test_padding_stays_zero_in_the_resnet(name):
    frames, mask = (np.array(value) for value in encoder(CONFIGS[name])(features()))
    assert (frames[mask[..., 0] == 0] == 0).all()
    assert (frames[mask[..., 0] == 1] != 0).any()


def test_a_block_may_have_fewer_channels_than_the_one_before():
    frames, _ = encoder(ResnetConfig(filters=(3, 8, 6)))(features())
    assert frames.shape == (2, 10, 6)


@pytest.mark.parametrize("layer_normalization", [True, False])
@pytest.mark.parametrize("config", [ResnetConfig(filters=(4, 8, 8, 8)), TcnConfig(filters=8, dilations=(1, 2, 4))])
def test_layer_normalization_keeps_extreme_inputs_from_growing_from_block_to_block(config, layer_normalization):
    config = replace(config, layer_normalization=layer_normalization)
    frames, mask = features()
    model = encoder(config)
    plain, extreme = (np.abs(np.array(model([scale * frames, mask])[0])).max() for scale in (1, 100))
    assert extreme < 2 * plain if layer_normalization else extreme > 50 * plain


def test_one_block_of_the_cnn_is_convolution_relu_and_pooling():
    """With a kernel of one value each output is the maximum of two frames × two bands."""
    model = encoder(CnnConfig(filters=(1,), kernel_size=1, batch_normalization=False))
    (convolution,) = of_kind(model, keras.layers.Conv2D)
    convolution.set_weights([np.full((1, 1, 1, 1), 2.0), np.full(1, 0.25)])
    values, mask = features()
    frames, _ = model((values, mask))
    expected = np.maximum(2 * values + 0.25, 0).reshape(2, 10, 2, BANDS // 2, 2).max(axis=(2, 4))
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_filters_and_kernels_are_those_of_the_configuration(name):
    config = CONFIGS[name]
    model = encoder(replace(config, kernel_size=5))
    two_dimensional = of_kind(model, keras.layers.Conv2D)
    assert [layer.filters for layer in two_dimensional] == ([3, 5] if config.kind == "cnn" else [3, 3])
    assert {layer.kernel_size for layer in two_dimensional} == {(5, 5)}
    one_dimensional = [layer for layer in of_kind(model, keras.layers.Conv1D) if layer.kernel_size == (5,)]
    assert [layer.filters for layer in one_dimensional] == (
        [] if config.kind == "cnn" else [count for count in config.filters[1:] for _ in range(2)]
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kernel_has_the_l2_of_the_configuration(name):
    config = CONFIGS[name]
    model = encoder(replace(config, l2=0.01))
    kernels = [weight for weight in model.trainable_weights if weight.path.endswith("kernel")]
    assert len(kernels) >= 2
    expected = 0.01 * sum((np.array(kernel) ** 2).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_normalization_replaces_biases(name):
    config = CONFIGS[name]
    convolutions = (keras.layers.Conv1D, keras.layers.Conv2D)
    with_it = encoder(config)
    assert of_kind(with_it, keras.layers.BatchNormalization)
    assert not any(layer.use_bias for layer in of_kind(with_it, convolutions))
    without = encoder(replace(config, batch_normalization=False))
    assert not of_kind(without, keras.layers.BatchNormalization)
    assert all(layer.use_bias for layer in of_kind(without, convolutions))


@pytest.mark.parametrize("name", CONFIGS)
def test_dropout_works_in_training_only(name):
    config = CONFIGS[name]
    model = encoder(replace(config, batch_normalization=False, dropout=0.5))
    inputs = features()
    np.testing.assert_array_equal(model(inputs)[0], model(inputs)[0])
    assert not np.array_equal(model(inputs, training=True)[0], model(inputs)[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_float16_gives_the_same_frames_as_float32(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = encoder(CONFIGS[name])
    finally:
        keras.config.set_dtype_policy(before)
    frames, _ = model(features())
    assert keras.backend.standardize_dtype(frames.dtype) == "float16"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    full, _ = encoder(CONFIGS[name])(features())
    np.testing.assert_allclose(np.array(frames, np.float32), full, atol=0.02 * np.abs(full).max())


# Over time: recurrent layers, dilated convolutions, attention


@pytest.mark.parametrize("steps", [16, 19])
def test_the_gru_of_a_crnn_keeps_the_steps_of_its_cnn(steps):
    config = CrnnConfig(filters=(3, 5), recurrent_units=(4,))
    frames, mask = encoder(config, steps)(features(steps, (steps, 7)))
    _, expected = encoder(CnnConfig(filters=(3, 5)), steps)(features(steps, (steps, 7)))
    assert frames.shape == (2, steps // 4, 8)  # 4 units in each direction
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_encoder_depends_on_earlier_frames_and_if_bidirectional_on_later_ones(cell, bidirectional):
    config = RecurrentConfig(cell=cell, units=(4,), bidirectional=bidirectional, dropout=0.0)
    model = encoder(config)
    (layer,) = of_kind(model, (keras.layers.LSTM, keras.layers.GRU, keras.layers.Bidirectional))
    assert (layer.forward_layer if bidirectional else layer).units == 4
    difference = difference_over_steps(model, 20, 10)
    assert (difference[10:] > 0).all()
    assert (difference[:10] > 0).all() == bidirectional


@pytest.mark.parametrize(("dilation", "kernel_size"), [(1, 2), (4, 2), (3, 3), (30, 2)])
def test_the_causal_convolution_agrees_with_keras(dilation, kernel_size):
    config = TcnConfig(filters=5, kernel_size=kernel_size, batch_normalization=False)
    frames = keras.Input((20, 6))
    model = keras.Model(frames, _causal_convolution(frames, dilation, config))
    (own,) = of_kind(model, keras.layers.Conv1D)
    expected = keras.layers.Conv1D(5, kernel_size, padding="causal", dilation_rate=dilation)
    values, _ = features(bands=6)
    expected(values)
    # Keras has the taps from the farthest to the nearest; ours are concatenated channels, the nearest first.
    kernel = np.array(expected.kernel)[::-1].reshape(1, kernel_size * 6, 5)
    own.set_weights([kernel, np.array(expected.bias)])
    np.testing.assert_allclose(model(values), expected(values), rtol=1e-4, atol=1e-5)


def test_the_receptive_field_of_a_tcn_follows_from_its_dilations():
    """After the first convolution, of five frames, frame 20 is in the steps 9 and 10 of two frames. Two convolutions of
    two taps at dilations 1 and 2 reach 2 × (1 + 2) steps further, in both directions."""
    model = encoder(TcnConfig(filters=6, dilations=(1, 2), dropout=0.0), steps=40)
    difference = difference_over_steps(model, 40, 20)
    np.testing.assert_array_equal(np.flatnonzero(difference > 1e-6), np.arange(9 - 6, 10 + 6 + 1))


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 7), (21, 21), (20, 1)])
def test_the_tcn_halves_the_steps_once_and_keeps_padding_zero(steps, valid):
    model = encoder(TcnConfig(filters=6, dilations=(1, 2)), steps)
    frames, mask = (np.array(value) for value in model(features(steps, (steps, valid))))
    assert frames.shape == (2, -(-steps // 2), 6)
    np.testing.assert_array_equal(mask[1, :, 0], [valid > 2 * step for step in range(-(-steps // 2))])
    assert (frames[mask[..., 0] == 0] == 0).all()


def test_a_transformer_has_one_step_per_patch_length():
    config = TransformerConfig(patch_frames=4, patch_bands=8, units=12, num_heads=3, num_blocks=2)
    frames, mask = encoder(config)(features())
    assert frames.shape == (2, 5, 12)
    np.testing.assert_array_equal(np.array(mask)[1, :, 0], [1, 1, 0, 0, 0])


@pytest.mark.parametrize("wrong", [{"patch_bands": 17}, {"units": 10, "num_heads": 3}])
def test_sizes_that_make_no_transformer_are_refused_in_one_line(wrong):
    config = TransformerConfig(**({"patch_frames": 4, "patch_bands": 8} | wrong))
    with pytest.raises(UsageError) as caught:
        encoder(config)
    assert "\n" not in str(caught.value)
