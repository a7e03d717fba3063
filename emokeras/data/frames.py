"""Windows of the frames that are speech, gathered in graph: frames that are not speech are left out.

Positions are in samples of speech, counted from the first one of the recording, so that inputs with different hops stay
aligned. In a recording that is speech from its first to its last word they are samples of that part.
"""

import tensorflow as tf

from emokeras.config import AudioConfig
from emokeras.data.activity import hop_samples


def speech_samples(speech: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Return the samples of speech of each clip, int32 [batch]. `speech` is as in `activity.Activity`."""
    return tf.reduce_sum(tf.cast(speech, tf.int32), axis=1) * hop_samples(config.sample_rate_hz)


def window_start(samples: tf.Tensor, position: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Return where windows begin, int32.

    Parameters
    ----------
    samples: int32, the samples of speech of each clip.
    position: float32, of a shape that goes with it. At 0 window and speech have the same beginning, at 1 the same end.
        Speech that is shorter than the window is inside it at every position; then the window begins before it.
    """
    room = samples - round(config.window_seconds * config.sample_rate_hz)  # negative for a short clip
    return tf.cast(tf.round(position * tf.cast(room, tf.float32)), tf.int32)


def serving_windows(speech: tf.Tensor, config: AudioConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the windows of evaluation and serving: where they begin, int32 [batch, windows], and the weight of each
    in the answer of its clip, float32 [batch, windows].

    They cover the speech evenly, one at least every `window_step_seconds`, so that all of a clip hold equally much of
    it and weigh the same. The windows of a clip are fewer than those of the batch where another clip is longer; the
    rest have weight 0.
    """
    rate = config.sample_rate_hz
    samples = speech_samples(speech, config)[:, tf.newaxis]  # [batch, 1]
    room = tf.cast(samples - round(config.window_seconds * rate), tf.float32)
    steps = tf.maximum(tf.math.ceil(room / (config.window_step_seconds * rate)), 0.0)  # between a clip's windows
    number = tf.range(tf.reduce_max(steps) + 1.0)  # [windows]
    position = tf.where(steps > 0, tf.minimum(number / tf.maximum(steps, 1.0), 1.0), 0.5)
    counted = tf.cast(number <= steps, tf.float32)  # [batch, windows]
    return window_start(samples, position, config), counted / (steps + 1.0)


def gather_windows(
    frames: tf.Tensor, speech: tf.Tensor, starts: tf.Tensor, num_frames: int, frame_hop: int, speech_hop: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return windows of `num_frames` frames that are speech, [batch, windows, num_frames, features], and their mask.

    Frames before the first and after the last one are 0, in the windows and in the mask, float32 [batch, windows,
    num_frames].

    Parameters
    ----------
    frames: float32 [batch, frames, features], one every `frame_hop` samples.
    speech: bool [batch, hops], one every `speech_hop` samples.
    starts: int32 [batch, windows], in samples of speech.
    """
    total = tf.shape(frames)[1]
    sample = tf.range(total) * frame_hop
    hop = tf.minimum(sample // speech_hop, tf.shape(speech)[1] - 1)  # [frames], the hop that each is in
    is_speech = tf.gather(speech, hop, axis=1)  # [batch, frames]
    before = tf.cumsum(tf.cast(speech, tf.int32), axis=1, exclusive=True) * speech_hop
    moment = tf.gather(before, hop, axis=1) + sample - hop * speech_hop  # in samples of speech, of frames of speech
    order, count = speech_first(is_speech)
    earlier = is_speech[:, tf.newaxis] & (moment[:, tf.newaxis] < starts[..., tf.newaxis])  # [batch, windows, frames]
    # A window that begins before the speech has padding first.
    first = tf.reduce_sum(tf.cast(earlier, tf.int32), axis=2) - tf.maximum(-starts, 0) // frame_hop
    index = first[..., tf.newaxis] + tf.range(num_frames)  # [batch, windows, num_frames], among the frames of speech
    mask = (index >= 0) & (index < count[:, tf.newaxis, tf.newaxis])
    places = tf.gather(order, tf.clip_by_value(index, 0, total - 1), batch_dims=1)
    mask = tf.cast(mask, tf.float32)
    return tf.gather(frames, places, batch_dims=1) * mask[..., tf.newaxis], mask


def speech_first(is_speech: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the indices of frames, int32 [batch, frames], those of speech in their order and then the others, and how
    many are speech, int32 [batch]. `is_speech` is bool [batch, frames]."""
    total = tf.shape(is_speech)[1]
    order = tf.math.top_k(tf.where(is_speech, total - tf.range(total), -tf.range(total)), total).indices
    return order, tf.reduce_sum(tf.cast(is_speech, tf.int32), axis=1)


def speech_hops(speech: tf.Tensor, start: tf.Tensor, config: AudioConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the first hop and the last hop of one clip that a window reads, int32 [] each.

    Parameters
    ----------
    speech: bool [hops], True for at least one.
    start: int32 [], in samples of speech.
    """
    hop = hop_samples(config.sample_rate_hz)
    hops = tf.cast(tf.where(speech)[:, 0], tf.int32)
    stop = start + round(config.window_seconds * config.sample_rate_hz)
    first, last = (tf.clip_by_value(place // hop, 0, tf.size(hops) - 1) for place in (start, stop))
    return hops[first], hops[last]
