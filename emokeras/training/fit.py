"""One configuration to one trained run: its folder holds all there is to know of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emokeras.config import Config, to_json
from emokeras.data import pipeline
from emokeras.data.corpus import Corpus
from emokeras.models.build import build_model
from emokeras.reporting import figures, runs
from emokeras.training import callbacks
from emokeras.training.compile import class_weights, compile_model, set_precision
from emokeras.training.examples import draw_examples
from emokeras.training.report import write_report
from emokeras.training.score import predict_logits, to_probabilities
from emokeras.training.subsets import Subset, take_subsets


def train_run(config: Config, corpus: Corpus, folder: Path, resume: bool = False, say: Callable = print) -> dict:
    """Train one network on one split, score it once on the test subset, and write the run folder.

    Parameters
    ----------
    config: a recipe's, overridden; its emotions are filled in from the corpus.
    folder: where the run goes; with `resume` a run that was interrupted there goes on after its last whole epoch.
    say: where lines for the reader go.

    Returns the metrics, as in metrics.json. Raises CorpusError for a split that cannot be trained on.
    """
    config = replace(config, experiment=replace(config.experiment, emotions=corpus.emotions))
    folder = runs.create_run(folder, resume)
    (folder / "checkpoints").mkdir(exist_ok=True)
    runs.write_text(folder / "config.json", to_json(config))
    subsets = take_subsets(config, corpus, folder, say)
    page = callbacks.TensorBoardPage(folder, config.experiment.emotions)

    set_precision(config.training, say)
    model = make_network(config, subsets["train"])
    compile_model(model, config.training, pipeline.steps_per_epoch(len(subsets["train"].clips), config))
    say(f"{config.recipe}: {model.count_params():,} parameters")
    best_epoch = fit(model, config, subsets, folder, page, say)

    probabilities = {}
    for name in ("validation", "test"):
        inputs = pipeline.stack(pipeline.evaluation_dataset(subsets[name].waveforms, config))
        probabilities[name] = to_probabilities(predict_logits(model, inputs))
    return write_report(model, config, corpus.name, subsets, probabilities, best_epoch, folder, page)


def make_network(config: Config, train: Subset) -> keras.Model:
    """Build the network, its weights drawn from the seed, its normalisation adapted on the training clips' frames."""
    keras.utils.set_random_seed(config.experiment.seed)
    model = build_model(config)
    one_window = replace(config, audio=replace(config.audio, num_windows=1))
    inputs = pipeline.stack(pipeline.evaluation_dataset(train.waveforms, one_window))
    for name in config.encoders:
        valid_frames = inputs[name][inputs[f"{name}_mask"] > 0]  # [all frames, bands]
        model.get_layer(f"{name}_normalization").adapt(valid_frames[np.newaxis])
    return model


def fit(
    model: keras.Model,
    config: Config,
    subsets: Mapping[str, Subset],
    folder: Path,
    page: callbacks.TensorBoardPage,
    say: Callable,
) -> int:
    """Train from the last whole epoch on until the epochs or the patience end; leave the model with its best weights.

    Returns the epoch they are of, counted from 1.
    """
    checkpoints = folder / "checkpoints"
    first_epoch = 0
    if (checkpoints / callbacks.STATE).exists():
        first_epoch = callbacks.load_variables(checkpoints / callbacks.STATE, callbacks.all_variables(model))
        say(f"going on after epoch {first_epoch}")
    train, epochs = subsets["train"], config.training.epochs
    weights = class_weights(train.labels, len(config.experiment.emotions), config.training)
    batches = pipeline.training_dataset(train.waveforms, train.labels, config, weights, first_epoch)
    validation = callbacks.Validation(
        pipeline.stack(pipeline.evaluation_dataset(subsets["validation"].waveforms, config)),
        subsets["validation"].labels,
        folder,
        config.training,
        first_epoch,
        page,
    )
    if first_epoch == 0:
        page.write_graph(model)
        examples = draw_examples(model, config, train, batches)
        figures.save(examples, folder / "examples.png")
        page.write_figure("examples", examples, 0)
    if first_epoch < epochs and not validation.out_of_patience():
        steps = pipeline.steps_per_epoch(len(train.clips), config)
        model.fit(
            batches,
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            verbose=0,
            shuffle=False,  # The dataset shuffles by seed and epoch.
            callbacks=[
                validation,
                callbacks.Progress(epochs, steps, first_epoch),
                keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
            ],
        )
    return callbacks.load_variables(checkpoints / callbacks.BEST, model.variables)
