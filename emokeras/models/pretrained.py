"""Encoders with pretrained weights: a ResNet trained on ImageNet, and BERT.

Shapes in this module leave out the batch axis.
"""

from pathlib import Path

import keras

from emokeras.config import GIVE_BERT, BertConfig, Config, ImagenetConfig
from emokeras.errors import UsageError, first_line
from emokeras.hub import model_file
from emokeras.models.attention import self_attention
from emokeras.models.layers import halve_mask

BACKBONE = "backbone"  # prefix of the names of pretrained layers
PIXEL_DEVIATION = 58.0  # standard deviation of ImageNet's pixels, where white is 255
GIVE_FILE = "give a .weights.h5 file by --set model.weights=FILE"


def imagenet(features, mask, config: ImagenetConfig):
    """A ResNet of keras.applications (He et al. 2016) over the spectrogram as a gray image.

    Frames and bands are halved five times; the remaining bands are averaged. Raises UsageError for fewer than 32 frames
    or bands.
    """
    frames, bands = features.shape[1:]
    if min(frames, bands) < 32:
        raise UsageError(f"an imagenet encoder needs 32 frames and 32 bands, there are {frames} and {bands}: give more")
    image = keras.layers.Reshape((frames, bands, 1))(features)
    image = keras.layers.Rescaling(PIXEL_DEVIATION)(image)
    image = keras.layers.Concatenate()([image] * 3)
    backbone = getattr(keras.applications, config.backbone)(
        include_top=False, weights=None, input_shape=(frames, bands, 3), name=BACKBONE
    )
    maps = backbone(image)  # [steps, bands, channels]
    for _ in range(5):
        mask = halve_mask(mask)
    return keras.layers.Dropout(config.dropout)(keras.ops.mean(maps, axis=2)), mask


def bert(tokens, mask, config: BertConfig):
    """The encoder of BERT (Devlin et al. 2019) over tokens [words], as transformers' BertModel computes it. Raises
    UsageError for more words than positions."""
    words = tokens.shape[1]
    if words > config.num_positions:
        raise UsageError(
            f"tokens.max_words={words} is more than the {config.num_positions} positions of the BERT: lower it"
        )
    positions = keras.ops.zeros_like(tokens) + keras.ops.arange(words, dtype=tokens.dtype)
    frames = keras.layers.Add()(
        [
            keras.layers.Embedding(config.vocabulary_size, config.units, name=f"{BACKBONE}_words")(tokens),
            keras.layers.Embedding(config.num_positions, config.units, name=f"{BACKBONE}_positions")(positions),
            # A transcript is one text: type 0 of BERT's two.
            keras.layers.Embedding(2, config.units, name=f"{BACKBONE}_types")(keras.ops.zeros_like(tokens)),
        ]
    )
    frames = _norm("embeddings")(frames)
    frames = keras.layers.Dropout(config.dropout)(frames)
    for number in range(config.num_blocks):
        attended = self_attention(frames, mask, config.num_heads, config.dropout, name=f"{BACKBONE}_{number}_attention")
        attended = keras.layers.Dropout(config.dropout)(attended)
        frames = _norm(f"{number}_attention")(keras.layers.Add()([frames, attended]))
        hidden = keras.layers.Dense(config.hidden_units, activation="gelu", name=f"{BACKBONE}_{number}_hidden")(frames)
        hidden = keras.layers.Dense(config.units, name=f"{BACKBONE}_{number}_output")(hidden)
        hidden = keras.layers.Dropout(config.dropout)(hidden)
        frames = _norm(f"{number}_output")(keras.layers.Add()([frames, hidden]))
    return frames, mask


def _norm(name: str):
    return keras.layers.LayerNormalization(epsilon=1e-12, name=f"{BACKBONE}_{name}_norm")


# Weights


def load_pretrained(model: keras.Model, config: Config) -> None:
    """Load the weights that `model.weights` names into the pretrained encoders of a network, if it has any. Raises
    UsageError when they cannot be fetched or do not fit."""
    for encoder in config.encoders.values():
        if encoder.kind == "imagenet":
            _load_imagenet(model.get_layer(BACKBONE), encoder.backbone, config.model.weights)
        elif encoder.kind == "bert":
            _load_bert(model, encoder, config.model.weights)


def pretrained_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of the pretrained encoders."""
    return [layer for layer in model.layers if layer.name.startswith(BACKBONE)]


def _load_imagenet(backbone: keras.Model, name: str, weights: str) -> None:
    if weights == "imagenet":
        try:
            source = getattr(keras.applications, name)(
                include_top=False, weights="imagenet", input_shape=backbone.input_shape[1:]
            )
        except Exception as error:  # keras.utils.get_file raises a bare Exception.
            reason = f"cannot be fetched ({first_line(error)})"
            raise UsageError(f"the weights of {name} {reason}: {GIVE_FILE}") from error
        backbone.set_weights(source.get_weights())
        return
    if not Path(weights).is_file():
        raise UsageError(f"model.weights={weights or repr('')} is no file: {GIVE_FILE}")
    try:
        backbone.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        reason = f"does not fit {name} without its top ({first_line(error)})"
        raise UsageError(f"model.weights={weights} {reason}: {GIVE_FILE}") from error


def _load_bert(model: keras.Model, config: BertConfig, weights: str) -> None:
    from safetensors.numpy import load_file

    file = model_file(weights, "model.safetensors", GIVE_BERT)
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors' own error has no narrower base class.
        raise UsageError(f"{file} cannot be read ({first_line(error)}): {GIVE_BERT}") from error
    # With a head every name has a prefix; old checkpoints name scale and offset gamma and beta.
    tensors = {
        name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias"): value
        for name, value in tensors.items()
    }

    def set_weights(layer_name: str, *values) -> None:
        layer = model.get_layer(f"{BACKBONE}_{layer_name}")
        shapes = [weight.shape for weight in layer.weights]
        layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])

    def norm(name: str) -> list:
        return [tensors[f"{name}.LayerNorm.weight"], tensors[f"{name}.LayerNorm.bias"]]

    def dense(name: str) -> list:
        return [tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]]

    try:
        for ours, theirs in (("words", "word"), ("positions", "position"), ("types", "token_type")):
            set_weights(ours, tensors[f"embeddings.{theirs}_embeddings.weight"])
        set_weights("embeddings_norm", *norm("embeddings"))
        for number in range(config.num_blocks):
            block = f"encoder.layer.{number}"
            attention = [*(f"self.{part}" for part in ("query", "key", "value")), "output.dense"]
            attention = [dense(f"{block}.attention.{part}") for part in attention]
            set_weights(f"{number}_attention", *(value for pair in attention for value in pair))
            set_weights(f"{number}_attention_norm", *norm(f"{block}.attention.output"))
            set_weights(f"{number}_hidden", *dense(f"{block}.intermediate.dense"))
            set_weights(f"{number}_output", *dense(f"{block}.output.dense"))
            set_weights(f"{number}_output_norm", *norm(f"{block}.output"))
    except (KeyError, ValueError) as error:
        reason = f"is no BERT of these sizes ({first_line(error)})"
        raise UsageError(f"model.weights={weights} {reason}: {GIVE_BERT}") from error
