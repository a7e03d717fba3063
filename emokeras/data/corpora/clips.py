"""Clips, corpora and the names of emotions."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emokeras.data.corpora import ravdess
from emokeras.errors import CorpusError, UsageError

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


SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
SPEAKER_NUMBER = re.compile(r"(?:s|spk|speaker|actor|subject)?[ _-]?0*(\d+)(?:\.0+)?")


@dataclass(frozen=True)
class Clip:
    """One recording. A field that is not known is empty.

    name: unique in the corpus.
    corpus: the name of its corpus, in one that was joined of several.
    path: absolute; of a clip in a zip archive the archive's path, with the clip's name in `member`.
    content: SHA-256 of the decoded samples (`audio.content_hash`).
    sex: male or female. intensity: normal or strong. statement: RAVDESS's or EMO-DB's code of the sentence.
    split: train, validation or test, where the corpus has a split of its own.
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
    corpus: str = ""
    split: str = ""


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

    @property
    def parts(self) -> dict[str, frozenset[str]]:
        """The emotions of each corpus that was joined, by its name; of one that was not, {"": its emotions}."""
        emotions = defaultdict(set)
        for clip in self.clips:
            emotions[clip.corpus].add(clip.emotion)
        return {name: frozenset(own) for name, own in emotions.items()}


def join_corpora(corpora: Sequence[Corpus]) -> Corpus:
    """Return several corpora as one, whose names are joined by "+". Emotions are joined by name; clips and speakers get
    the name of their corpus before their own. Raises CorpusError where two have one name."""
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise CorpusError(f"two corpora are called {twice}: rename the folder of one")
    clips = [
        replace(
            clip,
            name=f"{corpus.name}/{clip.name}",
            speaker=f"{corpus.name}/{clip.speaker}" if clip.speaker else "",
            corpus=corpus.name,
        )
        for corpus in corpora
        for clip in corpus.clips
    ]
    notes = [f"{corpus.name}: {note}" for corpus in corpora for note in corpus.notes]
    return Corpus(
        "+".join(names), tuple(sorted(clips, key=lambda clip: clip.name)), present_emotions(clips), tuple(notes)
    )


def map_emotions(corpus: Corpus, pairs: Sequence[str]) -> Corpus:
    """Return a corpus in which clips of one emotion count as another, by pairs "calm=neutral", which join its name.
    Raises UsageError for a pair that names no two emotions."""
    new_name = {}
    for pair in pairs:
        emotion, equals, other = (part.strip() for part in pair.partition("="))
        if not equals or emotion not in EMOTIONS or other not in EMOTIONS:
            raise UsageError(f"--map {pair}: give two emotions, such as calm=neutral; there are {', '.join(EMOTIONS)}")
        new_name[emotion] = other
    clips = tuple(replace(clip, emotion=new_name.get(clip.emotion, clip.emotion)) for clip in corpus.clips)
    name = ",".join([corpus.name, *pairs])
    return replace(corpus, name=name, clips=clips, emotions=present_emotions(clips)) if pairs else corpus


def like_speakers(clips: Sequence[Clip]) -> list[str]:
    """Return a note on the speakers of clips who may be one person: "1", "01", "1.0", "s1" and "S1"."""
    groups = defaultdict(list)
    for speaker in sorted({clip.speaker for clip in clips} - {""}):
        number = SPEAKER_NUMBER.fullmatch(speaker.strip().lower())
        groups[number[1] if number else speaker.strip().lower()].append(speaker)
    alike = ["/".join(group) for group in groups.values() if len(group) > 1]
    return [f"counted as different speakers, though their names are alike: {', '.join(alike)}"] if alike else []


def present_emotions(clips: Sequence[Clip]) -> tuple[str, ...]:
    """Return the emotions of clips, in the order of EMOTIONS."""
    present = {clip.emotion for clip in clips}
    return tuple(emotion for emotion in EMOTIONS if emotion in present)


def for_each_corpus(clips: Sequence[Clip], work: Callable[[list[Clip]], Sequence]) -> list:
    """Return the values of `work`, one for each clip, called for the clips of each corpus: so that caches are of
    corpora, however they are joined."""
    values: list = [None] * len(clips)
    for name in dict.fromkeys(clip.corpus for clip in clips):
        numbers = [number for number, clip in enumerate(clips) if clip.corpus == name]
        for number, value in zip(numbers, work([clips[number] for number in numbers]), strict=True):
            values[number] = value
    return values


def canonical_emotion(word: str) -> str | None:
    """Return the package's name of an emotion ("Happiness" -> "happy"), or None for an unknown word."""
    word = word.strip().lower()
    word = SYNONYMS.get(word, word)
    return word if word in EMOTIONS else None


def count_and_name(noun: str, what: str, names: Sequence[str], num_named: int = 3) -> str:
    """Return a line with a count and examples: "5 files, empty (0 bytes): a.wav, b.wav, c.wav and 2 more"."""
    return f"{len(names)} {noun}{'s' * (len(names) != 1)}{what}: {name_some(names, num_named)}"


def name_some(names: Sequence[str], num_named: int = 3) -> str:
    """Return the first of several names: "a.wav, b.wav, c.wav and 2 more"."""
    more = f" and {len(names) - num_named} more" if len(names) > num_named else ""
    return f"{', '.join(names[:num_named])}{more}"


def left_out_notes(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line for each reason, from the names of the files left out for it."""
    return [f"left out {count_and_name('file', f', {reason}', sorted(names[reason]))}" for reason in sorted(names)]
