"""What has been trained to the files of its run: predictions, metrics, pictures, the network itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emokeras.config import AnyConfig, Config, settings
from emokeras.data.corpus import Clip
from emokeras.data.transcripts import transcript_kind
from emokeras.files import replacing
from emokeras.reporting import figures, runs
from emokeras.training.callbacks import TensorBoardPage
from emokeras.training.score import score_clips, to_labels
from emokeras.training.subsets import Subset

PREDICTION_FILES = {"test": "predictions.csv", "validation": "validation_predictions.csv"}


def write_network_report(
    model: keras.Model,
    config: Config,
    corpus_name: str,
    subsets: Mapping[str, Subset],
    probabilities: Mapping[str, np.ndarray],
    best_epoch: int,
    folder: Path,
    page: TensorBoardPage,
) -> dict:
    """Write everything that a run folder has of a network that is trained; return the metrics. Arguments as for
    `write_report`."""
    history = runs.read_history(folder / "history.csv")
    refit_path = folder / runs.REFIT / "history.csv"
    refit_history = runs.read_history(refit_path) if refit_path.exists() else []
    every_epoch = [*runs.read_crossfit_histories(folder), *history, *refit_history]
    with replacing(folder / "model.keras") as temporary:
        model.save(temporary)
    figures.save(figures.learning_curves(history, best_epoch), folder / "curves.png")
    clips = {name: subset.clips for name, subset in subsets.items()}
    split = [(clip, name) for name, each in clips.items() for clip in each]
    training = {
        "num_train": len(clips["train"]),
        "split_sha256": runs.split_digest(*zip(*split, strict=True)),
        "epochs_run": len(history),
        "best_epoch": best_epoch,
        "backend": keras.config.backend(),
        "num_parameters": model.count_params(),
        "train_seconds": round(sum(row["seconds"] for row in every_epoch), 1),
        "train_cpu_seconds": round(sum(row["cpu_seconds"] for row in every_epoch), 1),
    }
    if refit_history:
        training["refit_epochs"] = len(refit_history)
    if config.reads_transcripts:
        training["transcripts"] = transcript_kind([clip for clip, _ in split])
    metrics = write_report(config, corpus_name, clips, probabilities, training, folder, page)
    if "test" in metrics:
        page.write_hyperparameters(settings(config), metrics["test"]["accuracy"], best_epoch)
    return metrics


def write_report(
    config: AnyConfig,
    corpus_name: str,
    clips: Mapping[str, Sequence[Clip]],
    probabilities: Mapping[str, np.ndarray],
    training: Mapping[str, Any],
    folder: Path,
    page: TensorBoardPage | None = None,
) -> dict:
    """Write predictions, pictures and metrics of a run; return the metrics.

    `clips` are those of each subset, `probabilities` [clips, emotions] those of "validation" and "test", where there
    are such; `training` is what metrics.json tells of the training. metrics.json comes last: a folder that has it is a
    run that has ended.
    """
    experiment, emotions = config.experiment, config.experiment.emotions
    scores = {name: score_clips(clips[name], emotions, said) for name, said in probabilities.items()}
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
    for name, said in probabilities.items():
        runs.write_predictions(folder / PREDICTION_FILES[name], clips[name], emotions, said)
    if "test" in scores:
        _draw_test(metrics, clips["test"], probabilities["test"], folder, page)
    runs.write_json(folder / "metrics.json", metrics)
    return metrics


def _draw_test(
    metrics: Mapping[str, Any],
    clips: Sequence[Clip],
    probabilities: np.ndarray,
    folder: Path,
    page: TensorBoardPage | None,
) -> None:
    """Draw what the test subset was taken for, and how far the probabilities can be trusted."""
    emotions, matrix = metrics["emotions"], metrics["test"]["confusion_matrix"]
    right = f"{metrics['test']['accuracy']:.1%} of {len(clips)} test clips right"
    title = f"{metrics['recipe']} on {metrics['corpus']}, protocol {metrics['protocol']}: {right}"
    pictures = {
        "confusion_matrix": figures.confusion_matrix(matrix, emotions, title),
        "reliability": figures.reliability_diagram(to_labels(clips, emotions), probabilities),
    }
    for name, picture in pictures.items():
        figures.save(picture, folder / f"{name}.png")
    if page:
        page.write_figure("test_confusion_matrix", pictures["confusion_matrix"], metrics["best_epoch"])
