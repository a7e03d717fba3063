"""Pictures of a network's input and of its attention, for one run."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from emokeras.config import Config
from emokeras.data import pipeline
from emokeras.data.spectrogram import band_centers_hz
from emokeras.data.text import RESERVED, VOCABULARY_FILE, read_vocabulary
from emokeras.models.fusion import attention_layer_name
from emokeras.reporting import input_plots
from emokeras.training.subsets import Subset, evaluation_inputs

NUM_EXAMPLES = 4


def draw_examples(model: keras.Model, config: Config, train: Subset, batches: tf.data.Dataset) -> Figure:
    """Draw the first training clips plain and augmented, normalized, as the network's encoder takes them.

    `batches` is the training dataset of `train`, from epoch 0 on.
    """
    name = config.audio_inputs[0]
    settings = getattr(config, name)
    numbers = pipeline.epoch_order(len(train.clips), 0, config).numpy()[:NUM_EXAMPLES]
    windows = evaluation_inputs(train.take(numbers), config)
    first = np.unique(windows.clips, return_index=True)[1]  # The first window of each clip.
    plain = {key: value[first] for key, value in windows.inputs.items()}
    batch, _, _ = next(iter(batches))
    augmented = {key: value.numpy()[:NUM_EXAMPLES] for key, value in batch.items()}
    encoder_input = keras.Model(model.inputs, model.get_layer(f"{name}_spec_augment").output)
    mask = f"{name}_mask"
    return input_plots.spectrogram_batch(
        plain=list(keras.ops.convert_to_numpy(encoder_input(plain, training=False))),
        augmented=list(keras.ops.convert_to_numpy(encoder_input(augmented, training=True))),
        titles=[config.experiment.emotions[train.labels[clip]] for clip in numbers],
        hop_seconds=settings.hop_seconds,
        plain_masks=list(plain[mask] > 0),
        augmented_masks=list(augmented[mask] > 0),
        band_centers_hz=band_centers_hz(settings) if name == "spectrogram" else None,
        feature_name={"spectrogram": "band", "mfcc": "coefficient"}.get(name, "feature"),
        unit="standard deviations from the training mean",
    )


def draw_attention(model: keras.Model, config: Config, clip: Mapping[str, np.ndarray], title: str, run: Path) -> Figure:
    """Draw the cross-attention weights of the last block, one map per branch.

    Parameters
    ----------
    clip: the network's inputs for one window of one clip, [...] each.
    run: the run's folder, which has the vocabulary of a network with tokens.
    """
    batch = {name: value[np.newaxis] for name, value in clip.items()}
    words = {name: _words(clip[name], config, run) if name == "tokens" else [] for name in config.encoders}
    maps = []
    for name in config.encoders:
        layer = model.get_layer(attention_layer_name(name, config.model.attention_blocks - 1))
        weights = layer.attention_map(keras.Model(model.inputs, layer.input)(batch))  # [1, steps, other steps]
        weights = keras.ops.convert_to_numpy(weights)[0]
        others = [other for other in config.encoders if other != name]
        # The steps of several others are concatenated: they have no common time axis.
        seconds = config.audio.window_seconds
        names = words[others[0]] if len(others) == 1 else []
        axes = seconds, seconds if len(others) == 1 else None
        maps.append(input_plots.AttentionMap(weights, (name, *others), axes, (words[name], names)))
    return input_plots.attention_maps(maps, title)


def _words(tokens: np.ndarray, config: Config, run: Path) -> list[str]:
    """Return the word of each token: "?" for an unknown one, "" for padding; the number of a pretrained one."""
    if config.tokens.tokenizer != "words":
        return [str(token) for token in tokens]
    vocabulary = read_vocabulary(run / VOCABULARY_FILE)
    return ["" if token == 0 else "?" if token < RESERVED else vocabulary[token - RESERVED] for token in tokens]
