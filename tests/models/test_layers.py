"""Custom layers against NumPy: padding changes no result, masks have the right widths, all layers can be saved."""

import keras
import numpy as np
import pytest

from emokeras.models import layers
from emokeras.models.layers import (
    AttentionPooling,
    MaskedPooling,
    SpecAugment,
    SqueezeExcitation,
)

LENGTHS = (7, 4, 1)


def frames(seed: int = 0, steps: int = 7, channels: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(LENGTHS), steps, channels)).astype(np.float32)


def mask(steps: int = 7) -> np.ndarray:
    return (np.arange(steps) < np.array(LENGTHS)[:, np.newaxis]).astype(np.float32)[..., np.newaxis]


def valid(values: np.ndarray) -> list[np.ndarray]:
    """Return the valid frames of each clip, [steps, channels]."""
    return [value[:length] for value, length in zip(values, LENGTHS, strict=True)]


def dense(layer, values: np.ndarray) -> np.ndarray:
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in layer.weights)
    return values @ kernel + bias


def randomize(layer, seed: int = 0):
    """Give every weight a random value, also the biases that start at 0."""
    random = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(scale=0.5, size=weight.shape))
    return layer


LAYERS = {
    "mean": lambda: MaskedPooling("mean"),
    "max": lambda: MaskedPooling("max"),
    "mean-max": lambda: MaskedPooling("mean-max"),
    "attention": lambda: AttentionPooling(units=5, with_deviation=False),
    "attentive-statistics": lambda: AttentionPooling(units=5),
    "squeeze-excitation": lambda: SqueezeExcitation(reduction=2, kernel_regularizer=keras.regularizers.L2(0.01)),
}


def made(name: str):
    layer = LAYERS[name]()
    layer.build([(None, 7, 6), (None, 7, 1)])
    return randomize(layer)


def call(layer, values: np.ndarray, masks: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer([values, masks]))


# Pooling


def test_a_clip_without_valid_steps_pools_to_zeros():
    pooled = call(MaskedPooling("mean-max"), frames(), np.zeros((3, 7, 1), np.float32))
    np.testing.assert_array_equal(pooled, np.zeros((3, 12), np.float32))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mean", lambda clip: clip.mean(axis=0)),
        ("max", lambda clip: clip.max(axis=0)),
        ("mean-max", lambda clip: np.concatenate([clip.mean(axis=0), clip.max(axis=0)])),
    ],
)
def test_masked_pooling_is_that_of_numpy_over_the_valid_steps(mode, expected):
    values = frames() - 3.0  # all negative: a zero of the padding would be the maximum
    pooled = call(MaskedPooling(mode), values, mask())
    np.testing.assert_allclose(pooled, [expected(clip) for clip in valid(values)], rtol=1e-5)


@pytest.mark.parametrize("with_deviation", [False, True])
def test_attention_pooling_is_the_weighted_mean_and_deviation(with_deviation):
    layer = made("attentive-statistics" if with_deviation else "attention")
    pooled = call(layer, frames(), mask())
    assert pooled.shape == (3, 12 if with_deviation else 6)
    for clip, result in zip(valid(frames()), pooled, strict=True):
        scores = dense(layer.score, np.tanh(dense(layer.hidden, clip)))
        weights = np.exp(scores) / np.exp(scores).sum(axis=0)
        mean = (weights * clip).sum(axis=0)
        np.testing.assert_allclose(result[:6], mean, rtol=1e-4, atol=1e-5)
        if with_deviation:
            variance = (weights * (clip - mean) ** 2).sum(axis=0)
            np.testing.assert_allclose(result[6:], np.sqrt(np.maximum(variance, 1e-5)), rtol=1e-4, atol=1e-5)


def test_attention_with_equal_scores_is_the_mean():
    layer = made("attention")
    layer.score.set_weights([np.zeros(weight.shape) for weight in layer.score.weights])
    np.testing.assert_allclose(
        call(layer, frames(), mask()), [clip.mean(axis=0) for clip in valid(frames())], rtol=1e-4, atol=1e-6
    )


