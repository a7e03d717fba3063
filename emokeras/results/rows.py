"""Rows: runs kept under results/, read with every figure computed again from its predictions."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emokeras import runs
from emokeras.data.splits import PROTOCOLS, Protocol
from emokeras.errors import RunError
from emokeras.reporting import metrics
from emokeras.reporting.texts import short
from emokeras.runs.differences import differences, whole_settings

# These figures of metrics.json must agree with the predictions.
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
KEEP_TOGETHER = "keep the files of one run together, as --results does"


@dataclass(frozen=True)
class Run:
    """One run under results/: what metrics.json and config.json hold, and of the test clips the figures computed again,
    names and speakers [clips], labels and predicted emotions int [clips]."""

    folder: Path
    metrics: dict[str, Any]
    settings: dict[str, Any]
    test: dict[str, Any]
    clips: list[str]
    speakers: list[str]
    labels: np.ndarray
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted

    @property
    def protocol(self) -> Protocol:
        return PROTOCOLS[self.metrics["protocol"]]

    @property
    def num_folds(self) -> int:
        """The folds that its protocol has on its corpus."""
        return self.metrics.get("num_folds") or self.protocol.num_folds  # Earlier rows do not say.

    @property
    def groups(self) -> list[str]:
        """The independent unit of each clip, [clips]: its speaker where whole speakers are tested, else the clip."""
        return self.speakers if self.protocol.whole_speakers else self.clips


def read_rows(results_root: Path) -> dict[str, dict[str, dict[str, list[Run]]]]:
    """Read all rows: {corpus: {protocol: {recipe: runs}}}.

    Raises RunError, naming the run, as `read_run` does, when runs of one recipe have different settings, and when there
    is no run.
    """
    folders = sorted(folder for folder in Path(results_root).glob("*/*/*/*") if folder.is_dir())
    # Rows of conditions may be there without the run's own, which a model trained on all clips does not have.
    folders = [folder for folder in folders if [path.name for path in folder.iterdir()] != [runs.CONDITIONS_FOLDER]]
    if not folders:
        raise RunError(f"{results_root} holds no run: train with --results {results_root} first")
    rows = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for folder in folders:
        run = read_run(folder, results_root)
        corpus, protocol, recipe = folder.relative_to(results_root).parts[:3]
        rows[corpus][protocol][recipe].append(run)
        first = rows[corpus][protocol][recipe][0]
        for key, pair in differences(whole_settings(run.settings), whole_settings(first.settings)).items():
            own, other = map(short, pair)
            raise RunError(
                f"{folder}: {key} is {own}, in {first.folder.name} it is {other}: runs of one row have the same "
                "settings; give the other configuration a recipe name of its own"
            )
    return rows


def read_run(folder: Path, results_root: Path) -> Run:
    """Read one run under results/ and compute its figures again.

    Raises RunError, naming the run, when a file is missing, when the figures do not agree with the predictions, or when
    the run belongs in another folder.
    """
    folder = Path(folder)
    missing = [name for name in runs.RESULT_FILES if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder} lacks {', '.join(missing)}: copy the run's folder again, or remove this one")
    written = runs.read_metrics(folder)
    settings = runs.read_json(folder / "config.json")
    belongs_in = runs.results_folder(written, results_root, where=folder / "metrics.json")
    if belongs_in != folder:
        raise RunError(f"{folder} holds the run that belongs in {belongs_in}: move it there")
    if written["protocol"] not in PROTOCOLS:
        raise RunError(f"{folder}: there is no protocol '{written['protocol']}'; there are {', '.join(PROTOCOLS)}")
    experiment = settings.get("experiment", {})
    for key in ("recipe", "protocol", "fold", "seed", "split_seed"):
        configured = settings.get(key) if key == "recipe" else experiment.get(key)
        if configured != written[key]:
            raise RunError(
                f"{folder}: {key} is {written[key]} in metrics.json, {configured} in config.json: {KEEP_TOGETHER}"
            )
    predictions, test = computed_again(folder, "test", written)
    computed_again(folder, "validation", written)
    predicted = predictions.probabilities.argmax(axis=1)
    return Run(folder, written, settings, test, predictions.clips, predictions.speakers, predictions.labels, predicted)


def computed_again(folder: Path, subset: str, written: Mapping[str, Any]) -> tuple[runs.Predictions, dict[str, Any]]:
    """Return a subset's predictions and their figures, which agree with those of metrics.json.

    Raises RunError, naming the folder, when they do not.
    """
    file = runs.PREDICTION_FILES[subset]
    predictions = runs.read_predictions(folder / file)
    if not predictions.clips:
        raise RunError(f"{folder / file} has no clip: {KEEP_TOGETHER}")
    if len(set(predictions.clips)) < len(predictions.clips):
        raise RunError(f"{folder / file} names a clip twice: {KEEP_TOGETHER}")
    try:
        computed = metrics.point_figures(predictions.labels, predictions.probabilities, predictions.emotions)
    except ValueError as error:
        raise RunError(f"{folder / file}: {error}") from None
    try:
        pairs = {
            "emotions": (list(written["emotions"]), list(predictions.emotions)),
            f"num_{subset}": (written[f"num_{subset}"], len(predictions.clips)),
        } | {key: (written[subset][key], computed[key]) for key in (*CHECKED_FIGURES, "confusion_matrix")}
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{folder / 'metrics.json'} does not hold the figures of {subset} ({error}): {KEEP_TOGETHER}"
        ) from None
    for key, (own, found) in pairs.items():
        close = isinstance(own, float | int) and isinstance(found, float) and abs(own - found) <= TOLERANCE
        if not close and own != found:
            raise RunError(
                f"{folder}: {key} of {subset} is {short(own)} in metrics.json, but {short(found)} by {file}: "
                f"{KEEP_TOGETHER}"
            )
    return predictions, computed
