"""Load the clips, labels, waveforms, tokens and frames of a speech encoder of each subset of a corpus."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from emokeras.config import Config
from emokeras.data import pipeline
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import Clip, Corpus, for_each_corpus
from emokeras.data.pipeline import ClipWindows
from emokeras.data.speech import SpeechEncoder, encode_clips
from emokeras.data.splits import SUBSETS, Split
from emokeras.data.text import fit_tokenizer, fit_vocabulary, has_tokenizer, load_tokenizer
from emokeras.data.transcripts import read_transcripts, transcript_kind
from emokeras.data.variants import make_variants, variant_key
from emokeras.recognizer.speech import load_speech_encoder
from emokeras.training.score import predict_logits, to_labels

CLIPS_AT_ONCE = 256


@dataclass(frozen=True)
class Subset:
    """Clips, their labels int [clips]; where corpora differ in emotions also 1 at those that each clip's corpus has,
    float32 [clips, emotions]; and what a network takes of these: their waveforms [samples] each, for training
    also variants of each; their tokens int [clips, words]; the frames [frames, units] of a speech encoder, of each clip
    and for training of each of its variants."""

    clips: list[Clip]
    labels: np.ndarray
    waveforms: list[np.ndarray]
    variants: list[list[np.ndarray]] | None = None
    tokens: np.ndarray | None = None
    speech: list[list[np.ndarray]] | None = None
    masks: np.ndarray | None = None

    def take(self, numbers: np.ndarray) -> "Subset":
        """Return the part of the subset at these indices."""
        return Subset(
            [self.clips[number] for number in numbers],
            self.labels[numbers],
            [self.waveforms[number] for number in numbers] if self.waveforms else [],
            [self.variants[number] for number in numbers] if self.variants else None,
            None if self.tokens is None else self.tokens[numbers],
            [self.speech[number] for number in numbers] if self.speech else None,
            None if self.masks is None else self.masks[numbers],
        )

    def parts(self) -> Iterator["Subset"]:
        """Yield the subset in parts: the windows of all of its clips may not fit in memory."""
        for first in range(0, len(self.clips), CLIPS_AT_ONCE):
            yield self.take(np.arange(first, min(first + CLIPS_AT_ONCE, len(self.clips))))


def with_validation(subsets: Mapping[str, Subset]) -> dict[str, Subset]:
    """Return the subsets with the validation clips appended to the training clips, and an empty validation subset."""
    train, validation = subsets["train"], subsets["validation"]
    whole = Subset(
        [*train.clips, *validation.clips],
        np.concatenate([train.labels, validation.labels]),
        [*train.waveforms, *validation.waveforms],
        [*train.variants, *validation.variants] if train.variants else None,
        None if train.tokens is None else np.concatenate([train.tokens, validation.tokens]),
        [*train.speech, *validation.speech] if train.speech else None,
        None if train.masks is None else np.concatenate([train.masks, validation.masks]),
    )
    return {**subsets, "train": whole, "validation": validation.take(np.array([], int))}


def evaluation_inputs(subset: Subset, config: Config) -> ClipWindows | None:
    """Return a network's inputs of a subset as in serving; None for an empty subset."""
    if not subset.clips:
        return None
    return pipeline.stack(pipeline.evaluation_dataset(subset.waveforms, config, subset.tokens, subset.speech))


def predict_subset(model: keras.Model, subset: Subset, config: Config) -> np.ndarray:
    """Return the logits of a subset's clips, float32 [clips, emotions]."""
    return np.concatenate([predict_logits(model, evaluation_inputs(part, config)) for part in subset.parts()])


