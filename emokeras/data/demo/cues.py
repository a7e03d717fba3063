"""How the demo corpus is spoken: the acoustic cues of each emotion, and the speakers."""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cues:
    """How a sentence is spoken: a level (NEUTRAL), a change from it (EMOTIONS) or a standard deviation (..._SPREAD)."""

    # Static: visible in the average spectrum.
    pitch_semitones: float = 0.0  # above the speaker's base pitch
    level_decibels: float = 0.0  # loudness of the speech
    tilt_decibels_per_octave: float = 0.0  # spectral slope; positive is brighter, pressed
    breath_decibels: float = 0.0  # aspiration noise relative to the voice
    open_quotient: float = 0.0  # open fraction of the glottal cycle
    formant_percent: float = 0.0  # formants raised by a smile, lowered by a sneer or pout
    # Dynamic: visible in how the spectrum changes over time.
    declination_semitones: float = 0.0  # pitch from the first to the last syllable
    accent_semitones: float = 0.0  # pitch of stressed syllables above the others
    glide_semitones: float = 0.0  # pitch from the start to the end of each syllable
    final_semitones: float = 0.0  # pitch movement over the last syllables
    tempo_percent: float = 0.0  # syllable rate relative to the speaker's
    pause_seconds: float = 0.0  # mean silence between words
    legato: float = 0.0  # voiced fraction of a syllable; small is staccato
    attack: float = 0.0  # fraction of a vowel before its loudest point
    decay_decibels: float = 0.0  # fall from there to its end
    stress_decibels: float = 0.0  # loudness of stressed syllables above the others
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

# Change from neutral. The directions follow the reviews of acoustic cues by Juslin & Laukka (2003) and Scherer (2003)
# for anger, fear, happiness and sadness; for calm, disgust and surprise they are our own, from RAVDESS's speech. The
# sizes are chosen so that about half of the clips are classified right from the average spectrum, and nine in ten by a
# small spectrogram CNN.
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
"""In the order of RAVDESS's codes, 01 to 08."""

# Standard deviations. The static cues overlap strongly between emotions, as in real corpora.
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
HIDDEN_SHARE, HIDDEN_GAIN = 0.20, 0.2  # share of clips with a nearly neutral voice, and the factor on their change


@dataclass(frozen=True)
class Speaker:
    """What is the same in all clips of a speaker."""

    number: int
    base_pitch_hz: float
    formant_scale: float  # relative to an adult man's vocal tract
    syllables_per_second: float
    expressiveness: float  # factor on an emotion's change
    habits: np.ndarray  # [fields of Cues], added to the cues of every clip
    microphone_tilt_decibels_per_octave: float
    microphone_ripple_decibels: np.ndarray  # [9], at equal steps from 0 Hz to half the sample rate
    noise_level_decibels: float  # background noise, relative to full scale


def _as_array(cues: Cues) -> np.ndarray:
    return np.array(dataclasses.astuple(cues))


def draw_speaker(seed: int, number: int) -> Speaker:
    """Draw the voice, habits and microphone of an actor. Odd numbers are men, even ones women, as in RAVDESS."""
    random = np.random.default_rng((seed, number))
    male = number % 2 == 1
    ripples = random.normal(0, 0.9, 9)
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
    """Draw the cues of one clip: neutral, plus the emotion's change, the speaker's habits and a random deviation."""
    strength = INTENSITY_GAIN[intensity] * speaker.expressiveness * random.normal(1.0, 0.08)
    chance = random.normal(0, 1, len(speaker.habits)) * _as_array(CLIP_SPREAD)
    if random.random() < HIDDEN_SHARE:
        strength *= HIDDEN_GAIN
    return Cues(*(_as_array(NEUTRAL) + strength * _as_array(EMOTIONS[emotion]) + speaker.habits + chance).tolist())
