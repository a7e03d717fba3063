"""The embedded demo corpus: synthetic expressive speech from a seeded source-filter synthesiser; made in seconds.

It is laid out and named as RAVDESS is, with a manifest.csv that adds the words. Emotion is in how a sentence is said
(pitch, energy, tempo, voice quality) and, half of the time, in its words. Some clips hide it from the ear,
so that who listens and reads knows more than who listens. Most of it lies in what moves, contours,
rhythm, attacks, tremor, and little in the average spectrum, so that a model has to listen to the whole clip.

Every clip draws from its own generator, so that its samples depend on the seed and on the clip alone.
"""

import csv
import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
from scipy.signal import resample_poly

from emokeras.errors import CorpusError, UsageError

DEMO_VERSION = 2
"""Raised whenever the sound, the words or the names change, so that no cache keeps an older corpus."""

SAMPLE_RATE_HZ = 16000
FRAME_SAMPLES = 64
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ
WINDOW_SAMPLES = 256
FFT_SIZE = 512
SOURCE_OVERSAMPLING = 2
SPEECH_LEVEL_DECIBELS = -28.0
SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 3.5
MAX_SPEAKERS, MAX_TAKES = 24, 4


# ---------------------------------------------------------------------------------------------------------- the cues


@dataclass(frozen=True)
class Cues:
    """How a sentence is said. The same fields serve as a level (NEUTRAL), a change (EMOTIONS) and a spread."""

    # Static: they show in the average spectrum.
    pitch_semitones: float = 0.0  # above the speaker's base pitch
    level_decibels: float = 0.0  # loudness of the speech
    tilt_decibels_per_octave: float = 0.0  # spectral slope; positive is brighter, pressed
    breath_decibels: float = 0.0  # aspiration noise against the voice
    open_quotient: float = 0.0  # open part of the glottal cycle
    formant_percent: float = 0.0  # formants raised by a smile, lowered by a sneer or pout
    # Dynamic: they show in how the spectrum moves.
    declination_semitones: float = 0.0  # pitch from the first to the last syllable
    accent_semitones: float = 0.0  # how far stressed syllables leap above the others
    glide_semitones: float = 0.0  # pitch from the start to the end of each syllable
    final_semitones: float = 0.0  # pitch movement over the last syllables
    tempo_percent: float = 0.0  # syllable rate against the speaker's
    pause_seconds: float = 0.0  # mean silence between words
    legato: float = 0.0  # part of a syllable that sounds; small is staccato
    attack: float = 0.0  # part of a vowel until it is at its loudest
    decay_decibels: float = 0.0  # fall from there to its end
    stress_decibels: float = 0.0  # how far stressed syllables stand out
    fade_decibels: float = 0.0  # loudness from the first to the last syllable
    tremor_semitones: float = 0.0  # depth of the 6 to 8 Hz tremor, in pitch and, in proportion, in loudness
    jitter_percent: float = 0.0  # irregularity of the glottal period
    shimmer_decibels: float = 0.0  # irregularity of the glottal amplitude


NEUTRAL = Cues(
    breath_decibels=-24.0,
    open_quotient=0.6,
    declination_semitones=-2.0,
    accent_semitones=2.0,
    glide_semitones=-0.5,
    final_semitones=-1.5,
    pause_seconds=0.03,
    legato=0.88,
    attack=0.25,
    decay_decibels=5.0,
    stress_decibels=3.0,
    fade_decibels=-2.0,
    tremor_semitones=0.1,
    jitter_percent=0.6,
    shimmer_decibels=0.4,
)

