"""What a network is taught of each training clip: its emotion, what a teacher says of it, and what else is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emokeras.config import Config, read_config
from emokeras.data.corpus import Clip, Corpus
from emokeras.errors import UsageError
from emokeras.recipes import RECIPES
from emokeras.recognizer import load_recognizer
from emokeras.reporting import runs
from emokeras.training.branches import check_splits
from emokeras.training.crossfit import part_clips, tellers_of
from emokeras.training.subsets import Subset


def make_targets(
    config: Config, corpus: Corpus, train: Subset, said_unheard: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return what the training clips of a corpus should give, {"emotion": [clips, emotions], "sex": [clips, 2]}; rows
    sum to 1. `said_unheard` [clips, emotions] is what networks say of them that have not heard them."""
    emotion = np.eye(len(config.experiment.emotions), dtype=np.float32)[train.labels]
    if config.training.teacher:
        share = config.training.teacher_share
        said = teach(config, corpus, train.clips) ** (1 / config.training.teacher_temperature)
        emotion = (1 - share) * emotion + share * said / said.sum(axis=1, keepdims=True)
    if said_unheard is not None:
        share = config.training.crossfit_share
        emotion = (1 - share) * emotion + share * said_unheard
    return {"emotion": emotion} | {name: _one_hot(name, train.clips) for name in config.training.auxiliaries}


def teach(config: Config, corpus: Corpus, clips: list[Clip]) -> np.ndarray:
    """Return what the configuration's teacher says of clips of a corpus, probabilities [clips, emotions] (knowledge
    distillation, Hinton et al. 2015)."""
    return load_recognizer(Path(config.training.teacher)).predict_clips(clips, corpus)


def with_teacher(config: Config, folder: Path) -> Config:
    """Return the configuration with the folder of a teacher that it names by its recipe: the run of that which
    `benchmark` and `train` put beside a run in this folder."""
    teacher = config.training.teacher
    if teacher not in RECIPES or Path(teacher).exists():
        return config
    folder = folder.absolute()
    run = folder.parent.parent / teacher / folder.name
    return replace(config, training=replace(config.training, teacher=str(run)))


def check_targets(config: Config, clips: Sequence[Clip], names: Sequence[str]) -> None:
    """Raise, in one line, where the training clips lack what an auxiliary is of, or cannot be parted, or the teacher is
    no run that knows these emotions, on this split: it must not have heard a clip that its pupil is validated or tested
    on. `names` are the subsets of the clips."""
    train = [clip for clip, subset in zip(clips, names, strict=True) if subset == "train"]
    for name in config.training.auxiliaries:
        _one_hot(name, train)
    if config.training.crossfit_parts:
        others = [clip for clip, subset in zip(clips, names, strict=True) if subset != "train"]
        part_clips(train, others, config.training.crossfit_parts, config.experiment.seed)
        for teller in tellers_of(config).values():
            check_targets(teller, clips, names)
    if not config.training.teacher:
        return
    run = Path(config.training.teacher)
    if not (run / "metrics.json").is_file() or not ((run / "model.keras").is_file() or (run / "members").is_dir()):
        raise UsageError(f"training.teacher: {run} is no run that has ended")
    emotions = read_config(run / "config.json").experiment.emotions
    if emotions != config.experiment.emotions:
        raise UsageError(f"training.teacher: {run} knows other emotions: {', '.join(emotions)}")
    if config.experiment.protocol != "all":  # There no clip is left to be measured on.
        check_splits([run], runs.split_digest(clips, names), "training.teacher")


def _one_hot(name: str, clips: list[Clip]) -> np.ndarray:
    values = [getattr(clip, name) for clip in clips]
    if "" in values:
        unknown = f"the {name} of {values.count('')} training clips is not known"
        raise UsageError(f"training.auxiliaries: {unknown}: leave it out")
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f"training.auxiliaries: all training clips have the same {name}: leave it out")
    return np.eye(len(classes), dtype=np.float32)[numbers]
