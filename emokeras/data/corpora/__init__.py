"""Clips and corpora: which recordings there are, who speaks and which emotion. `load_corpus` reads them all.

The way from a path to a corpus:

    files     every file of a folder or an archive (macOS's `__MACOSX` and `._x.wav` are none)
    drafts    what the manifest, the file names or the folders' names say about each; what fits nothing is noted
    contents  each clip is decoded once and hashed, in parallel; what cannot be decoded is noted
    clips     one per name, in the order of the names, so that every layout of a corpus gives the same corpus
"""

import contextlib
import difflib
import hashlib
import json
import os
import posixpath
import sys
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from emokeras.data import audio
from emokeras.data.corpora import emodb, manifest, ravdess
from emokeras.errors import AudioError, CorpusError
from emokeras.files import UNREADABLE_ARCHIVE, home, write_text

EMOTIONS = (*ravdess.EMOTIONS, "boredom", "contempt", "excited", "frustrated")
SYNONYMS = {
    "neutrality": "neutral",
    "calmness": "calm",
    "happiness": "happy",
    "joy": "happy",
    "joyful": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "anxiety": "fearful",
    "disgusted": "disgust",
    "surprise": "surprised",
    "bored": "boredom",
    "contemptuous": "contempt",
    "excitement": "excited",
    "frustration": "frustrated",
}
SEXES = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "woman": "female"}
GRAMMARS = {"ravdess": ravdess, "emodb": emodb}
NAMES = (*GRAMMARS, "demo")
CONTENTS_VERSION = 1
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov"})
ADVICE = "give a folder or zip of RAVDESS or EMO-DB files, of folders named by emotion, or with a manifest.csv"

UNOPENED = "that cannot be opened"


@dataclass(frozen=True)
class Clip:
    """One recording. `name` is unique in its corpus, `content` is the SHA-256 of the decoded samples.

    `path` is absolute; a clip of a zip archive has the archive's path, and its own name in `member`. "" is what is not
    known of `speaker`, `sex` (male, female), `intensity` (normal, strong), `statement` (its code), `transcript`.
    """

    name: str
    path: Path
    emotion: str
    speaker: str
    content: str = ""
    member: str = ""
    sex: str = ""
    intensity: str = ""
    statement: str = ""
    transcript: str = ""


@dataclass(frozen=True)
class Corpus:
    """Clips in the order of their names; `emotions` in the canonical order; `notes` are lines to tell the reader."""

    name: str
    clips: tuple[Clip, ...]
    emotions: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers that are known, sorted."""
        return tuple(sorted({clip.speaker for clip in self.clips} - {""}))


def load_corpus(source: str | Path, sample_rate_hz: int | None = None) -> Corpus:
    """Read a corpus: "ravdess" or "emodb" as prepared on this machine, "demo", or a folder, a zip or a manifest.csv.

    What a path holds is seen from its files: a manifest.csv at its top (`data.manifest` has its columns; paths are
    relative to it); RAVDESS's or EMO-DB's file names, wherever they lie; else folders named by emotion, where the
    nearest other folder is the speaker.

    A clip counts once by its name: RAVDESS's and EMO-DB's is the file's stem, any other's its relative path without the
    suffix. Of files with the same name and different content, the one nearest the root is kept, and of those the
    alphabetically first. Files of different names and the same content are all kept (`splits` holds them together).
    Each kind of thing left out or counted once is one line in `notes`.

    Decoding 1440 clips takes seconds; the hashes are kept under EMOKERAS_HOME/contents and serve until a file changes.

    Raises
    ------
    CorpusError: no such corpus or path, a manifest that does not fit, or not one usable clip.
    """
    if source == "demo":
        return replace(_read(_demo_folder()), name="demo")
    if source in GRAMMARS:
        path = prepared_path(source)
        if path is None:
            command = f"python -m emokeras.prepare --corpus {source}"
            raise CorpusError(
                f"{GRAMMARS[source].TITLE} is not prepared on this machine{_lost_path(source)}: run `{command}`, "
                f"or give a folder or zip of its files instead of '{source}'"
            )
        return _read(path)
    path = Path(lasting_source(source))
    if not str(source) or not path.exists():
        near = difflib.get_close_matches(str(source), NAMES, 1, 0.7)
        question = f"did you mean '{near[0]}'? " if near else ""
        raise CorpusError(
            f"there is no corpus or path '{source}': {question}give one of {', '.join(NAMES)}, or a folder, "
            "a zip or a manifest.csv"
        )
    return _read(path)


def prepared_path(name: str) -> Path | None:
    """Return where `python -m emokeras.prepare` left the corpus "ravdess" or "emodb", or None.

    It is the folder EMOKERAS_HOME/corpora/NAME or, for a corpus that stays where it was, the path written in NAME.path.
    """
    folder, pointer = home() / "corpora" / name, pointer_path(name)
    if folder.is_dir():
        return folder
    if pointer.is_file():
        target = Path(pointer.read_text(encoding="utf-8").strip())
        return target if target.exists() else None
    return None


def default_source() -> str:
    """Return what is taken where nobody says which corpus: RAVDESS where it has been prepared, else the demo corpus."""
    return "ravdess" if prepared_path("ravdess") else "demo"


def lasting_source(source: str) -> str:
    """Return a corpus's name as it is, its path made absolute: a run may be gone on with from another folder."""
    return source if source in NAMES else str(Path(source).expanduser().absolute())


