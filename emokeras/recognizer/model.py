"""A run folder (one network or an ensemble) or an exported model as a recognizer.

In this order: the recognizer and its answers, loading, one batch in the graph.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emokeras import runs
from emokeras.config import AnyConfig, Config, EnsembleConfig, read_config
from emokeras.data import features
from emokeras.data.activity import recording_quality
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import Clip, Corpus
from emokeras.data.speech import SpeechEncoder, encode_speech
from emokeras.data.text import load_tokenizer
from emokeras.data.transcripts import read_transcripts
from emokeras.errors import RunError, UsageError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.models.late import Combination, combine, read_combination, with_temperature
from emokeras.recognizer.answers import QUALITY, Answer, Block, batches_of, blocks_of, pool
from emokeras.recognizer.speech import ExportedEncoder, load_speech_encoder

MAX_SECONDS = 600.0  # of one call of the graph, whose memory grows with the length
CALIBRATION_FILE = "calibration.json"  # in the assets.extra/ of an export with a temperature
MIN_SPEECH_SECONDS = 0.1  # With less there is no answer.


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
    predict_batch: the tensors of `input_signature`, by name -> what `serving_function` gives.
    tokenizer: texts -> tokens, where a network has a pretrained tokenizer.
    speech_encoder: waveforms [batch, samples] -> the inputs "speech" and "speech_mask", of an encoder that does not run
        in graph.
    members, combination, encoder, temperature: the networks of a run, how those of an ensemble are combined, their
        speech encoder, and what divides the logits of the answers; an export has these in its graph.
    """

    config: AnyConfig
    clips_used: tuple[dict[str, str], ...]
    predict_batch: Callable[..., dict[str, tf.Tensor]]
    tokenizer: Callable | None = None
    speech_encoder: Callable | None = None
    members: tuple[Member, ...] = ()
    combination: Combination | None = None
    encoder: SpeechEncoder | None = None
    temperature: float = 1.0

    @property
    def sample_rate_hz(self) -> int:
        return self.config.sample_rate_hz

    @property
    def emotions(self) -> tuple[str, ...]:
        return self.config.experiment.emotions

    def predict(
        self, waveforms: Sequence[np.ndarray] | None = None, transcripts: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the probabilities of clips, float32 [clips, emotions]; NaN for a clip without speech or samples.

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
        recordings = None
        if self.config.takes_audio:
            recordings = (blocks_of([waveform], self.sample_rate_hz) for waveform in waveforms)
        total = len(waveforms if self.config.takes_audio else transcripts)
        answers = tqdm(
            self.answer(recordings, transcripts), "predicting", total, unit="clip", leave=False, disable=None
        )
        probabilities = np.full([total, len(self.emotions)], np.nan, np.float32)
        for number, answer in answers:
            probabilities[number] = answer.probabilities
        return probabilities

    def answer(
        self, recordings: Iterable[Iterable[np.ndarray]] | None, transcripts: Iterable[str] | None = None
    ) -> Iterator[tuple[int, Answer]]:
        """Yield number and answer of each recording, in order and while the next ones are read; a recording without a
        block is passed over.

        Parameters
        ----------
        recordings: the blocks of each, from `answers.blocks_of`; None where no network takes audio.
        transcripts: one for each recording; None where no network takes any.
        """
        answered = (
            (block.recording, block.samples / self.sample_rate_hz, answer)
            for batch in batches_of(_blocks(recordings, transcripts), self.sample_rate_hz)
            for block, answer in zip(batch, self._answer_batch(batch), strict=True)
        )
        for number, group in itertools.groupby(answered, key=lambda one: one[0]):
            _, seconds, answers = zip(*group, strict=True)
            yield number, pool(answers, seconds)

    def _answer_batch(self, batch: Sequence[Block]) -> list[Answer]:
        waveforms, padded = [block.waveform for block in batch], None
        if self.config.takes_audio:
            padded = tf.constant(keras.utils.pad_sequences(waveforms, dtype="float32", padding="post"))
        inputs = {}
        for name in (spec.name for spec in input_signature(self.config)):
            match name:
                case "waveform":
                    inputs[name] = padded
                case "transcript":
                    inputs[name] = tf.constant([block.transcript for block in batch])
                case "tokens":
                    inputs[name] = tf.constant(self.tokenizer([block.transcript for block in batch]))
                case "speech":
                    inputs |= self.speech_encoder(padded)
        outputs = self.predict_batch(**inputs)
        if padded is not None and "waveform" not in inputs:  # The graph begins at the frames of a speech encoder.
            outputs = with_quality(outputs, recording_quality(padded, self.sample_rate_hz))
        outputs = {name: value.numpy() for name, value in outputs.items()}
        measured = [name for name in QUALITY if name in outputs]
        return [
            Answer(row, {name: float(outputs[name][number]) for name in measured})
            for number, row in enumerate(outputs["probabilities"])
        ]

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


def _blocks(recordings: Iterable[Iterable[np.ndarray]] | None, transcripts: Iterable[str] | None) -> Iterator[Block]:
    if recordings is None:
        yield from (Block(number, None, transcript) for number, transcript in enumerate(transcripts))
        return
    transcripts = itertools.repeat(None) if transcripts is None else transcripts
    for number, (blocks, transcript) in enumerate(zip(recordings, transcripts, strict=False)):
        for block in blocks:
            yield Block(number, block, transcript)


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


def load_networks(path: Path) -> Recognizer:
    """Load a run, or an exported model of one network, with its networks, so that they can be changed.

    Raises RunError when it is neither, or damaged, or an exported ensemble, which has no networks.
    """
    exported = None if (Path(path) / "config.json").is_file() else runs.newest_version(Path(path))
    if not exported:
        return load_recognizer(path)
    extra = exported / "assets.extra"
    if not (extra / "model.keras").is_file():
        raise RunError(f"{exported} has no assets.extra/model.keras: give an export of one network, or a run")
    network = read_config(extra / "config.json")
    has_whisper = network.has_speech_encoder and network.speech.family == "whisper"
    calibration = extra / CALIBRATION_FILE
    temperature = runs.read_json(calibration)["temperature"] if calibration.is_file() else 1.0
    return _load_run(extra, ExportedEncoder(exported) if has_whisper else None, temperature)


def _load_run(folder: Path, encoder: SpeechEncoder | None = None, temperature: float = 1.0) -> Recognizer:
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
    if encoder is None and (network := network_with_speech(config)):
        encoder = load_speech_encoder(network)
    return join(config, tuple(runs.clips_used(folder)), members, combination, encoder, temperature)


def join(
    config: AnyConfig,
    clips_used: tuple[dict[str, str], ...],
    members: tuple[Member, ...],
    combination: Combination | None,
    encoder: SpeechEncoder | None,
    temperature: float = 1.0,
) -> Recognizer:
    """Return the recognizer of these networks and their speech encoder, as they are now."""
    specs = input_signature(config)
    serve = serving_function(config, members, combination, encoder, temperature)
    graph = tf.function(serve, input_signature=specs, autograph=False)  # There are no loops over tensors.
    return Recognizer(
        config,
        clips_used,
        lambda **inputs: graph(*(inputs[spec.name] for spec in specs)),
        next((member.tokenizer for member in members if member.config.has_pretrained_tokenizer), None),
        _outside_the_graph(network_with_speech(config), encoder),
        members,
        combination,
        encoder,
        temperature,
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
    network = network_with_speech(config)
    encoder = load_speech_encoder(network) if network and network.speech.family == "wav2vec2" else None
    outside = _outside_the_graph(network, encoder)
    return Recognizer(config, tuple(runs.clips_used(extra)), predict_batch, tokenizer, outside)


def _outside_the_graph(network: Config | None, encoder: SpeechEncoder | None) -> Callable | None:
    """Return the `speech_encoder` of a recognizer, where its encoder does not run in graph."""
    if encoder is None or network.speech.family == "whisper":
        return None
    return lambda waveforms: _speech_inputs(waveforms, network, encoder)


def _speech_inputs(waveforms: tf.Tensor, network: Config, encoder: SpeechEncoder) -> dict[str, tf.Tensor]:
    frames, mask = encode_speech(waveforms, network, encoder)
    return {"speech": frames, "speech_mask": mask}


def network_with_speech(config: AnyConfig) -> Config | None:
    """Return a network with a `speech` branch, if there is one; the members of an ensemble share the encoder."""
    return next((network for network in config.networks.values() if network.has_speech_encoder), None)


# One batch, in the graph of a run and of its export


def input_signature(config: AnyConfig) -> list[tf.TensorSpec]:
    """Return the inputs of a configuration's networks: some of

    - waveform: float32 [batch, samples] at the configuration's rate, shorter clips padded with zeros;
    - transcript: string [batch];
    - tokens: int32 [batch, words], of a pretrained tokenizer;
    - speech: float32 [batch, frames, units], speech_mask: float32 [batch, frames], as in `speech.SpeechFrames`, of an
      encoder that does not run in graph.
    """
    specs = [tf.TensorSpec([None, None], tf.float32, "waveform")] if config.takes_waveform else []
    with_text = [network for network in config.networks.values() if network.takes_transcripts]
    if not all(network.has_pretrained_tokenizer for network in with_text):
        specs.append(tf.TensorSpec([None], tf.string, "transcript"))
    words = {network.tokens.max_words for network in with_text if network.has_pretrained_tokenizer}
    specs += [tf.TensorSpec([None, num_words], tf.int32, "tokens") for num_words in words]
    network = network_with_speech(config)
    if network and network.speech.family == "wav2vec2":
        specs += [tf.TensorSpec([None, None, network.speech.num_features], tf.float32, "speech")]
        specs += [tf.TensorSpec([None, None], tf.float32, "speech_mask")]
    return specs


def serving_function(
    config: AnyConfig,
    members: Sequence[Member],
    combination: Combination | None,
    encoder: SpeechEncoder | None = None,
    temperature: float = 1.0,
) -> Callable:
    """Return a function from the tensors of `input_signature`, in its order, to {"probabilities": float32 [batch,
    emotions], "emotion": string [batch]} and, of networks that take the waveform, what `recording_quality` gives.
    Without speech probabilities are NaN and the emotion is "". All of it can be traced to a graph, for the run and for
    its export.

    Parameters
    ----------
    encoder: a Whisper's, which the members with a `speech` branch share.
    temperature: divides the logits of the answer.
    """
    names = [spec.name for spec in input_signature(config)]
    emotions = config.experiment.emotions

    def serve(*tensors):
        inputs = dict(zip(names, tensors, strict=True))
        quality, waveform = {}, inputs.get("waveform")
        if waveform is not None:
            limit = round(MAX_SECONDS * config.sample_rate_hz)
            message = f"one call takes at most {MAX_SECONDS:.0f} s: cut the recording"
            tf.debugging.assert_less_equal(tf.shape(waveform)[1], limit, message)
            finite = tf.reduce_all(tf.math.is_finite(waveform), axis=1)
            inputs["waveform"] = waveform = tf.where(finite[:, tf.newaxis], waveform, 0.0)
            quality = recording_quality(waveform, config.sample_rate_hz)
        network = network_with_speech(config)
        if network and network.speech.family == "whisper":
            inputs |= _speech_inputs(waveform, network, encoder)
        each = [_member_probabilities(member, inputs) for member in members]
        probabilities = combine(tf.stack(each), combination, keras.ops) if combination else each[0]
        if temperature != 1.0:
            probabilities = with_temperature(probabilities, temperature, keras.ops)
        emotion = tf.gather(tf.constant(emotions), tf.argmax(probabilities, axis=1))
        outputs = {"probabilities": probabilities, "emotion": emotion}
        return with_quality(outputs, quality) if quality else outputs

    return serve


def with_quality(outputs: dict[str, tf.Tensor], quality: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return the outputs of a batch with the quality of its recordings; no answer for those without speech."""
    answered = quality["speech_seconds"] >= MIN_SPEECH_SECONDS
    probabilities = tf.where(answered[:, tf.newaxis], outputs["probabilities"], float("nan"))
    return {"probabilities": probabilities, "emotion": tf.where(answered, outputs["emotion"], "")} | quality


def _member_probabilities(member: Member, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return one network's probabilities [batch, emotions]: features, logits, their mean over windows, softmax."""
    config = member.config
    if config.takes_transcripts and not config.has_pretrained_tokenizer:
        inputs = inputs | {"tokens": member.tokenizer(inputs["transcript"])}
    inputs, weights = features.serving_inputs(config, inputs)  # [batch, windows, ...], [batch, windows]
    windows = {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in inputs.items()}
    logits = member.network(windows, training=False)["emotion"]  # [batch × windows, emotions]
    logits = tf.reshape(logits, [-1, tf.shape(weights)[1], len(config.experiment.emotions)])
    return tf.nn.softmax(tf.einsum("bw,bwe->be", weights, logits))
