"""The files of a corpus, in a folder or in a zip archive."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from emokeras.data.corpora.clips import canonical_emotion
from emokeras.errors import CorpusError

SYSTEM_FOLDERS = ("__MACOSX", "lost+found", "System Volume Information")
ADVICE = "give a folder or zip of RAVDESS or EMO-DB files, of folders named by emotion, or with a manifest.csv"


@dataclass(frozen=True)
class CorpusFile:
    """A file of a corpus.

    path: the file, or the archive that contains it.
    member: its name in the archive, empty for a plain file.
    relative: its path below the root, with forward slashes.
    """

    path: Path
    member: str
    relative: str

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders from the root to the file."""
        return PurePosixPath(self.relative).parts[:-1]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.relative).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.relative).suffix.lower()


def list_files(root: Path) -> list[CorpusFile]:
    """Return every file of a folder or a zip archive, sorted by relative path. Raises CorpusError for other files."""
    if root.is_dir():
        files = [CorpusFile(root / relative, "", _printable(relative)) for relative in _walk(root)]
    else:
        try:
            with zipfile.ZipFile(root) as archive:
                members = [info.filename for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise CorpusError(f"{root} is not a folder, a complete zip archive or a manifest.csv: {ADVICE}") from error
        files = [CorpusFile(root, member, member) for member in members]
    return sorted((file for file in files if not _is_metadata(file)), key=lambda file: file.relative)


def _walk(root: Path) -> Iterator[str]:
    seen = set()  # Links are followed, but not in a circle.
    for folder, subfolders, names in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in seen:
            subfolders.clear()
            continue
        seen.add(os.path.realpath(folder))
        subfolders.sort()
        for name in names:
            yield (Path(folder) / name).relative_to(root).as_posix()


def _printable(name: str) -> str:
    """Return a name with backslash escapes for what is not UTF-8: names are printed and written to files."""
    return name.encode(errors="backslashreplace").decode()


def _is_metadata(file: CorpusFile) -> bool:
    """Return whether a file is no clip of a user's: hidden, in a hidden folder (.Trash-1000, .ipynb_checkpoints), or in
    one that a system made (@eaDir, $RECYCLE.BIN). macOS writes attributes of x.wav to `._x.wav` next to it, and in
    archives below `__MACOSX`."""
    parts = PurePosixPath(file.relative).parts
    return any(part[0] in ".@$" or part in SYSTEM_FOLDERS for part in parts)


def without_top_folder(files: Sequence[CorpusFile]) -> list[CorpusFile]:
    """Drop the one folder that contains everything in an archive: it is neither a speaker nor part of a clip's name."""
    tops = {file.folders[:1] for file in files}
    if len(tops) != 1 or () in tops or canonical_emotion(next(iter(tops))[0]):
        return list(files)
    return [replace(file, relative=file.relative.split("/", 1)[1]) for file in files]
