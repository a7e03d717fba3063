"""Build the network of a configuration: features in, logits out."""

import keras

from emokeras.config import Config, InputName
from emokeras.models.encoders import ENCODERS
from emokeras.models.fusion import fuse
from emokeras.models.layers import SpecAugment, delta_features, masked_mean


def build_model(config: Config) -> keras.Model:
    """Build the network of a configuration.

    Returns
    -------
    A model from {"spectrogram": float32 [batch, frames, bands] in decibels, "spectrogram_mask": float32 [batch,
    frames], 1 at valid frames; "mfcc", "prosody" and "speech" likewise; "tokens": int32 [batch, words], 0 for padding}
    to {"emotion": logits float32 [batch, emotions]}.

    Raises
    ------
    UsageError: the settings do not fit together.
    """
    inputs, branches = {}, {}
    for name, encoder in config.encoders.items():
        own_inputs, frames, mask = token_input(config) if name == "tokens" else frame_input(name, config)
        frames, mask = ENCODERS[encoder.kind](frames, mask, encoder)
        inputs |= own_inputs
        branches[name] = keras.layers.Identity(name=f"{name}_frames")(frames), mask
    return keras.Model(inputs, {"emotion": fuse(branches, config)}, name=config.recipe.replace("-", "_"))


def frame_input(name: InputName, config: Config) -> tuple[dict, keras.KerasTensor, keras.KerasTensor]:
    """Return a branch's inputs, its frames [frames, features] as the encoder takes them, and their mask [frames, 1]."""
    settings, encoder, augment = getattr(config, name), config.encoders[name], config.augment
    num_frames = config.num_frames(name)
    features = keras.Input((num_frames, settings.num_features), name=name)
    mask = keras.Input((num_frames,), name=f"{name}_mask")
    inputs = {name: features, f"{name}_mask": mask}

    # Normalization with the statistics of the training subset; padding is 0 after it.
    mask = keras.layers.Reshape((num_frames, 1))(mask)
    frames = keras.layers.Normalization(axis=-1, dtype="float32", name=f"{name}_normalization")(features)
    frames = keras.layers.Multiply(dtype="float32")([frames, mask])

    # Normalization per clip, and delta features.
    if encoder.centered:
        frames = (frames - keras.ops.expand_dims(masked_mean(frames, mask), 1)) * mask
    orders = [frames]
    for _ in range(encoder.deltas):
        orders.append(delta_features(orders[-1]) * mask)
    frames = keras.layers.Concatenate(dtype="float32")(orders) if len(orders) > 1 else frames

    # Augmentation, in training only.
    frames = SpecAugment(
        augment.num_time_masks,
        augment.time_mask_frames,
        augment.num_band_masks,
        augment.band_mask_bands,
        seed=config.experiment.seed,
        dtype="float32",
        name=f"{name}_spec_augment",
    )(frames)
    return inputs, frames, mask


def token_input(config: Config) -> tuple[dict, keras.KerasTensor, keras.KerasTensor]:
    """Return the input of transcripts, the words as the encoder takes them, and their mask [words, 1].

    The words are learned vectors [words, units]; for a BERT, which has its own, they are the tokens [words].
    """
    tokens = keras.Input((config.tokens.max_words,), dtype="int32", name="tokens")
    mask = keras.ops.cast(keras.ops.expand_dims(tokens, -1) > 0, "float32")
    if config.encoders["tokens"].kind == "bert":
        return {"tokens": tokens}, tokens, mask
    embedding = keras.layers.Embedding(config.tokens.vocabulary_size, config.tokens.embedding_units)
    words = keras.layers.Multiply()([embedding(tokens), mask])
    return {"tokens": tokens}, words, mask
