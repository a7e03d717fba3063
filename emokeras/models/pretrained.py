"""Bodies that start from the weights of others: a ResNet trained on photographs, a BERT trained on text."""

from pathlib import Path

import keras

from emokeras.config import GIVE_BERT, BertConfig, Config, ImagenetConfig
from emokeras.errors import UsageError, first_line
from emokeras.hub import model_file
from emokeras.models.attention import attend

BACKBONE = "backbone"  # The names of their layers begin so.
PIXEL_DEVIATION = 58.0  # of ImageNet's pixels about their mean, where white is 255
GIVE_FILE = "give a .weights.h5 file by --set model.weights=FILE"


def imagenet(features, mask, config: ImagenetConfig):
    """A ResNet of keras.applications (He et al. 2016) over the spectrogram as a grey picture.

    Frames and bands are halved five times; what is left of the bands is averaged.
    """
    frames, bands = features.shape[1:]
    if min(frames, bands) < 32:
        raise UsageError(f"an imagenet body needs 32 frames and 32 bands, there are {frames} and {bands}: take more")
    picture = keras.layers.Reshape((frames, bands, 1))(features)
    picture = keras.layers.Rescaling(PIXEL_DEVIATION)(picture)
    picture = keras.layers.Concatenate()([picture] * 3)
    body = getattr(keras.applications, config.backbone)(
        include_top=False, weights=None, input_shape=(frames, bands, 3), name=BACKBONE
    )
    maps = body(picture)  # [steps, bands, channels]
    for _ in range(5):
        mask = keras.layers.MaxPooling1D(2, padding="same")(mask)
    return keras.layers.Dropout(config.dropout)(keras.ops.mean(maps, axis=2)), mask


def bert(tokens, mask, config: BertConfig):
    """The encoder of BERT (Devlin et al. 2019) over a tokenizer's ids [words], as transformers' BertModel computes it:
    normalised after each addition."""
    words = tokens.shape[1]
    if words > config.num_positions:
        raise UsageError(f"tokens.max_words={words} is more than the {config.num_positions} positions of the BERT")
    positions = keras.ops.zeros_like(tokens) + keras.ops.arange(words, dtype=tokens.dtype)
    frames = keras.layers.Add()(
        [
            keras.layers.Embedding(config.vocabulary_size, config.units, name=f"{BACKBONE}_words")(tokens),
            keras.layers.Embedding(config.num_positions, config.units, name=f"{BACKBONE}_positions")(positions),
            # A transcript is one sentence: type 0 of BERT's two.
            keras.layers.Embedding(2, config.units, name=f"{BACKBONE}_types")(keras.ops.zeros_like(tokens)),
        ]
    )
    frames = _norm("embeddings")(frames)
    frames = keras.layers.Dropout(config.dropout)(frames)
    for number in range(config.num_blocks):
        attended = attend(frames, mask, config.num_heads, config.dropout, name=f"{BACKBONE}_{number}_attention")
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
    """Give the pretrained bodies of a network, if it has any, the weights that `model.weights` names.

    Raises UsageError, saying how to give them, when they cannot be fetched, or are another network's.
    """
    for encoder in config.encoders.values():
        if encoder.kind == "imagenet":
            _load_imagenet(model.get_layer(BACKBONE), encoder.backbone, config.model.weights)
        elif encoder.kind == "bert":
            _load_bert(model, encoder, config.model.weights)


def pretrained_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of the pretrained bodies."""
    return [layer for layer in model.layers if layer.name.startswith(BACKBONE)]


def _load_imagenet(body: keras.Model, backbone: str, weights: str) -> None:
    if weights == "imagenet":
        try:
            source = getattr(keras.applications, backbone)(
                include_top=False, weights="imagenet", input_shape=body.input_shape[1:]
            )
        except Exception as error:  # keras.utils.get_file raises a bare Exception.
            reason = f"cannot be fetched ({first_line(error)})"
            raise UsageError(f"the weights of {backbone} {reason}: {GIVE_FILE}") from error
        body.set_weights(source.get_weights())
        return
    if not Path(weights).is_file():
        raise UsageError(f"model.weights={weights or repr('')} is no file: {GIVE_FILE}")
    try:
        body.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(
            f"model.weights={weights} does not fit {backbone} without its top ({first_line(error)})"
        ) from error


def _load_bert(model: keras.Model, config: BertConfig, weights: str) -> None:
    from safetensors.numpy import load_file

    file = model_file(weights, "model.safetensors", GIVE_BERT)
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors' own is derived from nothing else.
        raise UsageError(f"{file} cannot be read ({first_line(error)}): {GIVE_BERT}") from error
    # Checkpoints of a BERT with a head have a prefix before every name; old ones call scale and shift gamma and beta.
    tensors = {
        name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias"): value
        for name, value in tensors.items()
    }

    def give(layer: str, *values) -> None:
        layer = model.get_layer(f"{BACKBONE}_{layer}")
        shapes = [weight.shape for weight in layer.weights]
        layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])

    def both(name: str, transpose: bool = True) -> list:
        kernel = tensors[f"{name}.weight"]
        return [kernel.T if transpose else kernel, tensors[f"{name}.bias"]]

    try:
        for ours, theirs in (("words", "word"), ("positions", "position"), ("types", "token_type")):
            give(ours, tensors[f"embeddings.{theirs}_embeddings.weight"])
        give("embeddings_norm", *both("embeddings.LayerNorm", False))
        for number in range(config.num_blocks):
            block = f"encoder.layer.{number}"
            attention = [both(f"{block}.attention.self.{part}") for part in ("query", "key", "value")]
            attention.append(both(f"{block}.attention.output.dense"))
            give(f"{number}_attention", *(value for pair in attention for value in pair))
            give(f"{number}_attention_norm", *both(f"{block}.attention.output.LayerNorm", False))
            give(f"{number}_hidden", *both(f"{block}.intermediate.dense"))
            give(f"{number}_output", *both(f"{block}.output.dense"))
            give(f"{number}_output_norm", *both(f"{block}.output.LayerNorm", False))
    except (KeyError, ValueError) as error:
        raise UsageError(f"model.weights={weights} is no BERT of these sizes ({first_line(error)})") from error