# Change from neutral. Directions follow the reviews of acoustic cues by Juslin & Laukka (2003) and Scherer (2003) for
# anger, fear, happiness and sadness; calm, disgust and surprise are our own reading of RAVDESS's speech. Sizes were
# chosen, so that the average spectrum tells about half of the clips apart and a small spectrogram CNN nine in ten.
EMOTIONS = {
    "neutral": Cues(),
    "calm": Cues(
        pitch_semitones=-0.8,
        level_decibels=-2.0,
        tilt_decibels_per_octave=-0.6,
        breath_decibels=2.5,
        open_quotient=0.05,
        accent_semitones=-1.2,
        tempo_percent=-25.0,
        pause_seconds=0.07,
        legato=0.12,
        attack=0.28,
        decay_decibels=-3.0,
        stress_decibels=-2.0,
        fade_decibels=0.5,
    ),
    "happy": Cues(
        pitch_semitones=2.2,
        level_decibels=1.5,
        tilt_decibels_per_octave=0.6,
        formant_percent=4.5,
        declination_semitones=1.5,
        accent_semitones=4.5,
        glide_semitones=3.0,
        final_semitones=1.0,
        tempo_percent=20.0,
        legato=-0.12,
        attack=-0.12,
        decay_decibels=3.0,
        stress_decibels=3.0,
        fade_decibels=1.0,
    ),
    "sad": Cues(
        pitch_semitones=-1.5,
        level_decibels=-3.5,
        tilt_decibels_per_octave=-1.3,
        breath_decibels=4.0,
        open_quotient=0.08,
        formant_percent=-1.0,
        declination_semitones=-2.5,
        accent_semitones=-1.0,
        glide_semitones=-2.5,
        final_semitones=-1.5,
        tempo_percent=-25.0,
        pause_seconds=0.12,
        legato=0.04,
        attack=-0.02,
        decay_decibels=7.0,
        stress_decibels=-1.5,
        fade_decibels=-5.0,
        tremor_semitones=0.1,
    ),
    "angry": Cues(
        pitch_semitones=1.5,
        level_decibels=3.5,
        tilt_decibels_per_octave=1.3,
        breath_decibels=-3.0,
        open_quotient=-0.08,
        declination_semitones=-0.5,
        accent_semitones=2.0,
        glide_semitones=-3.5,
        final_semitones=-1.0,
        tempo_percent=14.0,
        legato=-0.2,
        attack=-0.18,
        decay_decibels=6.0,
        stress_decibels=3.0,
        jitter_percent=0.4,
        shimmer_decibels=0.3,
    ),
    "fearful": Cues(
        pitch_semitones=2.0,
        level_decibels=-0.5,
        tilt_decibels_per_octave=0.2,
        breath_decibels=6.0,
        open_quotient=0.03,
        declination_semitones=1.5,
        accent_semitones=-0.5,
        tempo_percent=26.0,
        pause_seconds=0.03,
        legato=0.05,
        fade_decibels=0.5,
        tremor_semitones=1.2,
        jitter_percent=0.8,
        shimmer_decibels=0.6,
    ),
    "disgust": Cues(
        pitch_semitones=-2.0,
        level_decibels=0.5,
        tilt_decibels_per_octave=0.5,
        breath_decibels=-1.0,
        open_quotient=-0.06,
        formant_percent=-4.5,
        accent_semitones=0.5,
        glide_semitones=-1.5,
        tempo_percent=-20.0,
        pause_seconds=0.02,
        legato=-0.18,
        attack=0.42,
        decay_decibels=7.0,
        stress_decibels=4.0,
        jitter_percent=2.2,
        shimmer_decibels=1.8,
    ),
    "surprised": Cues(
        pitch_semitones=3.2,
        level_decibels=0.5,
        breath_decibels=3.0,
        formant_percent=0.5,
        declination_semitones=6.0,
        accent_semitones=1.0,
        glide_semitones=4.5,
        final_semitones=7.0,
        tempo_percent=-8.0,
        legato=0.08,
        attack=0.22,
        decay_decibels=-5.0,
        stress_decibels=0.5,
        fade_decibels=5.0,
    ),
}
DEMO_EMOTIONS = tuple(EMOTIONS)
"""In the order of RAVDESS's codes 01 to 08."""

