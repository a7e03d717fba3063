"""A trained run to one recogniser: waveform in, probabilities out. predict, evaluate and export all use this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emokeras.config import Config, read_config
from emokeras.data import features
from emokeras.errors import RunError
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.reporting import runs

CLIPS_PER_BATCH = 16


@dataclass(frozen=True)
class Recognizer:
    """`serve` takes waveforms [batch, samples], float32 at `sample_rate_hz`, shorter ones padded with zeros, and
    returns {"probabilities": [batch, emotions], "emotion": string [batch]}. `split` has the rows of the run's
    split.csv, so that a test clip that was heard in training can be refused."""

    config: Config
    split: tuple[dict[str, str], ...]
    serve: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    network: keras.Model | None = None

    @property
    def sample_rate_hz(self) -> int:
        return self.config.audio.sample_rate_hz

    @property
    def emotions(self) -> tuple[str, ...]:
        return self.config.experiment.emotions

    def predict(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities [clips, emotions] of waveforms [samples] each, at `sample_rate_hz`."""
        from tqdm import tqdm

        batches = range(0, len(waveforms), CLIPS_PER_BATCH)
        probabilities = []
        for start in tqdm(batches, "recognising", unit="batch", leave=False, disable=None):
            batch = waveforms[start : start + CLIPS_PER_BATCH]
            padded = np.zeros((len(batch), max(len(waveform) for waveform in batch)), np.float32)
            for row, waveform in zip(padded, batch, strict=True):
                row[: len(waveform)] = waveform
            probabilities.append(self.serve(tf.constant(padded))["probabilities"].numpy())
        return np.concatenate(probabilities)


def recognize(network: keras.Model, config: Config, waveforms: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return probabilities and emotion for waveforms [batch, samples]: features, a network's logits, their mean over
    the windows, softmax. All of it is graph, so that an export holds the very same."""
    inputs = features.extract(waveforms, config)  # [batch, windows, ...]
    windows = {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in inputs.items()}
    logits = network(windows, training=False)["emotion"]  # [batch × windows, emotions]
    emotions = config.experiment.emotions
    logits = tf.reduce_mean(tf.reshape(logits, [-1, config.audio.num_windows, len(emotions)]), axis=1)
    return {
        "probabilities": tf.nn.softmax(logits),
        "emotion": tf.gather(tf.constant(emotions), tf.argmax(logits, axis=1)),
    }


def load_recognizer(path: Path) -> Recognizer:
    """Load a run folder, an exported model, or a folder of its versions (the newest is taken).

    Raises RunError when it is none of these, or damaged.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return _load_export(path)
    if (path / "config.json").is_file():
        return _load_run(path)
    versions = [folder for folder in path.glob("*") if folder.name.isdigit() and (folder / "saved_model.pb").is_file()]
    if versions:
        return _load_export(max(versions, key=lambda folder: int(folder.name)))
    raise RunError(f"{path} is no run folder and no exported model: give a folder with model.keras or saved_model.pb")


def _load_run(folder: Path) -> Recognizer:
    if not (folder / "model.keras").is_file():
        raise RunError(
            f"{folder} has no model.keras, the run has not ended: python -m emokeras.train --resume {folder}"
        )
    config = read_config(folder / "config.json")
    try:
        network = keras.saving.load_model(folder / "model.keras", compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise RunError(f"{folder / 'model.keras'} cannot be loaded ({_first_line(error)}): train it again") from error
    serve = tf.function(
        lambda waveform: recognize(network, config, waveform),
        input_signature=[tf.TensorSpec([None, None], tf.float32, "waveform")],
    )
    return Recognizer(config, tuple(runs.read_split(folder)), serve, network)


def _load_export(folder: Path) -> Recognizer:
    extra = folder / "assets.extra"
    if not (extra / "config.json").is_file():
        raise RunError(f"{folder} has no assets.extra/config.json: it was not made by python -m emokeras.export")
    try:
        loaded = tf.saved_model.load(str(folder))
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise RunError(f"{folder} cannot be loaded ({_first_line(error)}): export it again") from error
    signature = loaded.signatures["serving_default"]

    def serve(waveform, keep=loaded):  # The signature lives only as long as what was loaded.
        return signature(waveform=waveform)

    return Recognizer(read_config(extra / "config.json"), tuple(runs.read_split(extra)), serve)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
