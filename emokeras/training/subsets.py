"""A corpus and a protocol to what trains, validates and tests: clips, waveforms, transcripts and labels of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emokeras.config import Config, ExperimentConfig
from emokeras.data import pipeline
from emokeras.data.audio import load_waveforms
from emokeras.data.corpus import Clip, Corpus
from emokeras.data.speech import represent_clips
from emokeras.data.splits import SUBSETS, missing_emotions, split
from emokeras.data.text import fit_tokenizer, has_tokenizer, load_tokenizer
from emokeras.data.transcripts import read_transcripts, transcript_kind
from emokeras.data.variants import make_variants
from emokeras.errors import CorpusError, RunError
from emokeras.reporting import runs
from emokeras.training.score import to_labels


@dataclass(frozen=True)
class Subset:
    """Clips, the numbers of their emotions, int [clips], and what a network hears and reads of them: waveforms
    [samples] each, for training with variants of each, and what is `ready` of its inputs, [clips, ...] each."""

    clips: list[Clip]
    labels: np.ndarray
    waveforms: list[np.ndarray]
    variants: list[list[np.ndarray]] | None = None
    ready: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, numbers: np.ndarray) -> "Subset":
        """Return the clips of these numbers, with what is known of each."""
        return Subset(
            [self.clips[number] for number in numbers],
            self.labels[numbers],
            [self.waveforms[number] for number in numbers] if self.waveforms else [],
            [self.variants[number] for number in numbers] if self.variants else None,
            {name: value[numbers] for name, value in self.ready.items()},
        )


def with_validation(subsets: Mapping[str, Subset], config: Config) -> dict[str, Subset]:
    """Return the subsets with the validation clips behind those that train, and none left to validate."""
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
        {name: np.concatenate([value, validation.ready[name]]) for name, value in train.ready.items()},
    )
    return {**subsets, "train": whole, "validation": validation.take(np.array([], int))}


def evaluation_inputs(subset: Subset, config: Config) -> dict[str, np.ndarray]:
    """Return all that a network gets of a subset's clips in serving, [clips, windows, ...] each; nothing of none."""
    if not subset.clips:
        return {}
    return pipeline.stack(pipeline.evaluation_dataset(subset.waveforms, config, subset.ready))


def split_corpus(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    """Return the subset of each clip of a corpus, text [clips]. Raises CorpusError when it cannot be split so."""
    return split(corpus, experiment.protocol, experiment.fold, experiment.split_seed)


def corpus_digest(corpus: Corpus, experiment: ExperimentConfig) -> str:
    """Return the digest of how an experiment splits a corpus, which its runs have in metrics.json."""
    return runs.split_digest(corpus.clips, split_corpus(corpus, experiment))


def take_subsets(config: Config, corpus: Corpus, folder: Path, say: Callable) -> dict[str, Subset]:
    """Split the corpus as the configuration says, write split.csv, and return {"train", "validation", "test"}.

    Raises CorpusError when the corpus cannot be split so, RunError when the run was begun on another split.
    """
    names = split_corpus(corpus, config.experiment)
    for warning in missing_emotions(corpus, names):
        say(f"warning: {warning}")
    if (folder / "split.csv").exists():
        begun = [(row["clip"], row["content"], row["subset"]) for row in runs.read_split(folder)]
        if begun != [(clip.name, clip.content, str(name)) for clip, name in zip(corpus.clips, names, strict=True)]:
            raise RunError(f"{folder} was begun on other clips or another split: give it the corpus it was begun on")
    runs.write_split(folder, corpus.clips, names)

    chosen = {subset: np.flatnonzero(names == subset) for subset in SUBSETS}
    for subset, numbers in chosen.items():
        if not len(numbers) and config.experiment.protocol != "all":
            raise CorpusError(f"corpus {corpus.name}: its {subset} subset is empty; take another --protocol")
    counts = " · ".join(f"{len(numbers)} {subset}" for subset, numbers in chosen.items())
    say(f"{counts} clips, {len(corpus.emotions)} emotions")

    waveforms = load_waveforms(corpus.clips, config.audio.sample_rate_hz) if config.hears else None
    ready = {}
    if config.hears_pretrained:
        ready |= represent_clips(corpus.clips, waveforms, config)
    if config.reads_transcripts:
        ready["tokens"] = take_tokens(config, corpus, chosen["train"], folder, say)
    subsets = {}
    for subset, numbers in chosen.items():
        clips = [corpus.clips[number] for number in numbers]
        heard = [waveforms[number] for number in numbers] if config.audio_inputs else []
        varied = subset == "train" and config.augment.variants
        subsets[subset] = Subset(
            clips,
            to_labels(clips, corpus.emotions),
            heard,
            make_variants(clips, heard, config.augment, config.audio.sample_rate_hz) if varied else None,
            {name: value[numbers] for name, value in ready.items()},
        )
    return subsets


def take_tokens(config: Config, corpus: Corpus, train: np.ndarray, folder: Path, say: Callable) -> np.ndarray:
    """Return the tokens of all transcripts, int [clips, words]. The vocabulary is fitted on the clips whose numbers are
    `train` and kept in the run's folder."""
    say(f"transcripts: {transcript_kind(corpus.clips)}")
    transcripts = read_transcripts(corpus.clips)
    if not has_tokenizer(folder):  # A run that goes on, or starts from a model, keeps its words.
        fit_tokenizer([transcripts[number] for number in train], config, folder)
    return np.asarray(load_tokenizer(folder, config)(transcripts))