# Standard deviations. The static cues overlap heavily between emotions, as they do in real corpora.
CLIP_SPREAD = Cues(
    pitch_semitones=0.9,
    level_decibels=1.5,
    tilt_decibels_per_octave=0.35,
    breath_decibels=1.5,
    open_quotient=0.03,
    formant_percent=1.0,
    declination_semitones=1.1,
    accent_semitones=1.0,
    glide_semitones=0.95,
    final_semitones=1.6,
    tempo_percent=8.0,
    pause_seconds=0.016,
    legato=0.04,
    attack=0.055,
    decay_decibels=1.6,
    stress_decibels=1.1,
    fade_decibels=1.6,
    tremor_semitones=0.12,
    jitter_percent=0.25,
    shimmer_decibels=0.2,
)
SPEAKER_SPREAD = Cues(
    level_decibels=1.0,
    tilt_decibels_per_octave=0.25,
    breath_decibels=1.2,
    open_quotient=0.02,
    declination_semitones=0.5,
    accent_semitones=0.4,
    glide_semitones=0.3,
    tempo_percent=6.0,
    pause_seconds=0.01,
    legato=0.02,
    attack=0.02,
    stress_decibels=0.5,
    jitter_percent=0.15,
    shimmer_decibels=0.1,
)
INTENSITY_GAIN = {1: 0.9, 2: 1.2}  # RAVDESS: 01 normal, 02 strong
HIDDEN_SHARE, HIDDEN_GAIN = 0.20, 0.2  # of the clips in which the voice hides the emotion, and what is left of it


@dataclass(frozen=True)
class Speaker:
    """What stays the same over a speaker's clips."""

    number: int
    base_pitch_hz: float
    formant_scale: float  # against an adult male's vocal tract
    syllables_per_second: float
    expressiveness: float  # multiplies the change that an emotion makes
    habits: np.ndarray  # [fields of Cues], added to every clip's
    microphone_tilt_decibels_per_octave: float
    microphone_ripple_decibels: np.ndarray  # [FFT_SIZE // 2 + 1]
    noise_level_decibels: float  # background, against full scale


def _as_array(cues: Cues) -> np.ndarray:
    """Return the fields of `cues` in their order [fields]."""
    return np.array(dataclasses.astuple(cues))


def draw_speaker(seed: int, number: int) -> Speaker:
    """Draw actor `number`'s voice, habits and microphone. Odd actors are male, even ones female, as in RAVDESS."""
    random = np.random.default_rng((seed, number))
    male = number % 2 == 1
    ripples = np.interp(_BINS_HZ, np.linspace(0, SAMPLE_RATE_HZ / 2, 9), random.normal(0, 0.9, 9))
    return Speaker(
        number=number,
        base_pitch_hz=(112.0 if male else 200.0) * 2 ** (random.normal(0, 1.2) / 12),
        formant_scale=(1.0 if male else 1.16) * (1 + random.normal(0, 0.025)),
        syllables_per_second=random.normal(4.6, 0.2),
        expressiveness=float(np.clip(random.normal(1.0, 0.08), 0.8, 1.2)),
        habits=random.normal(0, 1, len(dataclasses.fields(Cues))) * _as_array(SPEAKER_SPREAD),
        microphone_tilt_decibels_per_octave=random.normal(0, 0.35),
        microphone_ripple_decibels=ripples,
        noise_level_decibels=random.uniform(-66, -58),
    )


def draw_cues(random: np.random.Generator, speaker: Speaker, emotion: str, intensity: int) -> Cues:
    """Draw how a speaker says one clip: neutral, plus the emotion's change, the speaker's habits and chance."""
    strength = INTENSITY_GAIN[intensity] * speaker.expressiveness * random.normal(1.0, 0.08)
    chance = random.normal(0, 1, len(speaker.habits)) * _as_array(CLIP_SPREAD)
    if random.random() < HIDDEN_SHARE:
        strength *= HIDDEN_GAIN
    return Cues(*(_as_array(NEUTRAL) + strength * _as_array(EMOTIONS[emotion]) + speaker.habits + chance).tolist())


