"""Variants of training clips: pitch shift, time stretch and noise, computed once per clip and cached.

They take milliseconds a clip, too long to compute in every epoch. Each kind has a cache of its own.
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
# librosa's default of 2048 samples is 43 ms at 48 kHz, but 128 ms at 16 kHz, where it smears speech.
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
    """Return the variants of each clip in the order of `config.variants`, cached under EMOKERAS_HOME/waveforms.

    Parameters
    ----------
    clips: sequence of `corpora.Clip`.
    waveforms: float32 [samples] each, in -1 to 1, of these clips.

    Returns
    -------
    For each clip a list of waveforms, float32 [samples], in -1 to 1. Pitch shift and noise keep the length.

    Raises
    ------
    EmokerasError: the cache cannot be written.
    """
    kinds = [_variants_of_kind(kind, clips, waveforms, config, sample_rate_hz) for kind in config.variants if clips]
    return [[variants[number] for variants in kinds] for number in range(len(clips))]


def _variants_of_kind(
    kind: Variant, clips: Sequence, waveforms: Sequence[np.ndarray], config: AugmentConfig, sample_rate_hz: int
) -> list[np.ndarray]:
    """Return one variant of each clip, from the cache where it is there."""
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
    """Return one variant of a waveform [samples], float32 in -1 to 1. `content` seeds the noise."""
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
    """Return a waveform [samples] with its pitch raised, in the same length."""
    padded, fft_size = _at_least_a_frame(waveform, sample_rate_hz)
    shifted = librosa.effects.pitch_shift(padded, sr=sample_rate_hz, n_steps=semitones, n_fft=fft_size)
    return shifted[: len(waveform)]


def stretch(waveform: np.ndarray, rate: float, sample_rate_hz: int) -> np.ndarray:
    """Return a waveform [samples] played `rate` times as fast, [samples / rate], with the same pitch."""
    padded, fft_size = _at_least_a_frame(waveform, sample_rate_hz)
    stretched = librosa.effects.time_stretch(padded, rate=rate, n_fft=fft_size)
    return stretched[: max(1, round(len(waveform) / rate))]


def add_noise(waveform: np.ndarray, snr_decibels: float, content: str) -> np.ndarray:
    """Return a waveform [samples] with white noise, seeded by `content`, at a signal-to-noise ratio."""
    seed = int.from_bytes(hashlib.sha256(f"{VARIANTS_VERSION} {content}".encode()).digest())
    noise = np.random.default_rng(seed).standard_normal(len(waveform), dtype=np.float32)
    power = np.mean(np.square(waveform), dtype=np.float64)
    return waveform + np.float32(np.sqrt(power * 10.0 ** (-snr_decibels / 10.0))) * noise


def _at_least_a_frame(waveform: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, int]:
    """Return the waveform, zero-padded to one FFT or more, and the FFT size: FRAME_SECONDS up to a power of two."""
    fft_size = 2 ** math.ceil(math.log2(FRAME_SECONDS * sample_rate_hz))
    return np.pad(waveform, (0, max(0, fft_size - len(waveform)))), fft_size
