"""Whisper's encoder as a frozen Keras network (Radford et al., "Robust speech recognition via large-scale weak
supervision", ICML 2023), with the weights of a model of transformers.

Only the blocks that are used are built. The input is as long as the speech, not padded to 30 s.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from emokeras.errors import UsageError, first_line
from emokeras.hub import WhisperSizes, model_file, whisper_sizes

GIVE_WHISPER = "give a Whisper of transformers with model.safetensors, by its folder or name, by --set model.pretrained"


@keras.saving.register_keras_serializable("emokeras")
class FirstPositions(layers.Layer):
    """Add to frames [batch, steps, units] the first `steps` rows of a table of positions, [num_positions, units]."""

    def __init__(self, num_positions, **kwargs):
        super().__init__(**kwargs)
        self.num_positions = num_positions

    def build(self, input_shape):
        self.positions = self.add_weight(shape=(self.num_positions, input_shape[-1]), name="positions")

    def call(self, frames):
        return frames + self.positions[: ops.shape(frames)[1]]

    def get_config(self):
        return super().get_config() | {"num_positions": self.num_positions}


def load_whisper_encoder(name: str, chosen: Sequence[int]) -> keras.Model:
    """Return the encoder of a Whisper with its weights, as `build_whisper_encoder` does.

    Raises
    ------
    UsageError: `name` is no folder and no hub name of a Whisper with model.safetensors, or it has no such layer.
    """
    from safetensors import SafetensorError, safe_open

    sizes = whisper_sizes(name)
    encoder = build_whisper_encoder(sizes, chosen)
    file = model_file(name, "model.safetensors", GIVE_WHISPER)
    try:
        with safe_open(file, "numpy") as opened:
            weights = {
                key.partition("encoder.")[2]: opened.get_tensor(key).astype(np.float32)
                for key in opened.keys()  # noqa: SIM118  It is no mapping.
                if key.startswith(("model.encoder.", "encoder."))
            }
        _set_weights(encoder, weights, sizes)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{file} has not the weights of {name} ({first_line(error)}): {GIVE_WHISPER}") from error
    encoder.trainable = False
    return encoder


def build_whisper_encoder(sizes: WhisperSizes, chosen: Sequence[int]) -> keras.Model:
    """Return the encoder with random weights: {"log_mel": float32 [batch, frames, bands], 100 a second, as
    `data.speech.whisper_log_mel` gives, "mask": float32 [batch, frames], 1 at frames that are not padding} -> float32
    [batch, steps, units of all chosen layers], 50 a second, a step for two frames.

    Parameters
    ----------
    chosen: the layers whose states are concatenated; 0 is the input of the first block, `sizes.num_blocks` or -1 the
        output of the last, after the final normalization.

    Raises
    ------
    UsageError: there is no such layer.
    """
    if wrong := [layer for layer in chosen if not -1 <= layer <= sizes.num_blocks]:
        raise UsageError(f"speech.layers={wrong[0]}: this Whisper has layers 0 to {sizes.num_blocks}")
    chosen = [layer if layer >= 0 else sizes.num_blocks for layer in chosen]
    settings = {"dtype": "float32"}  # Also where a network is trained in mixed precision: it is served in float32.
    log_mel = keras.Input((None, sizes.num_bands), name="log_mel", **settings)
    mask = keras.Input((None,), name="mask", **settings)
    valid = ops.expand_dims(mask, -1)
    convolution = layers.Conv1D(sizes.units, 3, padding="same", name="conv1", **settings)
    frames = _gelu(convolution(log_mel * valid)) * valid
    # "same" would pad the end alone where the number of frames is even.
    frames = layers.ZeroPadding1D(1, **settings)(frames)
    frames = _gelu(layers.Conv1D(sizes.units, 3, strides=2, name="conv2", **settings)(frames))
    frames = FirstPositions(sizes.num_positions, name="embed_positions", **settings)(frames)
    keys = ops.expand_dims(mask[:, ::2], 1) > 0  # [batch, 1, steps]: the same for every query
    states = [frames]
    for number in range(max(chosen)):
        attended = _norm(f"layers.{number}.self_attn_layer_norm")(frames)
        attention = layers.MultiHeadAttention(
            *(sizes.num_heads, sizes.units // sizes.num_heads),
            flash_attention=False,
            name=f"layers.{number}.self_attn",
            **settings,
        )
        frames = frames + attention(attended, attended, attention_mask=keys)
        hidden = _norm(f"layers.{number}.final_layer_norm")(frames)
        hidden = _gelu(layers.Dense(sizes.hidden_units, name=f"layers.{number}.fc1", **settings)(hidden))
        frames = frames + layers.Dense(sizes.units, name=f"layers.{number}.fc2", **settings)(hidden)
        states.append(frames)
    if sizes.num_blocks in chosen:
        states[-1] = _norm("layer_norm")(states[-1])
    taken = [states[layer] for layer in chosen]
    output = layers.Concatenate(**settings)(taken) if len(taken) > 1 else taken[0]
    return keras.Model({"log_mel": log_mel, "mask": mask}, output, name="whisper_encoder")


def _gelu(values):
    return ops.gelu(values, approximate=False)


def _norm(name: str) -> layers.Layer:
    return layers.LayerNormalization(epsilon=1e-5, name=name, dtype="float32")


def _set_weights(encoder: keras.Model, weights: Mapping[str, np.ndarray], sizes: WhisperSizes) -> None:
    """Give each layer its weights, which have the layer's name in transformers; theirs are [out, in]."""
    heads, head_units = sizes.num_heads, sizes.units // sizes.num_heads
    for layer in encoder.layers:
        name = layer.name
        match layer:
            case layers.Conv1D():
                layer.set_weights([weights[f"{name}.weight"].transpose(2, 1, 0), weights[f"{name}.bias"]])
            case FirstPositions():
                layer.set_weights([weights[f"{name}.weight"]])
            case layers.LayerNormalization():
                layer.set_weights([weights[f"{name}.weight"], weights[f"{name}.bias"]])
            case layers.Dense():
                layer.set_weights([weights[f"{name}.weight"].T, weights[f"{name}.bias"]])
            case layers.MultiHeadAttention():
                own = []
                for part in ("q_proj", "k_proj", "v_proj"):
                    bias = weights.get(f"{name}.{part}.bias", np.zeros(sizes.units, np.float32))  # Keys have none.
                    own += [weights[f"{name}.{part}.weight"].T.reshape(-1, heads, head_units)]
                    own += [bias.reshape(heads, head_units)]
                output = weights[f"{name}.out_proj.weight"].T.reshape(heads, head_units, -1)
                layer.set_weights([*own, output, weights[f"{name}.out_proj.bias"]])
