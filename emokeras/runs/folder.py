"""The run folder as a place: its name, making it, and what it holds.

    config.json     the resolved configuration              metrics.json                 every figure
    split.csv       the subset of each clip                 predictions.csv              of the test clips
    history.csv     one row per epoch                       validation_predictions.csv   of the validation clips

beside model.keras, pictures, checkpoints/ and tensorboard/; under refit/ history and checkpoints of the refit. An
ensemble has its members' runs under members/NAME/, and ensemble.json with the method and weights.
"""

import re
from pathlib import Path

from emokeras.config import AnyConfig, ExperimentConfig
from emokeras.data.splits import PROTOCOLS
from emokeras.errors import RunError

REFIT = "refit"
PREDICTION_FILES = {"test": "predictions.csv", "validation": "validation_predictions.csv"}
RUN_FILES = (
    "config.json",
    "split.csv",
    "history.csv",
    "metrics.json",
    "predictions.csv",
    "validation_predictions.csv",
    "model.keras",
    "confusion_matrix.png",
    "curves.png",
    "reliability.png",
    "examples.png",
    "checkpoints",
    "tensorboard",
    "members",
    "ensemble.json",
    "attention.png",
    REFIT,
    "earlier_splits.csv",
    "vocabulary.txt",
    "tokenizer",
)


def check_run(folder: Path, resume: bool = False) -> None:
    """Raise RunError when a folder holds another run's files, or, with `resume`, when it holds no run to continue."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder: give another --run-dir")
    if resume:
        if not (folder / "config.json").is_file():
            raise RunError(f"{folder} holds no run to continue (no config.json): give a run folder to --resume")
        return
    held = _held_files(folder)
    if held:
        raise RunError(
            f"{folder} holds a run already ({', '.join(held[:3])}): give another --run-dir, or continue it with "
            f"--resume {folder}"
        )


def create_run(folder: Path, resume: bool = False) -> Path:
    """Make the folder of a run and return it. Raises RunError as `check_run` does."""
    folder = Path(folder)
    check_run(folder, resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}): give another --run-dir") from error
    return folder


def run_name(protocol: str, fold: int, seed: int, split_seed: int) -> str:
    """Return the name of a run within its recipe: fold-K-seed-S, or split-P-seed-S where there are no folds."""
    has_folds = protocol in PROTOCOLS and PROTOCOLS[protocol].has_folds
    return f"fold-{fold}-seed-{seed}" if has_folds else f"split-{split_seed}-seed-{seed}"


def run_folder_name(experiment: ExperimentConfig, corpus_name: str = "") -> str:
    """Return the name of a run's folder within its recipe's: CORPUS-PROTOCOL-RUN.

    `corpus_name` is the loaded corpus's name; without it the configuration's is used, which may be a path.
    """
    name = run_name(experiment.protocol, experiment.fold, experiment.seed, experiment.split_seed)
    return f"{file_name_of(corpus_name or corpus_name_of(experiment))}-{experiment.protocol}-{name}"


def default_run_dir(config: AnyConfig, corpus_name: str = "", root: Path = Path("runs")) -> Path:
    """Return a folder for this run that holds none yet: runs/RECIPE/CORPUS-PROTOCOL-RUN, with -2, -3 ... if taken."""
    folder = Path(root) / config.recipe / run_folder_name(config.experiment, corpus_name)
    candidate, number = folder, 1
    while _held_files(candidate) or candidate.is_file():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def file_name_of(corpus: str) -> str:
    """Return the name of a corpus in a path: its name, or the last part of a path without its suffix."""
    name = Path(corpus).name.removesuffix(".zip").removesuffix(".csv")
    return re.sub(r"[^\w.+=]+", "-", name).strip("-.") or "corpus"


def corpus_name_of(experiment: ExperimentConfig) -> str:
    """Return the name of an experiment's corpora, joined by "+", with its map of emotions."""
    names = "+".join(map(file_name_of, experiment.corpora)) or "corpus"
    return ",".join([names, *experiment.emotion_map])


def newest_version(path: Path) -> Path | None:
    """Return the folder of an exported model: `path` itself, or the newest of the versions in it; None without one."""
    if (path / "saved_model.pb").is_file():
        return path
    versions = [folder for folder in path.glob("*") if folder.name.isdigit() and (folder / "saved_model.pb").is_file()]
    return max(versions, key=lambda folder: int(folder.name), default=None)


def _held_files(folder: Path) -> list[str]:
    return [name for name in RUN_FILES if (folder / name).exists()]
