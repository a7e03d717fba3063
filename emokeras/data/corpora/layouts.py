"""Layouts of a corpus: the clips that a manifest, file names or folder names describe. No clip is decoded here."""

import os
import posixpath
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType

from emokeras.data import audio
from emokeras.data.corpora import emodb, manifest, ravdess
from emokeras.data.corpora.clips import (
    EMOTIONS,
    SPLIT_NAMES,
    Clip,
    canonical_emotion,
    count_and_name,
    left_out_notes,
)
from emokeras.data.corpora.files import ADVICE, CorpusFile, list_files, without_top_folder
from emokeras.errors import CorpusError
from emokeras.files import UNREADABLE_ARCHIVE

GRAMMARS = {"ravdess": ravdess, "emodb": emodb}  # Modules that parse the file names of a corpus.
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".3gp", ".wmv"})
UNREAD_SUFFIXES = VIDEO_SUFFIXES | {".m4a", ".aac", ".amr", ".wma", ".alac", ".ape", ".ra", ".spx", ".dss"}


@dataclass(frozen=True)
class Draft:
    """A corpus before its clips are decoded: they have no content yet, and may be copies of each other.

    grammar: the module of GRAMMARS that parsed the file names, where one did.
    """

    name: str
    clips: list[Clip]
    notes: list[str]
    grammar: ModuleType | None = None


def draft_corpus(path: Path) -> Draft:
    """Return the clips of a folder, a zip archive or a manifest.csv, by the first of these that fits.

    1. The manifest: the file itself, or manifest.csv at the top of the folder or archive.
    2. File names as RAVDESS's or EMO-DB's, where most files have such names.
    3. Folders named by emotion; the nearest folder with another name is the speaker.

    Raises CorpusError for any other path, and for a manifest that does not fit.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        return _from_manifest(path)
    if (path / "manifest.csv").is_file():
        return _from_manifest(path / "manifest.csv")
    files = list_files(path)
    bare_files = files if path.is_dir() else without_top_folder(files)
    for bare, file in zip(bare_files, files, strict=True):
        if bare.relative == "manifest.csv" and file.member:
            return _from_archived_manifest(file, files)
    kind = _detect(files)
    if kind in GRAMMARS:
        return Draft(kind, *_from_names(files, GRAMMARS[kind]), GRAMMARS[kind])
    return Draft(path.name if path.is_dir() else path.stem, *_from_folders(bare_files, path))


def _detect(files: Sequence[CorpusFile]) -> str:
    """Return "ravdess", "emodb" or "folders": the layout of most files; on a tie the first of these."""
    votes = Counter()
    for file in files:
        if file.suffix in audio.SUFFIXES | VIDEO_SUFFIXES:
            votes.update(kind for kind, grammar in GRAMMARS.items() if grammar.parse(file.stem))
            votes["folders"] += bool(_emotion_folder(file))
    return max([*GRAMMARS, "folders"], key=lambda kind: votes[kind]) if votes.total() else "folders"


def _from_names(files: Sequence[CorpusFile], grammar: ModuleType) -> tuple[list[Clip], list[str]]:
    """Return the clips that file names describe, and notes on what is left out: song, video and other names."""
    clips, left_out, contradicted = [], defaultdict(list), []
    for file in files:
        if file.suffix not in audio.SUFFIXES | UNREAD_SUFFIXES:
            continue
        name = grammar.parse(file.stem)
        if (name and name.left_out) or file.suffix in UNREAD_SUFFIXES:
            left_out[(name and name.left_out) or _why_unread(file)].append(file.relative)
        elif name:
            if _emotion_folder(file) not in (None, name.emotion):
                contradicted.append(file.relative)
            fields = {key: value for key, value in vars(name).items() if key != "left_out"}
            clips.append(Clip(file.stem, file.path, member=file.member, **fields))
        else:
            left_out[f"not named as {grammar.TITLE}'s are ({grammar.EXAMPLE_NAME})"].append(file.relative)
    notes = left_out_notes(left_out)
    if contradicted:
        notes.append(
            count_and_name("file", " in a folder of another emotion than its name's, which counts", contradicted)
        )
    return clips, notes


def _why_unread(file: CorpusFile) -> str:
    kind = "video" if file.suffix in VIDEO_SUFFIXES else "audio"
    return f"{kind} that is not read ({file.suffix}): convert it to WAV or FLAC"


def _from_folders(files: Sequence[CorpusFile], root: Path) -> tuple[list[Clip], list[str]]:
    """Return the clips in folders named by emotion, anywhere between the root and the file, and notes on the others."""
    clips, left_out, unread, splits = [], [], defaultdict(list), set()
    for file in files:
        if file.suffix in UNREAD_SUFFIXES:
            unread[_why_unread(file)].append(file.relative)
        if file.suffix not in audio.SUFFIXES:
            continue
        emotion = _emotion_folder(file)
        if emotion:
            others = [folder for folder in file.folders if not canonical_emotion(folder)]
            own = [folder for folder in others if folder.lower() in SPLIT_NAMES]
            splits |= set(own)
            others = [folder for folder in others if folder not in own]
            split = SPLIT_NAMES[own[0].lower()] if own else ""
            name = str(PurePosixPath(file.relative).with_suffix(""))
            speaker = others[-1] if others else ""
            clips.append(Clip(name, file.path, emotion, speaker, member=file.member, split=split))
        else:
            left_out.append(file.relative)
    if left_out and not clips:
        unknown = count_and_name("audio file", " with no emotion in the name or a folder's name", left_out)
        raise CorpusError(f"{root} has {unknown} (known are {', '.join(EMOTIONS)}): {ADVICE}")
    notes = left_out_notes(unread | ({"in no folder named by an emotion": left_out} if left_out else {}))
    if splits:
        notes.append(f"the folders {', '.join(sorted(splits))} are a split, which --protocol given uses")
    return clips, notes


def _emotion_folder(file: CorpusFile) -> str | None:
    """Return the emotion of the nearest folder that is named by one."""
    return next(filter(None, map(canonical_emotion, reversed(file.folders))), None)


def _from_manifest(path: Path) -> Draft:
    def find(text: str) -> tuple[Path, str] | None:
        clip_path = Path(os.path.normpath(path.parent / text))
        return (clip_path, "") if clip_path.is_file() else None

    name = path.parent.name if path.stem == "manifest" else path.stem
    return Draft(name, *manifest.read_clips(path.read_bytes(), path, find))


def _from_archived_manifest(table: CorpusFile, files: Sequence[CorpusFile]) -> Draft:
    folder, members = posixpath.dirname(table.member), {file.member for file in files}

    def find(text: str) -> tuple[Path, str] | None:
        member = posixpath.normpath(posixpath.join(folder, text))
        return (table.path, member) if member in members else None

    where = table.path / table.member
    try:
        with zipfile.ZipFile(table.path) as archive:
            data = archive.read(table.member)
    except UNREADABLE_ARCHIVE as error:
        raise CorpusError(f"{where} cannot be read ({error}): unpack the archive, or fetch it again") from error
    return Draft(table.path.stem, *manifest.read_clips(data, where, find))