def load_subsets(config: Config, corpus: Corpus, split: Split, folder: Path, say: Callable) -> dict[str, Subset]:
    """Return {"train", "validation", "test"} of a corpus. A vocabulary that is fitted is kept in the run's folder."""
    chosen = {subset: split.indices(subset) for subset in SUBSETS}
    counts = " · ".join(f"{len(numbers)} {subset}" for subset, numbers in chosen.items())
    say(f"{counts} clips, {len(config.experiment.emotions)} emotions")

    clips, rate, variants = list(corpus.clips), config.audio.sample_rate_hz, None
    waveforms = for_each_corpus(clips, lambda own: load_waveforms(own, rate)) if config.audio_inputs else []
    if config.audio_inputs and config.augment.num_variants:
        variants = for_each_corpus(clips, functools.partial(_variants, config, rate))
    whole = Subset(
        clips,
        _labels(clips, config.experiment.emotions),
        waveforms,
        variants,
        _tokenize_corpus(config, corpus, chosen["train"], folder, say) if config.takes_transcripts else None,
        encode_corpus(config, corpus, lambda: load_speech_encoder(config)) if config.has_speech_encoder else None,
        _masks(corpus, config.experiment.emotions),
    )
    return {subset: whole.take(numbers) for subset, numbers in chosen.items()}


def _labels(clips: Sequence[Clip], emotions: Sequence[str]) -> np.ndarray:
    """Return the labels of a corpus's clips, -1 for emotions that only unused clips have."""
    labels = np.full(len(clips), -1)
    known = np.flatnonzero([clip.emotion in emotions for clip in clips])
    labels[known] = to_labels([clips[number] for number in known], emotions)
    return labels


def _variants(config: Config, rate: int, clips: Sequence[Clip]) -> list[tuple[np.ndarray, ...]]:
    waveforms = load_waveforms(clips, rate)
    numbers = range(1, config.augment.num_variants + 1)
    variants = [make_variants(number, clips, waveforms, config.augment, rate) for number in numbers]
    return list(zip(*variants, strict=True))


def _masks(corpus: Corpus, emotions: Sequence[str]) -> np.ndarray | None:
    """Return the `masks` of a corpus; None where all that were joined have the same emotions."""
    masks = {name: np.isin(emotions, list(own)).astype(np.float32) for name, own in corpus.parts.items()}
    return (
        None if all(mask.all() for mask in masks.values()) else np.stack([masks[clip.corpus] for clip in corpus.clips])
    )


def encode_corpus(config: Config, corpus: Corpus, load: Callable[[], SpeechEncoder]) -> list[list[np.ndarray]]:
    """Return the frames of the speech encoder of each clip and of each of its variants, [frames, units]. `load` returns
    the encoder; it is called where frames are not cached."""
    load = functools.cache(load)
    rate, augment = config.audio.sample_rate_hz, config.augment

    def encode(clips: Sequence[Clip]) -> list[list[np.ndarray]]:
        waveforms = functools.cache(lambda: load_waveforms(clips, rate))
        versions = [encode_clips(clips, waveforms, config, load)]
        for number in range(1, augment.num_variants + 1):
            varied = functools.partial(lambda number: make_variants(number, clips, waveforms(), augment, rate), number)
            versions.append(encode_clips(clips, varied, config, load, variant_key(number, augment)))
        return [list(own) for own in zip(*versions, strict=True)]

    return for_each_corpus(corpus.clips, encode)


def check_vocabulary(config: Config, corpus: Corpus, split: Split) -> None:
    """Raise CorpusError where the transcripts of the training clips have no words to fit a vocabulary on."""
    transcripts = read_transcripts(corpus.clips)
    fit_vocabulary([transcripts[number] for number in split.indices("train")], config.tokens)


def _tokenize_corpus(config: Config, corpus: Corpus, train: np.ndarray, folder: Path, say: Callable) -> np.ndarray:
    """Return the tokens of all transcripts, int [clips, words]. The vocabulary is fitted on the clips at the indices
    `train`, and kept in the run's folder."""
    say(f"transcripts: {transcript_kind(corpus.clips)}")
    transcripts = read_transcripts(corpus.clips)
    if not has_tokenizer(folder):  # A run that continues, or starts from a model, keeps its words.
        fit_tokenizer([transcripts[number] for number in train], config, folder)
    return np.asarray(load_tokenizer(folder, config)(transcripts))
