"""Branch bodies: one step of the mask for each step of the frames, and the numbers that a configuration asks for."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emokeras.config import (
    CnnConfig,
    ConformerConfig,
    CrnnConfig,
    EncoderConfig,
    RecurrentConfig,
    ResnetConfig,
    TcnConfig,
    TransformerConfig,
)
from emokeras.errors import UsageError
from emokeras.models.encoders import ENCODERS, _causal_convolution, cnn, resnet
from emokeras.models.layers import NormalizedConvolution

BANDS = 16


def body(config: EncoderConfig, steps: int = 20, bands: int = BANDS) -> keras.Model:
    """Return a branch body as a model: [features, mask] -> [frames, mask]; no weight stands where it starts."""
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
    both = (
        (layer.convolution, layer.normalization) if isinstance(layer, NormalizedConvolution) else (layer,)
        for layer in model.layers
    )
    return [layer for layers in both for layer in layers if isinstance(layer, kind)]


CONFIGS = {
    "cnn": CnnConfig(filters=(3, 5)),
    "resnet": ResnetConfig(filters=(3, 6, 6, 8)),
    "resnet, squeeze": ResnetConfig(filters=(3, 6, 8), squeeze_excitation=True),
}


def test_bodies_go_by_the_names_of_their_functions():
    assert ENCODERS["cnn"] is cnn
    assert ENCODERS["resnet"] is resnet


@pytest.mark.parametrize("steps", [16, 19, 20, 21])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_mask_has_a_step_for_each_step_of_the_frames(name, steps):
    frames, mask = body(CONFIGS[name], steps)(features(steps, (steps, 7)))
    assert mask.shape == (*frames.shape[:2], 1)
    assert set(np.unique(mask)) <= {0.0, 1.0}


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 9), (21, 21), (20, 1)])
def test_the_cnn_halves_steps_and_bands_a_block_and_folds_the_rest(steps, valid):
    frames, mask = body(CONFIGS["cnn"], steps)(features(steps, (steps, valid)))
    assert frames.shape == (2, steps // 4, BANDS // 4 * 5)
    # A step stands for four frames, and is valid where one of them is.
    expected = [valid > 4 * step for step in range(steps // 4)]
    np.testing.assert_array_equal(np.array(mask)[1, :, 0], expected)


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 9), (21, 21), (20, 1)])
def test_the_resnet_halves_steps_in_its_stem_and_where_channels_grow(steps, valid):
    frames, mask = body(CONFIGS["resnet"], steps)(features(steps, (steps, valid)))
    assert frames.shape == (2, -(-steps // 4), 8)  # The stem and the last block halve; the blocks of 6 keep.
    expected = [valid > 4 * step for step in range(-(-steps // 4))]
    np.testing.assert_array_equal(np.array(mask)[1, :, 0], expected)


@pytest.mark.parametrize(("place", "strides"), [("first", [(2, 2), (1, 2)]), ("second", [(1, 2), (2, 2)])])
def test_the_stem_halves_the_steps_where_it_is_told(place, strides):
    model = body(replace(CONFIGS["resnet"], stem_halves_steps=place))
    assert [layer.strides for layer in of_kind(model, keras.layers.Conv2D)] == strides


@pytest.mark.parametrize("name", ["resnet", "resnet, squeeze"])
def test_padding_stays_zero_in_the_resnet(name):
    frames, mask = (np.array(value) for value in body(CONFIGS[name])(features()))
    assert (frames[mask[..., 0] == 0] == 0).all()
    assert (frames[mask[..., 0] == 1] != 0).any()


def test_a_block_of_fewer_channels_than_the_last_is_built_too():
    frames, _ = body(ResnetConfig(filters=(3, 8, 6)))(features())
    assert frames.shape == (2, 10, 6)


@pytest.mark.parametrize("layer_normalization", [True, False])
@pytest.mark.parametrize("config", [ResnetConfig(filters=(4, 8, 8, 8)), TcnConfig(filters=8, dilations=(1, 2, 4))])
def test_with_layer_normalisation_what_is_extreme_does_not_grow_from_block_to_block(config, layer_normalization):
    config = replace(config, layer_normalization=layer_normalization)
    frames, mask = features()
    model = body(config)
    plain, extreme = (np.abs(np.array(model([scale * frames, mask])[0])).max() for scale in (1, 100))
    assert extreme < 2 * plain if layer_normalization else extreme > 50 * plain


def test_one_block_of_the_cnn_is_convolution_relu_and_pooling():
    """By hand, with a kernel of one value: each step is the larger of two frames, each band of two bands."""
    model = body(CnnConfig(filters=(1,), kernel_size=1, batch_normalization=False))
    (convolution,) = of_kind(model, keras.layers.Conv2D)
    convolution.set_weights([np.full((1, 1, 1, 1), 2.0), np.full(1, 0.25)])
    values, mask = features()
    frames, _ = model((values, mask))
    expected = np.maximum(2 * values + 0.25, 0).reshape(2, 10, 2, BANDS // 2, 2).max(axis=(2, 4))
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_filters_and_kernels_are_the_configurations(name):
    config = CONFIGS[name]
    model = body(replace(config, kernel_size=5))
    planes = of_kind(model, keras.layers.Conv2D)
    assert [layer.filters for layer in planes] == ([3, 5] if config.kind == "cnn" else [3, 3])
    assert {layer.kernel_size for layer in planes} == {(5, 5)}
    lines = [layer for layer in of_kind(model, keras.layers.Conv1D) if layer.kernel_size == (5,)]
    assert [layer.filters for layer in lines] == (
        [] if config.kind == "cnn" else [count for count in config.filters[1:] for _ in range(2)]
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_l2_is_that_of_every_kernel(name):
    config = CONFIGS[name]
    model = body(replace(config, l2=0.01))
    kernels = [weight for weight in model.trainable_weights if weight.path.endswith("kernel")]
    assert len(kernels) >= 2
    expected = 0.01 * sum((np.array(kernel) ** 2).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_normalisation_takes_the_place_of_biases(name):
    config = CONFIGS[name]
    convolutions = (keras.layers.Conv1D, keras.layers.Conv2D)
    with_it = body(config)
    assert of_kind(with_it, keras.layers.BatchNormalization)
    assert not any(layer.use_bias for layer in of_kind(with_it, convolutions))
    without = body(replace(config, batch_normalization=False))
    assert not of_kind(without, keras.layers.BatchNormalization)
    assert all(layer.use_bias for layer in of_kind(without, convolutions))


@pytest.mark.parametrize("name", CONFIGS)
def test_dropout_works_in_training_alone(name):
    config = CONFIGS[name]
    model = body(replace(config, batch_normalization=False, dropout=0.5))
    inputs = features()
    np.testing.assert_array_equal(model(inputs)[0], model(inputs)[0])
    assert not np.array_equal(model(inputs, training=True)[0], model(inputs)[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_float16_runs_through_the_body(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = body(CONFIGS[name])
    finally:
        keras.config.set_dtype_policy(before)
    frames, _ = model(features())
    assert keras.backend.standardize_dtype(frames.dtype) == "float16"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    full, _ = body(CONFIGS[name])(features())
    np.testing.assert_allclose(np.array(frames, np.float32), full, atol=0.02 * np.abs(full).max())


# Over time: recurrent layers, dilated convolutions, attention


@pytest.mark.parametrize("steps", [16, 19])
def test_the_gru_of_a_crnn_keeps_the_steps_of_its_cnn(steps):
    config = CrnnConfig(filters=(3, 5), recurrent_units=(4,))
    frames, mask = body(config, steps)(features(steps, (steps, 7)))
    _, expected = body(CnnConfig(filters=(3, 5)), steps)(features(steps, (steps, 7)))
    assert frames.shape == (2, steps // 4, 8)  # 4 units in each direction
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_layer_hears_what_was_before_and_with_two_directions_what_comes(cell, bidirectional):
    config = RecurrentConfig(cell=cell, units=(4,), bidirectional=bidirectional, dropout=0.0)
    model = body(config)
    (layer,) = of_kind(model, (keras.layers.LSTM, keras.layers.GRU, keras.layers.Bidirectional))
    assert (layer.forward_layer if bidirectional else layer).units == 4
    values, mask = features(lengths=(20, 20))
    changed = values.copy()
    changed[:, 10] += 1.0
    difference = np.abs(np.array(model((changed, mask))[0]) - np.array(model((values, mask))[0])).max(axis=(0, 2))
    assert (difference[10:] > 0).all()
    assert (difference[:10] > 0).all() == bidirectional


@pytest.mark.parametrize(("dilation", "kernel_size"), [(1, 2), (4, 2), (3, 3), (30, 2)])
def test_the_causal_convolution_is_that_of_keras(dilation, kernel_size):
    config = TcnConfig(filters=5, kernel_size=kernel_size, batch_normalization=False)
    frames = keras.Input((20, 6))
    model = keras.Model(frames, _causal_convolution(frames, dilation, config))
    (mine,) = of_kind(model, keras.layers.Conv1D)
    theirs = keras.layers.Conv1D(5, kernel_size, padding="causal", dilation_rate=dilation)
    values, _ = features(bands=6)
    theirs(values)
    # Theirs has the taps from the farthest to the nearest, mine the nearest first, side by side in the channels.
    kernel = np.array(theirs.kernel)[::-1].reshape(1, kernel_size * 6, 5)
    mine.set_weights([kernel, np.array(theirs.bias)])
    np.testing.assert_allclose(model(values), theirs(values), rtol=1e-4, atol=1e-5)


def test_a_tcn_hears_as_far_as_its_dilations_reach_in_both_directions():
    """Two convolutions of two taps at dilations 1 and 2 reach 2 × (1 + 2) steps of two frames, beyond the first one's
    five frames: frame 20 is heard in the steps 9 and 10, and from there 6 steps on either side."""
    model = body(TcnConfig(filters=6, dilations=(1, 2), dropout=0.0), steps=40)
    values, mask = features(40, lengths=(40, 40))
    changed = values.copy()
    changed[:, 20] += 1.0
    difference = np.abs(np.array(model((changed, mask))[0]) - np.array(model((values, mask))[0])).max(axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(difference > 1e-6), np.arange(9 - 6, 10 + 6 + 1))


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 7), (21, 21), (20, 1)])
def test_the_tcn_halves_the_steps_once_and_keeps_padding_zero(steps, valid):
    model = body(TcnConfig(filters=6, dilations=(1, 2)), steps)
    frames, mask = (np.array(value) for value in model(features(steps, (steps, valid))))
    assert frames.shape == (2, -(-steps // 2), 6)
    np.testing.assert_array_equal(mask[1, :, 0], [valid > 2 * step for step in range(-(-steps // 2))])
    assert (frames[mask[..., 0] == 0] == 0).all()


def test_a_transformer_has_a_step_for_each_time_of_its_patches():
    config = TransformerConfig(patch_frames=4, patch_bands=8, units=12, num_heads=3, num_blocks=2)
    frames, mask = body(config)(features())
    assert frames.shape == (2, 5, 12)
    np.testing.assert_array_equal(np.array(mask)[1, :, 0], [1, 1, 0, 0, 0])


@pytest.mark.parametrize("wrong", [{"patch_bands": 17}, {"units": 10, "num_heads": 3}])
def test_a_transformer_that_cannot_be_is_one_line(wrong):
    config = TransformerConfig(**({"patch_frames": 4, "patch_bands": 8} | wrong))
    with pytest.raises(UsageError) as caught:
        body(config)
    assert "\n" not in str(caught.value)


CONFORMER = ConformerConfig(units=12, num_heads=3, num_blocks=2, kernel_size=3)


@pytest.mark.parametrize(("steps", "valid"), [(20, 10), (20, 7), (21, 21), (20, 1)])
def test_the_conformer_halves_the_steps_twice_and_keeps_padding_zero(steps, valid):
    frames, mask = (np.array(value) for value in body(CONFORMER, steps)(features(steps, (steps, valid))))
    assert frames.shape == (2, -(-steps // 4), 12)
    np.testing.assert_array_equal(mask[1, :, 0], [valid > 4 * step for step in range(-(-steps // 4))])
    assert (frames[mask[..., 0] == 0] == 0).all()


def test_a_conformer_hears_a_clip_alike_in_a_longer_window():
    model, longer = body(CONFORMER, 20), body(CONFORMER, 32)
    longer.set_weights(model.get_weights())
    values, mask = features(20, lengths=(16, 7))
    padded = [np.pad(value, ((0, 0), (0, 12), (0, 0))) for value in (values, mask)]
    np.testing.assert_allclose(longer(padded)[0][:, :5], model([values, mask])[0], atol=1e-5)


def test_a_conformer_hears_the_whole_clip_and_without_attention_what_is_around():
    values, mask = features(40, lengths=(40, 40))
    changed = values.copy()
    changed[:, 20] += 1.0
    model = body(CONFORMER, 40)
    heard = [np.abs(np.array(model((changed, mask))[0]) - np.array(model((values, mask))[0])).max(axis=(0, 2))]
    for layer in of_kind(model, keras.layers.MultiHeadAttention):
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    heard.append(np.abs(np.array(model((changed, mask))[0]) - np.array(model((values, mask))[0])).max(axis=(0, 2)))
    whole, around = (np.flatnonzero(difference > 1e-6) for difference in heard)
    np.testing.assert_array_equal(whole, np.arange(10))
    # Steps 3 to 5 have the frame among theirs; two blocks of three taps reach 2 further on either side.
    np.testing.assert_array_equal(around, np.arange(3 - 2, 5 + 2 + 1))
