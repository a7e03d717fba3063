"""A trained run, of one network or an ensemble, to one recogniser: waveform and transcript in, probabilities out.

predict, evaluate and export all use this one."""

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
from emokeras.data.speech import load_speech_model, represent_waveforms
from emokeras.data.text import load_tokenizer
from emokeras.data.transcripts import read_transcripts
from emokeras.errors import RunError, UsageError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.models.late import Combination, combine, read_combination

CLIPS_PER_BATCH, SECONDS_PER_BATCH = 16, 240.0  # Padded to the longest, that many; a longer clip comes alone.


@dataclass(frozen=True)
class Member:
    """A trained network, from its folder; `tokenize` turns transcripts into its tokens [batch, words], where it reads
    any."""

    folder: Path
    config: Config
    network: keras.Model
    tokenize: Callable | None


@dataclass(frozen=True)
class Recognizer:
    """`serve` takes what the networks hear and read, by name, and returns {"probabilities": [batch, emotions],
    "emotion": string [batch]}:

    waveform: [batch, samples], float32 at `sample_rate_hz`, shorter ones padded with zeros;
    transcript: string [batch]; where a pretrained tokenizer makes them, `tokens`: int [batch, words]; and where a
    speech model makes them, `speech`: [batch, frames, units], `speech_mask`: [batch, frames].

    `split` has the rows of the run's split.csv, after those of what it started from, so that a test clip that was heard
    in training can be refused. `tokenize` is the pretrained tokenizer and `represent` the speech model, where there is
    one. `members` are the networks of a run, one or an ensemble's, and `combination` says how an ensemble's answers
    become one; an export has neither."""

    config: AnyConfig
    split: tuple[dict[str, str], ...]
    serve: Callable[..., dict[str, tf.Tensor]]
    tokenize: Callable | None = None
    represent: Callable | None = None
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
        """Return the probabilities [clips, emotions] of waveforms [samples] each, at `sample_rate_hz`, and of their
        transcripts. What the networks do not take may be left out; UsageError when something is that they take."""
        from tqdm import tqdm

        if self.config.takes_audio and waveforms is None:
            raise UsageError("this model hears: give it recordings")
        if self.config.takes_transcripts and transcripts is None:
            raise UsageError("this model reads what is said: give it a transcript for each recording")
        lengths = [len(waveform) for waveform in waveforms] if self.config.takes_audio else [0] * len(transcripts)
        batches = _batches(lengths, round(SECONDS_PER_BATCH * self.sample_rate_hz))
        probabilities = []
        for chosen in tqdm(batches, "recognising", unit="batch", leave=False, disable=None):
            inputs = {}
            for name in (spec.name for spec in signature(self.config)):
                match name:
                    case "waveform":
                        padded = keras.utils.pad_sequences(waveforms[chosen], dtype="float32", padding="post")
                        inputs[name] = tf.constant(padded)
                    case "transcript":
                        inputs[name] = tf.constant(list(transcripts[chosen]))
                    case "tokens":
                        inputs[name] = tf.constant(self.tokenize(transcripts[chosen]))
                    case "speech":
                        made = self.represent(waveforms[chosen])
                        inputs |= {name: tf.constant(value, tf.float32) for name, value in made.items()}
            probabilities.append(self.serve(**inputs)["probabilities"].numpy())
        return np.concatenate(probabilities)

    def predict_clips(self, clips: Sequence[Clip], corpus: Corpus) -> np.ndarray:
        """Return the probabilities [clips, emotions] of clips of a corpus."""
        # Of the whole corpus, as training reads it: one cache serves both, and transcripts are of a whole corpus.
        heard = read = None
        if self.config.takes_audio:
            waveforms = dict(zip(corpus.clips, load_waveforms(corpus.clips, self.sample_rate_hz), strict=True))
            heard = [waveforms[clip] for clip in clips]
        if self.config.takes_transcripts:
            transcripts = dict(zip(corpus.clips, read_transcripts(corpus.clips), strict=True))
            read = [transcripts[clip] for clip in clips]
        return self.predict(heard, read)


def _batches(lengths: Sequence[int], most_samples: int) -> list[slice]:
    """Return which clips go together, by their lengths [clips] in samples: neighbours, CLIPS_PER_BATCH at most, and
    padded to the longest no more than `most_samples` in all."""
    starts, longest = [0], 0
    for number, length in enumerate(lengths):
        longest, together = max(longest, length), number - starts[-1] + 1
        if together > 1 and (together > CLIPS_PER_BATCH or together * longest > most_samples):
            starts.append(number)
            longest = length
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(lengths)], strict=True)]


