"""One run under results/, read with its figures computed again: what no table prints without having checked it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emokeras import runs
from emokeras.errors import RunError
from emokeras.reporting import metrics as figures_of
from emokeras.reporting.texts import short

# Every figure of these is computed again from the predictions before it is printed.
CHECKED_FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "f1_macro",
    "expected_calibration_error",
)
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Run:
    """One run under results/, its figures computed again from its predictions: emotions and those said of them, int
    [clips], are of the test clips."""

    folder: Path
    metrics: dict[str, Any]
    settings: dict[str, Any]
    test: dict[str, Any]
    clips: list[str]
    labels: np.ndarray
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted


def read_run(folder: Path, results_root: Path) -> Run:
    """Read one run under results/ and compute its figures again. Raises RunError, naming it, when they do not hold."""
    folder = Path(folder)
    missing = [name for name in runs.RESULT_FILES if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder} lacks {', '.join(missing)}: take the run's folder again, or remove this one")
    metrics = runs.read_metrics(folder)
    settings = runs.read_json(folder / "config.json")
    belongs_in = runs.results_folder(metrics, results_root, where=folder / "metrics.json")
    if belongs_in != folder:
        raise RunError(f"{folder} holds the run that belongs in {belongs_in}: move it there")
    experiment = settings.get("experiment", {})
    for key in ("recipe", "protocol", "fold", "seed", "split_seed"):
        told = settings.get(key) if key == "recipe" else experiment.get(key)
        if told != metrics[key]:
            raise RunError(f"{folder}: {key} is {metrics[key]} in metrics.json, {told} in config.json: {_AGAIN}")

    clips, labels, predicted, test = _computed_again(folder, "predictions.csv", metrics, "test")
    _computed_again(folder, "validation_predictions.csv", metrics, "validation")
    return Run(folder, metrics, settings, test, clips, labels, predicted)


_AGAIN = "keep the files of one run together, as --results does"


def _computed_again(
    folder: Path, file: str, metrics: Mapping, subset: str
) -> tuple[list[str], np.ndarray, np.ndarray, dict]:
    """Return clip names, labels, what is said of each, and the figures, after comparing them with metrics.json."""
    clips, _, labels, emotions, probabilities = runs.read_predictions(folder / file)
    if len(set(clips)) < len(clips):
        raise RunError(f"{folder / file} names a clip twice: {_AGAIN}")
    try:
        written = metrics[subset]
        compared = {
            "emotions": (list(metrics["emotions"]), list(emotions)),
            f"num_{subset}": (metrics[f"num_{subset}"], len(clips)),
        }
        if not clips:
            raise RunError(f"{folder / file} has no clip: {_AGAIN}")
        computed = figures_of.point_figures(labels, probabilities, emotions)
        compared |= {key: (written[key], computed[key]) for key in (*CHECKED_FIGURES, "confusion_matrix")}
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / 'metrics.json'} does not hold the figures of {subset} ({error}): {_AGAIN}") from None
    except ValueError as error:
        raise RunError(f"{folder / file}: {error}") from None
    for key, (told, found) in compared.items():
        close = isinstance(told, float | int) and isinstance(found, float) and abs(told - found) <= TOLERANCE
        if not close and told != found:
            told_and_found = f"{short(told)} in metrics.json, but {short(found)} by {file}"
            raise RunError(f"{folder}: {key} of {subset} is {told_and_found}: {_AGAIN}")
    return clips, labels, probabilities.argmax(axis=1), computed