def test_the_deviation_of_one_frame_has_a_finite_gradient():
    """The square root of a variance of 0 has none."""
    import tensorflow as tf

    layer = made("attentive-statistics")
    values = tf.Variable(frames())
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer([values, mask()]))
    gradient = tape.gradient(total, values).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[mask()[..., 0] == 0] == 0).all()


def test_squeeze_excitation_weights_channels_by_their_means_over_valid_steps():
    layer = made("squeeze-excitation")
    result = call(layer, frames(), mask())
    for values, clip, weighted in zip(frames(), valid(frames()), result, strict=True):
        hidden = np.maximum(dense(layer.squeeze, clip.mean(axis=0)), 0)
        weights = 1 / (1 + np.exp(-dense(layer.excite, hidden)))
        np.testing.assert_allclose(weighted, values * weights, rtol=1e-4, atol=1e-6)


def test_squeeze_excitation_regularizes_its_kernels():
    layer = made("squeeze-excitation")
    call(layer, frames(), mask())
    kernels = [keras.ops.convert_to_numpy(part.kernel) for part in (layer.squeeze, layer.excite)]
    expected = sum(0.01 * (kernel**2).sum() for kernel in kernels)
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-5)


def test_masked_mean_without_valid_steps_is_zero():
    result = layers.masked_mean(keras.ops.convert_to_tensor(frames()), keras.ops.zeros((3, 7, 1)))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(result), np.zeros((3, 6)))


@pytest.mark.parametrize("name", LAYERS)
def test_the_content_of_padding_changes_no_result(name):
    layer = made(name)
    padding = 1 - mask()
    expected = call(layer, frames() * mask(), mask())
    changed = call(layer, frames() * mask() + 100 * frames(seed=1) * padding, mask())
    if name == "squeeze-excitation":
        expected, changed = expected * mask(), changed * mask()
    np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_more_padding_changes_no_result(name):
    layer = made(name)
    expected = call(layer, frames(), mask())
    longer = np.pad(frames(), ((0, 0), (0, 5), (0, 0)), constant_values=3.0)
    result = call(layer, longer, np.pad(mask(), ((0, 0), (0, 5), (0, 0))))
    if name == "squeeze-excitation":
        result = result[:, :7]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_a_clip_without_valid_steps_gives_finite_results(name):
    assert np.isfinite(call(made(name), frames(), np.zeros((3, 7, 1), np.float32))).all()


@pytest.mark.parametrize("name", ["mean", "max", "mean-max", "attentive-statistics", "squeeze-excitation"])
def test_float16_does_not_overflow(name):
    """200 values of 600 sum to more than float16 holds."""
    layer = LAYERS[name]()
    half = type(layer).from_config(layer.get_config() | {"dtype": "mixed_float16"})
    values = np.full((1, 200, 6), 600.0, np.float16)
    result = call(half, values, np.ones((1, 200, 1), np.float16))
    assert result.dtype == np.float16
    assert np.isfinite(result).all()
    if name != "squeeze-excitation":
        np.testing.assert_allclose(result[:, :6], 600.0, rtol=2e-3)


# SpecAugment


def masked(seed=0, batch=64, steps=40, bands=20, calls=1, **options) -> np.ndarray:
    """Return ones [batch, steps, bands] after SpecAugment: 0 where it masks."""
    sizes = {"num_time_masks": 0, "time_mask_frames": 0, "num_band_masks": 0, "band_mask_bands": 0} | options
    layer = SpecAugment(**sizes, seed=seed)
    for _ in range(calls):
        result = layer(np.ones((batch, steps, bands), np.float32), training=True)
    return keras.ops.convert_to_numpy(result)


def test_nothing_is_masked_at_inference():
    layer = SpecAugment(2, 30, 2, 10, seed=0)
    values = frames(steps=40, channels=20)
    for options in ({}, {"training": False}):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(values, **options)), values)


def test_no_masks_change_nothing_in_training():
    np.testing.assert_array_equal(masked(time_mask_frames=10, band_mask_bands=10), 1.0)


def test_values_are_kept_or_zero():
    values = frames(steps=40, channels=20)
    result = keras.ops.convert_to_numpy(SpecAugment(1, 20, 1, 10, seed=0)(values, training=True))
    assert ((result == values) | (result == 0)).all()
    assert 0.05 < (result == 0).mean() < 0.95


