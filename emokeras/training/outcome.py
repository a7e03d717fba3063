"""What a training leaves in its run folder: predictions, metrics, pictures, and the network itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emokeras import runs
from emokeras.config import AnyConfig, settings
from emokeras.data.corpora import Clip, Corpus
from emokeras.data.splits import PROTOCOLS, Split
from emokeras.data.transcripts import transcript_kind
from emokeras.files import replacing
from emokeras.reporting import plots
from emokeras.runs import PREDICTION_FILES
from emokeras.training.fit import Setup
from emokeras.training.score import score_clips, to_labels
from emokeras.training.tensorboard import TensorBoardPage


def write_network_outcome(
    setup: Setup, corpus: Corpus, split: Split, probabilities: Mapping[str, np.ndarray], best_epoch: int
) -> dict:
    """Write everything that a run folder has of a trained network; return the metrics. `probabilities` are those of
    `write_outcome`."""
    config, folder, model = setup.config, setup.folder, setup.model
    history = runs.read_history(folder / "history.csv")
    refit_path = folder / runs.REFIT / "history.csv"
    refit_history = runs.read_history(refit_path) if refit_path.exists() else []
    every_epoch = [*history, *refit_history]
    with replacing(folder / "model.keras") as temporary:
        # Without the optimizer, whose moments and moving average take three times the space of the weights.
        keras.Model(model.input, model.output, name=model.name).save(temporary)
    plots.save(plots.learning_curves(history, best_epoch), folder / "curves.png")
    clips = {name: subset.clips for name, subset in setup.subsets.items()}
    training = {
        "num_train": len(clips["train"]),
        "split_sha256": split.digest,
        "num_folds": split.num_folds,
        "epochs_run": len(history),
        "best_epoch": best_epoch,
        "backend": keras.config.backend(),
        "num_parameters": model.count_params(),
        "train_seconds": round(sum(row["seconds"] for row in every_epoch), 1),
        "train_cpu_seconds": round(sum(row["cpu_seconds"] for row in every_epoch), 1),
    }
    if refit_history:
        training["refit_epochs"] = len(refit_history)
    if config.takes_transcripts:
        training["transcripts"] = transcript_kind(corpus.clips)
    metrics = write_outcome(config, corpus.name, clips, probabilities, training, folder, setup.board)
    if "test" in metrics:
        setup.board.write_hyperparameters(settings(config), metrics["test"]["accuracy"], best_epoch)
    return metrics


def write_outcome(
    config: AnyConfig,
    corpus_name: str,
    clips: Mapping[str, Sequence[Clip]],
    probabilities: Mapping[str, np.ndarray],
    training: Mapping[str, Any],
    folder: Path,
    board: TensorBoardPage | None = None,
) -> dict:
    """Write predictions, pictures and metrics of a run; return the metrics.

    Parameters
    ----------
    clips: those of each subset.
    probabilities: [clips, emotions] of "validation" and "test", where there are such.
    training: what metrics.json has about the training.
    board: also gets the pictures.

    metrics.json is written last: a folder that has it is a run that has ended.
    """
    experiment, emotions = config.experiment, config.experiment.emotions
    whole_speakers = PROTOCOLS[experiment.protocol].whole_speakers
    scores = {name: score_clips(clips[name], emotions, own, whole_speakers) for name, own in probabilities.items()}
    metrics = {
        "recipe": config.recipe,
        "corpus": corpus_name,
        **{name: getattr(experiment, name) for name in ("protocol", "fold", "seed", "split_seed")},
        "num_train": training["num_train"],
        **{f"num_{name}": len(clips[name]) for name in ("validation", "test")},
        "emotions": list(emotions),
        **{name: scores[name] for name in PREDICTION_FILES if name in scores},
        **training,
    }
    for name, own in probabilities.items():
        runs.write_predictions(folder / PREDICTION_FILES[name], clips[name], emotions, own)
    if "test" in scores:
        _draw_test(metrics, clips["test"], probabilities["test"], folder, board)
    runs.write_json(folder / "metrics.json", metrics)
    return metrics


def _draw_test(
    metrics: Mapping[str, Any],
    clips: Sequence[Clip],
    probabilities: np.ndarray,
    folder: Path,
    board: TensorBoardPage | None,
) -> None:
    """Draw the confusion matrix and the reliability diagram of the test subset."""
    emotions, matrix = metrics["emotions"], metrics["test"]["confusion_matrix"]
    right = f"{metrics['test']['accuracy']:.1%} of {len(clips)} test clips right"
    title = f"{metrics['recipe']} on {metrics['corpus']}, protocol {metrics['protocol']}: {right}"
    pictures = {
        "confusion_matrix": plots.confusion_matrix(matrix, emotions, title),
        "reliability": plots.reliability_diagram(to_labels(clips, emotions), probabilities),
    }
    for name, picture in pictures.items():
        plots.save(picture, folder / f"{name}.png")
    if board:
        board.write_figure("test_confusion_matrix", pictures["confusion_matrix"], metrics["best_epoch"])
