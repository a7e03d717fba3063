"""Variants of training clips: each clip over other channels, computed once and cached.

A variant has another equalization, band, room and noise, and went through a codec. A network on the frames of a frozen
speech encoder, which are cached, is trained for other channels in this way, and corpora that were recorded and coded in
one way each are harder to tell apart.
"""

import functools
import hashlib
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import soundfile
import soxr
import tensorflow as tf

from emokeras.config import AugmentConfig
from emokeras.data import augment
from emokeras.data.audio import cache_path, in_parallel, read_cache, write_cache

VARIANTS_VERSION = 2
# The settings of augmentation that variants follow.
SETTINGS = (
    *("equalization_decibels", "band_limit_probability", "band_low_hz", "band_high_hz", "reverberation_probability"),
    *("reverberation_seconds", "reverberation_ratio_decibels", "noise_probability", "noise_snr_decibels"),
    "noise_slope_decibels",
)
CODECS = ("none", "Opus", "MP3", "mu-law")  # equally often
OPUS_KILOBITS_BOUNDS, MP3_KILOBITS_BOUNDS = (16.0, 64.0), (16.0, 48.0)  # per second
MU = 255.0  # of ITU-T G.711
CODEC_RATE_HZ = 16000  # Low rates have no more than 8 kHz, and Opus takes few sample rates.
MP3_KILOBITS, OPUS_KILOBITS = (160, 8), (256, 6)  # of libsndfile's compression levels 0 and 1, per second
MP3_DELAY = 1105  # samples of LAME and the decoder, which stay where low rates leave no room for LAME's header


def variant_key(number: int, config: AugmentConfig) -> str:
    """Return what names the variants of a number, with their settings, in a cache."""
    values = [getattr(config, name) for name in SETTINGS]
    return f" {VARIANTS_VERSION} channel {number} {values!r}"


def make_variants(
    number: int, clips: Sequence, waveforms: Sequence[np.ndarray], config: AugmentConfig, sample_rate_hz: int
) -> list[np.ndarray]:
    """Return one variant of each clip, float32 [samples] in -1 to 1, cached under EMOKERAS_HOME/waveforms.

    Parameters
    ----------
    number: which of the variants, from 1.
    clips: sequence of `corpora.Clip`.
    waveforms: float32 [samples] each, in -1 to 1, of these clips.

    Raises
    ------
    EmokerasError: the cache cannot be written.
    """
    cache = cache_path(clips, sample_rate_hz, variant_key(number, config))
    variants = read_cache(cache)
    if variants is None:
        over_channel = _channel(config, sample_rate_hz)
        work = functools.partial(_variant, over_channel, number, sample_rate_hz)
        variants = in_parallel(work, f"variants ({number})", waveforms, [clip.content for clip in clips])
        write_cache(cache, variants)
    return variants


@functools.lru_cache(maxsize=8)
def _channel(config: AugmentConfig, sample_rate_hz: int) -> tf.types.experimental.GenericFunction:
    """Return a function from a waveform and its seeds to the waveform over another channel. It takes seconds to trace,
    and variants of all numbers and corpora go through one."""
    config = AugmentConfig(**{name: getattr(config, name) for name in SETTINGS})
    specs = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)]

    @tf.function(input_signature=specs)
    def over_channel(waveform, number, content):
        draws, seed = augment.draw(0, number, content)
        return augment.augment_acoustics(waveform, draws, seed, config, sample_rate_hz)

    return over_channel


def _variant(over_channel, number: int, sample_rate_hz: int, waveform: np.ndarray, content: str) -> np.ndarray:
    digest = int.from_bytes(hashlib.sha256(f"{VARIANTS_VERSION} {number} {content}".encode()).digest()[:7])
    variant = over_channel(tf.constant(waveform), tf.constant(number, tf.int64), tf.constant(digest, tf.int64)).numpy()
    # A codec takes what fits between -1 and 1.
    variant = variant / max(1.0, np.abs(variant).max())
    return np.clip(code_randomly(variant, digest, sample_rate_hz), -1.0, 1.0).astype(np.float32)


def code_randomly(waveform: np.ndarray, seed: int, sample_rate_hz: int) -> np.ndarray:
    """Return a waveform [samples] after one of CODECS at a random rate."""
    generator = np.random.default_rng(seed)
    match CODECS[generator.integers(len(CODECS))]:
        case "Opus":
            return encode_and_decode(waveform, "Opus", generator.uniform(*OPUS_KILOBITS_BOUNDS), sample_rate_hz)
        case "MP3":
            return encode_and_decode(waveform, "MP3", generator.uniform(*MP3_KILOBITS_BOUNDS), sample_rate_hz)
        case "mu-law":
            compressed = np.sign(waveform) * np.log1p(MU * np.abs(waveform)) / np.log1p(MU)
            rounded = np.round(compressed * 127.0) / 127.0
            return np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(MU)) / MU
        case _:
            return waveform


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
