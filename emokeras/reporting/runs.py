"""The run folder: everything about one training run, written so that a kill at any moment leaves whole files.

    config.json     the resolved configuration              metrics.json                 every figure
    split.csv       which clip stands in which subset       predictions.csv              what the test clips got
    history.csv     one row for each epoch                  validation_predictions.csv   what the validation clips got

beside model.keras, the pictures, checkpoints/ and tensorboard/; under refit/ history and checkpoints of what a network
learned after its validation, under crossfit/ those of networks that heard a part of the training clips only (they may
lie there before the run begins). An ensemble has no network of its own but those of its members, under members/NAME/,
and ensemble.json, which says how they become one. `keep_results` copies what RESULTS.md stands on.
"""

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emokeras.config import AnyConfig, Config, EnsembleConfig, ExperimentConfig, read_config, to_json, with_experiment
from emokeras.data.splits import PROTOCOLS, SUBSETS
from emokeras.errors import RunError
from emokeras.files import replacing, write_text

REFIT = "refit"
CROSSFIT = "crossfit"
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
    "vocabulary.txt",
    "tokenizer",
)
RESULT_FILES = ("metrics.json", "config.json", "predictions.csv", "validation_predictions.csv")
HEARD_FILE = "heard_before.csv"
SPLIT_COLUMNS = ("clip", "content", "speaker", "emotion", "subset")
PREDICTION_COLUMNS = ("clip", "speaker", "emotion")


# Folders


def check_run(folder: Path, resume: bool = False) -> None:
    """Raise RunError when a folder holds another run's files, or, with `resume`, when it holds no run to go on with."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder: give another --run-dir")
    if resume:
        if not (folder / "config.json").is_file():
            raise RunError(f"{folder} holds no run to go on with (no config.json): give a run folder to --resume")
        return
    held = _held_files(folder)
    if held:
        raise RunError(
            f"{folder} holds a run already ({', '.join(held[:3])}): give another --run-dir, or go on with it by "
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
    has_folds = protocol in PROTOCOLS and PROTOCOLS[protocol].num_folds > 1
    return f"fold-{fold}-seed-{seed}" if has_folds else f"split-{split_seed}-seed-{seed}"


def run_folder_name(experiment: ExperimentConfig, corpus_name: str = "") -> str:
    """Return the name of a run's folder within its recipe's, CORPUS-PROTOCOL-RUN.

    `corpus_name` is the loaded corpus's name; without it the configuration's is taken, which may be a path.
    """
    name = run_name(experiment.protocol, experiment.fold, experiment.seed, experiment.split_seed)
    return f"{file_name_of(corpus_name or experiment.corpus)}-{experiment.protocol}-{name}"


def default_run_dir(config: Config, corpus_name: str = "", root: Path = Path("runs")) -> Path:
    """Return a folder for this run that holds none yet: runs/RECIPE/CORPUS-PROTOCOL-RUN, with -2, -3 ... if taken."""
    folder = Path(root) / config.recipe / run_folder_name(config.experiment, corpus_name)
    candidate, number = folder, 1
    while _held_files(candidate) or candidate.is_file():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def file_name_of(corpus: str) -> str:
    """Return what a corpus is called in a path: its name, or of a path the last part without suffix."""
    name = Path(corpus).name.removesuffix(".zip").removesuffix(".csv")
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "corpus"


def _held_files(folder: Path) -> list[str]:
    return [name for name in RUN_FILES if (folder / name).exists()]


# Writing and reading


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, a list of numbers on one line. Raises RunError for NaN and infinity, which JSON has not."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RunError(f"{path} would hold a figure that is not finite ({error}): has training diverged?") from error
    # Within strings JSON has no raw line ends, so this meets lists only.
    text = re.sub(r'\[\n\s*([^\[\]{}"]*?)\n\s*\]', lambda match: f"[{' '.join(match[1].split())}]", text)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises RunError when it is missing, damaged or no object."""
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON ({error}): run the training again, or take the file from a copy") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no JSON object: run the training again, or take the file from a copy")
    return value


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json of a run. Raises RunError when the run has none, or it is damaged."""
    return read_json(Path(folder) / "metrics.json")


def write_split(folder: Path, clips: Sequence[Any], subsets: Sequence[str]) -> None:
    """Write split.csv: one row a clip (clip, content, speaker, emotion, subset), in the order given.

    Args:
        clips: `data.corpus.Clip`, [clips].
        subsets: "train", "validation" or "test" for each of them, [clips].
    """
    rows = [
        (clip.name, clip.content, clip.speaker, clip.emotion, subset)
        for clip, subset in zip(clips, subsets, strict=True)
    ]
    write_text(Path(folder) / "split.csv", _csv_text([SPLIT_COLUMNS, *rows]))


def read_split(folder: Path, file: str = "split.csv") -> list[dict[str, str]]:
    """Read split.csv of a run: a dict {clip, content, speaker, emotion, subset} for each clip. Raises RunError."""
    path = Path(folder) / file
    header, rows = _read_csv(path)
    if header != list(SPLIT_COLUMNS):
        raise RunError(f"{path} has the columns {', '.join(header)}, not {', '.join(SPLIT_COLUMNS)}: {_MEND}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def write_heard(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write what the clips were to what a network started or learned from: rows as of split.csv."""
    told = [[row[key] for key in SPLIT_COLUMNS] for row in rows]
    write_text(Path(folder) / HEARD_FILE, _csv_text([SPLIT_COLUMNS, *told]))