def pointer_path(name: str) -> Path:
    """Return the file that holds the path of a corpus which `prepare` left where it was."""
    return home() / "corpora" / f"{name}.path"


def canonical_emotion(word: str) -> str | None:
    """Return the name this package has for an emotion ("Happiness" -> "happy"), None for a word it does not know."""
    word = word.strip().lower()
    word = SYNONYMS.get(word, word)
    return word if word in EMOTIONS else None


def _lost_path(name: str) -> str:
    pointer = pointer_path(name)
    return f" (it was at {pointer.read_text(encoding='utf-8').strip()}, which is gone)" if pointer.is_file() else ""


def count_and_name(noun: str, what: str, names: Sequence[str], num_named: int = 3) -> str:
    """Return one line that counts and names: "5 files, empty (0 bytes): a.wav, b.wav, c.wav and 2 more"."""
    more = f" and {len(names) - num_named} more" if len(names) > num_named else ""
    return f"{len(names)} {noun}{'s' * (len(names) != 1)}{what}: {', '.join(names[:num_named])}{more}"


# Files


@dataclass(frozen=True)
class _File:
    """A file of a corpus: where it is, and its name relative to the root (posix)."""

    path: Path
    member: str
    relative: str

    @property
    def stem(self) -> str:
        return PurePosixPath(self.relative).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.relative).suffix.lower()