@pytest.mark.parametrize(("count", "most"), [(1, 10), (2, 6)])
def test_time_masks_are_intervals_of_whole_frames(count, most):
    kept = masked(num_time_masks=count, time_mask_frames=most)
    assert (kept == kept[:, :, :1]).all()
    lost = kept[:, :, 0] == 0
    assert 1 <= lost.sum(axis=1).max() <= count * most
    starts = (np.diff(np.pad(lost, ((0, 0), (1, 0))).astype(int), axis=1) == 1).sum(axis=1)
    assert starts.max() == count
    if count == 1:  # The width is uniform from 0 to `most`.
        assert lost.sum(axis=1).mean() == pytest.approx(most / 2, abs=1.2)
    assert lost.any(axis=0).all()  # Each frame is masked in some clip, ...
    assert len(np.unique(lost, axis=0)) > 20  # ... and clips differ.


def test_band_masks_are_intervals_of_whole_bands():
    kept = masked(num_band_masks=2, band_mask_bands=4)
    assert (kept == kept[:, :1, :]).all()
    lost = kept[:, 0] == 0
    assert 4 < lost.sum(axis=1).max() <= 8
    assert lost.any(axis=0).all()


def test_the_seed_determines_the_sequence_of_masks():
    options = {"num_time_masks": 2, "time_mask_frames": 10, "num_band_masks": 1, "band_mask_bands": 5}
    np.testing.assert_array_equal(masked(seed=3, **options), masked(seed=3, **options))
    np.testing.assert_array_equal(masked(seed=3, calls=2, **options), masked(seed=3, calls=2, **options))
    assert not np.array_equal(masked(seed=3, **options), masked(seed=4, **options))
    assert not np.array_equal(masked(seed=3, **options), masked(seed=3, calls=2, **options))


# Saving


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_can_be_made_again_from_its_configuration(name):
    layer = made(name)
    again = type(layer).from_config(layer.get_config())
    again.build([(None, 7, 6), (None, 7, 1)])
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(call(again, frames(), mask()), call(layer, frames(), mask()))
    assert again.get_config() == layer.get_config()


def test_spec_augment_can_be_made_again_from_its_configuration():
    layer = SpecAugment(2, 10, 1, 5, seed=4, name="augment")
    again = SpecAugment.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    ones = np.ones((8, 40, 20), np.float32)
    np.testing.assert_array_equal(again(ones, training=True), layer(ones, training=True))


def test_a_saved_model_of_all_layers_computes_the_same(tmp_path):
    values, valid_steps = keras.Input((7, 6)), keras.Input((7, 1))
    x = SpecAugment(1, 3, 1, 3, seed=0)(values)
    x = SqueezeExcitation(2, keras.regularizers.L2(0.01))([x, valid_steps])
    pooled = [LAYERS[name]()([x, valid_steps]) for name in LAYERS if name != "squeeze-excitation"]
    model = randomize(keras.Model([values, valid_steps], keras.layers.Concatenate()(pooled)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = [frames(), mask()]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(inputs)), keras.ops.convert_to_numpy(model(inputs)))
    assert float(sum(loaded.losses)) == pytest.approx(float(sum(model.losses)))


# Sums and positions


def test_a_weighted_sum_starts_as_the_mean_and_has_free_weights():
    layer = layers.WeightedSum()
    values = [np.full((2, 3, 4), number, np.float32) for number in (1.0, 2.0, 6.0)]
    np.testing.assert_allclose(layer(values), np.full((2, 3, 4), 3.0), rtol=1e-6)
    layer.set_weights([np.array([0.5, 0.0, 2.0])])
    np.testing.assert_allclose(layer(values), np.full((2, 3, 4), 12.5), rtol=1e-6)


def test_a_position_embedding_adds_a_vector_to_each_step():
    layer = layers.PositionEmbedding()
    values = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    layer(values)
    (positions,) = layer.get_weights()
    assert positions.shape == (3, 4)
    assert np.ptp(positions) > 0
    np.testing.assert_allclose(layer(values), values + positions, rtol=1e-6)
