"""A trained run to one recogniser: waveform and transcript in, probabilities out. predict, evaluate and export all use
this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emokeras.config import Config, read_config
from emokeras.data import features
from emokeras.data.text import load_tokenizer
from emokeras.errors import RunError, UsageError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.reporting import runs

CLIPS_PER_BATCH = 16


@dataclass(frozen=True)
class Recognizer:
    """`serve` takes what the network hears and reads, by name, and returns {"probabilities": [batch, emotions],
    "emotion": string [batch]}:

    waveform: [batch, samples], float32 at `sample_rate_hz`, shorter ones padded with zeros;
    transcript: string [batch]; or, where a pretrained tokenizer makes them, `tokens`: int [batch, words].

    `split` has the rows of the run's split.csv, so that a test clip that was heard in training can be refused;
    `tokenize` turns transcripts into tokens [batch, words]."""

    config: Config
    split: tuple[dict[str, str], ...]
    serve: Callable[..., dict[str, tf.Tensor]]
    tokenize: Callable | None = None
    network: keras.Model | None = None

    @property
    def sample_rate_hz(self) -> int:
        return self.config.audio.sample_rate_hz

    @property
    def emotions(self) -> tuple[str, ...]:
        return self.config.experiment.emotions

    def predict(
        self, waveforms: Sequence[np.ndarray] | None = None, transcripts: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the probabilities [clips, emotions] of waveforms [samples] each, at `sample_rate_hz`, and of their
        transcripts. What the network does not take may be left out; UsageError when something is that it takes."""
        from tqdm import tqdm

        if self.config.audio_inputs and waveforms is None:
            raise UsageError("this model hears: give it recordings")
        if self.config.reads_transcripts and transcripts is None:
            raise UsageError("this model reads what is said: give it a transcript for each recording")
        num_clips = len(waveforms if self.config.audio_inputs else transcripts)
        probabilities = []
        for start in tqdm(range(0, num_clips, CLIPS_PER_BATCH), "recognising", unit="batch", leave=False, disable=None):
            chosen = slice(start, start + CLIPS_PER_BATCH)
            inputs = {"waveform": _padded(waveforms[chosen])} if self.config.audio_inputs else {}
            if self.config.reads_transcripts and self.config.tokens.tokenizer == "words":
                inputs["transcript"] = tf.constant(list(transcripts[chosen]))
            elif self.config.reads_transcripts:
                inputs["tokens"] = tf.constant(self.tokenize(transcripts[chosen]))
            probabilities.append(self.serve(**inputs)["probabilities"].numpy())
        return np.concatenate(probabilities)


def _padded(waveforms: Sequence[np.ndarray]) -> tf.Tensor:
    padded = np.zeros((len(waveforms), max(len(waveform) for waveform in waveforms)), np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return tf.constant(padded)


def signature(config: Config) -> list[tf.TensorSpec]:
    """Return what `serve` takes for this configuration, in order."""
    specs = [tf.TensorSpec([None, None], tf.float32, "waveform")] if config.audio_inputs else []
    if config.reads_transcripts and config.tokens.tokenizer == "words":
        specs.append(tf.TensorSpec([None], tf.string, "transcript"))
    elif config.reads_transcripts:
        specs.append(tf.TensorSpec([None, config.tokens.max_words], tf.int32, "tokens"))
    return specs


def serving_function(network: keras.Model, config: Config, tokenize: Callable | None) -> Callable:
    """Return a function of what `signature` lists, in its order, that a graph can be made of."""
    names = [spec.name for spec in signature(config)]

    def serve(*given):
        inputs = dict(zip(names, given, strict=True))
        tokens = tokenize(inputs["transcript"]) if "transcript" in inputs else inputs.get("tokens")
        return recognize(network, config, inputs.get("waveform"), tokens)

    return serve


def recognize(
    network: keras.Model, config: Config, waveforms: tf.Tensor | None, tokens: tf.Tensor | None
) -> dict[str, tf.Tensor]:
    """Return probabilities and emotion for waveforms [batch, samples] and tokens [batch, words]: features, a network's
    logits, their mean over the windows, softmax. All of it is graph, so that an export holds the very same."""
    inputs = features.serving_inputs(config, waveforms, tokens)  # [batch, windows, ...]
    windows = {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in inputs.items()}
    logits = network(windows, training=False)["emotion"]  # [batch × windows, emotions]
    emotions = config.experiment.emotions
    logits = tf.reduce_mean(tf.reshape(logits, [-1, config.num_windows, len(emotions)]), axis=1)
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
        raise RunError(f"{folder / 'model.keras'} cannot be loaded ({first_line(error)}): train it again") from error
    tokenize = load_tokenizer(folder, config) if config.reads_transcripts else None
    graph = tf.function(serving_function(network, config, tokenize), input_signature=signature(config))
    names = [spec.name for spec in signature(config)]
    return Recognizer(
        config,
        tuple(runs.read_split(folder)),
        lambda **inputs: graph(*(inputs[name] for name in names)),
        tokenize,
        network,
    )


def _load_export(folder: Path) -> Recognizer:
    extra = folder / "assets.extra"
    if not (extra / "config.json").is_file():
        raise RunError(f"{folder} has no assets.extra/config.json: it was not made by python -m emokeras.export")
    try:
        loaded = tf.saved_model.load(str(folder))
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise RunError(f"{folder} cannot be loaded ({first_line(error)}): export it again") from error
    served = loaded.signatures["serving_default"]

    def serve(keep=loaded, **inputs):  # The signature lives only as long as what was loaded.
        return served(**inputs)

    config = read_config(extra / "config.json")
    tokenize = load_tokenizer(extra, config) if config.reads_transcripts else None
    return Recognizer(config, tuple(runs.read_split(extra)), serve, tokenize)