def _list_files(root: Path) -> list[_File]:
    """Return every file of a folder or a zip archive, in the order of their relative names."""
    if root.is_dir():
        files = [_File(root / relative, "", _legible(relative)) for relative in _walk(root)]
    else:
        try:
            with zipfile.ZipFile(root) as archive:
                files = [_File(root, info.filename, info.filename) for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise CorpusError(
                f"{root} is neither a folder, a whole zip archive nor a manifest.csv: {ADVICE}"
            ) from error
    return sorted((file for file in files if not _is_litter(file.relative)), key=lambda file: file.relative)


def _walk(root: Path) -> Iterable[str]:
    seen = set()  # Links are followed, but not in a circle.
    for folder, subfolders, names in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in seen:
            subfolders.clear()
            continue
        seen.add(os.path.realpath(folder))
        subfolders.sort()
        for name in names:
            yield (Path(folder) / name).relative_to(root).as_posix()


def _legible(name: str) -> str:
    """Return a file's name with backslashes for what is not UTF-8: names are written into files, and on the screen."""
    return name.encode(errors="backslashreplace").decode()


def _is_litter(relative: str) -> bool:
    """macOS puts a `._x.wav` of attributes beside x.wav, in archives under `__MACOSX`: neither is a clip."""
    parts = PurePosixPath(relative).parts
    return "__MACOSX" in parts or parts[-1].startswith("._")


# Drafts: clips without their content


def _read(path: Path) -> Corpus:
    """Read a folder, an archive or a manifest."""
    if path.is_file() and path.suffix.lower() == ".csv":
        return _read_manifest_file(path)
    if (path / "manifest.csv").is_file():
        return _read_manifest_file(path / "manifest.csv")
    files = _list_files(path)
    table = _find_manifest(files)
    if table:
        drafts, notes = _from_archived_manifest(table, files)
        return _finish(path.stem, path, drafts, notes)
    kind = _detect(files)
    if kind in GRAMMARS:
        drafts, notes = _from_names(files, GRAMMARS[kind])
        return _finish(kind, path, drafts, notes, GRAMMARS[kind])
    drafts, notes = _from_folders(_without_top_folder(files) if path.is_file() else files, path)
    return _finish(path.stem if path.is_file() else path.name, path, drafts, notes)


def _detect(files: Sequence[_File]) -> str:
    """Return "ravdess", "emodb" or "folders": what most of the files fit; on a tie the first of them."""
    votes = Counter()
    for file in files:
        if file.suffix in audio.SUFFIXES | VIDEO_SUFFIXES:
            votes.update(kind for kind, grammar in GRAMMARS.items() if grammar.parse(file.stem))
            votes["folders"] += bool(_emotion_folder(file.relative))
    return max([*GRAMMARS, "folders"], key=lambda kind: votes[kind]) if votes.total() else "folders"


def _from_names(files: Sequence[_File], grammar) -> tuple[list[Clip], list[str]]:
    """Draft clips from file names; song, video and names of another grammar are left out, each kind in one note."""
    drafts, left_out = [], defaultdict(list)
    for file in files:
        if file.suffix not in audio.SUFFIXES | VIDEO_SUFFIXES:
            continue
        name = grammar.parse(file.stem)
        if (name and name.left_out) or file.suffix in VIDEO_SUFFIXES:
            left_out[(name and name.left_out) or "video"].append(file.relative)
        elif name:
            fields = {key: value for key, value in vars(name).items() if key != "left_out"}
            drafts.append(Clip(file.stem, file.path, member=file.member, **fields))
        else:
            left_out[f"not named as {grammar.TITLE}'s are ({grammar.EXAMPLE_NAME})"].append(file.relative)
    return drafts, _left_out_notes(left_out)


def _from_folders(files: Sequence[_File], root: Path) -> tuple[list[Clip], list[str]]:
    """Draft clips from folders named by emotion, anywhere between the root and the file."""
    drafts, left_out = [], []
    for file in files:
        if file.suffix not in audio.SUFFIXES:
            continue
        emotion = _emotion_folder(file.relative)
        if emotion:
            others = [folder for folder in PurePosixPath(file.relative).parts[:-1] if not canonical_emotion(folder)]
            drafts.append(Clip(_bare(file.relative), file.path, emotion, others[-1] if others else "", "", file.member))
        else:
            left_out.append(file.relative)
    if not drafts and left_out:
        unknown = count_and_name("audio file", " of which neither name nor folder tells the emotion", left_out)
        raise CorpusError(f"{root} holds {unknown} (known are {', '.join(EMOTIONS)}): {ADVICE}")
    return drafts, _left_out_notes({"in no folder named by an emotion": left_out})


def _emotion_folder(relative: str) -> str | None:
    folders = PurePosixPath(relative).parts[:-1]
    return next(filter(None, map(canonical_emotion, reversed(folders))), None)


def _without_top_folder(files: Sequence[_File]) -> list[_File]:
    """Take off the one folder that an archive wraps everything in: it is no speaker, and no part of a clip's name."""
    tops = {PurePosixPath(file.relative).parts[0] for file in files}
    if len(tops) != 1 or any("/" not in file.relative for file in files) or canonical_emotion(next(iter(tops))):
        return list(files)
    return [replace(file, relative=file.relative.split("/", 1)[1]) for file in files]


def _left_out_notes(left_out: dict[str, list[str]]) -> list[str]:
    """One line for each reason: "left out 2 files, song: a.wav, b.wav"."""
    return [
        f"left out {count_and_name('file', f', {reason}', sorted(names))}"
        for reason, names in sorted(left_out.items())
        if names
    ]


def _bare(relative: str) -> str:
    """A path without its suffix."""
    return str(PurePosixPath(relative).with_suffix(""))


# Manifests


def _read_manifest_file(path: Path) -> Corpus:
    def find(text: str) -> tuple[Path, str] | None:
        clip_path = Path(os.path.normpath(path.parent / text))
        return (clip_path, "") if clip_path.is_file() else None

    drafts, notes = _from_manifest(path.read_bytes(), path, find)
    return _finish(path.parent.name if path.stem == "manifest" else path.stem, path, drafts, notes)


def _find_manifest(files: Sequence[_File]) -> _File | None:
    """Find the manifest at the top of an archive, or of the one folder that the archive wraps everything in."""
    tops = zip(_without_top_folder(files), files, strict=True)
    return next((file for top, file in tops if top.relative == "manifest.csv" and file.member), None)


def _from_archived_manifest(table: _File, files: Sequence[_File]) -> tuple[list[Clip], list[str]]:
    folder, members = posixpath.dirname(table.member), {file.member for file in files}

    def find(text: str) -> tuple[Path, str] | None:
        member = posixpath.normpath(posixpath.join(folder, text))
        return (table.path, member) if member in members else None

    try:
        with zipfile.ZipFile(table.path) as archive:
            data = archive.read(table.member)
    except UNREADABLE_ARCHIVE as error:
        raise CorpusError(
            f"{table.path / table.member} cannot be read ({error}): unpack the archive, or fetch it again"
        ) from error
    return _from_manifest(data, table.path / table.member, find)


def _from_manifest(
    data: bytes, where: Path, find: Callable[[str], tuple[Path, str] | None]
) -> tuple[list[Clip], list[str]]:
    """Draft clips from the rows of a manifest; `find` gives the path and member that a row's path means, or None."""
    rows, unread = manifest.read_rows(data, where)
    drafts, lines = [], {}
    for line, row in rows:
        at = f"{where} line {line}"
        place = find(row["path"])
        if place is None:
            raise CorpusError(f"{at}: there is no file '{row['path']}': paths are relative to the manifest")
        if place in lines:
            raise CorpusError(f"{at}: '{row['path']}' stands on line {lines[place]} already: take one of the two out")
        lines[place] = line
        emotion = canonical_emotion(row["emotion"])
        if emotion is None:
            raise CorpusError(f"{at}: unknown emotion '{row['emotion']}': {_nearest_emotion(row['emotion'])}")
        drafts.append(_manifest_clip(row, place, emotion))
    return drafts, [count_and_name("column", " of the manifest not read", unread)] if unread else []


def _manifest_clip(row: dict[str, str], place: tuple[Path, str], emotion: str) -> Clip:
    """The row's own columns come first; what it leaves empty, a RAVDESS file name may say (but not the transcript)."""
    path, member = place
    known = ravdess.parse(PurePosixPath(row["path"]).stem)
    sex, intensity = row["sex"].lower(), row["intensity"].lower()
    return Clip(
        name=_bare(posixpath.normpath(row["path"])),
        path=path,
        emotion=emotion,
        speaker=row["speaker"],
        member=member,
        sex=SEXES.get(sex, sex) or (known.sex if known else ""),
        intensity=intensity or (known.intensity if known else ""),
        statement=known.statement if known else "",
        transcript=row["transcript"],
    )


def _nearest_emotion(word: str) -> str:
    near = difflib.get_close_matches(word.lower(), [*EMOTIONS, *SYNONYMS], 1, 0.4)
    question = f"did you mean '{near[0]}'? " if near else ""
    return f"{question}known are {', '.join(EMOTIONS)}"


# Contents


def _finish(name: str, root: Path, drafts: list[Clip], notes: list[str], grammar=None) -> Corpus:
    """Hash the drafts' contents, leave out what cannot be decoded, merge what has one name, and order by name."""
    clips, unreadable = [], defaultdict(list)
    for clip, (content, trouble) in zip(drafts, _contents(drafts), strict=True):
        if trouble:
            unreadable[trouble].append(_file_name(clip))
        else:
            clips.append(replace(clip, content=content))
    notes = notes + _left_out_notes(unreadable)
    if not clips:
        raise CorpusError(f"{root} has no usable clip{_reasons(root, notes)}: {ADVICE}")
    clips, merge_notes = _merge(clips)
    if grammar:
        merge_notes += _partial_note(clips, grammar)
    present = {clip.emotion for clip in clips}
    emotions = tuple(emotion for emotion in EMOTIONS if emotion in present)
    return Corpus(name, tuple(clips), emotions, tuple(notes + merge_notes))


def _reasons(root: Path, notes: list[str]) -> str:
    archives = sorted(root.glob("*.zip")) if root.is_dir() else []
    if archives:
        notes = [*notes, f"it holds {archives[0].name}, which can be given itself"]
    return f" ({'; '.join(notes)})" if notes else ""


def _file_name(clip: Clip) -> str:
    return clip.name + PurePosixPath(clip.member or clip.path.name).suffix


def _contents(clips: Sequence[Clip]) -> list[tuple[str, str]]:
    """Return for each clip its content hash and "", or "" and what is wrong with the file."""
    cache = home() / "contents" / f"{_contents_key(clips)}.json"
    try:
        contents = [(content, trouble) for content, trouble in json.loads(cache.read_text(encoding="utf-8"))]
        if len(contents) == len(clips):
            return contents
    except (OSError, ValueError, TypeError):
        pass  # No cache yet, or a damaged one.
    contents = audio.in_parallel(_content, "reading clips", clips)
    if all(trouble != UNOPENED for _, trouble in contents):  # A locked file may open the next time.
        _write_cache(cache, json.dumps(contents))
    return contents


def _contents_key(clips: Sequence[Clip]) -> str:
    """Hash where the files are, their sizes and when they were changed."""
    key = hashlib.sha256(f"{CONTENTS_VERSION}".encode())
    stats = {}
    for clip in clips:
        if clip.path not in stats:
            stats[clip.path] = _stamp(clip.path)
        key.update(f"{clip.path}\0{clip.member}\0{stats[clip.path]}\0".encode(errors="surrogateescape"))
    return key.hexdigest()[:24]


def _stamp(path: Path) -> str:
    """Return a file's size and when it was changed; nothing where there is none, at the end of a broken link."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size}\0{stat.st_mtime_ns}"


def _write_cache(cache: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # Without the cache the next load takes longer, nothing else.
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, text)


def _content(clip: Clip) -> tuple[str, str]:
    try:
        samples, sample_rate_hz = audio.decode(clip.path, clip.member)
        if not samples.any():
            return "", "silent (every sample is 0)"
        return audio.content_hash(samples, sample_rate_hz), ""
    except AudioError as error:
        return "", error.trouble or UNOPENED


def _merge(clips: list[Clip]) -> tuple[list[Clip], list[str]]:
    """Keep one clip of each name, in the order of the names; say what was counted once and what is one recording."""
    by_name = defaultdict(list)
    for clip in sorted(clips, key=_nearness):
        by_name[clip.name].append(clip)
    kept = [by_name[name][0] for name in sorted(by_name)]
    twice = [clip for clip in kept if len(by_name[clip.name]) > 1]
    different = [clip.name for clip in twice if len({copy.content for copy in by_name[clip.name]}) > 1]
    same = [clip.name for clip in twice if clip.name not in set(different)]
    notes = []
    if same:
        notes.append(count_and_name("clip", " found more than once, counted once", same))
    if different:
        rule = "kept is the file nearest the root, of those the alphabetically first"
        notes.append(count_and_name("clip", f" found more than once with different content, {rule}", different))
    return kept, notes + _same_recording_notes(kept)


def _nearness(clip: Clip) -> tuple[int, str]:
    full = f"{clip.path.as_posix()}/{clip.member}"
    return full.count("/"), full


def _same_recording_notes(clips: Sequence[Clip]) -> list[str]:
    """Name the clips that are one recording under several names, and those whose emotions then disagree."""
    by_content = defaultdict(list)
    for clip in clips:
        by_content[clip.content].append(clip)
    groups = [group for group in by_content.values() if len(group) > 1]
    disagreeing = [group for group in groups if len({clip.emotion for clip in group}) > 1]
    notes = []
    if groups:
        equations = [" = ".join(clip.name for clip in group) for group in groups]
        notes.append(count_and_name("recording", " under several names, all kept, on one side of any split", equations))
    if disagreeing:
        equations = [" = ".join(f"{clip.name} ({clip.emotion})" for clip in group) for group in disagreeing]
        notes.append(count_and_name("recording", " under different emotions", equations))
    return notes


def _partial_note(clips: Sequence[Clip], grammar) -> list[str]:
    if len(clips) >= grammar.NUM_CLIPS:
        return []
    speakers = len({clip.speaker for clip in clips})
    return [
        f"part of {grammar.TITLE}: {len(clips)} of {grammar.NUM_CLIPS} clips, "
        f"{speakers} of {grammar.NUM_SPEAKERS} speakers"
    ]


# The demo corpus


def _demo_folder() -> Path:
    """Return the folder of the embedded corpus, made on first use."""
    from emokeras.data import demo

    folder = home() / "corpora" / f"demo-{demo.DEMO_VERSION}"
    if (folder / "manifest.csv").is_file():
        return folder
    started = time.monotonic()
    try:
        demo.make_demo_corpus(folder)
    except CorpusError:
        if not (folder / "manifest.csv").is_file():  # Else another process has made it meanwhile.
            raise
    print(f"made the demo corpus in {time.monotonic() - started:.0f} s: {folder}", file=sys.stderr)
    return folder
