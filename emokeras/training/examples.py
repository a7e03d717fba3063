"""A picture of what the network sees: the first clips of the first batch, plain and augmented."""

from dataclasses import replace

import keras
import tensorflow as tf
from matplotlib.figure import Figure

from emokeras.config import Config
from emokeras.data import features, pipeline
from emokeras.reporting import figures
from emokeras.training.subsets import Subset, evaluation_inputs

NUM_EXAMPLES = 4


def draw_examples(model: keras.Model, config: Config, train: Subset, batches: tf.data.Dataset) -> Figure:
    """Draw the first training clips as they are and as augmented, normalised, as the network's body gets them.

    `batches` is the training dataset that was made of `train`, from epoch 0 on.
    """
    name = config.audio_inputs[0]
    settings = getattr(config, name)
    numbers = pipeline.epoch_order(len(train.clips), 0, config).numpy()[:NUM_EXAMPLES]
    one_window = replace(config, audio=replace(config.audio, num_windows=1))
    plain = {key: value[:, 0] for key, value in evaluation_inputs(train.take(numbers), one_window).items()}
    batch, _, _ = next(iter(batches))
    augmented = {key: value.numpy()[:NUM_EXAMPLES] for key, value in batch.items()}
    heard = keras.Model(model.inputs, model.get_layer(f"{name}_spec_augment").output)
    mask = f"{name}_mask"
    return figures.spectrogram_batch(
        plain=list(keras.ops.convert_to_numpy(heard(plain, training=False))),
        augmented=list(keras.ops.convert_to_numpy(heard(augmented, training=True))),
        titles=[config.experiment.emotions[train.labels[clip]] for clip in numbers],
        hop_seconds=settings.hop_seconds,
        plain_masks=list(plain[mask] > 0),
        augmented_masks=list(augmented[mask] > 0),
        band_centers_hz=features.band_centers_hz(settings) if name == "spectrogram" else None,
        feature_name={"spectrogram": "band", "mfcc": "coefficient"}.get(name, "feature"),
        unit="standard deviations from the training mean",
    )