def read_heard(folders: Iterable[Path]) -> list[dict[str, str]]:
    """Read what the networks of these folders had heard before their own training, if anything. Of a clip that one of
    them trained with and another did not, the row that says so comes last."""
    files = [Path(folder) for folder in folders if (Path(folder) / HEARD_FILE).is_file()]
    rows = [row for folder in files for row in read_split(folder, HEARD_FILE)]
    return sorted(rows, key=lambda row: SUBSETS.index(row["subset"]), reverse=True)


def made_with(folder: Path) -> list[dict[str, str]]:
    """Read what the clips were to a run or an export: rows as of split.csv, its own after those of what it started
    from, so that the last one of a clip holds. Validation clips that it went on with trained it."""
    own = read_split(folder)
    if was_refit(folder):
        own = [row | {"subset": "train"} if row["subset"] == "validation" else row for row in own]
    return [*read_heard([folder, *sorted(Path(folder).glob("members/*"))]), *own]


def was_refit(folder: Path) -> bool:
    """Tell whether the network of a run or an export, or one of its members, has trained on its validation clips."""
    networks = read_config(Path(folder) / "config.json").networks
    return any(network.training.refit_epochs for network in networks.values())


def split_digest(clips: Sequence[Any], subsets: Sequence[str]) -> str:
    """Return the SHA-256 of a split: of which clip, with which content, stands in which subset, in any order.

    Args: as for `write_split`.
    """
    rows = sorted((clip.name, clip.content, str(subset)) for clip, subset in zip(clips, subsets, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_predictions(path: Path, clips: Sequence[Any], emotions: Sequence[str], probabilities: np.ndarray) -> None:
    """Write what each clip got: columns clip, speaker, emotion (the true one), then one probability per emotion.

    Args:
        clips: `data.corpus.Clip`, [clips].
        emotions: names of the columns, [emotions].
        probabilities: [clips, emotions]; written as float32 with as many digits as bring it back exactly.
    """
    probabilities = np.asarray(probabilities, dtype=np.float32)
    if probabilities.shape != (len(clips), len(emotions)):
        raise ValueError(f"probabilities {probabilities.shape} do not fit {len(clips)} clips, {len(emotions)} emotions")
    rows = [
        (clip.name, clip.speaker, clip.emotion, *map(str, row)) for clip, row in zip(clips, probabilities, strict=True)
    ]
    write_text(path, _csv_text([(*PREDICTION_COLUMNS, *emotions), *rows]))


def read_predictions(path: Path) -> tuple[list[str], list[str], np.ndarray, tuple[str, ...], np.ndarray]:
    """Read predictions.csv or validation_predictions.csv.

    Returns:
        Clip names [clips], speakers [clips], labels int [clips], emotions, probabilities float32 [clips, emotions].

    Raises RunError, naming the line, when the file is missing or does not hold what `write_predictions` writes.
    """
    path = Path(path)
    header, rows = _read_csv(path)
    emotions = tuple(header[len(PREDICTION_COLUMNS) :])
    if tuple(header[: len(PREDICTION_COLUMNS)]) != PREDICTION_COLUMNS or not emotions:
        wanted = ", ".join(PREDICTION_COLUMNS)
        raise RunError(f"{path} has the columns {', '.join(header)}, not {wanted} and the emotions: {_MEND}")
    index_of = {emotion: index for index, emotion in enumerate(emotions)}
    labels = np.empty(len(rows), dtype=np.int64)
    probabilities = np.empty([len(rows), len(emotions)], dtype=np.float32)
    for index, row in enumerate(rows):
        try:
            labels[index] = index_of[row[2]]
            probabilities[index] = [float(text) for text in row[len(PREDICTION_COLUMNS) :]]
        except KeyError:
            raise RunError(f"{path}, clip {row[0]}: the emotion '{row[2]}' has no column: {_MEND}") from None
        except ValueError as error:
            raise RunError(f"{path}, clip {row[0]}: a probability is no number ({error}): {_MEND}") from None
    return [row[0] for row in rows], [row[1] for row in rows], labels, emotions, probabilities


class Together(NamedTuple):
    """What several runs say of the same clips: labels int [clips], probabilities [runs, clips, emotions]."""

    clips: list[str]
    speakers: list[str]
    labels: np.ndarray
    probabilities: np.ndarray


def read_together(folders: Iterable[Path], file: str) -> Together:
    """Read predictions.csv or validation_predictions.csv of several runs, in the order of the first one's clips.

    Raises RunError when one has other clips or other emotions of them.
    """
    read = [(folder, *read_predictions(folder / file)) for folder in folders]
    first, names, speakers, labels, *_ = read[0]
    stacked = []
    for folder, clips, _, own_labels, _, probabilities in read:
        place = {clip: index for index, clip in enumerate(clips)}
        if len(clips) != len(names) or set(place) != set(names):
            raise RunError(f"{folder / file} has other clips than {first / file}: {_MEND}")
        order = [place[name] for name in names]
        if not np.array_equal(own_labels[order], labels):
            raise RunError(f"{folder / file} gives clips other emotions than {first / file}: {_MEND}")
        stacked.append(probabilities[order])
    return Together(names, speakers, labels, np.stack(stacked))


def append_history(path: Path, row: Mapping[str, float]) -> None:
    """Add one epoch's row to history.csv; the first row's keys become the columns.

    Rows of the same or a later `epoch` go: a resumed run that repeats an epoch leaves it once. The whole file is
    written anew (it is small), so that a kill leaves either the old one or the new one.

    Raises RunError when the row has other keys than the file has columns.
    """
    path = Path(path)
    earlier = read_history(path) if path.exists() else []
    if earlier and list(earlier[0]) != list(row):
        raise RunError(f"{path} has the columns {', '.join(earlier[0])}, the new row has {', '.join(row)}: {_MEND}")
    if "epoch" in row:
        earlier = [kept for kept in earlier if kept["epoch"] < row["epoch"]]
    rows = [[_number_text(value) for value in kept.values()] for kept in [*earlier, row]]
    write_text(path, _csv_text([list(row), *rows]))


def read_history(path: Path) -> list[dict[str, float]]:
    """Read history.csv: for each epoch a dict of floats. A torn last line (no line end) is dropped.

    Raises RunError when the file is missing or a line in its midst is damaged.
    """
    path = Path(path)
    header, rows = _read_csv(path, drop_torn_line=True)
    try:
        return [{name: float(text) for name, text in zip(header, row, strict=True)} for row in rows]
    except ValueError as error:
        raise RunError(f"{path} holds what is no number ({error}): {_MEND}") from None


def read_crossfit_histories(folder: Path) -> list[dict[str, float]]:
    """Read the epochs of all networks that have told a run of its training clips."""
    return [row for path in sorted((folder / CROSSFIT).rglob("history.csv")) for row in read_history(path)]


def keep_results(run_folder: Path, results_root: Path = Path("results")) -> Path:
    """Copy what RESULTS.md stands on to results/CORPUS/PROTOCOL/RECIPE/RUN, in place of an earlier copy; return it.

    Raises RunError when the run has not ended (a file is missing), and then copies nothing.
    """
    run_folder = Path(run_folder)
    metrics = read_metrics(run_folder)
    if metrics.get("protocol") == "all":
        raise RunError(f"{run_folder} has no figures to keep: all of its clips have trained")
    missing = [name for name in RESULT_FILES if not (run_folder / name).is_file()]
    if missing:
        raise RunError(f"{run_folder} lacks {', '.join(missing)}: let the run end (--resume {run_folder})")
    folder = results_folder(metrics, results_root, where=run_folder / "metrics.json")
    folder.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        with replacing(folder / name) as temporary:
            shutil.copyfile(run_folder / name, temporary)
    write_text(folder / "config.json", to_json(shareable_config(run_folder)))
    return folder


def shareable_config(run_folder: Path) -> AnyConfig:
    """Return a run's configuration with names for the paths of the corpus and of what the network started or learned
    from: where they lay is their owner's own business. A speech model keeps its path: without it nothing is heard."""
    config = read_config(Path(run_folder) / "config.json")
    if isinstance(config, EnsembleConfig):
        members = {name: _without_paths(member) for name, member in config.members.items()}
        config = replace(config, members=members)
    else:
        config = _without_paths(config)
    return with_experiment(config, corpus=read_metrics(run_folder)["corpus"])


def _without_paths(config: Config) -> Config:
    weights, start_from, teacher = map(
        shareable_name, (config.model.weights, config.model.start_from, config.training.teacher)
    )
    branches = tuple(map(shareable_name, config.model.branches))
    model = replace(config.model, weights=weights, branches=branches, start_from=start_from)
    return replace(config, model=model, training=replace(config.training, teacher=teacher))


def shareable_name(path: str) -> str:
    """Return what tells a run, file or folder apart wherever it lies: of a run its recipe, else its name, of a version
    of a model with the model's. What is no path, such as a recipe's name, stays."""
    if not path or not (Path(path).exists() or Path(path).is_absolute()):
        return path
    if (Path(path) / "config.json").is_file() and (Path(path) / "split.csv").is_file():
        return read_config(Path(path) / "config.json").recipe
    *_, parent, name = ("", *Path(path).parts)
    return f"{parent}/{name}" if name.isdigit() else name


def results_folder(metrics: Mapping[str, Any], results_root: Path, where: Path) -> Path:
    """Return where a run with these metrics stands under `results_root`. Raises RunError when they do not say."""
    try:
        name = run_name(metrics["protocol"], metrics["fold"], metrics["seed"], metrics["split_seed"])
        return Path(results_root) / file_name_of(metrics["corpus"]) / metrics["protocol"] / metrics["recipe"] / name
    except KeyError as error:
        raise RunError(f"{where} lacks {error}: {_MEND}") from None


# CSV

_MEND = "run the training again, or take the file from a copy"


def _csv_text(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read_csv(path: Path, drop_torn_line: bool = False) -> tuple[list[str], list[list[str]]]:
    text = _read_text(path)
    if not text.endswith("\n") and text:
        if not drop_torn_line:
            raise RunError(f"{path} ends in the middle of a line: {_MEND}")
        text = text[: text.rfind("\n") + 1]
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise RunError(f"{path} is not CSV ({error}): {_MEND}") from error
    if not lines:
        if drop_torn_line:
            return [], []
        raise RunError(f"{path} is empty: {_MEND}")
    header, *rows = lines
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise RunError(f"{path}, line {number}: {len(row)} columns, the header has {len(header)}: {_MEND}")
    return header, rows


def _read_text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        raise RunError(f"{path} is missing: give the folder of a run that has ended, or --resume it") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} cannot be read ({reason}): {_MEND}") from error


def _number_text(value: Any) -> str:
    """Digits that bring the number back exactly; whole numbers without a point."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
