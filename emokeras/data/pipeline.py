"""Clips and a configuration to batches: the one place where a tf.data.Dataset is made.

Training:   clip numbers, shuffled anew each epoch -> waveform, or a variant of it -> speed, shift -> where it is active
            -> equalisation, reverberation, noise, gain -> features of a random window, by another vocal tract
            -> batch -> band shift -> crop -> mixup -> (inputs, labels, weights)
Evaluation: clip numbers in order -> waveform -> batch -> features, all windows of serving -> inputs

What is ready, the tokens of a transcript or the frames of a speech model, goes beside the waveform.

All that is random is drawn from (seed, epoch, clip), so that an epoch is the same whether it was reached in one go or
after a kill, and however many threads made it.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from emokeras.config import Config
from emokeras.data import augment, features

EVALUATION_BATCH = 32


class Waveforms:
    """Waveforms of many lengths as one tensor [all samples] and where each ends, so that a graph can pick one."""

    def __init__(self, waveforms: list[np.ndarray]):
        self.samples = tf.constant(np.concatenate(waveforms))
        self.stops = tf.constant(np.cumsum([len(waveform) for waveform in waveforms]))

    def __getitem__(self, clip: tf.Tensor) -> tf.Tensor:
        start = tf.where(clip > 0, self.stops[tf.maximum(clip - 1, 0)], 0)
        return self.samples[start : self.stops[clip]]

    def __len__(self) -> int:
        return len(self.stops)


def steps_per_epoch(num_clips: int, config: Config) -> int:
    """Return the full batches of one training epoch; what is left over takes part in other epochs."""
    return max(1, num_clips // config.training.batch_size)


def epoch_order(num_clips: int, epoch: tf.Tensor | int, config: Config) -> tf.Tensor:
    """Return the numbers of the clips that an epoch trains on, in their order: a shuffle drawn from seed and epoch."""
    seed = tf.stack([tf.constant(config.experiment.seed, tf.int64), tf.cast(epoch, tf.int64)])
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(num_clips, dtype=tf.int64), seed)
    return shuffled[: steps_per_epoch(num_clips, config) * config.training.batch_size]


def training_dataset(
    waveforms: list[np.ndarray],
    labels: np.ndarray,
    config: Config,
    weights: np.ndarray,
    first_epoch: int = 0,
    ready: Mapping[str, np.ndarray] | None = None,
    variants: list[list[np.ndarray]] | None = None,
) -> tf.data.Dataset:
    """Return the batches of all epochs from `first_epoch` on, one epoch after the other.

    Parameters
    ----------
    waveforms: [samples] each, float32 at the configuration's rate; none where the configuration hears none.
    labels: one-hot, or soft, float32 [clips, emotions].
    weights: float [emotions], the weight of each emotion's clips in the loss.
    ready: the inputs that are made of each clip before, {"tokens": int [clips, words]} where the configuration reads
        transcripts, {"speech": [clips, frames, units], "speech_mask": [clips, frames]} where it has a speech model.
    variants: for each clip the waveforms that may stand for its own, equally many each.

    Yields
    ------
    ({"spectrogram": [batch, frames, bands], "spectrogram_mask": [batch, frames], "tokens": [batch, words]},
    {"emotion": labels, mixed or not, [batch, emotions]}, {"emotion": weights [batch]})
    """
    ready = _as_tensors(ready)
    labels = tf.constant(labels, tf.float32)
    num_clips = len(labels)
    weights = tf.constant(weights, tf.float32)[:, tf.newaxis]
    seed, rate = config.experiment.seed, config.audio.sample_rate_hz
    batch_size = min(config.training.batch_size, num_clips)
    versions = 1 + len(variants[0]) if variants else 1
    is_noisy = tf.constant([False, *(kind == "noise" for kind in config.augment.variants)])
    if config.audio_inputs:
        others = variants or [[]] * len(waveforms)
        store = Waveforms([version for own, more in zip(waveforms, others, strict=True) for version in (own, *more)])

    def order(epoch):
        clips = epoch_order(num_clips, epoch, config)
        return tf.data.Dataset.from_tensor_slices((tf.repeat(epoch, tf.size(clips)), clips))

    def load(epoch, clip):
        draws, clip_seed = augment.draw(seed, epoch, clip)
        draws["share"] = augment.mixup_share(draws, clip_seed, config.augment)
        inputs = {}
        if config.audio_inputs:

            def moved(version):
                return augment.reshape_waveform(store[clip * versions + version], draws, config.augment, rate)

            version = tf.cast(draws["variant"] * versions, tf.int64)
            quiet = waveform = moved(version)
            if "noise" in config.augment.variants:  # Noise hides where a clip is silent.
                quiet = tf.cond(is_noisy[version], lambda: moved(0), lambda: waveform)
            span = features.active_span(quiet[tf.newaxis], config.audio)[0]
            waveform = augment.recolour_waveform(waveform, draws, clip_seed, config.augment, rate)
            waveform, span = features.cut_window(waveform, span, draws["crop"], config)
            tracts = None
            if config.augment.vocal_tract_change:
                tracts = tf.cast(draws["tract"] * features.VOCAL_TRACTS, tf.int32)[tf.newaxis]
            position = tf.reshape(draws["crop"], [1, 1])
            # One clip at a time: a batch's frames are some 30 MB, and memory so large is asked for anew each time.
            inputs = features.extract(waveform[tf.newaxis], config, position, span[tf.newaxis], tracts)
            inputs = {name: tf.squeeze(value, 0) for name, value in inputs.items()}
        return {"inputs": inputs, "labels": labels[clip], "draws": draws} | _take(ready, clip)

    def assemble(example):
        inputs = example["inputs"] | features.each_window(example, config.encoders, 1)
        labels, draws = example["labels"], example["draws"]
        if config.augment.band_shift_bands and "spectrogram" in inputs:
            shifted = augment.shift_bands(inputs["spectrogram"], draws["bands"], config.augment.band_shift_bands)
            inputs["spectrogram"] = shifted
        if config.augment.crop_share:
            inputs = augment.crop(inputs, draws, config.augment.crop_share)
        if config.augment.mixup_alpha:
            inputs, labels = augment.mix(inputs, labels, draws["share"])
        inputs = {name: tf.squeeze(value, 1) for name, value in inputs.items()}
        return inputs, {"emotion": labels}, {"emotion": tf.squeeze(labels @ weights, 1)}

    dataset = tf.data.Dataset.range(first_epoch, config.training.epochs).flat_map(order)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.map(assemble, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)


def evaluation_dataset(
    waveforms: list[np.ndarray], config: Config, ready: Mapping[str, np.ndarray] | None = None
) -> tf.data.Dataset:
    """Return batches of every clip's serving windows, in order, none lost: the network's inputs as
    {"spectrogram": [batch, windows, frames, bands], "spectrogram_mask": [batch, windows, frames], "tokens": [batch,
    windows, words]}. Arguments as for `training_dataset`."""
    ready = _as_tensors(ready)
    store = Waveforms(waveforms) if config.audio_inputs else None

    def load(clip):
        example = {"waveform": store[clip]} if config.audio_inputs else {}
        return example | _take(ready, clip)

    def assemble(example):
        return features.serving_inputs(config, example)

    dataset = tf.data.Dataset.range(len(waveforms) if config.audio_inputs else len(next(iter(ready.values()))))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).padded_batch(EVALUATION_BATCH)
    return dataset.map(assemble, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4)


def _as_tensors(ready: Mapping[str, np.ndarray] | None) -> dict[str, tf.Tensor]:
    """Tensors are captured by a graph, arrays would be written into it, 2 GB at most."""
    return {name: tf.constant(value) for name, value in (ready or {}).items()}


def _take(ready: Mapping[str, tf.Tensor], clip: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the inputs of one clip that are made already; what is kept in half precision in single."""
    taken = {name: tf.gather(value, clip) for name, value in ready.items()}
    return {name: tf.cast(value, tf.float32) if value.dtype == tf.float16 else value for name, value in taken.items()}


def stack(dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
    """Return all batches of an evaluation dataset as one array for each input, [clips, windows, ...]."""
    batches = list(dataset.as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
