"""A configuration to a network: features in, logits out."""

import keras

from emokeras.config import Config
from emokeras.errors import UsageError
from emokeras.models.encoders import ENCODERS
from emokeras.models.fusion import head, pool
from emokeras.models.layers import SpecAugment


def build_model(config: Config) -> keras.Model:
    """Build the network that a configuration describes.

    Inputs: {"spectrogram": [batch, frames, bands] in decibels, "spectrogram_mask": [batch, frames]}, "mfcc" likewise.
    Output: {"emotion": logits [batch, emotions]}, float32.

    Raises UsageError for an encoder that there is not, or that these settings cannot build.
    """
    if len(config.encoders) > 1:
        raise UsageError(
            f"encoders: a network has one branch, not {len(config.encoders)} ({', '.join(config.encoders)})"
        )
    ((name, encoder),) = config.encoders.items()
    if encoder.kind not in ENCODERS:
        raise UsageError(f"encoder.kind: there is no encoder '{encoder.kind}'; there are {', '.join(ENCODERS)}")

    # Inputs
    settings = getattr(config, name)
    frames = round(config.audio.window_seconds / settings.hop_seconds)
    features = keras.Input((frames, settings.num_features), name=name)
    mask = keras.Input((frames,), name=f"{name}_mask")
    inputs = {name: features, f"{name}_mask": mask}

    # Normalisation with the training subset's statistics; padding is 0 after it
    mask = keras.layers.Reshape((frames, 1))(mask)
    x = keras.layers.Normalization(axis=-1, dtype="float32", name=f"{name}_normalization")(features)
    x = keras.layers.Multiply(dtype="float32")([x, mask])
    x = SpecAugment(
        config.augment.num_time_masks,
        config.augment.time_mask_frames,
        config.augment.num_band_masks,
        config.augment.band_mask_bands,
        seed=config.experiment.seed,
        dtype="float32",
        name=f"{name}_spec_augment",
    )(x)

    # Body, pooling, head
    x, mask = ENCODERS[encoder.kind](x, mask, encoder)
    logits = head(pool(x, mask, config.model), len(config.experiment.emotions), config.model, encoder)
    return keras.Model(inputs, {"emotion": logits}, name=config.recipe.replace("-", "_"))
