"""Waveforms to the inputs of a network: windows of speech, as features; used by tf.data, `predict` and the export.

A clip gives the same features alone and in a batch with longer clips, where it is padded with zeros.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from emokeras.config import Config, SpectrogramConfig
from emokeras.data.activity import find_speech, hop_samples, without_offset
from emokeras.data.frames import gather_windows, serving_windows, speech_hops
from emokeras.data.prosody import prosody
from emokeras.data.spectrogram import log_mel_spectrogram, mfcc, warped_filterbanks

FEATURES = {"spectrogram": log_mel_spectrogram, "mfcc": mfcc, "prosody": prosody}


class Windows(NamedTuple):
    """The inputs of a network for the windows of clips, [batch, windows, ...] each, and the weight of each window in
    the answer of its clip, float32 [batch, windows]: 0 for windows that other clips of the batch need."""

    inputs: dict[str, tf.Tensor]
    weights: tf.Tensor


def taken_speech(waveforms: tf.Tensor, config: Config) -> tf.Tensor:
    """Return the speech of waveforms [batch, samples] that a network takes, bool [batch, hops]: of a recording without
    speech all of it."""
    activity = find_speech(waveforms, config.audio)
    return tf.where(tf.reduce_any(activity.speech, axis=1, keepdims=True), activity.speech, activity.recorded)


def cut_window(
    waveform: tf.Tensor, speech: tf.Tensor, start: tf.Tensor, config: Config
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the part of a waveform [samples] that one window needs, and of that part the speech, bool [hops], and
    where the window begins, in samples of speech.

    `extract` computes the same window from the part as from the whole.

    Parameters
    ----------
    speech: bool [hops], of the whole waveform.
    start: int32 [], in samples of speech.
    """
    rate = config.audio.sample_rate_hz
    settings = [getattr(config, name) for name in config.audio_inputs]
    hop = hop_samples(rate)
    # The part begins at a multiple of every hop, so that the frames keep their places.
    step = math.lcm(hop, *(round(one.hop_seconds * rate) for one in settings))
    margin = round(max(one.frame_seconds + one.hop_seconds for one in settings) * rate)
    first_hop, last_hop = speech_hops(speech, start, config.audio)
    first = tf.maximum(first_hop * hop - margin, 0) // step * step
    stop = (last_hop + 1) * hop + margin
    earlier = tf.reduce_sum(tf.cast(speech[: first // hop], tf.int32)) * hop
    part = waveform[first:stop]
    return part, speech[first // hop : first // hop + tf.size(part) // hop + 1], start - earlier


def extract(
    waveforms: tf.Tensor,
    config: Config,
    speech: tf.Tensor,
    starts: tf.Tensor,
    warps: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Return the inputs of a network that are computed from the waveform.

    Parameters
    ----------
    waveforms: float32 [batch, samples] at `audio.sample_rate_hz`, without a constant offset.
    speech: bool [batch, hops], from `taken_speech`.
    starts: int32 [batch, windows], where windows begin, in samples of speech.
    warps: int [batch], the row of `warped_filterbanks` for each clip; by default frequencies are not warped.

    Returns
    -------
    For each input NAME (spectrogram, mfcc, prosody) of the configuration {NAME: float32 [batch, windows, frames,
    features], NAME_mask: float32 [batch, windows, frames]}.
    """
    rate = config.audio.sample_rate_hz
    inputs = {}
    for name in config.audio_inputs:
        settings = getattr(config, name)
        if warps is None or not isinstance(settings, SpectrogramConfig):
            frames = FEATURES[name](waveforms, settings, rate)
        else:
            filterbanks = warped_filterbanks(settings, rate, config.augment.vocal_tract_change)
            frames = FEATURES[name](waveforms, settings, rate, tf.gather(filterbanks, warps))
        hop = round(settings.hop_seconds * rate)
        windows, mask = gather_windows(frames, speech, starts, config.num_frames(name), hop, hop_samples(rate))
        inputs |= {name: windows, f"{name}_mask": mask}
    return inputs


def serving_inputs(config: Config, given: Mapping[str, tf.Tensor]) -> Windows:
    """Return all inputs of a network in serving.

    Parameters
    ----------
    given: what the network takes of {"waveform": float32 [batch, samples], "tokens": int [batch, words]} and, from
        `speech.encode_speech`, {"speech": float32 [batch, frames, units], "speech_mask": float32 [batch, frames]}.
    """
    inputs = {}
    if config.audio_inputs:
        waveforms = without_offset(given["waveform"])
        speech = taken_speech(waveforms, config)
        starts, weights = serving_windows(speech, config.audio)
        inputs = extract(waveforms, config, speech, starts)
    elif config.has_speech_encoder:
        starts, weights = serving_windows(speech_of_frames(given["speech_mask"], config), config.audio)
    else:
        weights = tf.ones([tf.shape(given["tokens"])[0], 1])
    if config.has_speech_encoder:
        inputs |= speech_windows(given["speech"], given["speech_mask"], starts, config)
    if config.takes_transcripts:
        inputs["tokens"] = tf.repeat(given["tokens"][:, tf.newaxis], tf.shape(weights)[1], axis=1)
    return Windows(inputs, weights)


def speech_of_frames(mask: tf.Tensor, config: Config) -> tf.Tensor:
    """Return the speech that the frames of a speech encoder cover, bool [batch, hops]. `mask` is 1 at those of each
    clip, float32 [batch, frames]."""
    hops_per_frame = round(config.speech.hop_seconds * config.audio.sample_rate_hz) // hop_samples(
        config.audio.sample_rate_hz
    )
    return tf.repeat(mask > 0, hops_per_frame, axis=1)


def speech_windows(frames: tf.Tensor, mask: tf.Tensor, starts: tf.Tensor, config: Config) -> dict[str, tf.Tensor]:
    """Return windows of the frames of a speech encoder, {"speech": float32 [batch, windows, frames, units],
    "speech_mask": float32 [batch, windows, frames]}.

    Parameters
    ----------
    frames, mask: as in `speech.SpeechFrames`.
    starts: int32 [batch, windows], where windows begin, in samples of speech.
    """
    rate = config.audio.sample_rate_hz
    hop = round(config.speech.hop_seconds * rate)
    speech = speech_of_frames(mask, config)
    windows, mask = gather_windows(frames, speech, starts, config.num_frames("speech"), hop, hop_samples(rate))
    return {"speech": windows, "speech_mask": mask}
