"""Checkpoints: all variables of model and optimizer in one file, the best weights, and the moving average."""

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from emokeras.errors import RunError
from emokeras.files import replacing

BEST, STATE = "best.npz", "state.npz"


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give the model the moving average of its weights in the block, where the optimizer keeps one.

    Swapped by assignment: adding and subtracting, as keras.callbacks.SwapEMAWeights does, leaves rounding errors.
    """
    # In mixed precision Keras wraps our optimizer in one that scales the loss.
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
    """Write variables, and the number of epochs they were trained for, to one file in one step."""
    values = {f"variable_{index}": variable.numpy() for index, variable in enumerate(variables)}
    with replacing(path) as temporary:
        np.savez(temporary, epoch=epoch, **values)


def load_variables(path: Path, variables: Sequence[keras.Variable]) -> int:
    """Restore what `save_variables` wrote; return the epochs. Raises RunError when the file is another network's."""
    with _opened(path) as file:
        if len(file.files) != len(variables) + 1:
            raise ValueError("it is of another network")
        for index, variable in enumerate(variables):
            variable.assign(file[f"variable_{index}"])
        return int(file["epoch"])


def saved_epoch(path: Path) -> int:
    """Return the epochs of the variables in a file of `save_variables`; 0 when there is none."""
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
    """Return every variable of model and optimizer, with dropout's seeds and the moving average."""
    return [*model.variables, *model.optimizer.variables]
