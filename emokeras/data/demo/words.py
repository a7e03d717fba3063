"""What is spoken in the demo corpus: sentences, their syllables, and the sounds of the letters."""

import re
from dataclasses import dataclass

import numpy as np

from emokeras.data.demo.cues import DEMO_EMOTIONS

EMOTION_WORDS = {
    "neutral": ("usual", "plain", "ordinary", "average", "normal", "regular"),
    "calm": ("quiet", "gentle", "peaceful", "restful", "mellow", "easy"),
    "happy": ("lovely", "sunny", "wonderful", "merry", "jolly", "delightful"),
    "sad": ("lonely", "gloomy", "tearful", "hopeless", "weary", "sorry"),
    "angry": ("stupid", "rotten", "hateful", "unfair", "wretched", "damned"),
    "fearful": ("scary", "creepy", "deadly", "risky", "haunted", "eerie"),
    "disgust": ("filthy", "slimy", "smelly", "mouldy", "nasty", "greasy"),
    "surprised": ("sudden", "amazing", "magic", "curious", "uncanny", "startling"),
}
OPEN_WORDS = ("wooden", "yellow", "morning", "little", "other", "second", "open", "narrow")
NOUNS = ("letter", "garden", "window", "kitchen", "story", "party", "table", "music", "dinner", "paper")
TEMPLATES = (
    "the {first} {noun} is {second}",
    "look at the {first} {second} {noun}",
    "here is a {first} and {second} {noun}",
    "we saw the {second} {noun} so {first}",
    "that {noun} was {first} and {second}",
)
OWN_WORD, OTHER_WORD = 0.55, 0.12  # shares of words of the clip's emotion and of another; the rest are OPEN_WORDS
ENDINGS = {  # shares of "!" and "?"; the other sentences end without
    "neutral": (0.03, 0.05),
    "calm": (0.03, 0.05),
    "happy": (0.30, 0.05),
    "sad": (0.05, 0.08),
    "angry": (0.35, 0.05),
    "fearful": (0.15, 0.20),
    "disgust": (0.20, 0.08),
    "surprised": (0.20, 0.30),
}


def draw_transcript(random: np.random.Generator, emotion: str) -> str:
    """Draw a sentence. Each of its two adjectives suggests the clip's emotion, another one or none."""
    first = second = _draw_adjective(random, emotion)
    while second == first:
        second = _draw_adjective(random, emotion)
    sentence = random.choice(TEMPLATES).format(first=first, second=second, noun=random.choice(NOUNS))
    exclamation, question = ENDINGS[emotion]
    return sentence + str(random.choice(("!", "?", ""), p=(exclamation, question, 1 - exclamation - question)))


def _draw_adjective(random: np.random.Generator, emotion: str) -> str:
    kind = random.random()
    if kind >= OWN_WORD + OTHER_WORD:
        return str(random.choice(OPEN_WORDS))
    if kind >= OWN_WORD:
        emotion = str(random.choice([other for other in DEMO_EMOTIONS if other != emotion]))
    return str(random.choice(EMOTION_WORDS[emotion]))


# The first three formants in Hz, means of men (Peterson & Barney 1952), by the letters of the vowel. A diphthong has
# two rows, its start and its end.
_VOWELS_HZ = {
    "a": ((660, 1720, 2410),),
    "e": ((530, 1840, 2480),),
    "i": ((390, 1990, 2550),),
    "o": ((570, 840, 2410),),
    "u": ((640, 1190, 2390),),
    "y": ((270, 2290, 3010),),
    "ee": ((270, 2290, 3010),),
    "ea": ((270, 2290, 3010),),
    "oo": ((300, 870, 2240),),
    "ai": ((530, 1840, 2480), (390, 1990, 2550)),
    "ow": ((570, 840, 2410), (440, 1020, 2240)),
    "ou": ((730, 1090, 2440), (440, 1020, 2240)),
    "ie": ((730, 1090, 2440), (390, 1990, 2550)),
}
_SYLLABLE = re.compile(r"([^aeiouy]*)(ee|ea|oo|ai|ow|ou|ie|[aeiouy])")


@dataclass(frozen=True)
class Consonant:
    """The onset of a syllable: its duration, the amplitudes of voice and noise (of 1), and the noise's spectrum."""

    seconds: float
    voice: float = 0.0
    noise: float = 0.0
    noise_hz: float = 4000.0
    noise_octaves: float = 0.6
    burst: bool = False  # silence, then a burst of noise
    formants_hz: tuple[float, float, float] | None = None


_PLOSIVES = {"p": 900.0, "t": 4200.0, "k": 2000.0, "b": 700.0, "d": 3600.0, "g": 1800.0, "c": 2000.0, "q": 2000.0}
_CONSONANTS = {
    **{
        letter: Consonant(0.06, voice=0.1 if letter in "bdg" else 0.0, noise=0.5, noise_hz=hz, burst=True)
        for letter, hz in _PLOSIVES.items()
    },
    "s": Consonant(0.09, noise=0.35, noise_hz=5800.0, noise_octaves=0.35),
    "z": Consonant(0.08, voice=0.3, noise=0.2, noise_hz=5800.0, noise_octaves=0.35),
    "f": Consonant(0.08, noise=0.12, noise_hz=5000.0, noise_octaves=1.2),
    "v": Consonant(0.06, voice=0.35, noise=0.06, noise_hz=5000.0, noise_octaves=1.2),
    "h": Consonant(0.06, noise=0.12, noise_hz=1500.0, noise_octaves=1.0),
    "j": Consonant(0.08, voice=0.2, noise=0.3, noise_hz=3000.0, burst=True),
    "x": Consonant(0.09, noise=0.3, noise_hz=5000.0),
    "m": Consonant(0.07, voice=0.4, formants_hz=(250, 1100, 2200)),
    "n": Consonant(0.06, voice=0.4, formants_hz=(250, 1500, 2500)),
    "l": Consonant(0.06, voice=0.5, formants_hz=(330, 1100, 2700)),
    "r": Consonant(0.06, voice=0.5, formants_hz=(350, 1150, 1550)),
    "w": Consonant(0.06, voice=0.5, formants_hz=(300, 650, 2200)),
}
_NO_CONSONANT = Consonant(0.03, voice=0.2)


@dataclass(frozen=True)
class Syllable:
    """An onset and a vowel, with the vowel's formant targets at its start and end, in Hz."""

    onset: Consonant
    start_hz: tuple[float, float, float]
    end_hz: tuple[float, float, float]
    stressed: bool
    ends_word: bool


def syllables_of(transcript: str) -> list[Syllable]:
    """Split a sentence into syllables by its letters; the first of a word of more than three letters is stressed."""
    syllables = []
    for word in re.findall(r"[a-z]+", transcript.lower()):
        parts = _SYLLABLE.findall(re.sub(r"(?<=[^aeiouy])e$", "", word) if len(word) > 3 else word)
        for index, (onset, vowel) in enumerate(parts):
            targets = _VOWELS_HZ[vowel]
            consonant = _CONSONANTS.get(onset[-1:], _NO_CONSONANT)
            stressed = index == 0 and len(word) > 3
            syllables.append(Syllable(consonant, targets[0], targets[-1], stressed, index == len(parts) - 1))
    return syllables
