"""Checkpoints: the moving average of the weights, and the state that a run is resumed from."""

import keras
import numpy as np
import pytest

from emokeras.errors import RunError
from emokeras.training import checkpoints


def make_model(units=3, ema_momentum=0.9):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(units)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=ema_momentum > 0, ema_momentum=ema_momentum or 0.99), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def train_some(model, steps):
    """Train on batches of noise; yield the weights after each."""
    for step in range(steps):
        generator = np.random.default_rng(step)
        model.train_on_batch(generator.normal(size=(8, 4)), generator.normal(size=(8, model.output_shape[-1])))
        yield [variable.numpy() for variable in model.trainable_variables]


def test_the_averaged_weights_are_the_moving_average_and_the_own_come_back_exactly():
    model = make_model()
    expected, *others = train_some(model, 5)
    for weights in others:
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, weights, strict=True)]
    with checkpoints.averaged_weights(model):
        for variable, value in zip(model.trainable_variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4, atol=1e-5)
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_without_a_moving_average_the_weights_are_used_as_they_are():
    model = make_model(ema_momentum=0)
    *_, before = train_some(model, 2)
    with checkpoints.averaged_weights(model):
        for variable, value in zip(model.trainable_variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_training_continues_exactly_from_the_saved_variables(tmp_path):
    unbroken = make_model()
    list(train_some(unbroken, 3))
    checkpoints.save_variables(tmp_path / "state.npz", checkpoints.all_variables(unbroken), 3)
    list(train_some(unbroken, 3))
    resumed = make_model()
    assert checkpoints.load_variables(tmp_path / "state.npz", checkpoints.all_variables(resumed)) == 3
    list(train_some(resumed, 3))
    for mine, theirs in zip(checkpoints.all_variables(resumed), checkpoints.all_variables(unbroken), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=theirs.path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.parametrize("damage", ["other network", "torn file"])
def test_variables_of_another_network_or_a_torn_file_are_refused(tmp_path, damage):
    path = tmp_path / "state.npz"
    checkpoints.save_variables(path, make_model(units=5).variables, 1)
    if damage == "torn file":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be resumed from"):
        checkpoints.load_variables(path, make_model(units=3).variables)
