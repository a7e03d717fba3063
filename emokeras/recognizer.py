"""Trained networks as one recognizer: waveforms and transcripts in, probabilities of emotions out.

`predict`, `evaluate` and `export` use it, over a run folder (one network or an ensemble) or an exported model. In
this order: the recognizer and its prediction, loading, one batch in the graph.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emokeras import runs
from emokeras.config import AnyConfig, Config, EnsembleConfig, read_config
from emokeras.data import features
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import Clip, Corpus
from emokeras.data.speech import encode_waveforms, load_speech_encoder
from emokeras.data.text import load_tokenizer
from emokeras.data.transcripts import read_transcripts
from emokeras.errors import RunError, UsageError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.models.late import Combination, combine, read_combination

CLIPS_PER_BATCH, SECONDS_PER_BATCH = 16, 240.0  # at most, padded to the longest clip; a longer clip is a batch of one


@dataclass(frozen=True)
class Member:
    """A trained network of a run. `tokenizer` turns transcripts into tokens [batch, words], where it takes any."""

    folder: Path
    config: Config
    network: keras.Model
    tokenizer: Callable | None


@dataclass(frozen=True)
class Recognizer:
    """A run or an exported model, ready to predict.

    Parameters
    ----------
    clips_used: the rows of the run's split.csv, preceded by those of the runs it started from.
    predict_batch: the tensors of `input_signature`, by name -> {"probabilities": float32 [batch, emotions], "emotion":
        string [batch]}.
    tokenizer: texts -> tokens, where a network has a pretrained tokenizer.
    speech_encoder: waveforms -> inputs of a `speech` branch, where a network has one.
    members, combination: the networks of a run, and how those of an ensemble are combined; an export has neither.
    """

    config: AnyConfig
    clips_used: tuple[dict[str, str], ...]
    predict_batch: Callable[..., dict[str, tf.Tensor]]
    tokenizer: Callable | None = None
    speech_encoder: Callable | None = None
    members: tuple[Member, ...] = ()
    combination: Combination | None = None

    @property
    def sample_rate_hz(self) -> int:
        return self.config.sample_rate_hz

    @property
    def emotions(self) -> tuple[str, ...]:
        return self.config.experiment.emotions

    def predict(
        self, waveforms: Sequence[np.ndarray] | None = None, transcripts: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the probabilities of clips, float32 [clips, emotions].

        Parameters
        ----------
        waveforms: float32 [samples] each, at `sample_rate_hz`; may be left out where no network takes audio.
        transcripts: one for each clip; may be left out where no network takes them.

        Raises
        ------
        UsageError: an input that the networks take is missing.
        """
        from tqdm import tqdm

        if self.config.takes_audio and waveforms is None:
            raise UsageError("this model needs audio: give it recordings")
        if self.config.takes_transcripts and transcripts is None:
            raise UsageError("this model needs transcripts: give it one for each recording")
        lengths = [len(waveform) for waveform in waveforms] if self.config.takes_audio else [0] * len(transcripts)
        batches = _batches(lengths, round(SECONDS_PER_BATCH * self.sample_rate_hz))
        probabilities = []
        for batch in tqdm(batches, "predicting", unit="batch", leave=False, disable=None):
            inputs = {}
            for name in (spec.name for spec in input_signature(self.config)):
                match name:
                    case "waveform":
                        padded = keras.utils.pad_sequences(waveforms[batch], dtype="float32", padding="post")
                        inputs[name] = tf.constant(padded)
                    case "transcript":
                        inputs[name] = tf.constant(list(transcripts[batch]))
                    case "tokens":
                        inputs[name] = tf.constant(self.tokenizer(transcripts[batch]))
                    case "speech":
                        encoded = self.speech_encoder(waveforms[batch])
                        inputs |= {name: tf.constant(value, tf.float32) for name, value in encoded.items()}
            probabilities.append(self.predict_batch(**inputs)["probabilities"].numpy())
        return np.concatenate(probabilities)

    def predict_clips(self, clips: Sequence[Clip], corpus: Corpus) -> np.ndarray:
        """Return the probabilities of clips of a corpus, float32 [clips, emotions]."""
        # Waveforms and transcripts are cached for a whole corpus, as in training.
        waveforms = transcripts = None
        if self.config.takes_audio:
            waveform_of = dict(zip(corpus.clips, load_waveforms(corpus.clips, self.sample_rate_hz), strict=True))
            waveforms = [waveform_of[clip] for clip in clips]
        if self.config.takes_transcripts:
            transcript_of = dict(zip(corpus.clips, read_transcripts(corpus.clips), strict=True))
            transcripts = [transcript_of[clip] for clip in clips]
        return self.predict(waveforms, transcripts)


