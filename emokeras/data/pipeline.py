"""Waveforms, labels and a configuration to batches: the only place that makes a tf.data.Dataset.

Training:   clip indices, shuffled for each epoch -> waveform, or one of its variants -> speed, shift -> equalization,
            reverberation, noise, gain -> speech -> features of a random window of it, with VTLP
            -> batch -> band shift -> mixup -> (inputs, labels, weights)
Evaluation: clip indices in order -> waveform -> batch -> speech -> features of all its windows -> inputs, weights

`tokens` and windows of the frames of a speech encoder join the features.

Every random number depends on (seed, epoch, clip) only, so that an epoch is the same in a run that was never stopped
and in one that was resumed, with any number of threads.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from emokeras.config import Config
from emokeras.data import augment, features
from emokeras.data.activity import without_offset
from emokeras.data.augment_features import mix, mix_values, mixed_targets, mixup_share, shift_bands
from emokeras.data.frames import speech_samples, window_start
from emokeras.data.spectrogram import NUM_WARPS

EVALUATION_BATCH = 32


class Store:
    """Waveforms of different lengths as one tensor and the end of each, for indexing in a graph."""

    def __init__(self, arrays: list[np.ndarray]):
        self.values = tf.constant(np.concatenate(arrays))
        self.stops = tf.constant(np.cumsum([len(array) for array in arrays]))

    def __getitem__(self, number: tf.Tensor) -> tf.Tensor:
        start = tf.where(number > 0, self.stops[tf.maximum(number - 1, 0)], 0)
        return tf.cast(self.values[start : self.stops[number]], tf.float32)


def frames_reader(arrays: list[np.ndarray]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function for a graph from a number to frames, float32 [frames, units]. They stay in their memory-mapped
    files: those of a corpus take gigabytes."""

    def read(number: tf.Tensor) -> tf.Tensor:
        frames = tf.numpy_function(arrays.__getitem__, [number], tf.float16)
        return tf.cast(tf.ensure_shape(frames, [None, arrays[0].shape[1]]), tf.float32)

    return read


def steps_per_epoch(num_clips: int, config: Config) -> int:
    """Return the number of full batches in a training epoch. The remaining clips differ from epoch to epoch."""
    return max(1, num_clips // config.training.batch_size)


def epoch_order(num_clips: int, epoch: tf.Tensor | int, config: Config) -> tf.Tensor:
    """Return the indices of the clips of an epoch, int64 [clips], shuffled by seed and epoch."""
    seed = tf.stack([tf.constant(config.experiment.seed, tf.int64), tf.cast(epoch, tf.int64)])
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(num_clips, dtype=tf.int64), seed)
    return shuffled[: steps_per_epoch(num_clips, config) * config.training.batch_size]


