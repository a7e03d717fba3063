"""Load a corpus by its name or path: list its files, read speakers and emotions from a manifest, file names or folder
names, decode, merge copies."""

import difflib
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from emokeras.data import audio
from emokeras.data.corpora.clips import (
    Corpus,
    join_corpora,
    left_out_notes,
    like_speakers,
    map_emotions,
    present_emotions,
)
from emokeras.data.corpora.contents import merge_copies, read_contents
from emokeras.data.corpora.files import ADVICE
from emokeras.data.corpora.layouts import GRAMMARS, draft_corpus
from emokeras.errors import CorpusError
from emokeras.files import home

NAMES = (*GRAMMARS, "demo")


def load_corpus(source: str | Path, sample_rate_hz: int | None = None, emotion_map: Sequence[str] = ()) -> Corpus:
    """Load a corpus: every clip with its content hash, sorted by name, so that each layout gives the same corpus.

    A clip counts once by its name: the file's stem for RAVDESS and EMO-DB, elsewhere the relative path without suffix.
    Of files with one name and different content, the one nearest the root is kept. Files of different names and the
    same content are all kept (`splits` keeps them in one subset). Each kind of file left out or merged is one line in
    `notes`.

    Parameters
    ----------
    source: "ravdess" or "emodb", as prepared on this machine; "demo"; or a folder, a zip archive or a manifest.csv, as
        `layouts.draft_corpus` reads them. Several, separated by commas, are joined (`clips.join_corpora`).
    sample_rate_hz: when clips have to be decoded for their hashes, their waveforms at this rate are cached too, for
        `audio.load_waveforms`. The hashes are cached until a file changes.
    emotion_map: pairs of emotions, as `clips.map_emotions` takes them.

    Raises
    ------
    CorpusError: no such corpus or path, a manifest that does not fit, or no usable clip.
    EmokerasError: the waveform cache cannot be written.
    UsageError: the map names no emotions.
    """
    parts = [_load_one(one, sample_rate_hz) for one in split_source(source)]
    return map_emotions(join_corpora(parts) if len(parts) > 1 else parts[0], emotion_map)


def _load_one(source: str | Path, sample_rate_hz: int | None) -> Corpus:
    path = _find(source).absolute()
    draft = draft_corpus(path)
    contents, waveforms = read_contents(draft.clips, sample_rate_hz)
    usable, unusable = [], defaultdict(list)
    for clip, (content, trouble) in zip(draft.clips, contents, strict=True):
        if trouble:
            unusable[trouble].append(clip.name + PurePosixPath(clip.member or clip.path.name).suffix)
        else:
            usable.append(replace(clip, content=content))
    notes = draft.notes + left_out_notes(unusable)
    if not usable:
        archives = sorted(path.glob("*.zip")) if path.is_dir() else []
        reasons = "; ".join(notes + [f"it contains {file.name}, which can be given directly" for file in archives[:1]])
        raise CorpusError(f"{path} has no usable clip{f' ({reasons})' if reasons else ''}: {ADVICE}")
    clips, merge_notes = merge_copies(usable)
    if waveforms:
        audio.write_cache(audio.cache_path(clips, sample_rate_hz), [waveforms[clip.content] for clip in clips])
    name = source if source == "demo" else draft.name
    notes += [*merge_notes, *like_speakers(clips)]
    corpus = Corpus(name, tuple(clips), present_emotions(clips), tuple(notes))
    if draft.grammar and len(clips) < draft.grammar.NUM_CLIPS:
        part = (
            f"part of {draft.grammar.TITLE}: {len(clips)} of {draft.grammar.NUM_CLIPS} clips, "
            f"{len(corpus.speakers)} of {draft.grammar.NUM_SPEAKERS} speakers"
        )
        corpus = replace(corpus, notes=(*corpus.notes, part))
    return corpus


def _find(source: str | Path) -> Path:
    """Return the path of a corpus; the demo corpus is made on first use. Raises CorpusError where there is none."""
    if source == "demo":
        return _demo_folder()
    if source in GRAMMARS:
        path = prepared_path(source)
        if path is None:
            pointer = pointer_path(source)
            lost = f" ({pointer.read_text(encoding='utf-8').strip()} no longer exists)" if pointer.is_file() else ""
            raise CorpusError(
                f"{GRAMMARS[source].TITLE} is not prepared on this machine{lost}: run `python -m emokeras.prepare "
                f"--corpus {source}`, or give a folder or zip of its files instead of '{source}'"
            )
        return path
    path = Path(absolute_source(source))
    if not str(source) or not path.exists():
        near = difflib.get_close_matches(str(source), NAMES, 1, 0.7)
        question = f"did you mean '{near[0]}'? " if near else ""
        raise CorpusError(
            f"there is no corpus or path '{source}': {question}give one of {', '.join(NAMES)}, or a folder, "
            "a zip or a manifest.csv"
        )
    return path


def prepared_path(name: str) -> Path | None:
    """Return where `python -m emokeras.prepare` left the corpus "ravdess" or "emodb", or None.

    It is the folder EMOKERAS_HOME/corpora/NAME or, for a corpus that is used in place, the path in NAME.path there.
    """
    folder, pointer = home() / "corpora" / name, pointer_path(name)
    if folder.is_dir():
        return folder
    if pointer.is_file():
        target = Path(pointer.read_text(encoding="utf-8").strip())
        return target if target.exists() else None
    return None


def pointer_path(name: str) -> Path:
    """Return the file with the path of a corpus that is used in place."""
    return home() / "corpora" / f"{name}.path"


def default_source() -> str:
    """Return the corpus to use where none is given: RAVDESS where it has been prepared, else the demo corpus."""
    return "ravdess" if prepared_path("ravdess") else "demo"


def absolute_source(source: str | Path) -> str:
    """Return corpora with names as they are and paths made absolute, so that a run can continue from another folder."""
    return ",".join(one if one in NAMES else str(Path(one).expanduser().absolute()) for one in split_source(source))


def split_source(source: str | Path) -> list[str]:
    """Return the corpora that are named, separated by commas; a path that exists is one."""
    text = str(source)
    return [text] if Path(text).expanduser().exists() else text.split(",")


def _demo_folder() -> Path:
    """Return the folder of the demo corpus, made on first use."""
    from emokeras.data import demo

    folder = home() / "corpora" / f"demo-{demo.DEMO_VERSION}"
    if (folder / "manifest.csv").is_file():
        return folder
    started = time.monotonic()
    try:
        demo.make_demo_corpus(folder)
    except CorpusError:
        if not (folder / "manifest.csv").is_file():  # Otherwise another process has made it meanwhile.
            raise
    print(f"made the demo corpus in {time.monotonic() - started:.0f} s: {folder}", file=sys.stderr)
    return folder
