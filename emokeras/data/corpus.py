"""Clips and corpora: which recordings there are, who speaks and which emotion. `load_corpus` reads them all."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Clip:
    """One recording. `name` is unique in its corpus, `content` is the SHA-256 of the decoded samples."""

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