def _batches(lengths: Sequence[int], max_samples: int) -> list[slice]:
    """Divide clips of these lengths in samples, in their order, into batches of at most CLIPS_PER_BATCH clips and at
    most `max_samples` when padded to the longest."""
    starts, longest = [0], 0
    for number, length in enumerate(lengths):
        longest, count = max(longest, length), number - starts[-1] + 1
        if count > 1 and (count > CLIPS_PER_BATCH or count * longest > max_samples):
            starts.append(number)
            longest = length
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(lengths)], strict=True)]


# Loading


def load_recognizer(path: Path) -> Recognizer:
    """Load a run folder, an exported model, or a folder of its versions (the newest is taken).

    Raises RunError when it is none of these, or damaged.
    """
    path = Path(path)
    if (path / "config.json").is_file():
        return _load_run(path)
    if exported := runs.newest_version(path):
        return _load_export(exported)
    raise RunError(f"{path} is no run folder and no exported model: give a folder with model.keras or saved_model.pb")


def _load_run(folder: Path) -> Recognizer:
    if (backend := keras.backend.backend()) != "tensorflow":
        raise UsageError(f"a run is served by TensorFlow, and KERAS_BACKEND is {backend}: set it to tensorflow")
    config = read_config(folder / "config.json")
    if isinstance(config, EnsembleConfig):
        if not (folder / "ensemble.json").is_file():
            raise _no_network(folder)
        members = tuple(_load_member(folder / "members" / name) for name in config.members)
        combination = read_combination(folder / "ensemble.json")
    else:
        members, combination = (_load_member(folder),), None
    specs = input_signature(config)
    serve = serving_function(config, members, combination)
    graph = tf.function(serve, input_signature=specs, autograph=False)  # There are no loops over tensors.
    return Recognizer(
        config,
        tuple(runs.clips_used(folder)),
        lambda **inputs: graph(*(inputs[spec.name] for spec in specs)),
        next((member.tokenizer for member in members if member.config.has_pretrained_tokenizer), None),
        _load_speech_encoder(config),
        members,
        combination,
    )


