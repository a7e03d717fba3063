"""Clips, corpora and the names of emotions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emokeras.data.corpora import ravdess

EMOTIONS = (*ravdess.EMOTIONS, "boredom", "contempt", "excited", "frustrated")
COMMON_EMOTIONS = ("neutral", "happy", "sad", "angry")  # Nearly every corpus has them.
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


@dataclass(frozen=True)
class Clip:
    """One recording. A field that is not known is empty.

    name: unique in the corpus.
    path: absolute; of a clip in a zip archive the archive's path, with the clip's name in `member`.
    content: SHA-256 of the decoded samples (`audio.content_hash`).
    sex: male or female. intensity: normal or strong. statement: RAVDESS's or EMO-DB's code of the sentence.
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
    """Clips, sorted by name; the emotions that occur, in the order of EMOTIONS; `notes`, lines for the user."""

    name: str
    clips: tuple[Clip, ...]
    emotions: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """The known speakers, sorted."""
        return tuple(sorted({clip.speaker for clip in self.clips} - {""}))


def canonical_emotion(word: str) -> str | None:
    """Return the package's name of an emotion ("Happiness" -> "happy"), or None for an unknown word."""
    word = word.strip().lower()
    word = SYNONYMS.get(word, word)
    return word if word in EMOTIONS else None


def count_and_name(noun: str, what: str, names: Sequence[str], num_named: int = 3) -> str:
    """Return a line with a count and examples: "5 files, empty (0 bytes): a.wav, b.wav, c.wav and 2 more"."""
    more = f" and {len(names) - num_named} more" if len(names) > num_named else ""
    return f"{len(names)} {noun}{'s' * (len(names) != 1)}{what}: {', '.join(names[:num_named])}{more}"


def left_out_notes(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line for each reason, from the names of the files left out for it."""
    return [f"left out {count_and_name('file', f', {reason}', sorted(names[reason]))}" for reason in sorted(names)]