# --------------------------------------------------------------------------------------------------------- the words

LEANING_WORDS = {
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
OWN_WORD, OTHER_WORD = 0.55, 0.12  # the rest are open words, which lean nowhere
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
    """Draw a sentence. Its two adjectives lean to the clip's emotion, to none, or mislead."""
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
    return str(random.choice(LEANING_WORDS[emotion]))


# ------------------------------------------------------------------------------------------------------ the syllables

# First three formants in Hz, men's means (Peterson & Barney 1952), by the letters that stand for the vowel;
# a pair of rows is a diphthong, which moves from one to the other.
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
    """The onset of a syllable: how long, how loud its voice and its noise are (of 1), where the noise lies."""

    seconds: float
    voice: float = 0.0
    noise: float = 0.0
    noise_hz: float = 4000.0
    noise_octaves: float = 0.6
    burst: bool = False  # a silence, then a burst of the noise
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
    """Read the letters of a sentence as syllables; the first one of every longer word is stressed."""
    syllables = []
    for word in re.findall(r"[a-z]+", transcript.lower()):
        parts = _SYLLABLE.findall(re.sub(r"(?<=[^aeiouy])e$", "", word) if len(word) > 3 else word)
        for index, (onset, vowel) in enumerate(parts):
            targets = _VOWELS_HZ[vowel]
            consonant = _CONSONANTS.get(onset[-1:], _NO_CONSONANT)
            stressed = index == 0 and len(word) > 3
            syllables.append(Syllable(consonant, targets[0], targets[-1], stressed, index == len(parts) - 1))
    return syllables


# -------------------------------------------------------------------------------------------------------- the tracks


@dataclass
class Tracks:
    """What the synthesiser follows, one value per frame of FRAME_SECONDS [frames]."""

    voice: np.ndarray  # amplitude of the glottal source
    noise: np.ndarray  # amplitude of the friction noise
    noise_hz: np.ndarray
    noise_octaves: np.ndarray
    pitch_semitones: np.ndarray  # against the speaker's base pitch
    formants_hz: np.ndarray  # [frames, 3]


def lay_out(random: np.random.Generator, syllables: list[Syllable], cues: Cues, speaker: Speaker) -> Tracks:
    """Set the syllables on a time line, with the cues' rhythm, dynamics and melody."""
    lengths = _lengths_in_frames(random, syllables, cues, speaker)
    num_frames = int(lengths.sum()) + 1
    tracks = Tracks(
        voice=np.zeros(num_frames),
        noise=np.zeros(num_frames),
        noise_hz=np.full(num_frames, 4000.0),
        noise_octaves=np.full(num_frames, 0.6),
        pitch_semitones=np.zeros(num_frames),
        formants_hz=np.tile(np.array((500.0, 1500.0, 2500.0)), (num_frames, 1)),
    )
    start = 0
    for index, (syllable, (onset, vowel, gap)) in enumerate(zip(syllables, lengths, strict=True)):
        position = index / max(1, len(syllables) - 1)
        level = cues.fade_decibels * (position - 0.5) + cues.stress_decibels * (syllable.stressed - 0.5)
        amplitude = _amplitude(level + random.normal(0, 0.7))
        _write_onset(tracks, slice(start, start + onset), syllable, amplitude)
        body = slice(start + onset, start + onset + vowel)
        _write_vowel(tracks, body, syllable, cues, amplitude)
        whole = slice(start, start + onset + vowel + gap)
        time = np.linspace(-0.5, 0.5, whole.stop - whole.start)
        accent = cues.accent_semitones * (syllable.stressed - 0.4)
        tracks.pitch_semitones[whole] = (
            cues.pitch_semitones
            + accent
            + cues.declination_semitones * (position - 0.5)
            + cues.glide_semitones * np.clip(1.4 * time, -0.5, 0.5)
            + cues.final_semitones * max(0.0, position - 0.7) / 0.3
            + random.normal(0, 0.3)
        )
        start = whole.stop
    tracks.pitch_semitones[start:] = tracks.pitch_semitones[start - 1]
    _smooth_tracks(tracks)
    _tremble(random, tracks, cues)
    return tracks


def _lengths_in_frames(
    random: np.random.Generator, syllables: list[Syllable], cues: Cues, speaker: Speaker
) -> np.ndarray:
    """Return the frames of onset, vowel and following gap of every syllable [syllables, 3]."""
    rate = speaker.syllables_per_second * max(0.4, 1 + cues.tempo_percent / 100)
    seconds = np.empty((len(syllables), 3))
    for index, syllable in enumerate(syllables):
        total = (1.12 if syllable.stressed else 0.9) * max(0.5, random.normal(1, 0.07)) / rate
        onset = min(syllable.onset.seconds * 4.6 / rate, 0.45 * total)
        gap = (total - onset) * (1 - np.clip(cues.legato, 0.4, 1.0))
        pause = max(0.0, cues.pause_seconds) * random.uniform(0.5, 1.5) if syllable.ends_word else 0.0
        seconds[index] = onset, total - onset - gap, gap + pause
    seconds *= np.clip(seconds.sum(), SHORTEST_SECONDS - 0.3, LONGEST_SECONDS - 0.4) / seconds.sum()
    return np.maximum(np.round(seconds / FRAME_SECONDS).astype(int), (2, 6, 0))


def _write_onset(tracks: Tracks, frames: slice, syllable: Syllable, amplitude: float) -> None:
    onset = syllable.onset
    tracks.voice[frames] = onset.voice * amplitude
    noisy = slice(max(frames.start, frames.stop - 5), frames.stop) if onset.burst else frames
    tracks.noise[noisy] = onset.noise * amplitude
    tracks.noise_hz[frames] = onset.noise_hz
    tracks.noise_octaves[frames] = onset.noise_octaves
    tracks.formants_hz[frames] = onset.formants_hz or syllable.start_hz


def _write_vowel(tracks: Tracks, frames: slice, syllable: Syllable, cues: Cues, amplitude: float) -> None:
    time = np.linspace(0, 1, frames.stop - frames.start)
    attack = np.clip(cues.attack, 0.03, 0.75)
    rise = np.minimum(1, 0.15 + 0.85 * time / attack)
    fall = _amplitude(-max(0.0, cues.decay_decibels) * np.clip((time - attack) / (1 - attack), 0, 1))
    tracks.voice[frames] = amplitude * rise * fall
    start, end = np.array(syllable.start_hz), np.array(syllable.end_hz)
    tracks.formants_hz[frames] = start + time[:, None] * (end - start)


def _smooth_tracks(tracks: Tracks) -> None:
    """Let articulators move as slowly as they do: amplitudes in 12 ms, formants in 60 ms, pitch in 50 ms."""
    tracks.voice = _smooth(tracks.voice, 0.012)
    tracks.noise = _smooth(tracks.noise, 0.012)
    tracks.pitch_semitones = _smooth(tracks.pitch_semitones, 0.050)
    tracks.formants_hz = np.stack([_smooth(track, 0.060) for track in tracks.formants_hz.T], axis=1)


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    half = max(1, round(seconds / 2 / FRAME_SECONDS))
    window = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(track, half, mode="edge"), window / window.sum(), mode="valid")


