"""A network that has been trained to the files of its run: predictions, metrics, pictures, the network itself."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from emokeras.config import Config, settings
from emokeras.data.transcripts import transcript_kind
from emokeras.files import replacing
from emokeras.reporting import figures, runs
from emokeras.training.callbacks import TensorBoardPage
from emokeras.training.score import score_clips
from emokeras.training.subsets import Subset


def write_report(
    model: keras.Model,
    config: Config,
    corpus_name: str,
    subsets: Mapping[str, Subset],
    probabilities: Mapping[str, np.ndarray],
    best_epoch: int,
    folder: Path,
    page: TensorBoardPage,
) -> dict:
    """Write everything that a run folder has of an ended run; return the metrics.

    `probabilities` [clips, emotions] are those of "validation" and "test". metrics.json comes last: a folder that has
    it is a run that has ended.
    """
    experiment = config.experiment
    scores = {
        name: score_clips(subsets[name].clips, experiment.emotions, probabilities[name]) for name in probabilities
    }
    history = runs.read_history(folder / "history.csv")
    metrics = {
        "recipe": config.recipe,
        "corpus": corpus_name,
        **{name: getattr(experiment, name) for name in ("protocol", "fold", "seed", "split_seed")},
        **{f"num_{name}": len(subset.clips) for name, subset in subsets.items()},
        "emotions": list(experiment.emotions),
        **scores,
        "epochs_run": len(history),
        "best_epoch": best_epoch,
        "num_parameters": model.count_params(),
        "train_seconds": round(sum(row["seconds"] for row in history), 1),
        "train_cpu_seconds": round(sum(row["cpu_seconds"] for row in history), 1),
    }
    if config.reads_transcripts:
        metrics["transcripts"] = transcript_kind([clip for subset in subsets.values() for clip in subset.clips])
    for name, file in (("test", "predictions.csv"), ("validation", "validation_predictions.csv")):
        runs.write_predictions(folder / file, subsets[name].clips, experiment.emotions, probabilities[name])
    with replacing(folder / "model.keras") as temporary:
        model.save(temporary)

    right = f"{scores['test']['accuracy']:.1%} of {metrics['num_test']} test clips right"
    title = f"{config.recipe} on {corpus_name}, protocol {experiment.protocol}: {right}"
    pictures = {
        "confusion_matrix": figures.confusion_matrix(scores["test"]["confusion_matrix"], experiment.emotions, title),
        "curves": figures.learning_curves(history, best_epoch),
        "reliability": figures.reliability_diagram(subsets["test"].labels, probabilities["test"]),
    }
    for name, picture in pictures.items():
        figures.save(picture, folder / f"{name}.png")
    page.write_figure("test_confusion_matrix", pictures["confusion_matrix"], best_epoch)
    page.write_hyperparameters(settings(config), scores["test"]["accuracy"], best_epoch)
    runs.write_json(folder / "metrics.json", metrics)
    return metrics
