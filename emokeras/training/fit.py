"""One configuration to one trained run: its folder holds all there is to know of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emokeras.config import Config, settings, to_json
from emokeras.data import pipeline
from emokeras.data.audio import load_waveforms
from emokeras.data.corpus import Corpus
from emokeras.data.splits import missing_emotions, split
from emokeras.errors import CorpusError
from emokeras.models.build import build_model
from emokeras.reporting import figures, runs
from emokeras.training import callbacks
from emokeras.training.compile import class_weights, compile_model, set_precision
from emokeras.training.examples import draw_examples
from emokeras.training.score import predict_logits, score_clips, to_labels, to_probabilities

SUBSETS = ("train", "validation", "test")


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
    subsets = split(corpus, config.experiment.protocol, config.experiment.fold, config.experiment.split_seed)
    for warning in missing_emotions(corpus, subsets):
        say(f"warning: {warning}")
    runs.write_text(folder / "config.json", to_json(config))
    runs.write_split(folder, corpus.clips, subsets)

    waveforms = load_waveforms(corpus.clips, config.audio.sample_rate_hz)
    clips = {
        name: [clip for clip, subset in zip(corpus.clips, subsets, strict=True) if subset == name] for name in SUBSETS
    }
    sounds = {
        name: [wave for wave, subset in zip(waveforms, subsets, strict=True) if subset == name] for name in SUBSETS
    }
    labels = {name: to_labels(clips[name], config.experiment.emotions) for name in SUBSETS}
    if not all(clips.values()):
        raise CorpusError(f"corpus {corpus.name}: a subset of the split is empty; take another --protocol")
    say(" · ".join(f"{len(clips[name])} {name}" for name in SUBSETS) + f" clips, {len(corpus.emotions)} emotions")

    set_precision(config.training, say)
    model = make_network(config, sounds["train"])
    compile_model(model, config.training, pipeline.steps_per_epoch(len(clips["train"]), config))
    say(f"{config.recipe}: {model.count_params():,} parameters")
    best = fit(model, config, sounds, labels, folder, say)

    test_logits = predict_logits(model, pipeline.stack(pipeline.evaluation_dataset(sounds["test"], config)))
    probabilities = {"test": to_probabilities(test_logits), "validation": best["probabilities"]}
    scores = {name: score_clips(clips[name], corpus.emotions, values) for name, values in probabilities.items()}
    history = runs.read_history(folder / "history.csv")
    metrics = {
        "recipe": config.recipe,
        "corpus": corpus.name,
        **{name: getattr(config.experiment, name) for name in ("protocol", "fold", "seed", "split_seed")},
        **{f"num_{name}": len(clips[name]) for name in SUBSETS},
        "emotions": list(corpus.emotions),
        **scores,
        "epochs_run": len(history),
        "best_epoch": best["epoch"],
        "num_parameters": model.count_params(),
        "train_seconds": round(sum(row["seconds"] for row in history), 1),
    }
    for name, file in (("test", "predictions.csv"), ("validation", "validation_predictions.csv")):
        runs.write_predictions(folder / file, clips[name], corpus.emotions, probabilities[name])
    with runs.replacing(folder / "model.keras") as temporary:
        model.save(temporary)
    title = f"{config.recipe} on {corpus.name}, {config.experiment.protocol}: {scores['test']['accuracy']:.1%} of test"
    matrix = figures.confusion_matrix(scores["test"]["confusion_matrix"], corpus.emotions, title)
    figures.save(matrix, folder / "confusion_matrix.png")
    figures.save(figures.learning_curves(history, best["epoch"]), folder / "curves.png")
    figures.save(figures.reliability_diagram(labels["test"], probabilities["test"]), folder / "reliability.png")
    best["board"].write_figure("test_confusion_matrix", matrix, 0)
    best["board"].write_hyperparameters(settings(config), scores["test"]["accuracy"], best["epoch"])
    runs.write_json(folder / "metrics.json", metrics)  # Last: a folder with metrics.json is a run that has ended.
    return metrics


def make_network(config: Config, training_waveforms: list[np.ndarray]) -> keras.Model:
    """Build the network, its weights drawn from the seed, its normalisation adapted on the training clips' frames."""
    keras.utils.set_random_seed(config.experiment.seed)
    model = build_model(config)
    one_window = replace(config, audio=replace(config.audio, num_windows=1))
    inputs = pipeline.stack(pipeline.evaluation_dataset(training_waveforms, one_window))
    for name in config.encoders:
        valid_frames = inputs[name][inputs[f"{name}_mask"] > 0]  # [all frames, bands]
        model.get_layer(f"{name}_normalization").adapt(valid_frames[np.newaxis])
    return model


def fit(
    model: keras.Model, config: Config, sounds: dict, labels: dict, folder: Path, say: Callable
) -> dict[str, object]:
    """Train until the epochs or the patience end; leave the model with its best weights.

    Returns {"epoch": the best one, from 1, "probabilities": of the validation clips, "board": TensorBoard's writer}.
    """
    checkpoints = folder / "checkpoints"
    first_epoch = 0
    if (checkpoints / callbacks.STATE).exists():
        first_epoch = callbacks.load_variables(checkpoints / callbacks.STATE, callbacks.all_variables(model))
        say(f"going on after epoch {first_epoch}")
    num_emotions = len(config.experiment.emotions)
    weights = class_weights(labels["train"], num_emotions, config.training)
    steps = pipeline.steps_per_epoch(len(labels["train"]), config)
    training = pipeline.training_dataset(sounds["train"], labels["train"], config, weights, first_epoch)
    inputs = pipeline.stack(pipeline.evaluation_dataset(sounds["validation"], config))
    board = callbacks.TensorBoardImages(
        folder, labels["validation"], config.experiment.emotions, max(1, config.training.epochs // 5)
    )
    validation = callbacks.Validation(
        inputs, labels["validation"], folder, config.training, first_epoch, board.write_confusion
    )
    if first_epoch < config.training.epochs and not validation.out_of_patience():
        if not first_epoch:
            seen = draw_examples(model, config, sounds["train"], labels["train"], training)
            figures.save(seen, folder / "examples.png")
            board.write_figure("examples", seen, 0)
        model.fit(
            training,
            epochs=config.training.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            verbose=0,
            shuffle=False,  # The dataset shuffles by seed and epoch.
            callbacks=[
                validation,
                callbacks.Progress(config.training.epochs, steps, first_epoch),
                keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=not first_epoch),
            ],
        )
    best = callbacks.load_variables(checkpoints / callbacks.BEST, model.variables)
    probabilities = to_probabilities(predict_logits(model, inputs))
    return {"epoch": best, "probabilities": probabilities, "board": board}
