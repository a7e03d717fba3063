"""Batch normalization, and convolution with normalization as one layer, against those of Keras."""

import keras
import numpy as np
import pytest

from emokeras.models import layers  # noqa: F401  as loaders of models do: it registers these layers too
from emokeras.models.normalization import BatchNormalization, NormalizedConvolution, set_statistics


@pytest.mark.parametrize(("shape", "run_eagerly"), [((7, 6, 5), False), ((3, 4, 6, 5), False), ((7, 6, 5), True)])
def test_batch_normalization_computes_and_learns_what_that_of_keras_does(shape, run_eagerly):
    images = np.random.default_rng(3).normal(1.0, 2.0, shape).astype(np.float32)
    targets = np.random.default_rng(4).normal(size=shape).astype(np.float32)

    def learned(normalize) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        inputs = keras.Input(shape[1:])
        normalization = normalize(momentum=0.8)
        model = keras.Model(inputs, normalization(keras.layers.Dense(5)(inputs)))
        normalization.gamma.assign([0.5, 1.0, 1.5, 2.0, -1.0])
        model.compile(keras.optimizers.SGD(0.3), "mse", run_eagerly=run_eagerly)
        model.fit(images, targets, batch_size=len(images), epochs=4, verbose=0)
        return [*model.get_weights(), model.predict(images, verbose=0)]

    for own, expected in zip(learned(BatchNormalization), learned(keras.layers.BatchNormalization), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


def test_frozen_batch_normalization_uses_its_moving_statistics():
    layer = BatchNormalization(trainable=False)
    layer.build((None, 7, 6))
    layer.moving_mean.assign(np.arange(6.0))
    frames = np.random.default_rng(0).normal(size=(3, 7, 6)).astype(np.float32)
    np.testing.assert_array_equal(layer(frames, training=True), layer(frames, training=False))
    np.testing.assert_array_equal(layer.moving_mean, np.arange(6.0))


def convolved_and_normalized(frames: np.ndarray, layer, training: bool):
    """Return the output of a Conv2D and a BatchNormalization with a layer's weights, and that normalization."""
    convolution, own = layer.convolution, layer.normalization
    normalization = keras.layers.BatchNormalization(momentum=own.momentum, epsilon=own.epsilon)
    normalization.build((*frames.shape[:3], layer.filters))
    normalization.set_weights(own.get_weights())
    return normalization(convolution(frames), training=training), normalization


def normalized_convolution(**options) -> NormalizedConvolution:
    layer = NormalizedConvolution(4, 3, (1, 2), momentum=0.9, **options)
    layer.build((None, 9, 8, 1))
    random = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(scale=0.5, size=weight.shape))
    layer.normalization.moving_mean.assign([0.3, -0.2, 0.1, 0.0])
    layer.normalization.moving_variance.assign([2.0, 0.5, 1.5, 1.0])
    return layer


def images() -> np.ndarray:
    return np.random.default_rng(5).normal(1.0, 2.0, (3, 9, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("training", [True, False])
def test_a_normalized_convolution_is_a_convolution_and_a_batch_normalization(training):
    layer = normalized_convolution()
    expected, normalization = convolved_and_normalized(images(), layer, training)
    output = layer(images(), training=training)
    assert output.shape == layer.compute_output_shape((3, 9, 8, 1)) == (3, 9, 4, 4)
    np.testing.assert_allclose(output, expected, atol=2e-5)
    np.testing.assert_allclose(layer.normalization.moving_mean, normalization.moving_mean, atol=1e-6)
    np.testing.assert_allclose(layer.normalization.moving_variance, normalization.moving_variance, rtol=1e-5)


def test_a_normalized_convolution_learns_what_the_two_layers_learn():
    targets = np.linspace(-1, 1, 3 * 144).reshape(3, 9, 4, 4)

    def learned(with_normalization) -> np.ndarray:
        inputs, layer = keras.Input((9, 8, 1)), normalized_convolution()
        model = keras.Model(inputs, with_normalization(layer, inputs))
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model.fit(images(), targets, epochs=5, verbose=0)
        return layer.convolution.kernel.numpy()

    def two_layers(layer, inputs):
        _, normalization = convolved_and_normalized(images(), layer, False)
        return normalization(layer.convolution(inputs))

    own = learned(lambda layer, inputs: layer(inputs))
    np.testing.assert_allclose(own, learned(two_layers), atol=1e-4)
    assert np.abs(own - normalized_convolution().convolution.kernel.numpy()).max() > 0.05


def test_a_frozen_normalized_convolution_uses_its_moving_statistics():
    layer = normalized_convolution()
    layer.trainable = False
    before = layer.normalization.get_weights()
    np.testing.assert_array_equal(layer(images(), training=True), layer(images(), training=False))
    for after, expected in zip(layer.normalization.get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, expected)


def test_a_normalized_convolution_can_be_saved(tmp_path):
    inputs = keras.Input((9, 8, 1))
    layer = NormalizedConvolution(4, 3, (2, 2), kernel_regularizer=keras.regularizers.L2(0.01))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images()), model(images()))
    assert again.layers[-1].convolution.kernel_regularizer.l2 == pytest.approx(0.01)


# Statistics


def test_a_normalization_with_given_statistics_computes_what_an_adapted_one_does():
    frames = np.random.default_rng(0).normal(2.0, 3.0, size=(1, 50, 4)).astype(np.float32)
    adapted, given = keras.layers.Normalization(axis=-1), keras.layers.Normalization(axis=-1)
    adapted.adapt(frames)
    given.build((None, None, 4))
    set_statistics(given, frames.mean(axis=(0, 1)), frames.var(axis=(0, 1)))
    np.testing.assert_allclose(given(frames), adapted(frames), atol=1e-5)
