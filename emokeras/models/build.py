"""A configuration to a network: features in, logits out."""

import keras

from emokeras.config import Config, InputName
from emokeras.models.encoders import ENCODERS
from emokeras.models.fusion import fuse
from emokeras.models.layers import Leveling, SpecAugment, StyleMixing, masked_mean, slopes


def build_model(config: Config) -> keras.Model:
    """Build the network that a configuration describes.

    Inputs: {"spectrogram": [batch, frames, bands] in decibels, "spectrogram_mask": [batch, frames]}, "mfcc" and
    "prosody" likewise; "tokens": int [batch, words], 0 where there is none.
    Output: {"emotion": logits [batch, emotions]}, float32.

    Raises UsageError for settings of which no network can be built.
    """
    inputs, branches = {}, {}
    for name, encoder in config.encoders.items():
        own_inputs, frames, mask = read_tokens(config) if name == "tokens" else read_frames(name, config)
        frames, mask = ENCODERS[encoder.kind](frames, mask, encoder)
        inputs |= own_inputs
        branches[name] = keras.layers.Identity(name=f"{name}_frames")(frames), mask
    return keras.Model(inputs, {"emotion": fuse(branches, config)}, name=config.recipe.replace("-", "_"))


def read_frames(name: InputName, config: Config) -> tuple[dict, keras.KerasTensor, keras.KerasTensor]:
    """Return a branch's inputs, its frames as the body gets them [frames, features], and their mask [frames, 1]."""
    settings = getattr(config, name)
    num_frames = config.num_frames(name)
    features = keras.Input((num_frames, settings.num_features), name=name)
    mask = keras.Input((num_frames,), name=f"{name}_mask")
    inputs = {name: features, f"{name}_mask": mask}

    # Normalisation with the training subset's statistics; padding is 0 after it
    mask = keras.layers.Reshape((num_frames, 1))(mask)
    frames = keras.layers.Normalization(axis=-1, dtype="float32", name=f"{name}_normalization")(features)
    frames = keras.layers.Multiply(dtype="float32")([frames, mask])
    if config.encoders[name].centered:
        frames = (frames - keras.ops.expand_dims(masked_mean(frames, mask), 1)) * mask
    if config.encoders[name].leveled and settings.level_features:
        loud = settings.level_features
        frames = Leveling(loud.start, loud.stop, dtype="float32", name=f"{name}_leveling")([frames, mask])
    heard = [frames]
    for _ in range(config.encoders[name].deltas):
        heard.append(slopes(heard[-1]) * mask)
    frames = keras.layers.Concatenate(dtype="float32")(heard) if len(heard) > 1 else frames
    if config.augment.style_mixing_probability:
        frames = StyleMixing(
            config.augment.style_mixing_probability,
            config.augment.style_mixing_alpha,
            seed=config.experiment.seed,
            dtype="float32",
            name=f"{name}_style_mixing",
        )([frames, mask])
    frames = SpecAugment(
        config.augment.num_time_masks,
        config.augment.time_mask_frames,
        config.augment.num_band_masks,
        config.augment.band_mask_bands,
        seed=config.experiment.seed,
        dtype="float32",
        name=f"{name}_spec_augment",
    )(frames)
    return inputs, frames, mask


def read_tokens(config: Config) -> tuple[dict, keras.KerasTensor, keras.KerasTensor]:
    """Return the input of transcripts, their words as the body gets them, and the mask [words, 1].

    The words are vectors [words, units]; a BERT gets the numbers themselves, it has vectors of its own.
    """
    tokens = keras.Input((config.tokens.max_words,), dtype="int32", name="tokens")
    mask = keras.ops.cast(keras.ops.expand_dims(tokens, -1) > 0, "float32")
    if config.encoders["tokens"].kind == "bert":
        return {"tokens": tokens}, tokens, mask
    embedding = keras.layers.Embedding(config.tokens.vocabulary_size, config.tokens.embedding_units)
    words = keras.layers.Multiply()([embedding(tokens), mask])
    return {"tokens": tokens}, words, mask
