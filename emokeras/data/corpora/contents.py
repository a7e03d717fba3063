"""The content of clips: each file is decoded once, for its hash and its waveform; copies are merged."""

import contextlib
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emokeras.data import audio
from emokeras.data.corpora.clips import Clip, count_and_name
from emokeras.errors import AudioError
from emokeras.files import home, write_text

CONTENTS_VERSION = 1
UNOPENED = "that cannot be opened"


def read_contents(
    clips: Sequence[Clip], sample_rate_hz: int | None
) -> tuple[list[tuple[str, str]], dict[str, np.ndarray]]:
    """Decode clips, unless their hashes are cached under EMOKERAS_HOME/contents and no file has changed since.

    Returns
    -------
    For each clip its content hash and "", or "" and why it cannot be used; and by content the waveforms [samples] at
    `sample_rate_hz`, none where that is None or no clip was decoded.
    """
    cache = home() / "contents" / f"{_cache_key(clips)}.json"
    try:
        contents = [(content, trouble) for content, trouble in json.loads(cache.read_text(encoding="utf-8"))]
        if len(contents) == len(clips):
            return contents, {}
    except (OSError, ValueError, TypeError):
        pass  # No cache yet, or a damaged one.

    waveforms = {}

    def read(clip: Clip) -> tuple[str, str]:
        try:
            samples, from_rate_hz = audio.decode(clip.path, clip.member)
        except AudioError as error:
            return "", error.trouble or UNOPENED
        if not samples.any():
            return "", "silent (every sample is 0)"
        content = audio.content_hash(samples, from_rate_hz)
        if sample_rate_hz and content not in waveforms:  # Copies share one waveform.
            waveforms[content] = audio.to_waveform(samples, from_rate_hz, sample_rate_hz)
        return content, ""

    contents = audio.in_parallel(read, "reading clips", clips)
    if all(trouble != UNOPENED for _, trouble in contents):  # A locked file may open the next time.
        with contextlib.suppress(OSError):  # Without the cache the next load takes longer, nothing else.
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache, json.dumps(contents))
    return contents, waveforms


def _cache_key(clips: Sequence[Clip]) -> str:
    """Hash the paths of the files, their sizes and modification times."""
    key = hashlib.sha256(f"{CONTENTS_VERSION}".encode())
    stamps = {path: _stamp(path) for path in {clip.path for clip in clips}}
    for clip in clips:
        key.update(f"{clip.path}\0{clip.member}\0{stamps[clip.path]}\0".encode(errors="surrogateescape"))
    return key.hexdigest()[:24]


def _stamp(path: Path) -> str:
    """Return a file's size and modification time; "" where there is none, as behind a broken link."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size}\0{stat.st_mtime_ns}"


def merge_copies(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """Return one clip of each name, sorted by name, and notes on copies and on recordings under several names.

    Of several files with one name the one nearest the root is kept, on a tie the alphabetically first.
    """
    by_name = defaultdict(list)
    for clip in sorted(clips, key=_depth_and_path):
        by_name[clip.name].append(clip)
    same, different = [], []
    for name in sorted(by_name):
        if len(by_name[name]) > 1:
            (same if len({copy.content for copy in by_name[name]}) == 1 else different).append(name)
    notes = []
    if same:
        notes.append(count_and_name("clip", " found more than once, counted once", same))
    if different:
        rule = "the file nearest the root is kept, on a tie the alphabetically first"
        notes.append(count_and_name("clip", f" found more than once with different content, {rule}", different))
    kept = [by_name[name][0] for name in sorted(by_name)]
    return kept, notes + _same_recording_notes(kept)


def _depth_and_path(clip: Clip) -> tuple[int, str]:
    full = f"{clip.path.as_posix()}/{clip.member}"
    return full.count("/"), full


def _same_recording_notes(clips: Sequence[Clip]) -> list[str]:
    """Name the recordings that have several names, and those of them whose emotions disagree."""
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
