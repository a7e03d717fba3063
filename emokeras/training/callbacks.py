"""Callbacks of a training: validation after each epoch, and progress on the screen."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from emokeras import runs
from emokeras.config import TrainingConfig
from emokeras.data.pipeline import ClipWindows
from emokeras.errors import RunError
from emokeras.reporting import metrics
from emokeras.training.checkpoints import BEST, STATE, all_variables, averaged_weights, save_variables
from emokeras.training.score import predict_logits, to_probabilities
from emokeras.training.tensorboard import TensorBoardPage

SCORES = ("val_loss", "val_accuracy", "val_balanced_accuracy")


class Validation(keras.callbacks.Callback):
    """After each epoch: score the validation subset as in serving, if there is one, write history.csv, keep the best
    weights, stop early, and last write the state to resume from.

    Best epoch and patience are read back from history.csv, so that a resumed run decides as an uninterrupted one. Where
    the last epoch is kept, only some are scored (`is_scored`); the others' figures are NaN.
    """

    def __init__(
        self,
        inputs: ClipWindows | None,
        labels: np.ndarray,
        folder: Path,
        config: TrainingConfig,
        first_epoch: int = 0,
        page: TensorBoardPage | None = None,
    ):
        super().__init__()
        self.inputs, self.labels, self.folder, self.config = inputs, labels, folder, config
        self.history_path = folder / "history.csv"
        history = runs.read_history(self.history_path) if self.history_path.exists() else []
        self.history = [row for row in history if row["epoch"] <= first_epoch]
        self.page = page
        self.tenth = max(1, config.epochs // 10)
        self.stage_begins_after, self.stage_ends_after = 0, config.epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        checkpoints = self.folder / "checkpoints"
        scores = dict.fromkeys(SCORES if self.inputs else (), np.nan)
        with averaged_weights(self.model):
            if self.inputs and self.is_scored(epoch):
                probabilities = to_probabilities(predict_logits(self.model, self.inputs))
                predicted = probabilities.argmax(axis=1)
                scores["val_loss"] = metrics.cross_entropy(self.labels, probabilities)
                scores["val_accuracy"] = float((predicted == self.labels).mean())
                scores["val_balanced_accuracy"] = metrics.balanced_accuracy(self.labels, predicted)
                logs.update(scores)
            if not np.isfinite(logs["loss"]):
                raise RunError(
                    f"{self.folder}: the loss of epoch {epoch + 1} is not finite: lower training.learning_rate, "
                    "or set training.clip_norm"
                )
            seconds, cpu_seconds = time.perf_counter() - self.started, time.process_time() - self.cpu_started
            row = {"epoch": epoch + 1, "loss": logs["loss"], "accuracy": logs["accuracy"], **scores}
            row |= {"learning_rate": float(self.model.optimizer.learning_rate)}
            row |= {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)}
            self.history.append(row)
            if best_epoch(self.history, self.config.select_by) == epoch + 1:
                save_variables(checkpoints / BEST, self.model.variables, epoch + 1)
            if self.inputs and self.page and epoch % (2 * self.tenth) == 0:  # Scored: every tenth is.
                self.page.write_confusion(self.labels, predicted, epoch + 1)
        runs.append_history(self.history_path, row)
        save_variables(checkpoints / STATE, all_variables(self.model), epoch + 1)
        if self.out_of_patience():
            self.model.stop_training = True

    def is_scored(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is scored on validation: all, where the best is kept. Where the last
        is kept, ten are enough for the curves and save a tenth of the time; the last of a stage, which a search uses,
        and the last tenth, which an ablation uses, are scored too."""
        late = epoch >= self.config.epochs - self.tenth or epoch + 1 == self.stage_ends_after
        return self.config.select_by != "last" or epoch % self.tenth == 0 or late

    def out_of_patience(self) -> bool:
        """Return whether the last `patience_epochs` epochs, all of this stage, brought no improvement."""
        if not self.config.patience_epochs or not self.history:
            return False
        best = best_epoch(self.history, self.config.select_by)
        waited = self.history[-1]["epoch"] - max(best, self.stage_begins_after)
        return waited >= self.config.patience_epochs


def best_epoch(history: Sequence[Mapping[str, float]], select_by: str) -> int:
    """Return the epoch to keep, counted from 1: the first with the lowest loss or the highest score, or the last."""
    if select_by == "last":
        return int(history[-1]["epoch"])
    values = np.array([row[select_by] for row in history])
    return int(history[int(values.argmin() if select_by.endswith("loss") else values.argmax())]["epoch"])


class Progress(keras.callbacks.Callback):
    """One progress bar over the whole training on a terminal; elsewhere (a log file) one line per epoch."""

    def __init__(self, epochs: int, steps: int, first_epoch: int):
        super().__init__()
        from tqdm import tqdm

        # A process whose lines go nowhere, such as a search's worker, needs no bar.
        self.epochs, self.steps, self.on_terminal = epochs, steps, sys.stderr.isatty() and sys.stdout.isatty()
        self.bar = tqdm(
            total=epochs * steps, initial=first_epoch * steps, unit="batch", dynamic_ncols=True,
            disable=not self.on_terminal,
        )  # fmt: skip

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        loss, accuracy = f"{logs['loss']:.3f}", f"{logs['accuracy']:.1%}"
        if "val_loss" in logs:
            loss += f" (validation {logs['val_loss']:.3f})"
            accuracy += f" (validation {logs['val_accuracy']:.1%})"
        text = f"loss {loss}  accuracy {accuracy}"
        self.bar.set_description_str(f"epoch {epoch + 1}/{self.epochs}  {text}")
        if not self.on_terminal:
            print(f"epoch {epoch + 1}/{self.epochs}  {text}", flush=True)

    def on_train_end(self, logs=None):
        self.bar.close()
