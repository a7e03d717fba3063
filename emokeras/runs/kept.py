"""results/: the copies of a run's figures that RESULTS.md is written from."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emokeras.errors import RunError
from emokeras.files import replacing, write_text
from emokeras.runs.content import MEND, read_metrics
from emokeras.runs.folder import file_name_of, run_name
from emokeras.runs.provenance import shareable_json

RESULT_FILES = ("metrics.json", "config.json", "predictions.csv", "validation_predictions.csv")


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


def results_folder(metrics: Mapping[str, Any], results_root: Path, where: Path) -> Path:
    """Return the folder under `results_root` of a run with these metrics. Raises RunError when one is missing."""
    try:
        name = run_name(metrics["protocol"], metrics["fold"], metrics["seed"], metrics["split_seed"])
        return Path(results_root) / file_name_of(metrics["corpus"]) / metrics["protocol"] / metrics["recipe"] / name
    except KeyError as error:
        raise RunError(f"{where} lacks {error}: {MEND}") from None