def _tremble(random: np.random.Generator, tracks: Tracks, cues: Cues) -> None:
    depth = max(0.0, cues.tremor_semitones)
    rate_hz = random.uniform(6.0, 8.0) * (1 + 0.15 * _smooth(random.normal(0, 3, len(tracks.voice)), 0.2))
    phase = 2 * np.pi * (random.random() + np.cumsum(rate_hz) * FRAME_SECONDS)
    tracks.pitch_semitones = tracks.pitch_semitones + depth * np.sin(phase)
    tracks.voice = tracks.voice * _amplitude(4.0 * depth * np.sin(phase + 0.6))


def _amplitude(decibels: np.ndarray | float) -> np.ndarray | float:
    return 10.0 ** (decibels / 20.0)


# -------------------------------------------------------------------------------------------------- source and filter

_BINS_HZ = np.arange(FFT_SIZE // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SIZE)
_OCTAVES_ABOVE_1_KHZ = np.log2(np.maximum(_BINS_HZ, 150.0) / 1000.0)
_BANDWIDTHS_HZ = (70.0, 100.0, 140.0)
_UPPER_FORMANTS_HZ = ((3500.0, 220.0), (4500.0, 280.0), (5600.0, 400.0))


def glottal_source(random: np.random.Generator, pitch_hz: np.ndarray, cues: Cues) -> tuple[np.ndarray, np.ndarray]:
    """Make the flow derivative of Rosenberg's (1971) trigonometric pulse along a pitch track.

    Parameters
    ----------
    pitch_hz: the pitch of every frame [frames].

    Returns
    -------
    the source, and how far the glottis is open (0 to 1); both [frames * FRAME_SAMPLES].
    """
    # The corner where the glottis shuts has harmonics beyond half of the sample rate: make it at twice the rate.
    factor = SOURCE_OVERSAMPLING
    num_samples = len(pitch_hz) * FRAME_SAMPLES * factor
    times = np.arange(num_samples) / (FRAME_SAMPLES * factor)
    cycles = np.cumsum(np.interp(times, np.arange(len(pitch_hz)), pitch_hz)) / (SAMPLE_RATE_HZ * factor)
    index = cycles.astype(np.int64)
    part = cycles - index
    num_cycles = int(index[-1]) + 3
    # Jitter moves each closure by a part of its period, and the cycle between two closures is stretched to fit.
    jitter = random.normal(0, max(0.1, cues.jitter_percent) / 100, num_cycles)
    part = np.clip(part + jitter[index] * (1 - part) + jitter[index + 1] * part, 0, 1)
    shimmer = _amplitude(random.normal(0, max(0.05, cues.shimmer_decibels), num_cycles))
    open_quotient = np.clip(cues.open_quotient, 0.35, 0.85)
    opening, closing = open_quotient * 2 / 3, open_quotient / 3
    flow = np.where(part < opening, 0.5 - 0.5 * np.cos(np.pi / opening * part), 0.0)
    closes = (part >= opening) & (part < open_quotient)
    flow[closes] = np.cos(np.pi / 2 / closing * (part[closes] - opening))
    flow *= shimmer[index]
    source = np.diff(flow, prepend=0.0) * (SAMPLE_RATE_HZ * factor / np.mean(pitch_hz))
    return resample_poly(source, 1, factor), flow[::factor]


def vocal_tract(formants_hz: np.ndarray, scale: float) -> np.ndarray:
    """Return the response of Klatt's (1980) cascade of resonators, per frame [frames, FFT_SIZE // 2 + 1], complex."""
    response = np.ones((1, len(_BINS_HZ)), np.complex64)
    for center_hz, bandwidth_hz in _UPPER_FORMANTS_HZ:
        response = response * _resonator(np.array([center_hz * scale]), bandwidth_hz)
    for track, bandwidth_hz in zip(formants_hz.T, _BANDWIDTHS_HZ, strict=True):
        response = response * _resonator(track * scale, bandwidth_hz)
    return response


def _resonator(center_hz: np.ndarray, bandwidth_hz: float) -> np.ndarray:
    """Return a resonator's response [frames, bins]; it is 1 at 0 Hz, as Klatt's is."""
    ratio = (_BINS_HZ / center_hz[:, None]).astype(np.float32)
    damping = (bandwidth_hz / center_hz[:, None]).astype(np.float32)
    return 1 / (1 - ratio**2 + 1j * ratio * damping)


def _spectra(signal: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the spectra of windows that add up to the signal [frames, bins]."""
    padded = np.pad(signal.astype(np.float32), (0, WINDOW_SAMPLES))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::FRAME_SAMPLES][:num_frames]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    weights = (hann * (2 * FRAME_SAMPLES / WINDOW_SAMPLES)).astype(np.float32)
    return scipy.fft.rfft(windows * weights, FFT_SIZE)


def _overlap_add(spectra: np.ndarray) -> np.ndarray:
    """Return the signal [samples] of filtered spectra [frames, bins]."""
    pieces = scipy.fft.irfft(spectra, FFT_SIZE).reshape(len(spectra), -1, FRAME_SAMPLES)
    signal = np.zeros((len(spectra) + pieces.shape[1] - 1, FRAME_SAMPLES))
    for shift in range(pieces.shape[1]):
        signal[shift : shift + len(spectra)] += pieces[:, shift]
    return signal.ravel()


def synthesise(random: np.random.Generator, transcript: str, cues: Cues, speaker: Speaker) -> np.ndarray:
    """Say a sentence: words and cues -> waveform [samples] at SAMPLE_RATE_HZ, in -1 to 1."""
    tracks = lay_out(random, syllables_of(transcript), cues, speaker)
    num_frames = len(tracks.voice)
    pitch_hz = np.clip(speaker.base_pitch_hz * 2 ** (tracks.pitch_semitones / 12), 50, 700)
    source, opening = glottal_source(random, pitch_hz, cues)
    breath = random.standard_normal(len(source)) * (0.2 + 0.8 * opening) * _amplitude(cues.breath_decibels)
    tract = vocal_tract(tracks.formants_hz, speaker.formant_scale * (1 + cues.formant_percent / 100))
    tilt = _amplitude(cues.tilt_decibels_per_octave * _OCTAVES_ABOVE_1_KHZ).astype(np.float32)
    voiced = _spectra(source, num_frames) * tilt + _spectra(breath * 3.0, num_frames)
    octaves_off = (np.log2(_BINS_HZ[None, 1:] / tracks.noise_hz[:, None]) / tracks.noise_octaves[:, None]) ** 2
    friction = np.pad(np.exp(-0.5 * octaves_off), ((0, 0), (1, 0))) * tracks.noise[:, None]
    hiss = _spectra(random.standard_normal(len(source)), num_frames)
    speech = _overlap_add(voiced * tract * tracks.voice[:, None].astype(np.float32) + hiss * friction)
    return _record(random, speech, cues, speaker)


def _record(random: np.random.Generator, speech: np.ndarray, cues: Cues, speaker: Speaker) -> np.ndarray:
    """Place the speech between two short silences, and hear it through the speaker's microphone and room."""
    loud = np.sqrt(np.mean(np.square(speech[np.abs(speech) > 0.05 * np.abs(speech).max()])))
    speech = speech * (_amplitude(SPEECH_LEVEL_DECIBELS + cues.level_decibels) / loud)
    before, after = (random.uniform(0.08, 0.18, 2) * SAMPLE_RATE_HZ).astype(int)
    longest = int(LONGEST_SECONDS * SAMPLE_RATE_HZ)
    padded = np.pad(speech, (before, after))[:longest]
    padded = np.pad(padded, (0, max(0, int(SHORTEST_SECONDS * SAMPLE_RATE_HZ) - len(padded))))
    noise = random.standard_normal(len(padded)) * _amplitude(speaker.noise_level_decibels)
    tilt = speaker.microphone_tilt_decibels_per_octave * _OCTAVES_ABOVE_1_KHZ
    spectrum = scipy.fft.rfft(padded + noise)
    response = np.interp(
        np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum)),
        _BINS_HZ,
        _amplitude(tilt + speaker.microphone_ripple_decibels),
    )
    waveform = scipy.fft.irfft(spectrum * response, len(padded))
    return waveform * min(1.0, 0.97 / np.abs(waveform).max())


