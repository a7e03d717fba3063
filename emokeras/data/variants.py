"""Variants of training clips: pitch and formant shift, time stretch, noise, codecs; computed once per clip and cached.

They take milliseconds a clip, too long to compute in every epoch. Each kind has a cache of its own.
"""

import functools
import hashlib
import io
import math
from collections.abc import Sequence
from typing import Literal

import librosa
import numpy as np
import scipy.linalg
import soundfile
import soxr

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
    "codec": "variant_codec_kilobits",
    "formants-up": "variant_formant_share",
    "formants-down": "variant_formant_share",
}
CODEC_RATE_HZ = 16000  # Low rates have no more than 8 kHz, and Opus takes few sample rates.
MP3_KILOBITS, OPUS_KILOBITS = (160, 8), (256, 6)  # of libsndfile's compression levels 0 and 1, per second
MP3_DELAY = 1105  # samples of LAME and the decoder, which stay where low rates leave no room for LAME's header
ENVELOPE_STEPS = 8  # per bin of the spectrum


def variant_key(kind: Variant, config: AugmentConfig) -> str:
    """Return what names a kind of variant with its settings in a cache."""
    return f" {VARIANTS_VERSION} {kind} {getattr(config, SETTINGS[kind])!r}"


def make_variants(
    kind: Variant, clips: Sequence, waveforms: Sequence[np.ndarray], config: AugmentConfig, sample_rate_hz: int
) -> list[np.ndarray]:
    """Return one variant of each clip, float32 [samples] in -1 to 1, cached under EMOKERAS_HOME/waveforms.

    Only stretching changes the length.

    Parameters
    ----------
    clips: sequence of `corpora.Clip`.
    waveforms: float32 [samples] each, in -1 to 1, of these clips.

    Raises
    ------
    EmokerasError: the cache cannot be written.
    """
    cache = cache_path(clips, sample_rate_hz, variant_key(kind, config))
    variants = read_cache(cache)
    if variants is None:
        work = functools.partial(make_variant, kind, config, sample_rate_hz)
        variants = in_parallel(work, f"variants ({kind})", waveforms, [clip.content for clip in clips])
        write_cache(cache, variants)
    return variants


def make_variant(
    kind: Variant, config: AugmentConfig, sample_rate_hz: int, waveform: np.ndarray, content: str
) -> np.ndarray:
    """Return one variant of a waveform [samples], float32 in -1 to 1. `content` seeds noise and chooses the codec."""
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
        case "codec":
            codec = ("MP3", "Opus")[_hash(content)[0] % 2]
            variant = encode_and_decode(waveform, codec, config.variant_codec_kilobits, sample_rate_hz)
        case "formants-up":
            variant = shift_formants(waveform, 1.0 + config.variant_formant_share, sample_rate_hz)
        case "formants-down":
            variant = shift_formants(waveform, 1.0 - config.variant_formant_share, sample_rate_hz)
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
    noise = np.random.default_rng(int.from_bytes(_hash(content))).standard_normal(len(waveform), dtype=np.float32)
    power = np.mean(np.square(waveform), dtype=np.float64)
    return waveform + np.float32(np.sqrt(power * 10.0 ** (-snr_decibels / 10.0))) * noise


def encode_and_decode(
    waveform: np.ndarray, codec: Literal["MP3", "Opus"], kilobits: float, sample_rate_hz: int
) -> np.ndarray:
    """Return a waveform [samples] after compression with loss, without delay. `kilobits` are per second; Opus varies
    its rate and takes about two thirds for speech."""
    sound = soxr.resample(waveform, sample_rate_hz, CODEC_RATE_HZ)
    sound = np.pad(sound, (0, not len(sound)))  # One sample at 48 kHz is none at 16 kHz.
    most, fewest = MP3_KILOBITS if codec == "MP3" else OPUS_KILOBITS
    coded = io.BytesIO()
    soundfile.write(
        *(coded, sound, CODEC_RATE_HZ),
        format="MP3" if codec == "MP3" else "OGG",
        subtype="MPEG_LAYER_III" if codec == "MP3" else "OPUS",
        compression_level=(most - kilobits) / (most - fewest),
    )
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    if codec == "MP3" and len(decoded) > len(sound):
        decoded = decoded[MP3_DELAY:]
    decoded = soxr.resample(decoded, CODEC_RATE_HZ, sample_rate_hz)[: len(waveform)]
    return np.pad(decoded, (0, len(waveform) - len(decoded)))


def shift_formants(waveform: np.ndarray, factor: float, sample_rate_hz: int) -> np.ndarray:
    """Return a waveform [samples] with its formants at `factor` times their frequencies, and the same pitch.

    In each frame the spectral envelope, that of linear prediction (Makhoul 1975), is replaced by the one that is
    stretched along frequency; the overall slope of the spectrum and the phases stay.
    """
    padded, fft_size = _at_least_a_frame(waveform, sample_rate_hz)
    power = np.abs(librosa.stft(librosa.effects.preemphasis(padded), n_fft=fft_size)) ** 2
    correlations = np.fft.irfft(power, axis=0)[: sample_rate_hz // 1000 + 3]  # two poles per formant, a formant per kHz
    # The little white noise limits the envelope's range to about 50 dB.
    correlations[0] = correlations[0] * (1.0 + 1e-5) + 1e-9
    predictors = [[1.0, *scipy.linalg.solve_toeplitz(frame[:-1], -frame[1:])] for frame in correlations.T]
    inverse = np.abs(np.fft.rfft(predictors, ENVELOPE_STEPS * fft_size)).T  # of the envelope, [steps, frames]
    steps = ENVELOPE_STEPS * np.arange(fft_size // 2 + 1)
    gains = inverse[steps] / inverse[np.minimum(np.round(steps / factor).astype(int), steps[-1])]
    return librosa.istft(librosa.stft(padded, n_fft=fft_size) * gains, n_fft=fft_size, length=len(waveform))


def _hash(content: str) -> bytes:
    return hashlib.sha256(f"{VARIANTS_VERSION} {content}".encode()).digest()


def _at_least_a_frame(waveform: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, int]:
    """Return the waveform, zero-padded to one FFT or more, and the FFT size: FRAME_SECONDS up to a power of two."""
    fft_size = 2 ** math.ceil(math.log2(FRAME_SECONDS * sample_rate_hz))
    return np.pad(waveform, (0, max(0, fft_size - len(waveform)))), fft_size
