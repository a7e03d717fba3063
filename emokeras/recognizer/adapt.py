"""Adapt networks to recordings without labels: the average frame of their speech encoder is moved to that of training.

Speaker, language, room and microphone shift the frames of a speech encoder. A network sees them less shifted when its
`speech_normalization` has the statistics of the recordings themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from emokeras.config import SpeechConfig
from emokeras.data.activity import recording_quality
from emokeras.data.speech import encode_speech, frame_statistics
from emokeras.errors import UsageError
from emokeras.models.normalization import set_statistics
from emokeras.recognizer.model import MIN_SPEECH_SECONDS, Recognizer, join, network_with_speech

PRIOR_SECONDS = 5.0  # of speech, that the statistics of the training clips count as


def adapted_to(recognizer: Recognizer, blocks: Iterable[np.ndarray]) -> Recognizer:
    """Return a recognizer whose normalization of speech frames is moved to recordings.

    Parameters
    ----------
    recognizer: of `load_networks`.
    blocks: float32 [samples] each, at its rate, of a minute or so. Those without speech are left out.

    Raises UsageError when it has no speech encoder.
    """
    config = network_with_speech(recognizer.config)
    if not config:
        raise UsageError("only a model with a speech encoder adapts without labels: give another --model")
    encoded = []
    for block in blocks:
        waveforms = tf.constant(block[np.newaxis])
        if recording_quality(waveforms, recognizer.sample_rate_hz)["speech_seconds"][0] >= MIN_SPEECH_SECONDS:
            frames, mask = encode_speech(waveforms, config, recognizer.encoder)
            encoded.append(frames[mask > 0].numpy())
    if not encoded:
        return recognizer
    members = tuple(
        replace(member, network=with_statistics_of(member.network, encoded))
        if member.config.has_speech_encoder
        else member
        for member in recognizer.members
    )
    return join(
        recognizer.config,
        recognizer.clips_used,
        members,
        recognizer.combination,
        recognizer.encoder,
        recognizer.temperature,
    )


def with_statistics_of(network: keras.Model, clips: Sequence[np.ndarray]) -> keras.Model:
    """Return a network with a speech branch whose normalization has the statistics of the frames of clips, [frames,
    units] each; those of its training clips count as PRIOR_SECONDS more."""
    adapted = keras.models.clone_model(network)
    adapted.set_weights(network.get_weights())
    mean, variance = frame_statistics(clips)
    seconds = sum(len(frames) for frames in clips) * SpeechConfig.hop_seconds
    share = seconds / (seconds + PRIOR_SECONDS)
    trained = network.get_layer("speech_normalization")
    set_statistics(
        adapted.get_layer("speech_normalization"),
        share * mean + (1.0 - share) * trained.adapt_mean.numpy(),
        share * variance + (1.0 - share) * trained.adapt_variance.numpy(),
    )
    return adapted
