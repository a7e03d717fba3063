"""What networks say of training clips that they have not heard: how sure one may be of a clip's label.

An actor means an emotion, and not all who hear him name it. A network that is to be sure of the label learns the clip
by heart. What networks say that were trained without it tells how clear a clip is. Such cross-fitting of the teacher is
Dao et al.'s (Knowledge Distillation as Semiparametric Inference, ICLR 2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from emokeras.config import Config, EnsembleConfig
from emokeras.data.corpus import Clip
from emokeras.errors import CorpusError, UsageError
from emokeras.models.late import Combination, combine
from emokeras.recipes import find_recipe
from emokeras.reporting import runs
from emokeras.training.subsets import Subset

SAID = f"{runs.CROSSFIT}/predictions.csv"  # of a run: what its own kind says of the training clips


def part_clips(clips: Sequence[Clip], others: Sequence[Clip], num_parts: int, seed: int) -> np.ndarray:
    """Return the number of the part that each training clip is in, int [clips].

    Where none of their speakers is among the `others`, which validate and test, a speaker's clips are in one part.
    Identical recordings always are. Raises CorpusError where there are fewer of them than parts.
    """
    speakers = {clip.speaker for clip in clips}
    apart = "" not in speakers and speakers.isdisjoint(clip.speaker for clip in others)
    groups = [clip.speaker if apart else clip.content for clip in clips]
    if len(set(groups)) < num_parts:
        what = "speakers" if apart else "recordings"
        raise CorpusError(f"training.crossfit_parts={num_parts}: {len(set(groups))} {what} train: take fewer parts")
    emotions = [clip.emotion for clip in clips]
    parts = np.empty(len(clips), int)
    folds = StratifiedGroupKFold(num_parts, shuffle=True, random_state=seed).split(emotions, emotions, groups)
    for number, (_, part) in enumerate(folds):
        parts[part] = number
    return parts


def crossfit(
    emotions: Sequence[str],
    train: Subset,
    parts: np.ndarray,
    folder: Path,
    say: Callable,
    answer: Callable[[Subset, Subset, Path], np.ndarray],
) -> np.ndarray:
    """Return what is said of each training clip by a network that has heard the other parts only, probabilities
    [clips, emotions].

    `answer` trains on the first subset in a folder and returns what it then says of the second. What has been said of a
    part is kept under the run's `folder` and not asked again.
    """
    said = np.empty([len(train.clips), len(emotions)], np.float32)
    num_parts = parts.max() + 1
    for number in range(num_parts):
        inside = np.flatnonzero(parts == number)
        part, rest = train.take(inside), train.take(np.flatnonzero(parts != number))
        own = folder / runs.CROSSFIT / f"part-{number + 1}"
        path = own / "predictions.csv"
        if not path.exists():
            say(f"part {number + 1} of {num_parts}: {len(rest.clips)} clips tell of {len(inside)}")
            (own / "checkpoints").mkdir(parents=True, exist_ok=True)
            runs.write_predictions(path, part.clips, emotions, answer(rest, part, own))
        said[inside] = runs.read_predictions(path)[-1]
    runs.write_predictions(folder / SAID, train.clips, emotions, said)
    return said


def tellers_of(config: Config) -> dict[str, Config]:
    """Return the networks that `training.crossfit_by` names, by their recipes. Raises UsageError where one is no recipe
    of a network that begins with nothing."""
    tellers = {}
    for name in config.training.crossfit_by:
        teller = find_recipe(name).config
        if isinstance(teller, EnsembleConfig) or teller.model.branches:
            raise UsageError(f"training.crossfit_by: {name} is made of other networks: name those")
        parted = {key: getattr(config.training, key) for key in ("crossfit_parts", "crossfit_epochs")}
        tellers[name] = replace(teller, experiment=config.experiment, training=replace(teller.training, **parted))
    return tellers


def teller_folder(folder: Path, recipe: str) -> Path:
    """Return where the training of one of these networks lies in the run that asked for it."""
    return folder / runs.CROSSFIT / recipe


def said_together(folders: Sequence[Path]) -> np.ndarray:
    """Return what the networks of these folders together say of the training clips, the mean of their logits, as
    probabilities [clips, emotions]."""
    return combine(runs.read_together(folders, SAID).probabilities, Combination("mean-logits"))