# -------------------------------------------------------------------------------------------------------- the corpus


@dataclass(frozen=True)
class _Clip:
    """One file to make."""

    emotion: str
    intensity: int
    statement: int
    repetition: int
    actor: int

    @property
    def path(self) -> str:
        """The file below the corpus, as RAVDESS names it: modality 03 is audio alone, channel 01 is speech."""
        emotion = DEMO_EMOTIONS.index(self.emotion) + 1
        codes = (3, 1, emotion, self.intensity, self.statement, self.repetition, self.actor)
        return f"Actor_{self.actor:02d}/" + "-".join(f"{code:02d}" for code in codes) + ".wav"


def _clips(num_speakers: int, takes: int) -> Iterator[_Clip]:
    """Take by take the statement alternates, and half of the takes are strong; neutral has no strong intensity."""
    for actor in range(1, num_speakers + 1):
        for emotion in DEMO_EMOTIONS:
            for take in range(takes):
                statement, repetition = 1 + take % 2, 1 + take // 2
                strong = emotion != "neutral" and statement != repetition
                yield _Clip(emotion, 2 if strong else 1, statement, repetition, actor)


def make_clip(seed: int, clip: _Clip, speaker: Speaker) -> tuple[str, np.ndarray]:
    """Return one clip's transcript and its waveform [samples], drawn from (seed, clip) alone."""
    emotion = DEMO_EMOTIONS.index(clip.emotion)
    key = (seed, clip.actor, emotion, clip.intensity, clip.statement, clip.repetition)
    words, voice = (np.random.default_rng((*key, stream)) for stream in (1, 2))
    transcript = draw_transcript(words, clip.emotion)
    cues = draw_cues(voice, speaker, clip.emotion, clip.intensity)
    return transcript, synthesise(voice, transcript, cues, speaker)


