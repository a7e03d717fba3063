"""The files of a run folder: JSON, split, predictions, history. All are written in one step."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emokeras.errors import RunError
from emokeras.files import parse_csv, write_csv, write_text

SPLIT_COLUMNS = ("clip", "content", "speaker", "emotion", "subset")
PREDICTION_COLUMNS = ("clip", "speaker", "emotion")
MEND = "run the training again, or restore the file from a copy"


# JSON


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, a list of numbers on one line. Raises RunError for NaN and infinity, which JSON lacks."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RunError(f"{path} would hold a figure that is not finite ({error}): has training diverged?") from error
    # JSON strings have no raw line ends, so this matches lists only.
    text = re.sub(r'\[\n\s*([^\[\]{}"]*?)\n\s*\]', lambda match: f"[{' '.join(match[1].split())}]", text)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises RunError when it is missing, damaged or no object."""
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON ({error}): {MEND}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no JSON object: {MEND}")
    return value


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json of a run. Raises RunError when the run has none, or it is damaged."""
    return read_json(Path(folder) / "metrics.json")


# Split


def write_split(folder: Path, clips: Sequence[Any], subsets: Sequence[str]) -> None:
    """Write split.csv: one row per clip (clip, content, speaker, emotion, subset), in the order given.

    Parameters
    ----------
    clips: `data.corpora.Clip`, [clips].
    subsets: "train", "validation", "test" or "unused" for each of them, [clips].
    """
    rows = [
        (clip.name, clip.content, clip.speaker, clip.emotion, subset)
        for clip, subset in zip(clips, subsets, strict=True)
    ]
    write_csv(Path(folder) / "split.csv", SPLIT_COLUMNS, rows)


def read_split(folder: Path, file: str = "split.csv") -> list[dict[str, str]]:
    """Read split.csv of a run: a dict {clip, content, speaker, emotion, subset} for each clip. Raises RunError."""
    path = Path(folder) / file
    header, rows = _read_csv(path)
    if header != list(SPLIT_COLUMNS):
        raise RunError(f"{path} has the columns {', '.join(header)}, not {', '.join(SPLIT_COLUMNS)}: {MEND}")
    return [dict(zip(header, row, strict=True)) for row in rows]


# Predictions


class Predictions(NamedTuple):
    """What predictions.csv holds: names and speakers [clips], labels int [clips], emotions, and probabilities float32
    [clips, emotions]."""

    clips: list[str]
    speakers: list[str]
    labels: np.ndarray
    emotions: tuple[str, ...]
    probabilities: np.ndarray


def write_predictions(path: Path, clips: Sequence[Any], emotions: Sequence[str], probabilities: np.ndarray) -> None:
    """Write the probabilities of clips: columns clip, speaker, emotion (the true one), then one per emotion.

    Parameters
    ----------
    clips: `data.corpora.Clip`, [clips].
    emotions: names of the columns, [emotions].
    probabilities: [clips, emotions]; written as float32 with as many digits as restore it exactly.
    """
    probabilities = np.asarray(probabilities, dtype=np.float32)
    if probabilities.shape != (len(clips), len(emotions)):
        raise ValueError(f"probabilities {probabilities.shape} do not fit {len(clips)} clips, {len(emotions)} emotions")
    rows = [
        (clip.name, clip.speaker, clip.emotion, *map(str, row)) for clip, row in zip(clips, probabilities, strict=True)
    ]
    write_csv(path, (*PREDICTION_COLUMNS, *emotions), rows)


def read_predictions(path: Path) -> Predictions:
    """Read predictions.csv or validation_predictions.csv.

    Raises RunError, naming the line, when the file is missing or does not hold what `write_predictions` writes.
    """
    path = Path(path)
    header, rows = _read_csv(path)
    emotions = tuple(header[len(PREDICTION_COLUMNS) :])
    if tuple(header[: len(PREDICTION_COLUMNS)]) != PREDICTION_COLUMNS or not emotions:
        wanted = ", ".join(PREDICTION_COLUMNS)
        raise RunError(f"{path} has the columns {', '.join(header)}, not {wanted} and the emotions: {MEND}")
    index_of = {emotion: index for index, emotion in enumerate(emotions)}
    labels = np.empty(len(rows), dtype=np.int64)
    probabilities = np.empty([len(rows), len(emotions)], dtype=np.float32)
    for index, row in enumerate(rows):
        try:
            labels[index] = index_of[row[2]]
            probabilities[index] = [float(text) for text in row[len(PREDICTION_COLUMNS) :]]
        except KeyError:
            raise RunError(f"{path}, clip {row[0]}: the emotion '{row[2]}' has no column: {MEND}") from None
        except ValueError as error:
            raise RunError(f"{path}, clip {row[0]}: a probability is no number ({error}): {MEND}") from None
    return Predictions([row[0] for row in rows], [row[1] for row in rows], labels, emotions, probabilities)


class StackedPredictions(NamedTuple):
    """Predictions of several runs for the same clips: labels int [clips], probabilities [runs, clips, emotions]."""

    clips: list[str]
    speakers: list[str]
    labels: np.ndarray
    probabilities: np.ndarray


def read_stacked(folders: Iterable[Path], file: str) -> StackedPredictions:
    """Read predictions.csv or validation_predictions.csv of several runs, in the order of the first one's clips.

    Raises RunError when one has other clips or other emotions of them.
    """
    read = [(folder, read_predictions(folder / file)) for folder in folders]
    first, (names, speakers, labels, *_) = read[0]
    stacked = []
    for folder, own in read:
        place = {clip: index for index, clip in enumerate(own.clips)}
        if len(own.clips) != len(names) or set(place) != set(names):
            raise RunError(f"{folder / file} has other clips than {first / file}: {MEND}")
        order = [place[name] for name in names]
        if not np.array_equal(own.labels[order], labels):
            raise RunError(f"{folder / file} gives clips other emotions than {first / file}: {MEND}")
        stacked.append(own.probabilities[order])
    return StackedPredictions(names, speakers, labels, np.stack(stacked))


# History


def append_history(path: Path, row: Mapping[str, float]) -> None:
    """Add one epoch's row to history.csv; the first row's keys become the columns.

    Rows of the same or a later `epoch` are removed, so that an epoch which a resumed run repeats is there once. The
    whole file is written again (it is small), so that a kill leaves the old one or the new one.

    Raises RunError when the row has other keys than the file has columns.
    """
    path = Path(path)
    earlier = read_history(path) if path.exists() else []
    if earlier and list(earlier[0]) != list(row):
        raise RunError(f"{path} has the columns {', '.join(earlier[0])}, the new row has {', '.join(row)}: {MEND}")
    if "epoch" in row:
        earlier = [kept for kept in earlier if kept["epoch"] < row["epoch"]]
    write_csv(path, list(row), [[_number_text(value) for value in kept.values()] for kept in [*earlier, row]])


def read_history(path: Path) -> list[dict[str, float]]:
    """Read history.csv: for each epoch a dict of floats. A torn last line (no line end) is dropped.

    Raises RunError when the file is missing or another line is damaged.
    """
    path = Path(path)
    header, rows = _read_csv(path, drop_torn_line=True)
    try:
        return [{name: float(text) for name, text in zip(header, row, strict=True)} for row in rows]
    except ValueError as error:
        raise RunError(f"{path} holds what is no number ({error}): {MEND}") from None


def _number_text(value: Any) -> str:
    """Digits that restore the number exactly; whole numbers without a point."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def _read_csv(path: Path, drop_torn_line: bool = False) -> tuple[list[str], list[list[str]]]:
    return parse_csv(_read_text(path), path, MEND, drop_torn_line=drop_torn_line)


def _read_text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        raise RunError(f"{path} is missing: give the folder of a run that has ended, or --resume it") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} cannot be read ({reason}): {MEND}") from error