def signature(config: AnyConfig) -> list[tf.TensorSpec]:
    """Return what `serve` takes for this configuration, in order."""
    specs = [tf.TensorSpec([None, None], tf.float32, "waveform")] if config.audio_inputs else []
    reading = [network for network in config.networks.values() if network.takes_transcripts]
    if not all(network.has_pretrained_tokenizer for network in reading):
        specs.append(tf.TensorSpec([None], tf.string, "transcript"))
    words = {network.tokens.max_words for network in reading if network.has_pretrained_tokenizer}
    specs += [tf.TensorSpec([None, num_words], tf.int32, "tokens") for num_words in words]
    if hearing := _hearing_pretrained(config):
        frames, units = hearing.num_frames("speech"), hearing.speech.units
        specs += [tf.TensorSpec([None, frames, units], tf.float32, "speech")]
        specs += [tf.TensorSpec([None, frames], tf.float32, "speech_mask")]
    return specs


def _hearing_pretrained(config: AnyConfig) -> Config | None:
    """Return the network that hears through a speech model, or one of them: they share it."""
    return next((network for network in config.networks.values() if network.has_speech_encoder), None)


def _speech_model(config: AnyConfig) -> Callable | None:
    hearing = _hearing_pretrained(config)
    if not hearing:
        return None
    represent = load_speech_model(hearing.model.pretrained, hearing.speech.layer)
    return functools.partial(represent_waveforms, represent, hearing)


def serving_function(config: AnyConfig, members: Sequence[Member], combination: Combination | None) -> Callable:
    """Return a function of what `signature` lists, in its order, that a graph can be made of."""
    names = [spec.name for spec in signature(config)]

    def serve(*given):
        return recognize(members, combination, dict(zip(names, given, strict=True)))

    return serve


def recognize(
    members: Sequence[Member], combination: Combination | None, inputs: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Return probabilities and emotion for waveforms [batch, samples] and what is said in them: each network's
    probabilities, and what the combination makes of them. All of it is graph, so that an export holds the very same."""
    answers = [probabilities(member, inputs) for member in members]
    together = combine(tf.stack(answers), combination, keras.ops) if combination else answers[0]
    emotions = tf.constant(members[0].config.experiment.emotions)
    return {"probabilities": together, "emotion": tf.gather(emotions, tf.argmax(together, axis=1))}


def probabilities(member: Member, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return what one network says, [batch, emotions]: features, logits, their mean over the windows, softmax."""
    config = member.config
    if config.takes_transcripts and not config.has_pretrained_tokenizer:  # That one is no graph: its tokens are given.
        inputs = inputs | {"tokens": member.tokenize(inputs["transcript"])}
    shown = features.serving_inputs(config, inputs)  # [batch, windows, ...]
    windows = {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in shown.items()}
    logits = member.network(windows, training=False)["emotion"]  # [batch × windows, emotions]
    logits = tf.reshape(logits, [-1, config.num_windows, len(config.experiment.emotions)])
    return tf.nn.softmax(tf.reduce_mean(logits, axis=1))


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
            raise _not_served(folder)
        members = tuple(_load_member(folder / "members" / name) for name in config.members)
        combination = read_combination(folder / "ensemble.json")
    else:
        members, combination = (_load_member(folder),), None
    names = [spec.name for spec in signature(config)]
    serve = serving_function(config, members, combination)
    graph = tf.function(serve, input_signature=signature(config), autograph=False)  # It has no loop over tensors.
    return Recognizer(
        config,
        tuple(runs.clips_used(folder)),
        lambda **inputs: graph(*(inputs[name] for name in names)),
        next((member.tokenize for member in members if member.config.has_pretrained_tokenizer), None),
        _speech_model(config),
        members,
        combination,
    )


def _load_member(folder: Path) -> Member:
    if not (folder / "model.keras").is_file():
        if folder.parent.name == "members":
            raise RunError(
                f"{folder} has no model.keras: this ensemble was made of rows under results/; a model needs the runs "
                "themselves, python -m emokeras.ensemble RUN RUN"
            )
        raise _not_served(folder)
    config = read_config(folder / "config.json")
    try:
        network = keras.saving.load_model(folder / "model.keras", compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise RunError(f"{folder / 'model.keras'} cannot be loaded ({first_line(error)}): train it again") from error
    return Member(folder, config, network, load_tokenizer(folder, config) if config.takes_transcripts else None)


def _not_served(folder: Path) -> RunError:
    if (folder / "metrics.json").is_file():
        return RunError(f"{folder} has figures and no network, as rows under results/ do: give the run's own folder")
    return RunError(f"{folder} has no network, the run has not ended: python -m emokeras.train --resume {folder}")


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
    # Words are turned into tokens within the graph; a pretrained tokenizer is none.
    pretrained = [network for network in config.networks.values() if network.has_pretrained_tokenizer]
    tokenize = load_tokenizer(extra, pretrained[0]) if pretrained else None
    return Recognizer(config, tuple(runs.clips_used(extra)), serve, tokenize, _speech_model(config))