def _load_member(folder: Path) -> Member:
    if not (folder / "model.keras").is_file():
        if folder.parent.name == "members":
            raise RunError(
                f"{folder} has no model.keras, as this ensemble was made of rows under results/: make it of the runs "
                "themselves, python -m emokeras.ensemble RUN RUN"
            )
        raise _no_network(folder)
    config = read_config(folder / "config.json")
    try:
        network = keras.saving.load_model(folder / "model.keras", compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise RunError(f"{folder / 'model.keras'} cannot be loaded ({first_line(error)}): train it again") from error
    return Member(folder, config, network, load_tokenizer(folder, config) if config.takes_transcripts else None)


def _no_network(folder: Path) -> RunError:
    if (folder / "metrics.json").is_file():
        return RunError(f"{folder} has metrics but no network, like rows under results/: give the run's own folder")
    return RunError(f"{folder} has no network, the run has not ended: python -m emokeras.train --resume {folder}")


def _load_export(folder: Path) -> Recognizer:
    extra = folder / "assets.extra"
    if not (extra / "config.json").is_file():
        raise RunError(f"{folder} has no assets.extra/config.json: it was not made by python -m emokeras.export")
    try:
        loaded = tf.saved_model.load(str(folder))
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise RunError(f"{folder} cannot be loaded ({first_line(error)}): export it again") from error
    signature = loaded.signatures["serving_default"]

    def predict_batch(keep=loaded, **inputs):  # The signature exists only as long as the loaded object.
        return signature(**inputs)

    config = read_config(extra / "config.json")
    # A vocabulary of words is part of the graph; a pretrained tokenizer cannot be.
    pretrained = [network for network in config.networks.values() if network.has_pretrained_tokenizer]
    tokenizer = load_tokenizer(extra, pretrained[0]) if pretrained else None
    return Recognizer(config, tuple(runs.clips_used(extra)), predict_batch, tokenizer, _load_speech_encoder(config))


def _load_speech_encoder(config: AnyConfig) -> Callable | None:
    network = _network_with_speech(config)
    if not network:
        return None
    encode = load_speech_encoder(network.model.pretrained, network.speech.layer)
    return functools.partial(encode_waveforms, encode, network)


def _network_with_speech(config: AnyConfig) -> Config | None:
    """Return a network with a `speech` branch, if there is one; the members of an ensemble share the encoder."""
    return next((network for network in config.networks.values() if network.has_speech_encoder), None)


# One batch, in the graph of a run and of its export


def input_signature(config: AnyConfig) -> list[tf.TensorSpec]:
    """Return the inputs of a configuration's networks: some of

    - waveform: float32 [batch, samples] at the configuration's rate, shorter clips padded with zeros;
    - transcript: string [batch];
    - tokens: int32 [batch, words], of a pretrained tokenizer;
    - speech: float32 [batch, frames, units], speech_mask: float32 [batch, frames], of a speech encoder.
    """
    specs = [tf.TensorSpec([None, None], tf.float32, "waveform")] if config.audio_inputs else []
    with_text = [network for network in config.networks.values() if network.takes_transcripts]
    if not all(network.has_pretrained_tokenizer for network in with_text):
        specs.append(tf.TensorSpec([None], tf.string, "transcript"))
    words = {network.tokens.max_words for network in with_text if network.has_pretrained_tokenizer}
    specs += [tf.TensorSpec([None, num_words], tf.int32, "tokens") for num_words in words]
    if network := _network_with_speech(config):
        frames, units = network.num_frames("speech"), network.speech.units
        specs += [tf.TensorSpec([None, frames, units], tf.float32, "speech")]
        specs += [tf.TensorSpec([None, frames], tf.float32, "speech_mask")]
    return specs


def serving_function(config: AnyConfig, members: Sequence[Member], combination: Combination | None) -> Callable:
    """Return a function from the tensors of `input_signature`, in its order, to {"probabilities": float32 [batch,
    emotions], "emotion": string [batch]}. All of it can be traced to a graph, for the run and for its export."""
    names = [spec.name for spec in input_signature(config)]

    def serve(*tensors):
        inputs = dict(zip(names, tensors, strict=True))
        probabilities = [_member_probabilities(member, inputs) for member in members]
        combined = combine(tf.stack(probabilities), combination, keras.ops) if combination else probabilities[0]
        emotions = tf.constant(config.experiment.emotions)
        return {"probabilities": combined, "emotion": tf.gather(emotions, tf.argmax(combined, axis=1))}

    return serve


def _member_probabilities(member: Member, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return one network's probabilities [batch, emotions]: features, logits, their mean over windows, softmax."""
    config = member.config
    if config.takes_transcripts and not config.has_pretrained_tokenizer:
        inputs = inputs | {"tokens": member.tokenizer(inputs["transcript"])}
    inputs = features.serving_inputs(config, inputs)  # [batch, windows, ...]
    windows = {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in inputs.items()}
    logits = member.network(windows, training=False)["emotion"]  # [batch × windows, emotions]
    logits = tf.reshape(logits, [-1, config.num_windows, len(config.experiment.emotions)])
    return tf.nn.softmax(tf.reduce_mean(logits, axis=1))
