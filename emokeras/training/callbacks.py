"""What happens around an epoch: validation, the best weights, the state to resume from, TensorBoard, progress."""

import contextlib
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from emokeras.config import TrainingConfig
from emokeras.errors import RunError
from emokeras.files import replacing
from emokeras.reporting import figures, metrics, runs
from emokeras.training.score import predict_logits, to_probabilities

BEST, STATE = "best.npz", "state.npz"
SCORES = ("val_loss", "val_accuracy", "val_balanced_accuracy")


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Let the model have the moving average of its weights for a while, where the optimizer keeps one.

    Swapped by assignment: adding and subtracting, as keras.callbacks.SwapEMAWeights does, leaves rounding behind.
    """
    # In mixed precision Keras puts its own around ours, to scale the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema or not int(optimizer.iterations):
        yield
        return
    averages = optimizer._model_variables_moving_average
    own = [variable.numpy() for variable in model.trainable_variables]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(np.array(average))  # A copy: JAX reuses the memory of the weights that it predicts with.
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def save_variables(path: Path, variables: Sequence[keras.Variable], epoch: int) -> None:
    """Write variables and the number of epochs that led to them to one file, in one step."""
    values = {f"variable_{index}": variable.numpy() for index, variable in enumerate(variables)}
    with replacing(path) as temporary:
        np.savez(temporary, epoch=epoch, **values)


def load_variables(path: Path, variables: Sequence[keras.Variable]) -> int:
    """Bring back what `save_variables` wrote; return the epochs.

    Raises RunError when the file is not of this network."""
    with _opened(path) as file:
        if len(file.files) != len(variables) + 1:
            raise ValueError("it is another network's")
        for index, variable in enumerate(variables):
            variable.assign(file[f"variable_{index}"])
        return int(file["epoch"])


def settle_normalization(model: keras.Model) -> None:
    """Let a network normalise by the statistics that its variables were just given: Keras keeps a copy of its own."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def saved_epoch(path: Path) -> int:
    """Return the epochs that led to the variables in a file of `save_variables`; 0 when there is none."""
    if not path.exists():
        return 0
    with _opened(path) as file:
        return int(file["epoch"])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with np.load(path) as file:
            yield file
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be resumed from ({error}): start again in a new --run-dir") from error


def all_variables(model: keras.Model) -> list[keras.Variable]:
    """Return every variable of model and optimizer, dropout's seeds and the moving average included."""
    return [*model.variables, *model.optimizer.variables]


class TensorBoardPage:
    """Writes the graph, pictures and hyper-parameters, beside the scalars of keras.callbacks.TensorBoard."""

    def __init__(self, folder: Path, emotions: Sequence[str]):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(str(folder / "tensorboard" / "validation"))
        self.emotions = emotions

    def write_graph(self, model: keras.Model) -> None:
        """Write the network's graph of operations, where TensorFlow computes it. (TensorBoard cannot draw a Keras model
        whose outputs are a dict.)"""
        if keras.backend.backend() != "tensorflow":
            return
        import tensorflow as tf

        inputs = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}
        graph = tf.function(model).get_concrete_function(inputs).graph
        with self.writer.as_default():
            tf.summary.graph(graph)
        self.writer.flush()

    def write_figure(self, name: str, figure, step: int) -> None:
        """Write a matplotlib figure as an image."""
        import tensorflow as tf

        with self.writer.as_default():
            tf.summary.image(name, figures.to_image(figure)[np.newaxis], step)
        self.writer.flush()

    def write_confusion(self, labels: np.ndarray, predicted: np.ndarray, epoch: int) -> None:
        """Write the confusion matrix of the validation clips, both arguments int [clips]."""
        matrix = confusion_matrix(labels, predicted, labels=range(len(self.emotions)))
        picture = figures.confusion_matrix(matrix, self.emotions, f"validation, epoch {epoch}")
        self.write_figure("confusion_matrix", picture, epoch)

    def write_hyperparameters(self, settings: Mapping[str, object], accuracy: float, step: int) -> None:
        """Write the settings and the result they led to, for TensorBoard's HParams page."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api as hparams

        plain = {path: value for path, value in settings.items() if isinstance(value, (bool, int, float, str))}
        with self.writer.as_default():
            hparams.hparams(plain)
            tf.summary.scalar("test_accuracy", accuracy, step)
        self.writer.flush()


class Validation(keras.callbacks.Callback):
    """After each epoch: score the validation subset as serving would, if there is one, write history.csv, keep the best
    weights, stop early, and write the state to resume from, last of all.

    Best epoch and patience are read back from history.csv, so that a resumed run decides as an unbroken one. Where the
    last epoch is kept, only some are scored (`is_scored`); the others' figures are nan.
    """

    def __init__(
        self,
        inputs: Mapping[str, np.ndarray],
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
        logs.setdefault("accuracy", logs.get("emotion_accuracy"))  # So named when something else is learned too.
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
        """Say whether validation scores an epoch, counted from 0: each by which one is chosen. Where the last is kept,
        ten of them draw the curves as well, and spare a tenth of the time; scored too are the end of a stage, by which
        a search chooses, and the whole last tenth, by which ideas are compared."""
        late = epoch >= self.config.epochs - self.tenth or epoch + 1 == self.stage_ends_after
        return self.config.select_by != "last" or epoch % self.tenth == 0 or late

    def out_of_patience(self) -> bool:
        """Say whether the last `patience_epochs` epochs brought nothing better, all of this stage."""
        if not self.config.patience_epochs or not self.history:
            return False
        best = best_epoch(self.history, self.config.select_by)
        waited = self.history[-1]["epoch"] - max(best, self.stage_begins_after)
        return waited >= self.config.patience_epochs


def best_epoch(history: Sequence[Mapping[str, float]], select_by: str) -> int:
    """Return the first epoch, from 1, with the best value: the lowest of a loss, the highest of anything else; the last
    where that is to be kept."""
    if select_by == "last":
        return int(history[-1]["epoch"])
    values = np.array([row[select_by] for row in history])
    return int(history[int(values.argmin() if select_by.endswith("loss") else values.argmax())]["epoch"])


class Progress(keras.callbacks.Callback):
    """One bar over the whole training on a terminal; elsewhere (a log file) one line an epoch."""

    def __init__(self, epochs: int, steps: int, first_epoch: int):
        super().__init__()
        from tqdm import tqdm

        # Of a process whose own lines go nowhere, such as a search's worker, nobody awaits a bar.
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
