"""Waveforms to the inputs of a network: active span, windows, features; used by tf.data, `predict` and the export.

A clip gives the same features alone and in a batch with longer clips, where it is padded with zeros. All positions are
in samples until frames are gathered, so that inputs with different hops stay aligned.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from emokeras.config import AudioConfig, Config, SpectrogramConfig
from emokeras.data.prosody import prosody
from emokeras.data.spectrogram import log_mel_spectrogram, mfcc, warped_filterbanks

TRIM_HOP_SECONDS, TRIM_HOPS_PER_FRAME = 0.010, 4
FEATURES = {"spectrogram": log_mel_spectrogram, "mfcc": mfcc, "prosody": prosody}
PRECOMPUTED = ("tokens", "speech", "speech_mask")  # inputs of a whole clip, which are computed outside the graph


def active_span(waveforms: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Return the active part of each waveform [batch, samples], int32 [batch, 2]: its first sample and its end.

    A frame of 40 ms, every 10 ms, is active when its root mean square is less than `trim_decibels` below that of the
    loudest frame, as in `librosa.effects.trim`. Zeros at the end are padding and never active. Of a silent clip the
    first sample is active.
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
    """Return the energy of frames of TRIM_HOPS_PER_FRAME hops, centered on multiples of the hop, [batch, frames].

    Summing over hops first is ten times faster than framing.
    """
    half = TRIM_HOPS_PER_FRAME // 2
    num_frames = tf.shape(waveforms)[1] // hop_samples + 1
    missing = num_frames * hop_samples - tf.shape(waveforms)[1]
    squares = tf.pad(waveforms**2, [[0, 0], [0, missing]])
    hops = tf.reduce_sum(tf.reshape(squares, [tf.shape(waveforms)[0], num_frames, hop_samples]), axis=2)
    hops = tf.pad(hops, [[0, 0], [half, half - 1]])
    return tf.add_n([hops[:, offset : offset + num_frames] for offset in range(TRIM_HOPS_PER_FRAME)])


def window_starts(spans: tf.Tensor, positions: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Return the first sample of each window, int32 [batch, windows].

    Parameters
    ----------
    spans: int32 [batch, 2], the active parts of the clips.
    positions: float32 [batch, windows]. At 0 window and span have the same beginning, at 1 the same end. A span that is
        shorter than the window is inside it at every position.
    """
    window_samples = round(config.window_seconds * config.sample_rate_hz)
    first = tf.cast(spans[:, :1], tf.float32)
    room = tf.cast(spans[:, 1:] - spans[:, :1] - window_samples, tf.float32)  # negative for a short span
    return tf.cast(tf.round(first + positions * room), tf.int32)


def even_positions(num_windows: int) -> np.ndarray:
    """Return the window positions of evaluation and serving, float32 [windows]: evenly spaced; a single one is 0.5."""
    return np.linspace(0, 1, num_windows, dtype=np.float32) if num_windows > 1 else np.array([0.5], np.float32)


def gather_windows(
    frames: tf.Tensor, spans: tf.Tensor, starts: tf.Tensor, num_frames: int, hop_samples: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return windows of `num_frames` frames, [batch, windows, num_frames, features], and their mask.

    Frames outside the active span are 0, in the windows and in the mask, float32 [batch, windows, num_frames].

    Parameters
    ----------
    frames: float32 [batch, frames, features].
    spans: int32 [batch, 2], the active parts of the clips, in samples.
    starts: int32 [batch, windows], from `window_starts`.
    """
    first = spans[:, :1] // hop_samples
    last = (spans[:, 1:] - 1) // hop_samples
    # Rounded up, so that a window at the end of a span holds its last frame, which may be a partial one.
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
    """Return the part of a waveform [samples] that one window needs, and the active span relative to that part.

    `extract` computes the same window from the part as from the whole. The span [2] may extend beyond the part.
    """
    rate = config.audio.sample_rate_hz
    settings = [getattr(config, name) for name in config.audio_inputs]
    # The part begins at a multiple of every hop, so that the frames keep their places.
    step = math.lcm(*(round(one.hop_seconds * rate) for one in settings))
    margin = round(max(one.frame_seconds + one.hop_seconds for one in settings) * rate)
    start = window_starts(span[tf.newaxis], tf.reshape(position, [1, 1]), config.audio)[0, 0]
    first = tf.maximum(start - margin, 0) // step * step
    return waveform[first : start + round(config.audio.window_seconds * rate) + margin], span - first


def extract(
    waveforms: tf.Tensor,
    config: Config,
    positions: tf.Tensor | None = None,
    spans: tf.Tensor | None = None,
    warps: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return the inputs of a network that are computed from the waveform.

    Parameters
    ----------
    waveforms: float32 [batch, samples] at `audio.sample_rate_hz`.
    positions: float32 [batch, windows], as for `window_starts`; by default those of serving.
    spans: int32 [batch, 2], the active parts of the clips; by default `active_span`. Training computes them before it
        adds noise.
    warps: int [batch], the row of `warped_filterbanks` for each clip; by default frequencies are not warped.

    Returns
    -------
    For each input NAME (spectrogram, mfcc, prosody) of the configuration {NAME: float32 [batch, windows, frames,
    features], NAME_mask: float32 [batch, windows, frames]}.
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
        if warps is None or not isinstance(settings, SpectrogramConfig):
            frames = FEATURES[name](waveforms, settings, rate)
        else:
            filterbanks = warped_filterbanks(settings, rate, config.augment.vocal_tract_change)
            frames = FEATURES[name](waveforms, settings, rate, tf.gather(filterbanks, warps))
        hop_samples = round(settings.hop_seconds * rate)
        windows, mask = gather_windows(frames, spans, starts, config.num_frames(name), hop_samples)
        inputs |= {name: windows, f"{name}_mask": mask}
    return inputs


def serving_inputs(config: Config, given: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return all inputs of a network in serving, [batch, windows, ...] each.

    Parameters
    ----------
    given: {"waveform": float32 [batch, samples]} and the PRECOMPUTED inputs that the network takes: {"tokens": int
        [batch, words], "speech": float32 [batch, frames, units], "speech_mask": float32 [batch, frames]}.
    """
    inputs = extract(given["waveform"], config) if config.audio_inputs else {}
    return inputs | repeat_over_windows(given, config.encoders, config.num_windows)


def repeat_over_windows(
    given: Mapping[str, tf.Tensor], encoders: Iterable[str], num_windows: int
) -> dict[str, tf.Tensor]:
    """Return the PRECOMPUTED inputs [batch, ...] that the encoders take, for each window: [batch, windows, ...]."""
    wanted = {name for encoder in encoders for name in (encoder, f"{encoder}_mask")}
    return {
        name: tf.repeat(value[:, tf.newaxis], num_windows, axis=1)
        for name, value in given.items()
        if name in PRECOMPUTED and name in wanted
    }
