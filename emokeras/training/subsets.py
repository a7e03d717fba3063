"""Load the clips, labels, waveforms and tokens of each subset of a corpus."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emokeras.config import Config
from emokeras.data import pipeline
from emokeras.data.audio import load_waveforms
from emokeras.data.augment import BABBLE_CLIPS
from emokeras.data.corpora import Clip, Corpus
from emokeras.data.pipeline import ClipWindows
from emokeras.data.speech import encode_clips
from emokeras.data.splits import SUBSETS, Split
from emokeras.data.text import fit_tokenizer, fit_vocabulary, has_tokenizer, load_tokenizer
from emokeras.data.transcripts import read_transcripts, transcript_kind
from emokeras.data.variants import make_variants
from emokeras.errors import UsageError
from emokeras.training.score import to_labels


@dataclass(frozen=True)
class Subset:
    """Clips, their labels int [clips], their waveforms [samples] each, for training also variants of each, and the
    inputs that are `precomputed` (tokens, frames of a speech encoder), [clips, ...] each."""

    clips: list[Clip]
    labels: np.ndarray
    waveforms: list[np.ndarray]
    variants: list[list[np.ndarray]] | None = None
    precomputed: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, numbers: np.ndarray) -> "Subset":
        """Return the part of the subset at these indices."""
        return Subset(
            [self.clips[number] for number in numbers],
            self.labels[numbers],
            [self.waveforms[number] for number in numbers] if self.waveforms else [],
            [self.variants[number] for number in numbers] if self.variants else None,
            {name: value[numbers] for name, value in self.precomputed.items()},
        )


def with_validation(subsets: Mapping[str, Subset], config: Config) -> dict[str, Subset]:
    """Return the subsets with the validation clips appended to the training clips, and an empty validation subset."""
    train, validation = subsets["train"], subsets["validation"]
    variants = train.variants
    if variants is not None:
        rate = config.audio.sample_rate_hz
        variants = [*variants, *make_variants(validation.clips, validation.waveforms, config.augment, rate)]
    whole = Subset(
        [*train.clips, *validation.clips],
        np.concatenate([train.labels, validation.labels]),
        [*train.waveforms, *validation.waveforms],
        variants,
        {name: np.concatenate([value, validation.precomputed[name]]) for name, value in train.precomputed.items()},
    )
    return {**subsets, "train": whole, "validation": validation.take(np.array([], int))}


def evaluation_inputs(subset: Subset, config: Config) -> ClipWindows | None:
    """Return a network's inputs of a subset as in serving; None for an empty subset."""
    if not subset.clips:
        return None
    return pipeline.stack(pipeline.evaluation_dataset(subset.waveforms, config, subset.precomputed))


def load_subsets(config: Config, corpus: Corpus, split: Split, folder: Path, say: Callable) -> dict[str, Subset]:
    """Return {"train", "validation", "test"} of a corpus. A vocabulary that is fitted is kept in the run's folder."""
    chosen = {subset: split.indices(subset) for subset in SUBSETS}
    counts = " · ".join(f"{len(numbers)} {subset}" for subset, numbers in chosen.items())
    say(f"{counts} clips, {len(corpus.emotions)} emotions")

    waveforms = load_waveforms(corpus.clips, config.audio.sample_rate_hz) if config.takes_audio else None
    precomputed = {}
    if config.has_speech_encoder:
        precomputed |= encode_clips(corpus.clips, waveforms, config)
    if config.takes_transcripts:
        precomputed["tokens"] = _tokenize_corpus(config, corpus, chosen["train"], folder, say)
    subsets = {}
    for subset, numbers in chosen.items():
        clips = [corpus.clips[number] for number in numbers]
        own = [waveforms[number] for number in numbers] if config.audio_inputs else []
        varied = subset == "train" and config.augment.variants
        subsets[subset] = Subset(
            clips,
            to_labels(clips, config.experiment.emotions),
            own,
            make_variants(clips, own, config.augment, config.audio.sample_rate_hz) if varied else None,
            {name: value[numbers] for name, value in precomputed.items()},
        )
    return subsets


def check_vocabulary(config: Config, corpus: Corpus, split: Split) -> None:
    """Raise CorpusError where the transcripts of the training clips have no words to fit a vocabulary on."""
    transcripts = read_transcripts(corpus.clips)
    fit_vocabulary([transcripts[number] for number in split.indices("train")], config.tokens)


def check_babble(corpus: Corpus, split: Split) -> None:
    """Raise UsageError where babble for a clip cannot be made of other neutral training clips."""
    count = sum(corpus.clips[number].emotion == "neutral" for number in split.indices("train"))
    if count <= BABBLE_CLIPS[1]:
        raise UsageError(
            f"augment.babble_probability: corpus {corpus.name} has {count} neutral training clips, babble needs "
            f"{BABBLE_CLIPS[1] + 1}: leave it out"
        )


def _tokenize_corpus(config: Config, corpus: Corpus, train: np.ndarray, folder: Path, say: Callable) -> np.ndarray:
    """Return the tokens of all transcripts, int [clips, words]. The vocabulary is fitted on the clips at the indices
    `train`, and kept in the run's folder."""
    say(f"transcripts: {transcript_kind(corpus.clips)}")
    transcripts = read_transcripts(corpus.clips)
    if not has_tokenizer(folder):  # A run that continues, or starts from a model, keeps its words.
        fit_tokenizer([transcripts[number] for number in train], config, folder)
    return np.asarray(load_tokenizer(folder, config)(transcripts))
