"""Waveform to features: pure TensorFlow functions on batches, used alike by tf.data, `predict` and the exported model.

Nothing here looks beyond its own clip: a clip gives the same features alone and among longer neighbours that pad it
with zeros. All positions are in samples until the last step, so that inputs with different hops stay aligned.
"""

import functools
import math
from collections.abc import Iterable, Mapping

import numpy as np
import scipy.fft
import tensorflow as tf

from emokeras.config import AudioConfig, Config, MfccConfig, SpectrogramConfig
from emokeras.data.frames import cut_frames, power_spectrum
from emokeras.data.prosody import prosody

VOCAL_TRACTS, KNEE = 21, 0.6  # Steps of a warp, of which the middle one is none; up to where in the band it is even.
SMALLEST_POWER = 1e-10  # -100 dB: the floor of the decibel scale
TRIM_HOP_SECONDS, TRIM_HOPS_PER_FRAME = 0.010, 4


@functools.lru_cache(maxsize=8)
def mel_filterbank(config: SpectrogramConfig, sample_rate_hz: int) -> np.ndarray:
    """Return Slaney's mel triangles as [fft_bins, bands], float32, from librosa."""
    import librosa

    return librosa.filters.mel(
        sr=sample_rate_hz, n_fft=config.fft_size, n_mels=config.num_bands, fmin=config.low_hz, fmax=config.high_hz
    ).T.astype(np.float32)


