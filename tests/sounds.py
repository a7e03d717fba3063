"""Sounds for the tests of features: tones, noise, synthetic voices, and clips of RAVDESS where it is there."""

from pathlib import Path

import numpy as np
import pytest

from emokeras.data.audio import load_waveform

RATE = 16000
REAL_CLIPS = Path(__file__).parents[1].parent / "shared" / "ravdess"
needs_real_clips = pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason=f"{REAL_CLIPS} is not there")


def tone(hertz: float, samples: int = RATE, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / rate).astype(np.float32)


def noise(samples: int, scale: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=samples).astype(np.float32)


def vowel(seconds: float, rate: int = RATE, silence_seconds: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return a gliding voice with two formants and some breath, with near silence before and after it."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * 0.7 * time)) / rate
    sound = np.zeros_like(time)
    for harmonic in range(1, int(0.45 * rate / 160)):
        hertz = 130.0 * harmonic
        formants = np.exp(-(((hertz - 600) / 300) ** 2)) + 0.3 * np.exp(-(((hertz - 1800) / 400) ** 2)) + 0.01
        sound += formants * np.sin(harmonic * phase)
    random = np.random.default_rng(seed)
    sound = 0.4 * sound / np.abs(sound).max() * (0.6 + 0.4 * np.sin(2 * np.pi * 2.3 * time))
    sound += random.normal(scale=1e-3, size=len(time))
    silence = random.normal(scale=1e-5, size=(2, round(silence_seconds * rate)))
    return np.concatenate([silence[0], sound, silence[1]]).astype(np.float32)


def syllables(seconds: float, rate: int = RATE, silence_seconds: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return a voice in four syllables a second, the like of speech: between them it is 6, 20 or 40 dB quieter. It
    begins and ends within a syllable, with near silence before and after it."""
    sound = vowel(seconds, rate, silence_seconds, seed)
    time = np.arange(len(sound)) / rate - silence_seconds
    inside = (time >= 0) & (time < seconds)
    gap = np.round(4 * time + 0.5).astype(int) * inside  # the number of the nearest
    depths = np.random.default_rng(seed).choice([6.0, 20.0, 40.0], size=gap.max() + 1)
    decibels = -depths[gap] * (1 - np.abs(np.cos(4 * np.pi * time))) ** 2
    return (sound * 10 ** (decibels * inside / 20)).astype(np.float32)


def room_noise(samples: int, seed: int = 0) -> np.ndarray:
    """Return noise with a mean square of 1 that falls by 6 dB per octave from 50 Hz on, which is near that of rooms."""
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum = np.fft.rfft(noise(samples, 1.0, seed)) * (hertz > 50) / np.maximum(hertz, 50)
    sound = np.fft.irfft(spectrum, samples)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def voice(hertz: np.ndarray, rate: int = RATE, formant_hz: float = 600.0) -> np.ndarray:
    """Return a voice of the given pitch [samples]: harmonics with one formant, rising and falling in level."""
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    sound = np.zeros(len(hertz))
    for harmonic in range(1, 40):
        strength = np.exp(-(((harmonic * hertz - formant_hz) / 300) ** 2)) + 0.05
        sound += strength * (harmonic * hertz < 0.45 * rate) * np.sin(harmonic * phase)
    level = 0.6 + 0.4 * np.sin(2 * np.pi * 2.3 * np.arange(len(hertz)) / rate)
    return (0.3 * sound / np.abs(sound).max() * level + noise(len(hertz), 1e-3)).astype(np.float32)


def real_clips(names: tuple[str, ...], rate: int = RATE) -> list[np.ndarray]:
    """Return waveforms of RAVDESS, named from the emotion on; none where it is not there."""
    if not REAL_CLIPS.is_dir():
        return []
    return [load_waveform(REAL_CLIPS / f"Actor_{name[-2:]}" / f"03-01-{name}.flac", rate) for name in names]
