"""Pitch shift, time stretch and noise as the student reports ask for them: made of a waveform once, and kept.

They cost milliseconds a clip, too much for every epoch. Only the clips that are given, the training subset, are varied.
Each kind has a cache of its own, so that another choice of kinds finds those that are there.
"""

import functools
import hashlib
import math
from collections.abc import Sequence

import librosa
import numpy as np

from emokeras.config import AugmentConfig, Variant
from emokeras.data.audio import cache_path, in_parallel, read_cache, write_cache

VARIANTS_VERSION = 1
# librosa's own 2048 samples are 43 ms of RAVDESS's 48 kHz, but 128 ms at 16 kHz, and smear speech there.
FRAME_SECONDS = 0.032
SETTINGS: dict[Variant, str] = {
    "pitch-up": "variant_semitones",
    "pitch-down": "variant_semitones",
    "slow": "variant_stretch",
    "fast": "variant_stretch",
    "noise": "variant_snr_decibels",
}


def make_variants(
    clips: Sequence, waveforms: Sequence[np.ndarray], config: AugmentConfig, sample_rate_hz: int
) -> list[list[np.ndarray]]:
    """Return for each `data.corpus.Clip` its variants in the order of `config.variants`, kept as waveforms are kept.

    Parameters
    ----------
    waveforms: those of the clips [samples], float32 in -1 to 1, as `audio.load_waveforms` gives them at this rate.

    Returns
    -------
    for each clip a list of waveforms [samples], float32 in -1 to 1: pitch and noise keep the length, stretch does not.

    Raises
    ------
    EmokerasError: the cache cannot be written (a full disk).
    """
    kinds = [_variants_of_kind(kind, clips, waveforms, config, sample_rate_hz) for kind in config.variants if clips]
    return [[variants[number] for variants in kinds] for number in range(len(clips))]


def _variants_of_kind(
    kind: Variant, clips: Sequence, waveforms: Sequence[np.ndarray], config: AugmentConfig, sample_rate_hz: int
) -> list[np.ndarray]:
    cache = cache_path(clips, sample_rate_hz, f" {VARIANTS_VERSION} {kind} {getattr(config, SETTINGS[kind])!r}")
    variants = read_cache(cache)
    if variants is None:
        work = functools.partial(make_variant, kind, config, sample_rate_hz)
        variants = in_parallel(work, f"variants ({kind})", waveforms, [clip.content for clip in clips])
        write_cache(cache, variants)
    return variants


def make_variant(
    kind: Variant, config: AugmentConfig, sample_rate_hz: int, waveform: np.ndarray, content: str
) -> np.ndarray:
    """Return one variant of a waveform [samples], float32 in -1 to 1. Noise is drawn from the clip's `content`."""
    match kind:
        case "pitch-up":
            variant = shift_pitch(waveform, config.variant_semitones, sample_rate_hz)
        case "pitch-down":
            variant = shift_pitch(waveform, -config.variant_semitones, sample_rate_hz)
        case "slow":
            variant = stretch(waveform, 1.0 - config.variant_stretch, sample_rate_hz)
        case "fast":
            variant = stretch(waveform, 1.0 + config.variant_stretch, sample_rate_hz)
        case "noise":
            variant = add_noise(waveform, config.variant_snr_decibels, content)
    return np.clip(variant, -1.0, 1.0).astype(np.float32)


def shift_pitch(waveform: np.ndarray, semitones: float, sample_rate_hz: int) -> np.ndarray:
    """Raise the pitch of a waveform [samples] by so many semitones; the length stays."""
    padded, fft_size = _at_least_a_frame(waveform, sample_rate_hz)
    shifted = librosa.effects.pitch_shift(padded, sr=sample_rate_hz, n_steps=semitones, n_fft=fft_size)
    return shifted[: len(waveform)]


def stretch(waveform: np.ndarray, rate: float, sample_rate_hz: int) -> np.ndarray:
    """Play a waveform [samples] `rate` times as fast, [samples / rate]; the pitch stays."""
    padded, fft_size = _at_least_a_frame(waveform, sample_rate_hz)
    stretched = librosa.effects.time_stretch(padded, rate=rate, n_fft=fft_size)
    return stretched[: max(1, round(len(waveform) / rate))]


def add_noise(waveform: np.ndarray, snr_decibels: float, content: str) -> np.ndarray:
    """Add white noise to a waveform [samples] at this ratio of their mean powers, always the same to a `content`."""
    seed = int.from_bytes(hashlib.sha256(f"{VARIANTS_VERSION} {content}".encode()).digest())
    noise = np.random.default_rng(seed).standard_normal(len(waveform), dtype=np.float32)
    power = np.mean(np.square(waveform), dtype=np.float64)
    return waveform + np.float32(np.sqrt(power * 10.0 ** (-snr_decibels / 10.0))) * noise


def _at_least_a_frame(waveform: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, int]:
    """Return the waveform, with zeros up to one frame's samples, and those: the next power of two of FRAME_SECONDS."""
    fft_size = 2 ** math.ceil(math.log2(FRAME_SECONDS * sample_rate_hz))
    return np.pad(waveform, (0, max(0, fft_size - len(waveform)))), fft_size
