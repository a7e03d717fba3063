"""The frozen speech encoder of a network: loaded, and compared with the one that it was trained with."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emokeras.config import Config
from emokeras.data.speech import SpeechEncoder, equalized, load_torch_encoder, whisper_log_mel
from emokeras.errors import RunError, UsageError, first_line
from emokeras.hub import speech_settings
from emokeras.models.whisper import load_whisper_encoder

ENCODE_BLOCKS = "encode_blocks"  # The signature of an exported model's speech encoder.
BLOCKS = (tf.TensorSpec([None, None], tf.float32, "blocks"), tf.TensorSpec([None], tf.int32, "samples"))


class WhisperEncoder(tf.Module):
    """A Whisper's encoder as a `SpeechEncoder`, in graph. Weights that float16 holds exactly, as those that OpenAI
    published, are stored so: an export is half as large."""

    def __init__(self, network: keras.Model, num_bands: int, equalization: float):
        super().__init__()
        self.num_bands, self.equalization = num_bands, equalization
        self._call = network.stateless_call  # A function: of the network an export keeps nothing.
        values = (keras.ops.convert_to_numpy(variable) for variable in network.non_trainable_variables)
        self.values = [tf.Variable(_smallest(value), trainable=False) for value in values]

    @tf.function(input_signature=BLOCKS)
    def __call__(self, blocks: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
        values = [tf.cast(value, tf.float32) for value in self.values]
        inputs = equalized(whisper_log_mel(blocks, samples, self.num_bands), self.equalization)
        states, _ = self._call([], values, inputs, training=False)
        return states


class ExportedEncoder(tf.Module):
    """The Whisper's encoder of an exported model as a `SpeechEncoder`, in graph."""

    def __init__(self, folder: Path):
        super().__init__()
        try:
            loaded = tf.saved_model.load(str(folder))
            signature = loaded.signatures[ENCODE_BLOCKS]
        except (ValueError, OSError, KeyError, tf.errors.OpError) as error:
            raise RunError(
                f"{folder}: its speech encoder cannot be loaded ({first_line(error)}): export it again"
            ) from error

        self.values = list(signature.variables)

        def call(blocks: tf.Tensor, samples: tf.Tensor, keep=loaded) -> tf.Tensor:
            return signature(blocks=blocks, samples=samples)["states"]

        # A function: a further export keeps nothing else of the model.
        self._call = call

    def __call__(self, blocks: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
        return self._call(blocks, samples)


def _smallest(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return half if (half == value).all() else value


def load_speech_encoder(config: Config) -> SpeechEncoder:
    """Return the speech encoder in `model.pretrained`, which gives the states of `speech.layers`.

    Raises
    ------
    UsageError: it cannot be loaded, or it is a Whisper and Keras runs on another backend than TensorFlow.
    RunError: it has other weights than the one that the network was trained with.
    """
    name, speech = config.model.pretrained, config.speech
    if not speech.sha256:
        raise RunError("this network was trained by an earlier version, on other frames of its speech: train it again")
    found = speech_settings(name)["sha256"]
    if found != speech.sha256:
        raise RunError(
            f"{name} has other weights (SHA-256 {found[:12]}...) than the speech encoder that this network was trained "
            f"with ({speech.sha256[:12]}...): put that one back"
        )
    if speech.family == "wav2vec2":
        return load_torch_encoder(name, speech.layers)
    if (backend := keras.backend.backend()) != "tensorflow":
        raise UsageError(
            f"Whisper runs on TensorFlow, and KERAS_BACKEND is {backend}: train for one epoch with tensorflow first, "
            "which caches its frames of the corpus"
        )
    network = load_whisper_encoder(name, speech.layers)
    return WhisperEncoder(network, network.input["log_mel"].shape[-1], speech.equalization)