def make_demo_corpus(folder: Path, num_speakers: int = 20, takes: int = 4, seed: int = 0) -> None:
    """Write the demo corpus: `Actor_XX/03-01-EE-II-SS-RR-AA.wav` (16 kHz, 16 bit, mono) and `manifest.csv`.

    The same arguments give the same bytes. The folder appears when it is whole, never before.

    Parameters
    ----------
    folder: where to; must not exist yet, or be empty.
    num_speakers: 1 to 24; odd actors are male, even ones female.
    takes: clips of each emotion by each speaker, 1 to 4.
    seed: draws voices, words and sound.

    Raises
    ------
    UsageError: a number is out of its range.
    CorpusError: the folder holds something already, or cannot be written.
    """
    from tqdm import tqdm

    if not (1 <= num_speakers <= MAX_SPEAKERS and 1 <= takes <= MAX_TAKES and seed >= 0):
        raise UsageError(
            f"a demo corpus of num_speakers={num_speakers}, takes={takes}, seed={seed} cannot be made: "
            f"give 1 to {MAX_SPEAKERS} speakers, 1 to {MAX_TAKES} takes and a seed of 0 or more"
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError(f"{folder} is not empty: delete it, or name another folder for the demo corpus")
    clips = list(_clips(num_speakers, takes))
    speakers = {number: draw_speaker(seed, number) for number in range(1, num_speakers + 1)}
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")

    def write(clip: _Clip) -> tuple[str, str, str, str]:
        transcript, waveform = make_clip(seed, clip, speakers[clip.actor])
        samples = np.round(waveform * 32767).astype(np.int16)
        soundfile.write(temporary / clip.path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        return clip.path, clip.emotion, f"{clip.actor:02d}", transcript

    try:
        for number in speakers:
            (temporary / f"Actor_{number:02d}").mkdir(parents=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            rows = list(
                tqdm(
                    pool.map(write, clips), "making the demo corpus", len(clips), unit="clip", leave=False, disable=None
                )
            )
        with (temporary / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("path", "emotion", "speaker", "transcript"), *rows])
        _move(temporary, folder)
    except OSError as error:
        raise CorpusError(f"{folder} cannot be written ({error}): free some space, or name another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, folder: Path) -> None:
    try:
        os.replace(temporary, folder)
    except OSError:
        # Another process, making the same corpus, was there first: its folder is as good.
        if not (folder / "manifest.csv").exists():
            raise
