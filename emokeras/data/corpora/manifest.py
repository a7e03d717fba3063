"""manifest.csv, the table of a corpus: one row per clip, with the columns path, emotion and speaker.

The columns transcript, sex (male, female), intensity (normal, strong) and split (train, validation, test) are optional.
The text is UTF-8, with or without a byte-order mark; cells are separated by commas, semicolons or tabs. A column
without a name, as pandas writes it, is ignored, and columns may have other names in use (ALIASES).
"""

import csv
import difflib
import io
import posixpath
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from emokeras.data.corpora import ravdess
from emokeras.data.corpora.clips import (
    EMOTIONS,
    SPLIT_NAMES,
    SYNONYMS,
    Clip,
    canonical_emotion,
    count_and_name,
    name_some,
)
from emokeras.errors import CorpusError

COLUMNS = ("path", "emotion", "speaker")
OPTIONAL_COLUMNS = ("transcript", "sex", "intensity", "split")
ALIASES = {
    "file_name": "path",
    "filename": "path",
    "file": "path",
    "filepath": "path",
    "file_path": "path",
    "label": "emotion",
    "speaker_id": "speaker",
    "gender": "sex",
    "text": "transcript",
    "subset": "split",
}
SEGMENTS = ("start", "end")  # columns of tables whose rows are parts of files
SEXES = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "woman": "female"}


def read_clips(
    data: bytes, where: Path, find: Callable[[str], tuple[Path, str] | None]
) -> tuple[list[Clip], list[str]]:
    """Return the clips of a manifest, without content, and a note on the columns that are ignored.

    Parameters
    ----------
    data: the bytes of the file.
    where: its path, for messages.
    find: returns the path and the archive member that a cell of the column `path` means, None where there is no file.

    Raises
    ------
    CorpusError: the text is no such table, or a row does not fit; the message has the line number.
    """
    rows, ignored = _read_rows(data, where)
    places = [_find_any_form(row["path"], find) for _, row in rows]
    missing = [f"'{row['path']}' on line {line}" for (line, row), place in zip(rows, places, strict=True) if not place]
    if missing:
        count = f"{len(missing)} of {len(rows)} files are missing" if len(missing) > 1 else "a file is missing"
        raise CorpusError(f"{where}: {count}, {name_some(missing)}: paths are relative to the manifest")
    clips, lines = [], {}
    for (line, row), place in zip(rows, places, strict=True):
        at = f"{where} line {line}"
        if place in lines:
            raise CorpusError(f"{at}: '{row['path']}' is on line {lines[place]} already: remove one of the two")
        lines[place] = line
        emotion = canonical_emotion(row["emotion"])
        if emotion is None:
            raise CorpusError(f"{at}: unknown emotion '{row['emotion']}': {_nearest_emotion(row['emotion'])}")
        if row["split"] and row["split"].lower() not in SPLIT_NAMES:
            raise CorpusError(f"{at}: unknown split '{row['split']}': known are {', '.join(SPLIT_NAMES)}")
        clips.append(_to_clip(row, place, emotion))
    return clips, [count_and_name("column", " of the manifest ignored", ignored)] if ignored else []


def _find_any_form(text: str, find: Callable[[str], tuple[Path, str] | None]) -> tuple[Path, str] | None:
    """Return what `find` returns for a path as it is written, with slashes for backslashes, or in another Unicode form:
    macOS writes accents apart from their letters."""
    forms = [form for one in (text, text.replace("\\", "/")) for form in (one, *_normalized(one))]
    return next(filter(None, map(find, forms)), None)


def _normalized(text: str) -> list[str]:
    return [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]


def _to_clip(row: dict[str, str], place: tuple[Path, str], emotion: str) -> Clip:
    """Return the clip of a row. A RAVDESS file name fills in the sex, intensity and statement that the row lacks."""
    path, member = place
    given = PurePosixPath(row["path"].replace("\\", "/"))
    name = ravdess.parse(given.stem)
    sex = row["sex"].lower()
    return Clip(
        name=str(PurePosixPath(posixpath.normpath(given)).with_suffix("")),
        path=path,
        emotion=emotion,
        speaker=row["speaker"],
        member=member,
        sex=SEXES.get(sex, sex) or (name.sex if name else ""),
        intensity=row["intensity"].lower() or (name.intensity if name else ""),
        statement=name.statement if name else "",
        transcript=row["transcript"],
        split=SPLIT_NAMES.get(row["split"].lower(), ""),
    )


def _nearest_emotion(word: str) -> str:
    near = difflib.get_close_matches(word.lower(), [*EMOTIONS, *SYNONYMS], 1, 0.4)
    question = f"did you mean '{near[0]}'? " if near else ""
    return f"{question}known are {', '.join(EMOTIONS)}"


def _read_rows(data: bytes, where: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Return each row with its line number, as a dict of all columns ("" for a missing cell), and the columns that
    are ignored. Raises CorpusError for a text that is no such table."""
    try:
        text = data.decode("utf-8-sig")  # Spreadsheets write a byte-order mark at the start of UTF-8.
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}: the manifest is not UTF-8 text ({error.reason}): save it as CSV, UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", skipinitialspace=True)
    try:
        columns = _known_names([(column or "").strip().lower() for column in reader.fieldnames or []])
        missing = [column for column in COLUMNS if column not in columns]
        if missing:
            raise CorpusError(
                f"{where}: the manifest has no column '{missing[0]}' (it has {', '.join(columns) or 'nothing'}): "
                f"it needs {', '.join(COLUMNS)} and may have {', '.join(OPTIONAL_COLUMNS)}"
            )
        if segments := [column for column in columns if column in SEGMENTS]:
            raise CorpusError(
                f"{where}: rows with the column '{segments[0]}' are parts of files, which are not read: "
                "write each part to a file of its own"
            )
        reader.fieldnames = columns
        rows = [(reader.line_num, _cells(row, f"{where} line {reader.line_num}")) for row in reader]
    except csv.Error as error:
        raise CorpusError(f"{where} line {reader.line_num}: not CSV ({error}): save it as CSV, UTF-8") from error
    if not rows:
        raise CorpusError(f"{where}: the manifest has no rows: write one per clip ({','.join(COLUMNS)})")
    return rows, [column for column in columns if column and column not in (*COLUMNS, *OPTIONAL_COLUMNS)]


def _known_names(columns: list[str]) -> list[str]:
    """Return the names of columns, each of ALIASES under the name that it stands for, where no other has that."""
    named = list(columns)
    for number, column in enumerate(columns):
        name = ALIASES.get(column)
        if name and name not in named:
            named[number] = name
    return named


def _cells(row: dict[str | None, str], at: str) -> dict[str, str]:
    if row.pop(None, None):  # what is beyond the last column
        raise CorpusError(f"{at}: more cells than columns: quote a text that contains a comma")
    cells = {column: row.get(column, "").strip() for column in (*COLUMNS, *OPTIONAL_COLUMNS)}
    if not cells["path"]:
        raise CorpusError(f"{at}: the row has no path: write the clip's, relative to the manifest")
    return cells
