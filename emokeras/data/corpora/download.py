"""Archives from the network: fetch with resume, verify, unpack nowhere but in the folder. For RAVDESS and EMO-DB."""

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
from emokeras.files import UNREADABLE_ARCHIVE

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 60
MAX_FAILURES = 5  # in a row, without a byte received between them


@dataclass(frozen=True)
class Archive:
    """Where an archive lies; its size in bytes and its MD5 checksum where they are known."""

    url: str
    size_bytes: int | None = None
    md5: str | None = None


class _BrokenConnectionError(Exception):
    """The connection ended before the file did: worth another try."""


def download(archive: Archive, target: Path, wait_seconds: float = 1.0) -> Path:
    """Fetch an archive into the file `target`, with a progress bar, and check its size and checksum.

    What has come stands in TARGET.part until it is all there and checked; a broken connection, also one of an earlier
    call, is taken up where it broke (HTTP Range; a server that does not know it sends the file from its beginning). A
    `target` that is there and right is not fetched again.

    Raises DownloadError when the server refuses, when the connection breaks MAX_FAILURES times without a new byte
    (after waits of `wait_seconds`, twice that, ...), and when the file is not the one it should be: it is deleted then.
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
                f"{archive.url} cannot be fetched ({reason}): run the command again to go on from byte {_size(part)}, "
                "or fetch the file by other means and give it as --source FILE.zip"
            )
        pause_seconds = wait_seconds * 2 ** (failures - 1)
        print(f"{reason}; trying again in {pause_seconds:g} s", file=sys.stderr)
        time.sleep(pause_seconds)
    try:
        verify(part, archive.md5, archive.size_bytes)
    except DownloadError:
        part.unlink()  # Else the next call would go on from a file that cannot become the right one.
        raise
    os.replace(part, target)
    return target


def verify(path: Path, md5: str | None, size_bytes: int | None = None) -> None:
    """Check the size and the MD5 checksum of a file, where they are known; raises DownloadError."""
    told = "it is another file or a damaged one, and not used: fetch it again"
    if size_bytes is not None and _size(path) != size_bytes:
        raise DownloadError(f"{path} has {_size(path)} bytes and should have {size_bytes}: {told}")
    if md5 is not None:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "md5").hexdigest()
        if actual != md5.strip().lower():
            raise DownloadError(f"{path} has the MD5 checksum {actual} and should have {md5}: {told}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into a folder that is not there yet. The folder appears when all of it is unpacked.

    Raises DownloadError for a file that is no zip archive, a damaged one, one with a member that would land outside the
    folder (a path that is absolute, has a drive or goes up, or a link); EmokerasError where the disk has no room.
    """
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _refuse_unsafe(archive, members)
            unfinished.mkdir(parents=True)
            _refuse_too_large(archive, members, unfinished)
            for member in _with_progress(members):
                file.extract(member, unfinished)
        os.replace(unfinished, folder)
    except UNREADABLE_ARCHIVE as error:
        raise DownloadError(f"{archive} is no zip archive, or a damaged one ({error}): fetch it again") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fetch_rest(archive: Archive, part: Path) -> None:
    """Append to `part` what is missing of the archive; raises when the connection breaks."""
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
        raise DownloadError(f"{archive.url} is no address ({error}): write %20 for a blank, and the like") from error
    with response:
        resumes = response.status == 206 and _range_start(response) == have
        if response.status == 206 and not resumes:
            part.unlink(missing_ok=True)
            raise _BrokenConnectionError("the server sent another part of the file than the one asked for")
        start = have if resumes else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        _copy(response, part, start, total)


def _handle_refusal(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """416: nothing follows what we have. It is the whole file, or it belongs to another one."""
    if error.code == 416:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if total and int(total[1]) == _size(part):
            return
        part.unlink(missing_ok=True)
        raise _BrokenConnectionError("what was fetched before is longer than the file, it is fetched anew")
    if error.code == 429 or error.code >= 500:
        raise _BrokenConnectionError(f"the server answers {error.code} {error.reason}")
    raise DownloadError(
        f"{url} cannot be fetched (the server answers {error.code} {error.reason}): check the address, or fetch it by "
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
    """Return why it broke; raise what no other try can mend, such as a full disk."""
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
            kind = "would land outside the folder" if outside else "is a link"
            raise DownloadError(
                f"{archive} is refused: its member '{name}' {kind}; take the archive from its publisher"
            )


def _refuse_too_large(archive: Path, members: Iterable[zipfile.ZipInfo], folder: Path) -> None:
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise EmokerasError(
            f"{archive} needs {needed} bytes unpacked and {folder.parent} has {free} free: make room, or set "
            "EMOKERAS_HOME to a folder on another disk"
        )


def _with_progress(members: list[zipfile.ZipInfo]) -> Iterable[zipfile.ZipInfo]:
    from tqdm import tqdm

    return tqdm(members, "unpacking", unit="file", leave=False, disable=None)
