"""What happens around an epoch: the moving average, the state to resume from, the best epoch, patience."""

import keras
import numpy as np
import pytest

from emokeras import runs
from emokeras.config import TrainingConfig
from emokeras.errors import RunError
from emokeras.training import callbacks


def make_model(units=3, ema_momentum=0.9):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(units)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=ema_momentum > 0, ema_momentum=ema_momentum or 0.99), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def train_some(model, steps):
    for step in range(steps):
        generator = np.random.default_rng(step)
        model.train_on_batch(generator.normal(size=(8, 4)), generator.normal(size=(8, model.output_shape[-1])))


def test_averaged_weights_are_the_moving_average_and_come_back_exactly():
    model = make_model()
    expected, weights = None, []
    for step in range(4):
        train_some(model, step + 1)
        weights = [variable.numpy() for variable in model.trainable_variables]
    # Recomputed by hand from a second run of the same steps.
    again = make_model()
    steps = [index for step in range(4) for index in range(step + 1)]
    for index in steps:
        generator = np.random.default_rng(index)
        again.train_on_batch(generator.normal(size=(8, 4)), generator.normal(size=(8, 3)))
        now = [variable.numpy() for variable in again.trainable_variables]
        expected = now if expected is None else [0.9 * old + 0.1 * new for old, new in zip(expected, now, strict=True)]
    with callbacks.averaged_weights(model):
        for variable, value in zip(model.trainable_variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4, atol=1e-5)
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_without_a_moving_average_the_weights_are_used_as_they_are():
    model = make_model(ema_momentum=0)
    train_some(model, 2)
    before = [variable.numpy() for variable in model.trainable_variables]
    with callbacks.averaged_weights(model):
        for variable, value in zip(model.trainable_variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_state_brings_back_weights_optimizer_average_and_dropout(tmp_path):
    unbroken = make_model()
    train_some(unbroken, 3)
    callbacks.save_variables(tmp_path / "state.npz", callbacks.all_variables(unbroken), 3)
    train_some(unbroken, 3)
    resumed = make_model()
    assert callbacks.load_variables(tmp_path / "state.npz", callbacks.all_variables(resumed)) == 3
    train_some(resumed, 3)
    for mine, theirs in zip(callbacks.all_variables(resumed), callbacks.all_variables(unbroken), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=theirs.path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.parametrize("damage", ["other network", "torn file"])
def test_state_of_another_network_is_refused(tmp_path, damage):
    path = tmp_path / "state.npz"
    callbacks.save_variables(path, make_model(units=5).variables, 1)
    if damage == "torn file":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be resumed from"):
        callbacks.load_variables(path, make_model(units=3).variables)


def history_of(**columns):
    length = len(next(iter(columns.values())))
    return [{"epoch": epoch + 1} | {name: values[epoch] for name, values in columns.items()} for epoch in range(length)]


def test_best_epoch_is_the_lowest_loss_or_the_highest_accuracy_and_the_first_of_equals():
    history = history_of(val_loss=[3.0, 1.0, 1.0, 2.0], val_accuracy=[0.1, 0.5, 0.7, 0.7])
    assert callbacks.best_epoch(history, "val_loss") == 2
    assert callbacks.best_epoch(history, "val_accuracy") == 3


@pytest.mark.parametrize(("patience_epochs", "stops"), [(0, False), (2, True), (3, False)])
def test_patience_counts_epochs_after_the_best_and_survives_a_resume(tmp_path, patience_epochs, stops):
    for row in history_of(val_loss=[3.0, 1.0, 1.5, 1.2]):
        runs.append_history(tmp_path / "history.csv", row)
    config = TrainingConfig(patience_epochs=patience_epochs)
    resumed = callbacks.Validation({}, np.zeros(0), tmp_path, config, first_epoch=4)
    assert resumed.out_of_patience() is stops
    # What thawed after epoch 3 has had one epoch of its own.
    resumed.stage_begins_after = 3
    assert not resumed.out_of_patience()
    # Rows of epochs after the state that is resumed from will be made again, and do not count.
    earlier = callbacks.Validation({}, np.zeros(0), tmp_path, config, first_epoch=2)
    assert [row["epoch"] for row in earlier.history] == [1, 2]


@pytest.mark.parametrize(
    ("select_by", "scored"), [("val_accuracy", [*range(1, 26)]), ("last", [*range(1, 24, 2), 8, 24, 25])]
)
def test_every_epoch_is_scored_by_which_one_is_chosen_and_else_a_few(tmp_path, monkeypatch, select_by, scored):
    """Those that draw the curves, where a stage or a search's trial ends, the last tenth."""
    logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    monkeypatch.setattr(callbacks, "predict_logits", lambda model, inputs: logits)
    (tmp_path / "checkpoints").mkdir()
    config = TrainingConfig(epochs=25, select_by=select_by)
    validation = callbacks.Validation({"spectrogram": logits}, np.array([0, 1, 1]), tmp_path, config)
    validation.set_model(make_model())
    told = []
    for epoch in range(25):
        validation.stage_ends_after = 8 if epoch < 8 else 25
        logs = {"loss": 1.0, "accuracy": 0.5}
        validation.on_epoch_begin(epoch)
        validation.on_epoch_end(epoch, logs)
        told += [epoch + 1] if "val_loss" in logs else []
    assert told == sorted(scored)
    history = runs.read_history(tmp_path / "history.csv")
    values = {row["epoch"]: [row[f"val_{name}"] for name in ("accuracy", "balanced_accuracy")] for row in history}
    assert {epoch for epoch, row in values.items() if np.isfinite(row).all()} == {*scored}
    assert all(np.isnan(values[epoch]).all() for epoch in {*values} - {*scored})
    assert values[25] == pytest.approx([2 / 3, 0.75])
    assert history[-1]["val_loss"] == pytest.approx(np.mean(np.log1p(np.exp([-2.0, 1.0, -3.0]))))
    assert callbacks.saved_epoch(tmp_path / "checkpoints" / callbacks.BEST) == (25 if select_by == "last" else 1)