@functools.lru_cache(maxsize=8)
def warped_filterbanks(config: SpectrogramConfig, sample_rate_hz: int, change: float) -> np.ndarray:
    """Return mel triangles that hear other vocal tracts, [VOCAL_TRACTS, fft_bins, bands]: from those that take each
    frequency for 1 - `change` times it to those that take it for 1 + `change` times.

    The warp is that of vocal tract length perturbation (Jaitly & Hinton 2013): even up to a knee, then straight to half
    the sample rate, which stays where it is.
    """
    half_rate = sample_rate_hz / 2
    hertz = np.linspace(0, half_rate, config.fft_size // 2 + 1)
    triangles = mel_filterbank(config, sample_rate_hz)
    warped = []
    for factor in np.linspace(1 - change, 1 + change, VOCAL_TRACTS):
        knee = KNEE * half_rate * min(factor, 1) / factor
        heard = np.interp(hertz, (0, knee, half_rate), (0, knee * factor, half_rate))
        warped.append(np.stack([np.interp(heard, hertz, triangle) for triangle in triangles.T], axis=1))
    return np.stack(warped).astype(np.float32)


def band_centers_hz(config: SpectrogramConfig) -> np.ndarray:
    """Return the frequency at which each mel triangle peaks, [bands]."""
    import librosa

    return librosa.mel_frequencies(config.num_bands + 2, fmin=config.low_hz, fmax=config.high_hz)[1:-1]


def mel_spectrogram(
    waveforms: tf.Tensor, config: SpectrogramConfig, sample_rate_hz: int, filterbank: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the mel power spectrogram of waveforms [batch, samples] as [batch, frames, bands]; by other triangles than
    its own, [batch, fft_bins, bands], where they are given.

    Frames are centred on multiples of the hop, the ends padded with zeros, the Hann window is periodic: what
    `librosa.feature.melspectrogram(..., center=True, pad_mode="constant", power=2)` gives.
    """
    power = power_spectrum(cut_frames(waveforms, config, sample_rate_hz), config)
    filterbank = mel_filterbank(config, sample_rate_hz) if filterbank is None else filterbank
    return tf.matmul(power, filterbank)  # [batch, frames, bands]


def log_mel_spectrogram(
    waveforms: tf.Tensor, config: SpectrogramConfig, sample_rate_hz: int, filterbank: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the log-mel spectrogram [batch, frames, bands] in decibels re 1, with no maximum over clip or batch."""
    power = mel_spectrogram(waveforms, config, sample_rate_hz, filterbank)
    return (10.0 / np.log(10.0)) * tf.math.log(tf.maximum(power, SMALLEST_POWER))


def mfcc(
    waveforms: tf.Tensor, config: MfccConfig, sample_rate_hz: int, filterbank: tf.Tensor | None = None
) -> tf.Tensor:
    """Return mel-frequency cepstral coefficients [batch, frames, coefficients] of waveforms [batch, samples].

    The orthonormal discrete cosine transform (DCT-II) of the decibels of `log_mel_spectrogram`: what
    `librosa.feature.mfcc` gives for such a spectrogram.
    """
    cosines = scipy.fft.dct(np.eye(config.num_bands), norm="ortho")[:, : config.num_coefficients]
    decibels = log_mel_spectrogram(waveforms, config, sample_rate_hz, filterbank)
    return tf.matmul(decibels, cosines.astype(np.float32))


def active_span(waveforms: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Return where each waveform [batch, samples] is active: [batch, 2], the first sample and the one after the last.

    A frame (40 ms, every 10 ms) is active when its root mean square is less than `trim_decibels` below that of the
    loudest, as in `librosa.effects.trim`. Zeros after the last sample that is not zero are padding, never active.
    A silent clip is active for its first sample.
    """
    hop_samples = round(TRIM_HOP_SECONDS * config.sample_rate_hz)
    position = tf.range(tf.shape(waveforms)[1])
    lengths = tf.reduce_max(tf.where(waveforms != 0.0, position + 1, 0), axis=1, keepdims=True)  # [batch, 1]
    if config.trim_decibels == 0:
        return tf.concat([tf.zeros_like(lengths), tf.maximum(lengths, 1)], axis=1)
    energy = _frame_energy(waveforms, hop_samples)  # [batch, frames]
    frame = tf.range(tf.shape(energy)[1])
    threshold = tf.reduce_max(energy, axis=1, keepdims=True) * 10.0 ** (-config.trim_decibels / 10.0)
    active = energy > threshold
    first = tf.reduce_min(tf.where(active, frame, tf.shape(energy)[1]), axis=1, keepdims=True) * hop_samples
    stop = (tf.reduce_max(tf.where(active, frame, -1), axis=1, keepdims=True) + 1) * hop_samples
    first, stop = tf.where(lengths > 0, first, 0), tf.minimum(stop, lengths)
    return tf.concat([first, tf.maximum(stop, first + 1)], axis=1)


def _frame_energy(waveforms: tf.Tensor, hop_samples: int) -> tf.Tensor:
    """Return the energy of frames of TRIM_HOPS_PER_FRAME hops, centred on multiples of the hop, [batch, frames].

    Sums over hops, then over the hops of a frame: a tenth of the work of framing.
    """
    half = TRIM_HOPS_PER_FRAME // 2
    num_frames = tf.shape(waveforms)[1] // hop_samples + 1
    missing = num_frames * hop_samples - tf.shape(waveforms)[1]
    squares = tf.pad(waveforms**2, [[0, 0], [0, missing]])
    hops = tf.reduce_sum(tf.reshape(squares, [tf.shape(waveforms)[0], num_frames, hop_samples]), axis=2)
    hops = tf.pad(hops, [[0, 0], [half, half - 1]])
    return tf.add_n([hops[:, offset : offset + num_frames] for offset in range(TRIM_HOPS_PER_FRAME)])


def window_starts(spans: tf.Tensor, positions: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Return where windows begin, in samples [batch, windows].

    `positions` [batch, windows] run from 0, where window and span begin together, to 1, where they end together. A span
    that is shorter than the window lies within it at every position.
    """
    window_samples = round(config.window_seconds * config.sample_rate_hz)
    first = tf.cast(spans[:, :1], tf.float32)
    room = tf.cast(spans[:, 1:] - spans[:, :1] - window_samples, tf.float32)  # negative for a short span
    return tf.cast(tf.round(first + positions * room), tf.int32)


def even_positions(num_windows: int) -> np.ndarray:
    """Return the positions [windows] at which a clip is looked at in serving: evenly spaced, the middle if only one."""
    return np.linspace(0, 1, num_windows, dtype=np.float32) if num_windows > 1 else np.array([0.5], np.float32)


def gather_windows(
    frames: tf.Tensor, spans: tf.Tensor, starts: tf.Tensor, num_frames: int, hop_samples: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut windows of `num_frames` out of frames [batch, frames, bands].

    Returns the windows [batch, windows, num_frames, bands], 0 where there is no active frame, and the mask
    [batch, windows, num_frames], 1 where there is one.
    """
    first = spans[:, :1] // hop_samples
    last = (spans[:, 1:] - 1) // hop_samples
    # Rounded up, so that a window at the end of a span holds its last frame, whole or not.
    begin = -tf.math.floordiv(-starts, hop_samples)
    latest = last + 1 - num_frames
    begin = tf.clip_by_value(begin, tf.minimum(first, latest), tf.maximum(first, latest))
    index = begin[..., tf.newaxis] + tf.range(num_frames)  # [batch, windows, num_frames]
    mask = (index >= first[..., tf.newaxis]) & (index <= last[..., tf.newaxis])
    windows = tf.gather(frames, tf.clip_by_value(index, 0, tf.shape(frames)[1] - 1), batch_dims=1)
    mask = tf.cast(mask, tf.float32)
    return windows * mask[..., tf.newaxis], mask


def cut_window(
    waveform: tf.Tensor, span: tf.Tensor, position: tf.Tensor, config: Config
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut out of a waveform [samples] what one window at `position` [] needs, so that `extract` has less to do for the
    same features.

    Returns the samples and where the clip is active, counted from the first of them; that may lie outside.
    """
    rate = config.audio.sample_rate_hz
    settings = [getattr(config, name) for name in config.audio_inputs]
    step = math.lcm(*(round(one.hop_seconds * rate) for one in settings))  # Frames stay where they are.
    margin = round(max(one.frame_seconds + one.hop_seconds for one in settings) * rate)
    start = window_starts(span[tf.newaxis], tf.reshape(position, [1, 1]), config.audio)[0, 0]
    first = tf.maximum(start - margin, 0) // step * step
    return waveform[first : start + round(config.audio.window_seconds * rate) + margin], span - first


FEATURES = {"spectrogram": log_mel_spectrogram, "mfcc": mfcc, "prosody": prosody}


def extract(
    waveforms: tf.Tensor,
    config: Config,
    positions: tf.Tensor | None = None,
    spans: tf.Tensor | None = None,
    tracts: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return a network's inputs for waveforms [batch, samples] at the configuration's rate.

    Parameters
    ----------
    positions: [batch, windows], where to look; by default the evenly spaced windows of serving.
    spans: [batch, 2], where the clips are active; by default found here. (Training finds them before it adds noise.)
    tracts: int [batch], the vocal tract of VOCAL_TRACTS that each clip is heard by; by default its own.

    Returns
    -------
    For each of the configuration's inputs, here "spectrogram": {"spectrogram": [batch, windows, frames, bands] in
    decibels, "spectrogram_mask": [batch, windows, frames]}; "mfcc" has coefficients for bands.
    """
    if spans is None:
        spans = active_span(waveforms, config.audio)
    if positions is None:
        even = even_positions(config.audio.num_windows)
        positions = tf.tile(even[tf.newaxis], [tf.shape(waveforms)[0], 1])
    starts = window_starts(spans, positions, config.audio)
    rate = config.audio.sample_rate_hz
    inputs = {}
    for name in config.audio_inputs:
        settings = getattr(config, name)
        if tracts is None or not isinstance(settings, SpectrogramConfig):
            frames = FEATURES[name](waveforms, settings, rate)
        else:
            filterbanks = warped_filterbanks(settings, rate, config.augment.vocal_tract_change)
            frames = FEATURES[name](waveforms, settings, rate, tf.gather(filterbanks, tracts))
        hop_samples = round(settings.hop_seconds * rate)
        windows, mask = gather_windows(frames, spans, starts, config.num_frames(name), hop_samples)
        inputs |= {name: windows, f"{name}_mask": mask}
    return inputs


READY = ("tokens", "speech", "speech_mask")  # the inputs that are made elsewhere, and not of a window


def serving_inputs(config: Config, given: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return a network's inputs [batch, windows, ...] for what it is given: {"waveform": [batch, samples]}, and what is
    made elsewhere, {"tokens": [batch, words], "speech": [batch, frames, units], "speech_mask": [batch, frames]}."""
    inputs = extract(given["waveform"], config) if config.audio_inputs else {}
    return inputs | each_window(given, config.encoders, config.num_windows)


def each_window(given: Mapping[str, tf.Tensor], encoders: Iterable[str], num_windows: int) -> dict[str, tf.Tensor]:
    """Return what is READY of these inputs, [batch, ...] each, for every window: [batch, windows, ...]."""
    wanted = {name for encoder in encoders for name in (encoder, f"{encoder}_mask")}
    return {
        name: tf.repeat(value[:, tf.newaxis], num_windows, axis=1)
        for name, value in given.items()
        if name in READY and name in wanted
    }
