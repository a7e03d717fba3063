"""A corpus and a protocol to what trains, validates and tests: clips, waveforms and labels of each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emokeras.config import Config
from emokeras.data.audio import load_waveforms
from emokeras.data.corpus import Clip, Corpus
from emokeras.data.splits import SUBSETS, missing_emotions, split
from emokeras.errors import CorpusError, RunError
from emokeras.reporting import runs
from emokeras.training.score import to_labels


@dataclass(frozen=True)
class Subset:
    """Clips, their waveforms [samples] each, and the numbers of their emotions, int [clips]."""

    clips: list[Clip]
    waveforms: list[np.ndarray]
    labels: np.ndarray


def take_subsets(config: Config, corpus: Corpus, folder: Path, say: Callable) -> dict[str, Subset]:
    """Split the corpus as the configuration says, write split.csv, and return {"train", "validation", "test"}.

    Raises CorpusError when the corpus cannot be split so, RunError when the run was begun on another split.
    """
    experiment = config.experiment
    names = split(corpus, experiment.protocol, experiment.fold, experiment.split_seed)
    for warning in missing_emotions(corpus, names):
        say(f"warning: {warning}")
    if (folder / "split.csv").exists():
        begun = [(row["clip"], row["content"], row["subset"]) for row in runs.read_split(folder)]
        if begun != [(clip.name, clip.content, str(name)) for clip, name in zip(corpus.clips, names, strict=True)]:
            raise RunError(f"{folder} was begun on other clips or another split: give it the corpus it was begun on")
    runs.write_split(folder, corpus.clips, names)

    waveforms = load_waveforms(corpus.clips, config.audio.sample_rate_hz)
    subsets = {}
    for subset in SUBSETS:
        chosen = np.flatnonzero(names == subset)
        if not len(chosen):
            raise CorpusError(f"corpus {corpus.name}: its {subset} subset is empty; take another --protocol")
        clips = [corpus.clips[index] for index in chosen]
        subsets[subset] = Subset(clips, [waveforms[index] for index in chosen], to_labels(clips, corpus.emotions))
    counts = " · ".join(f"{len(subset.clips)} {name}" for name, subset in subsets.items())
    say(f"{counts} clips, {len(corpus.emotions)} emotions")
    return subsets
