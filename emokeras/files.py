"""Files: the folder of caches, writing in one step, CSV, and locks between processes."""

import contextlib
import csv
import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock

from emokeras.errors import EmokerasError, RunError

# What reading from a zip archive raises that is damaged, or locked by a password.
UNREADABLE_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def home() -> Path:
    """Return the folder of all caches: EMOKERAS_HOME, by default ~/.cache/emokeras."""
    return Path(os.environ.get("EMOKERAS_HOME") or Path.home() / ".cache" / "emokeras")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write a file or a folder to; at the end it replaces `path` in one step.

    After a kill at any moment `path` is the earlier file or the new one, never a part of it.
    """
    path = Path(path)
    # The suffix stays last: Keras and matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as given) in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


# CSV


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, each ended by a line feed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows to a file in one step."""
    write_text(path, csv_text([header, *rows]))


def parse_csv(
    text: str,
    where: Path | str,
    mend: str,
    error: type[EmokerasError] = RunError,
    drop_torn_line: bool = False,
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of what `write_csv` wrote.

    Parameters
    ----------
    where: what a message calls the text; mend: how to mend it; error: what to raise.
    drop_torn_line: leave out a last line without its end, which is what a kill leaves of an appended row; an empty text
        has neither header nor rows then.

    Raises
    ------
    error, in one line, for a torn line, a text that is no CSV, and a row with more or fewer cells than the header.
    """
    if not text.endswith("\n") and text:
        if not drop_torn_line:
            raise error(f"{where} ends in the middle of a line: {mend}")
        text = text[: text.rfind("\n") + 1]
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as fault:
        raise error(f"{where} is not CSV ({fault}): {mend}") from fault
    if not lines:
        if drop_torn_line:
            return [], []
        raise error(f"{where} is empty: {mend}")
    header, *rows = lines
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise error(f"{where}, line {number}: {len(row)} columns, the header has {len(header)}: {mend}")
    return header, rows


# Locks


@contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Hold a lock file while the block runs. Raises RunError with this message when another process holds it."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunError(message) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes the file when it is released.
            Path(path).unlink()  # While it is held: removed later, it could be another process's lock.
        lock.release()