def training_dataset(
    waveforms: list[np.ndarray],
    labels: np.ndarray,
    config: Config,
    weights: np.ndarray,
    first_epoch: int = 0,
    tokens: np.ndarray | None = None,
    variants: list[list[np.ndarray]] | None = None,
    speech: list[list[np.ndarray]] | None = None,
    masks: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Return the training batches of all epochs from `first_epoch` on.

    Parameters
    ----------
    waveforms: float32 [samples] each, at `audio.sample_rate_hz`; empty where the network takes none.
    labels: float32 [clips, emotions], one-hot or soft.
    weights: float [clips], the weight of each clip in the loss.
    tokens: int [clips, words], where the network takes transcripts.
    variants: for each clip the same number of waveforms. Each epoch takes the clip or one of its variants.
    speech: where the network has a speech encoder, its frames of each clip and then of each of its variants, float16
        [frames, units] each.
    masks: float32 [clips, emotions], 1 at the emotions that the clip's corpus has, where corpora differ in them.

    Yields
    ------
    ({"spectrogram": float32 [batch, frames, features], "spectrogram_mask": float32 [batch, frames], ...},
    {"emotion": labels after mixup, float32 [batch, emotions], or with masks `augment_features.mixed_targets`},
    {"emotion": weights, float32 [batch]})
    """
    tokens = None if tokens is None else tf.constant(tokens)
    labels = tf.constant(labels, tf.float32)
    num_clips = len(labels)
    weights = tf.constant(weights, tf.float32)
    masks = None if masks is None else tf.constant(masks, tf.float32)
    seed, rate = config.experiment.seed, config.audio.sample_rate_hz
    batch_size = min(config.training.batch_size, num_clips)
    versions = len(speech[0]) if speech else 1 + len(variants[0]) if variants else 1
    if config.audio_inputs:
        others = variants or [[]] * len(waveforms)
        store = Store([version for own, more in zip(waveforms, others, strict=True) for version in (own, *more)])
    if speech:
        read_frames = frames_reader([version for own in speech for version in own])

    # The steps in their order are in the last four lines: order, load, batch, assemble.

    def order(epoch):
        clips = epoch_order(num_clips, epoch, config)
        return tf.data.Dataset.from_tensor_slices((tf.repeat(epoch, tf.size(clips)), clips))

    def features_of(clip, version, draws, clip_seed):
        waveform = augment.augment_timing(store[clip * versions + version], draws, config.augment, rate)
        waveform = augment.augment_acoustics(waveform, draws, clip_seed, config.augment, rate)
        waveform = without_offset(waveform[tf.newaxis])
        speech = features.taken_speech(waveform, config)
        start = window_start(speech_samples(speech, config.audio)[0], draws["window"], config.audio)
        waveform, speech, start = features.cut_window(waveform[0], speech[0], start, config)
        warps = None
        if config.augment.vocal_tract_change:
            warps = tf.cast(draws["warp"] * NUM_WARPS, tf.int32)[tf.newaxis]
        # One clip at a time: the frames of a batch are about 30 MB, which are allocated again for each batch.
        starts = tf.reshape(start, [1, 1])
        inputs = features.extract(waveform[tf.newaxis], config, speech[tf.newaxis], starts, warps)
        return {name: tf.squeeze(value, 0) for name, value in inputs.items()}

    def speech_of(clip, version, draws):
        frames = read_frames(clip * versions + version)[tf.newaxis]
        mask = tf.ones(tf.shape(frames)[:2])
        samples = speech_samples(features.speech_of_frames(mask, config), config.audio)
        starts = window_start(samples, draws["window"], config.audio)[:, tf.newaxis]
        windows = features.speech_windows(frames, mask, starts, config)
        return {name: tf.squeeze(value, 0) for name, value in windows.items()}

    def load(epoch, clip):
        draws, clip_seed = augment.draw(seed, epoch, clip)
        draws["share"] = mixup_share(draws, clip_seed, config.augment)
        version = tf.cast(draws["variant"] * versions, tf.int64)
        inputs = features_of(clip, version, draws, clip_seed) if config.audio_inputs else {}
        if speech:
            inputs |= speech_of(clip, version, draws)
        if tokens is not None:
            inputs["tokens"] = tokens[clip][tf.newaxis]
        example = {"inputs": inputs, "labels": labels[clip], "weights": weights[clip], "draws": draws}
        return example | ({} if masks is None else {"masks": masks[clip]})

    def assemble(example):
        inputs, draws, shares = example["inputs"], example["draws"], example["draws"]["share"]
        if config.augment.band_shift_bands and "spectrogram" in inputs:
            spectrogram = shift_bands(inputs["spectrogram"], draws["bands"], config.augment.band_shift_bands)
            inputs = inputs | {"spectrogram": spectrogram}
        if config.augment.mixup_alpha:
            inputs = mix(inputs, shares)
        inputs = {name: tf.squeeze(value, 1) for name, value in inputs.items()}
        if masks is None:
            targets = mix_values(example["labels"], shares)
        else:
            targets = mixed_targets(example["labels"], example["masks"], shares)
        mixed_weights = mix_values(example["weights"][:, tf.newaxis], shares)
        return inputs, {"emotion": targets}, {"emotion": tf.squeeze(mixed_weights, 1)}

    dataset = tf.data.Dataset.range(first_epoch, config.training.epochs).flat_map(order)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.map(assemble, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)


def evaluation_dataset(
    waveforms: list[np.ndarray],
    config: Config,
    tokens: np.ndarray | None = None,
    speech: list[list[np.ndarray]] | None = None,
) -> tf.data.Dataset:
    """Return batches of `features.Windows`, for every clip in order.

    Parameters as for `training_dataset`.
    """
    tokens = None if tokens is None else tf.constant(tokens)
    store = Store(waveforms) if config.audio_inputs else None
    read_frames = frames_reader([own[0] for own in speech]) if speech else None

    def load(clip):
        example = {"waveform": store[clip]} if config.audio_inputs else {}
        if speech:
            frames = read_frames(clip)
            example |= {"speech": frames, "speech_mask": tf.ones(tf.shape(frames)[0])}
        if tokens is not None:
            example["tokens"] = tokens[clip]
        return example

    def assemble(example):
        return features.serving_inputs(config, example)

    num_clips = max(len(given) for given in (waveforms, speech or (), () if tokens is None else tokens))
    dataset = tf.data.Dataset.range(num_clips)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).padded_batch(EVALUATION_BATCH)
    return dataset.map(assemble, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)


class ClipWindows(NamedTuple):
    """The windows of clips: a network's inputs, [windows, ...] each, and the clip of each window, int [windows]. The
    windows of a clip weigh the same; every clip has at least one."""

    inputs: dict[str, np.ndarray]
    clips: np.ndarray


def stack(dataset: tf.data.Dataset) -> ClipWindows:
    """Return the batches of an evaluation dataset as one array per input."""
    inputs, clips, num_clips = [], [], 0
    for batch in dataset.as_numpy_iterator():
        counted = batch.weights > 0  # [batch, windows]
        inputs.append({name: value[counted] for name, value in batch.inputs.items()})
        clips.append(num_clips + np.nonzero(counted)[0])
        num_clips += len(counted)
    return ClipWindows(
        {name: np.concatenate([batch[name] for batch in inputs]) for name in inputs[0]}, np.concatenate(clips)
    )
