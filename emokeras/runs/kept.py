"""results/: the copies of a run's figures that RESULTS.md is written from."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emokeras.errors import RunError
from emokeras.files import replacing, write_text
from emokeras.runs.content import MEND, read_metrics, write_json, write_predictions
from emokeras.runs.folder import file_name_of, run_name
from emokeras.runs.provenance import shareable_json

RESULT_FILES = ("metrics.json", "config.json", "predictions.csv", "validation_predictions.csv")
CONDITIONS_FOLDER = "on"


def keep_results(run_folder: Path, results_root: Path = Path("results")) -> Path:
    """Copy a run's figures to results/CORPUS/PROTOCOL/RECIPE/RUN, in place of an earlier copy; return that folder.

    Raises RunError when the run has not ended (a file is missing), and then copies nothing.
    """
    run_folder = Path(run_folder)
    metrics = read_metrics(run_folder)
    if metrics.get("protocol") == "all":
        raise RunError(f"{run_folder} has no figures to keep: all of its clips were trained on")
    missing = [name for name in RESULT_FILES if not (run_folder / name).is_file()]
    if missing:
        raise RunError(f"{run_folder} lacks {', '.join(missing)}: let the run end (--resume {run_folder})")
    folder = results_folder(metrics, results_root, where=run_folder / "metrics.json")
    folder.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        with replacing(folder / name) as temporary:
            shutil.copyfile(run_folder / name, temporary)
    write_text(folder / "config.json", shareable_json(run_folder))
    return folder


def results_folder(metrics: Mapping[str, Any], results_root: Path, where: Path | str) -> Path:
    """Return the folder under `results_root` of a run with these metrics. Raises RunError when one is missing."""
    try:
        name = run_name(metrics["protocol"], metrics["fold"], metrics["seed"], metrics["split_seed"])
        return Path(results_root) / file_name_of(metrics["corpus"]) / metrics["protocol"] / metrics["recipe"] / name
    except KeyError as error:
        raise RunError(f"{where} lacks {error}: {MEND}") from None


# What a run gives on another corpus, or under a condition


def keep_condition(
    row: Mapping[str, Any],
    clips: Sequence[Any],
    emotions: Sequence[str],
    probabilities: np.ndarray,
    results_root: Path,
) -> Path:
    """Write metrics.json and predictions.csv of one corpus under one condition beside the run's own figures, at
    .../RUN/on/TEST CORPUS/CONDITION; return that folder.

    Parameters
    ----------
    row: recipe, corpus, protocol, fold, seed and split_seed of the run, test_corpus, subset, condition, num_test,
        emotions, corpus_emotions, and in `test` the figures of these probabilities.
    clips, emotions, probabilities: as for `write_predictions`.
    """
    folder = condition_folder(row, results_root, where="the row")
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.csv", clips, emotions, probabilities)
    write_json(folder / "metrics.json", dict(row))
    return folder


def condition_folder(row: Mapping[str, Any], results_root: Path, where: Path | str) -> Path:
    """Return the folder of a row of `keep_condition`. Raises RunError when a key is missing."""
    folder = results_folder(row, results_root, where)
    try:
        return folder / CONDITIONS_FOLDER / file_name_of(row["test_corpus"]) / row["condition"]
    except KeyError as error:
        raise RunError(f"{where} lacks {error}: {MEND}") from None
