"""After each epoch: which epochs are scored, which is the best, and when patience ends."""

import keras
import numpy as np
import pytest

from emokeras import runs
from emokeras.config import TrainingConfig
from emokeras.training import callbacks, checkpoints


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
    # A stage that began after epoch 3 has had one epoch.
    resumed.stage_begins_after = 3
    assert not resumed.out_of_patience()
    # Epochs after the state that is resumed from are trained again: their rows do not count.
    earlier = callbacks.Validation({}, np.zeros(0), tmp_path, config, first_epoch=2)
    assert [row["epoch"] for row in earlier.history] == [1, 2]


@pytest.mark.parametrize(
    ("select_by", "scored"), [("val_accuracy", [*range(1, 26)]), ("last", [*range(1, 24, 2), 8, 24, 25])]
)
def test_every_epoch_is_scored_where_the_best_is_kept_and_a_few_where_the_last_is(
    tmp_path, monkeypatch, select_by, scored
):
    """The few are those of the curves, the last of a stage, and the last tenth."""
    logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    monkeypatch.setattr(callbacks, "predict_logits", lambda model, inputs: logits)
    (tmp_path / "checkpoints").mkdir()
    config = TrainingConfig(epochs=25, select_by=select_by)
    validation = callbacks.Validation({"spectrogram": logits}, np.array([0, 1, 1]), tmp_path, config)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(), "mse")
    validation.set_model(model)
    reported = []
    for epoch in range(25):
        validation.stage_ends_after = 8 if epoch < 8 else 25
        logs = {"loss": 1.0, "accuracy": 0.5}
        validation.on_epoch_begin(epoch)
        validation.on_epoch_end(epoch, logs)
        reported += [epoch + 1] if "val_loss" in logs else []
    assert reported == sorted(scored)
    history = runs.read_history(tmp_path / "history.csv")
    values = {row["epoch"]: [row[f"val_{name}"] for name in ("accuracy", "balanced_accuracy")] for row in history}
    assert {epoch for epoch, row in values.items() if np.isfinite(row).all()} == {*scored}
    assert all(np.isnan(values[epoch]).all() for epoch in {*values} - {*scored})
    assert values[25] == pytest.approx([2 / 3, 0.75])
    assert history[-1]["val_loss"] == pytest.approx(np.mean(np.log1p(np.exp([-2.0, 1.0, -3.0]))))
    assert checkpoints.saved_epoch(tmp_path / "checkpoints" / checkpoints.BEST) == (25 if select_by == "last" else 1)
