"""What networks say of training clips that they have not heard: how sure one may be of a clip's label.

An actor means an emotion, and not all who hear him name it. A network that is to be sure of the label learns the clip
by heart. What networks say that were trained without it tells how clear a clip is. Such cross-fitting of the teacher is
Dao et al.'s (Knowledge Distillation as Semiparametric Inference, ICLR 2021). The members of an ensemble tell together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from emokeras.data.corpus import Clip
from emokeras.errors import CorpusError
from emokeras.models.late import Combination, combine
from emokeras.reporting import runs
from emokeras.training.subsets import Subset

SAID, SAID_TOGETHER = f"{runs.CROSSFIT}/predictions.csv", f"{runs.CROSSFIT}/together.csv"


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
    [clips, emotions]; where the members of an ensemble have told, by all of them.

    `answer` trains on the first subset in a folder and returns what it then says of the second. What has been said of a
    part is kept under the run's `folder` and not asked again.
    """
    if (folder / SAID_TOGETHER).exists():
        return runs.read_predictions(folder / SAID_TOGETHER)[-1]
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


def tell_together(folders: Sequence[Path]) -> None:
    """Keep in each of these runs' folders what all their networks together say of the training clips, of which each has
    told: the mean of their logits."""
    told = runs.read_together(folders, SAID)
    emotions = runs.read_predictions(folders[0] / SAID)[3]
    clips = [
        Clip(name, Path(), emotions[label], speaker)
        for name, speaker, label in zip(told.clips, told.speakers, told.labels, strict=True)
    ]
    said = combine(told.probabilities, Combination("mean-logits"))
    for folder in folders:
        runs.write_predictions(folder / SAID_TOGETHER, clips, emotions, said)
