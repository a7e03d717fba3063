"""The table of a corpus, manifest.csv: one row per clip, with the columns path, emotion, speaker.

It may have transcript, sex (male, female) and intensity too. It is UTF-8 text, with or without a byte-order mark.
"""

import csv
import io
from pathlib import Path

from emokeras.errors import CorpusError

COLUMNS = ("path", "emotion", "speaker")
OPTIONAL_COLUMNS = ("transcript", "sex", "intensity")


def read_rows(data: bytes, where: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Read the bytes of a manifest; `where` is what an error calls it.

    Returns each row with its line number, a dict of all six columns ("" where a cell or a column is not there), and
    the names of the columns that were not read. Raises CorpusError, naming the line, when it is no such table.
    """
    reader = csv.DictReader(io.StringIO(_text(data, where), newline=""), restkey="", restval="", skipinitialspace=True)
    try:
        columns = [(column or "").strip().lower() for column in reader.fieldnames or []]
        _check_columns(columns, where)
        reader.fieldnames = columns
        rows = [(reader.line_num, _cells(row, f"{where} line {reader.line_num}")) for row in reader]
    except csv.Error as error:
        raise CorpusError(f"{where} line {reader.line_num}: not CSV ({error}): save it as CSV, UTF-8") from error
    if not rows:
        raise CorpusError(f"{where}: the manifest has no rows: write one per clip ({','.join(COLUMNS)})")
    return rows, [column for column in columns if column and column not in (*COLUMNS, *OPTIONAL_COLUMNS)]


def _text(data: bytes, where: Path) -> str:
    try:
        return data.decode("utf-8-sig")  # Spreadsheets put a byte-order mark at the head of UTF-8.
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}: the manifest is not UTF-8 text ({error.reason}): save it as CSV, UTF-8") from error


def _check_columns(columns: list[str], where: Path) -> None:
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise CorpusError(
            f"{where}: the manifest has no column '{missing[0]}' (it has {', '.join(columns) or 'nothing'}): "
            f"it needs {', '.join(COLUMNS)} and may have {', '.join(OPTIONAL_COLUMNS)}"
        )


def _cells(row: dict[str, str], at: str) -> dict[str, str]:
    if row.pop("", None):
        raise CorpusError(f"{at}: more cells than columns: put quotes around a text that holds a comma")
    cells = {column: row.get(column, "").strip() for column in (*COLUMNS, *OPTIONAL_COLUMNS)}
    if not cells["path"]:
        raise CorpusError(f"{at}: the row names no path: write the clip's, relative to the manifest")
    return cells
