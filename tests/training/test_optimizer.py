"""The optimizer, its schedule and weight decay, the loss, and the weights of the emotions in it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from emokeras.config import TrainingConfig
from emokeras.training.optimizer import class_weights, compile_model, set_precision


def compiled(config, steps_per_epoch=10):
    inputs = keras.Input((4,))
    frames = keras.layers.BatchNormalization()(keras.layers.Dense(5)(inputs))
    model = keras.Model(inputs, {"emotion": keras.layers.Dense(3, name="emotion")(frames)})
    compile_model(model, config, steps_per_epoch)
    return model


def test_cosine_schedule_rises_over_the_warm_up_and_ends_at_zero():
    config = TrainingConfig(epochs=20, learning_rate=0.01, warmup_epochs=2, schedule="cosine")
    model = compiled(config)
    rates = []
    for step in range(201):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    assert rates[0] == pytest.approx(1e-4)
    assert rates[20] == pytest.approx(0.01) == max(rates)
    assert rates[110] == pytest.approx(0.005, rel=1e-3)  # half-way down, between step 20 and 200
    assert rates[200] == pytest.approx(0, abs=1e-6)


def test_constant_schedule_is_constant():
    model = compiled(TrainingConfig(learning_rate=0.02, schedule="constant", optimizer="sgd"))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_is_of_kernels_only(optimizer):
    config = TrainingConfig(optimizer=optimizer, schedule="constant", learning_rate=0.1, weight_decay=0.5)
    model = compiled(config)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    model.optimizer.apply([np.zeros(variable.shape, np.float32) for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        expected = 0.95 if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)


def test_muon_orthogonalizes_the_step_of_a_convolution_and_updates_the_rest_like_adamw():
    inputs = keras.Input((9, 4))
    frames = keras.layers.Conv1D(6, 3, padding="same")(inputs)
    model = keras.Model(inputs, {"emotion": keras.layers.Dense(3, name="emotion")(frames[:, 0])})
    before = [variable.numpy() for variable in model.trainable_variables]
    random = np.random.default_rng(0)
    gradients = [random.normal(size=value.shape).astype(np.float32) for value in before]

    def steps_of(optimizer: str, traced: bool = False) -> list[np.ndarray]:
        for variable, value in zip(model.trainable_variables, before, strict=True):
            variable.assign(value)
        config = TrainingConfig(optimizer=optimizer, schedule="constant", learning_rate=0.01, weight_decay=0)
        compile_model(model, config, 10)
        (tf.function(model.optimizer.apply) if traced else model.optimizer.apply)(gradients)
        return [variable.numpy() - value for variable, value in zip(model.trainable_variables, before, strict=True)]

    muon = steps_of("muon")

    step, gradient = muon[0].reshape(12, 6), gradients[0].reshape(12, 6)
    sizes = np.linalg.svd(step, compute_uv=False) / (0.01 * 0.2 * 12**0.5)  # Liu et al.'s factor is 0.2 √12 here.
    assert np.ptp(np.linalg.svd(gradient, compute_uv=False)) > 2
    assert sizes.min() > 0.68  # Five Newton-Schulz iterations bring singular values to 0.7 to 1.2.
    assert sizes.max() < 1.21
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    assert np.vdot(step, -left @ right) / np.linalg.norm(step) / 6**0.5 > 0.98  # the gradient's polar factor, downhill
    for own, adamw in zip(muon[1:], steps_of("adamw")[1:], strict=True):
        np.testing.assert_allclose(own, adamw, rtol=1e-4, atol=1e-7)
    for own, in_graph in zip(muon, steps_of("muon", traced=True), strict=True):
        np.testing.assert_allclose(own, in_graph, rtol=1e-3, atol=1e-6)


def test_accumulated_batches_make_one_update_of_their_mean_gradient():
    config = TrainingConfig(optimizer="sgd", schedule="constant", learning_rate=0.1, clip_norm=0.0)
    model = compiled(replace(config, accumulated_batches=2))
    before = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.apply([np.full(variable.shape, 1.0, np.float32) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    model.optimizer.apply([np.full(variable.shape, 3.0, np.float32) for variable in model.trainable_variables])
    # Nesterov's first step is 1 + momentum times the rate; the mean gradient is 2.
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable, value - 0.1 * 1.9 * 2.0, rtol=1e-5, atol=1e-6)


def test_schedules_count_batches_whether_gradients_are_accumulated_or_not():
    config = TrainingConfig(optimizer="adam", epochs=1, learning_rate=0.1, warmup_epochs=0, accumulated_batches=2)
    model = compiled(config, steps_per_epoch=4)
    for _ in range(2):
        model.optimizer.apply([np.zeros(variable.shape, np.float32) for variable in model.trainable_variables])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)  # half-way through four batches


def test_loss_takes_logits_and_smooths_labels():
    model = compiled(TrainingConfig(label_smoothing=0.1))
    logits, labels = np.array([[2.0, -1.0, 0.5]]), np.array([[1.0, 0.0, 0.0]])
    smooth = labels * 0.9 + 0.1 / 3
    expected = -(smooth * (logits - np.log(np.exp(logits).sum()))).sum()
    loss = model.loss["emotion"](labels, logits)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_class_weights_are_scikit_learn_s_balanced_ones():
    labels = np.array([0] * 10 + [1] * 30 + [2] * 5)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3, TrainingConfig()), expected)
    assert class_weights(labels, 3, TrainingConfig()) @ np.bincount(labels) == pytest.approx(len(labels))
    np.testing.assert_array_equal(class_weights(labels, 3, TrainingConfig(class_weights=False)), 1)


def test_an_emotion_without_training_clips_does_not_shift_the_others():
    weights = class_weights(np.array([0] * 4 + [2] * 4), 3, TrainingConfig())
    np.testing.assert_allclose(weights[[0, 2]], 1)


def test_mixed_precision_on_a_cpu_stays_float32_and_is_reported():
    lines = []
    set_precision(TrainingConfig(mixed_precision=True), lines.append)
    assert keras.config.dtype_policy().name == "float32"
    assert len(lines) == 1
    assert "float32" in lines[0]
