"""The training of one network: its stages, and the refit on train + validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from emokeras import runs
from emokeras.config import MAX_SEED, Config, TrainingConfig, with_experiment
from emokeras.data import pipeline
from emokeras.models.normalization import settle_normalization
from emokeras.reporting import plots
from emokeras.training import callbacks, checkpoints
from emokeras.training.optimizer import clip_weights, compile_model
from emokeras.training.pictures import draw_examples
from emokeras.training.subsets import Subset, with_validation
from emokeras.training.tensorboard import TensorBoardPage


@dataclass(frozen=True)
class Setup:
    """All that a training needs: the network, its `pretrained` layers, the clips of each subset, the network's inputs
    of the validation clips (None without any), the run's folder, and its TensorBoard page."""

    config: Config
    model: keras.Model
    pretrained: Sequence[keras.layers.Layer]
    subsets: Mapping[str, Subset]
    validation_inputs: pipeline.ClipWindows | None
    folder: Path
    board: TensorBoardPage | None


class Stage(NamedTuple):
    """A part of a training: the epochs from `first_epoch` to before `stop_epoch`, with pretrained layers frozen or
    trained."""

    first_epoch: int
    stop_epoch: int
    frozen: bool
    training: TrainingConfig


def stages(config: TrainingConfig, pretrained: bool) -> list[Stage]:
    """Return the stages of a training: the epochs with `pretrained` layers frozen, if there are any, and those in which
    everything is trained. Each has its own learning rate schedule."""
    frozen, epochs = config.frozen_epochs if pretrained else 0, config.epochs
    if not frozen:
        return [Stage(0, epochs, False, config)]
    if frozen >= epochs:
        return [Stage(0, epochs, True, config)]
    unfrozen = replace(config, epochs=epochs - frozen, learning_rate=config.unfrozen_learning_rate)
    return [Stage(0, frozen, True, replace(config, epochs=frozen)), Stage(frozen, epochs, False, unfrozen)]


def fit(setup: Setup, say: Callable, stop_epoch: int | None = None) -> int:
    """Train from the last whole epoch on until the epochs or the patience end, or `stop_epoch` is done; leave the model
    with its best weights.

    Returns
    -------
    The epoch of these weights, counted from 1.
    """
    config, model, train, folder = setup.config, setup.model, setup.subsets["train"], setup.folder
    state = folder / "checkpoints" / checkpoints.STATE
    done = checkpoints.saved_epoch(state)
    if done:
        say(f"continues after epoch {done}")
    num_emotions = len(config.experiment.emotions)
    labels = np.eye(num_emotions, dtype=np.float32)[train.labels]
    weights = clip_weights(train.labels, [clip.corpus for clip in train.clips], config.training)
    steps = pipeline.steps_per_epoch(len(train.clips), config)
    validation = callbacks.Validation(
        setup.validation_inputs, setup.subsets["validation"].labels, folder, config.training, done, setup.board
    )
    for first, stop, frozen, training in stages(config.training, bool(setup.pretrained)):
        stop = min(stop, stop_epoch or stop)
        validation.stage_begins_after, validation.stage_ends_after = first, stop
        if done > stop or first >= stop:  # A finished stage, or one that begins after `stop_epoch`.
            continue
        for layer in setup.pretrained:
            layer.trainable = not frozen
        compile_model(model, training, steps, train.masks is not None)
        if first < done:
            checkpoints.load_variables(state, checkpoints.all_variables(model))
            settle_normalization(model)
        if done == stop or validation.out_of_patience():
            # The next stage starts with the moving average, as Keras ends a `fit`.
            model.optimizer.finalize_variable_values(model.trainable_variables)
            continue
        batches = pipeline.training_dataset(
            train.waveforms,
            labels,
            config,
            weights,
            max(first, done),
            train.tokens,
            train.variants,
            train.speech,
            train.masks,
        )
        if setup.board and not done and first == 0:
            _write_pictures(setup, batches)
        model.fit(
            batches,
            epochs=stop,
            initial_epoch=max(first, done),
            steps_per_epoch=steps,
            verbose=0,
            shuffle=False,  # The dataset shuffles by seed and epoch.
            callbacks=[
                validation,
                callbacks.Progress(config.training.epochs, steps, max(first, done)),
                keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
            ],
        )
    best_epoch = checkpoints.load_variables(folder / "checkpoints" / checkpoints.BEST, model.variables)
    settle_normalization(model)
    return best_epoch


def _write_pictures(setup: Setup, batches) -> None:
    setup.board.write_graph(setup.model)
    if setup.config.audio_inputs:
        examples = draw_examples(setup.model, setup.config, setup.subsets["train"], batches)
        plots.save(examples, setup.folder / "examples.png")
        setup.board.write_figure("examples", examples, 0)


def refit(setup: Setup, say: Callable) -> None:
    """Continue the training of a selected network on train + validation, and leave it with its last weights. History
    and checkpoints of this are in the run's folder, under refit/."""
    last = stages(setup.config.training, bool(setup.pretrained))[-1].training
    # Another seed: with the same one each clip would be augmented as in the first epochs.
    config = with_experiment(
        replace(setup.config, training=_without_selection(last, last.refit_epochs)),
        seed=MAX_SEED - setup.config.experiment.seed,
    )
    subsets = with_validation(setup.subsets)
    say(f"refits on all {len(subsets['train'].clips)} training and validation clips")
    folder = setup.folder / runs.REFIT
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    fit(Setup(config, setup.model, (), subsets, {}, folder, None), say)


def _without_selection(config: TrainingConfig, epochs: int) -> TrainingConfig:
    """Return the training over so many epochs without validation: the last epoch is kept."""
    warmup_epochs = min(config.warmup_epochs, epochs / 10)
    return replace(config, epochs=epochs, warmup_epochs=warmup_epochs, select_by="last", patience_epochs=0)
