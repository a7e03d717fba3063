"""Fetch the archive of a corpus, resuming where a connection broke; verify its checksum; unpack it safely."""

import hashlib
import http.client
import os
import re
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from emokeras.errors import DownloadError, EmokerasError
from emokeras.files import UNREADABLE_ARCHIVE, replacing

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 60
MAX_FAILURES = 5  # in a row, without a byte received between them


@dataclass(frozen=True)
class Archive:
    """The address of an archive; its size and MD5 checksum where they are known."""

    url: str
    size_bytes: int | None = None
    md5: str | None = None


class _BrokenConnectionError(Exception):
    """The connection ended before the file did; another try may succeed."""


def download(archive: Archive, target: Path, wait_seconds: float = 1.0) -> Path:
    """Fetch an archive into the file `target`, with a progress bar, and check its size and checksum.

    The bytes received are in TARGET.part until the file is complete and checked. A broken connection, also of an
    earlier call, is resumed (HTTP Range; a server without it sends the file from the start). A `target` that exists and
    is right is not fetched again.

    Raises
    ------
    DownloadError: the server refuses; the connection breaks MAX_FAILURES times without a new byte (after waits of
    `wait_seconds`, twice that, ...); or the file is not the expected one, and is deleted.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, part)
    failures, furthest = 0, _size(part)
    while True:
        try:
            _fetch_rest(archive, part)
            break
        except (_BrokenConnectionError, http.client.HTTPException, OSError) as error:
            reason = _reason(error)
        failures = 1 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
        if failures >= MAX_FAILURES:
            raise DownloadError(
                f"{archive.url} cannot be fetched ({reason}): run the command again to resume at byte {_size(part)}, "
                "or fetch the file by other means and give it as --source FILE.zip"
            )
        pause_seconds = wait_seconds * 2 ** (failures - 1)
        print(f"{reason}; trying again in {pause_seconds:g} s", file=sys.stderr)
        time.sleep(pause_seconds)
    try:
        verify(part, archive.md5, archive.size_bytes)
    except DownloadError:
        part.unlink()  # The next call would resume a file that cannot become the right one.
        raise
    os.replace(part, target)
    return target


def verify(path: Path, md5: str | None, size_bytes: int | None = None) -> None:
    """Check the size and the MD5 checksum of a file, where they are known; raises DownloadError."""
    mend = "it is another file or damaged: fetch it again"
    if size_bytes is not None and _size(path) != size_bytes:
        raise DownloadError(f"{path} has {_size(path)} bytes and should have {size_bytes}: {mend}")
    if md5 is not None:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "md5").hexdigest()
        if actual != md5.strip().lower():
            raise DownloadError(f"{path} has the MD5 checksum {actual} and should have {md5}: {mend}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into a new folder, which appears when all of it is unpacked.

    Raises
    ------
    DownloadError: not a zip archive, a damaged one, or one with an unsafe member (a link, or a path that is absolute,
    has a drive or leads out of the folder). EmokerasError: the disk has too little room.
    """
    from tqdm import tqdm

    try:
        with replacing(folder) as unfinished, zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _refuse_unsafe(archive, members)
            unfinished.mkdir(parents=True, exist_ok=True)
            _refuse_too_large(archive, members, unfinished)
            for member in tqdm(members, "unpacking", unit="file", leave=False, disable=None):
                file.extract(member, unfinished)
    except UNREADABLE_ARCHIVE as error:
        raise DownloadError(f"{archive} is not a zip archive, or is damaged ({error}): fetch it again") from error


def _fetch_rest(archive: Archive, part: Path) -> None:
    """Append the missing bytes of the archive to `part`; raise when the connection breaks."""
    have = _size(part)
    if have and have == archive.size_bytes:
        return
    try:
        request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            _handle_refusal(error, archive.url, part)
        return
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{archive.url} is not a valid address ({error}): write %20 for a space") from error
    with response:
        resumes = response.status == 206 and _range_start(response) == have
        if response.status == 206 and not resumes:
            part.unlink(missing_ok=True)
            raise _BrokenConnectionError("the server sent another range of the file than requested")
        start = have if resumes else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        _copy(response, part, start, total)


def _handle_refusal(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """Handle an HTTP error. With 416, `part` is the complete file or belongs to another one."""
    if error.code == 416:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if total and int(total[1]) == _size(part):
            return
        part.unlink(missing_ok=True)
        raise _BrokenConnectionError("the part fetched before is longer than the file; fetching it again")
    if error.code == 429 or error.code >= 500:
        raise _BrokenConnectionError(f"the server answered {error.code} {error.reason}")
    raise DownloadError(
        f"{url} cannot be fetched (the server answered {error.code} {error.reason}): check the address, or fetch it by "
        "other means and give it as --source FILE.zip"
    )


def _copy(response: http.client.HTTPResponse, part: Path, start: int, total: int | None) -> None:
    from tqdm import tqdm

    with (
        part.open("ab" if start else "wb") as file,
        tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, leave=False, disable=None) as bar,
    ):
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and _size(part) < total:
        raise _BrokenConnectionError(f"the connection broke after {_size(part):,} of {total:,} bytes")


def _range_start(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    """Return why a try failed; raise an error that another try cannot mend, such as a full disk."""
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError)):
        raise error
    return str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refuse_unsafe(archive: Path, members: Iterable[zipfile.ZipInfo]) -> None:
    for member in members:
        name = member.filename
        windows, posix = PureWindowsPath(name), PurePosixPath(name)
        outside = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            kind = "would be unpacked outside the folder" if outside else "is a link"
            raise DownloadError(f"{archive} is refused: its member '{name}' {kind}: fetch it from its publisher")


def _refuse_too_large(archive: Path, members: Iterable[zipfile.ZipInfo], folder: Path) -> None:
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise EmokerasError(
            f"{archive} needs {needed} bytes unpacked and {folder.parent} has {free} free: free some space, or set "
            "EMOKERAS_HOME to a folder on another disk"
        )
