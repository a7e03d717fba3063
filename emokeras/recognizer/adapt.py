"""Adapt networks to recordings without labels: the average frame of their speech encoder is moved to that of training.

Speaker, language, room and microphone shift the frames of a speech encoder. With the statistics of the recordings
themselves in its `speech_normalization`, a network takes frames that are shifted less.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from emokeras.config import SpeechConfig
from emokeras.data.activity import recording_quality
from emokeras.data.speech import FrameStatistics, encode_speech, frame_statistics
from emokeras.models.normalization import set_statistics, settle_normalization
from emokeras.recognizer.model import MIN_SPEECH_SECONDS, Recognizer, join, network_with_speech

PRIOR_SECONDS = 5.0  # of speech, that the statistics of the training clips count as


def adapted_to(recognizer: Recognizer, blocks: Iterable[np.ndarray]) -> Recognizer:
    """Return a recognizer whose normalization of speech frames is moved to recordings.

    Parameters
    ----------
    recognizer: of `load_networks`, with a speech encoder.
    blocks: float32 [samples] each, at its rate, of a minute or so. Those without speech are left out.
    """
    config = network_with_speech(recognizer.config)

    def frames_of() -> Iterator[np.ndarray]:
        for block in blocks:
            waveforms = tf.constant(block[np.newaxis])
            if recording_quality(waveforms, recognizer.sample_rate_hz)["speech_seconds"][0] >= MIN_SPEECH_SECONDS:
                frames, mask = encode_speech(waveforms, config, recognizer.encoder)
                yield frames[mask > 0].numpy()

    statistics = frame_statistics(frames_of())
    if not statistics.count:
        return recognizer
    members = tuple(
        replace(member, network=with_statistics(member.network, statistics))
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


def with_statistics(network: keras.Model, statistics: FrameStatistics) -> keras.Model:
    """Return a network with a speech branch whose normalization is moved to the statistics of frames: mean and variance
    are interpolated, as if those of its training clips were of PRIOR_SECONDS of speech."""
    adapted = keras.models.clone_model(network)
    adapted.set_weights(network.get_weights())
    seconds = statistics.count * SpeechConfig.hop_seconds
    share = seconds / (seconds + PRIOR_SECONDS)
    trained = network.get_layer("speech_normalization")
    set_statistics(
        adapted.get_layer("speech_normalization"),
        share * statistics.mean + (1.0 - share) * trained.adapt_mean.numpy(),
        share * statistics.variance + (1.0 - share) * trained.adapt_variance.numpy(),
    )
    settle_normalization(adapted)
    return adapted
