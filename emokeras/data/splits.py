"""Splits: the subset of each clip (train, validation, test) by protocol. Identical recordings share a subset."""

import difflib
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, train_test_split

from emokeras.config import MAX_SEED, ExperimentConfig
from emokeras.data.corpora import Corpus
from emokeras.errors import CorpusError, UsageError

SUBSETS = ("train", "validation", "test")
TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1  # of the training side, in the random protocols
TIMNET_SEED = 46


@dataclass(frozen=True)
class Split:
    """The subset of each clip of a corpus, text [clips]. `digest` identifies the split by names, contents and subsets:
    runs of one digest were trained, validated and tested on the same clips."""

    subsets: np.ndarray
    digest: str

    def numbers(self, subset: str) -> np.ndarray:
        """Return the indices of a subset's clips."""
        return np.flatnonzero(self.subsets == subset)


@dataclass(frozen=True)
class Protocol:
    """The number of folds of a protocol, and a line that describes it."""

    num_folds: int
    description: str


PROTOCOLS = {
    "random": Protocol(
        1, "stratified by emotion: 20 % test, a tenth of the rest validation; speakers are on all sides"
    ),
    "random-10fold": Protocol(10, "ten shuffled folds (TIM-Net's, seed 46); speakers are on all sides"),
    "luna": Protocol(5, "RAVDESS, five speaker-independent folds (Luna-Jiménez et al.)"),
    "emobox": Protocol(6, "RAVDESS, six speaker-independent folds (EmoBox)"),
    "speaker": Protocol(1, "any corpus: whole speakers, 60 % train, 20 % validation, 20 % test"),
    "all": Protocol(1, "every clip trains, nothing is measured: for a model to ship"),
}

# Luna-Jiménez et al., Applied Sciences 12(1): 327, 2022; validation actors as ResLSTM-SER published them.
LUNA_TEST_ACTORS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
LUNA_VALIDATION_ACTORS = ((3, 6), (10, 11), (8, 17), (1, 14), (2, 5))
# Ma et al., "EmoBox", Interspeech 2024; validation: the first two actors of the next fold.
EMOBOX_TEST_ACTORS = (
    (1, 11, 20, 21),
    (4, 10, 12, 14),
    (8, 9, 19, 23),
    (3, 5, 7, 24),
    (2, 15, 16, 18),
    (6, 13, 17, 22),
)
EMOBOX_VALIDATION_ACTORS = tuple(actors[:2] for actors in (*EMOBOX_TEST_ACTORS[1:], EMOBOX_TEST_ACTORS[0]))


def draw_split(corpus: Corpus, experiment: ExperimentConfig) -> Split:
    """Return the split of a corpus that an experiment names. Raises as `split` does."""
    subsets = split(corpus, experiment.protocol, experiment.fold, experiment.split_seed)
    return Split(subsets, split_digest(corpus.clips, subsets))


def split_digest(clips: Sequence, subsets: Sequence[str]) -> str:
    """Return the SHA-256 of the name, content and subset of each clip, in any order."""
    rows = sorted((clip.name, clip.content, str(subset)) for clip, subset in zip(clips, subsets, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def split(corpus: Corpus, protocol: str, fold: int = 0, split_seed: int = 0) -> np.ndarray:
    """Say for each clip of a corpus whether it trains, validates or tests.

    Parameters
    ----------
    corpus: the clips; those with the same `content` come to the same side.
    protocol: one of PROTOCOLS.
    fold: which of the protocol's folds is the test subset, from 0.
    split_seed: draws the split; the actors of luna and emobox are fixed. random-10fold adds it to TIM-Net's seed.

    Returns
    -------
    subsets [shape=(clips,)] of "train", "validation" and "test", in the order of `corpus.clips`.

    Raises
    ------
    UsageError: no such protocol or fold. CorpusError: this corpus cannot be split so.
    """
    check_fold(protocol, fold)
    if not 0 <= split_seed <= MAX_SEED:
        raise UsageError(f"split seed {split_seed} is out of range: take one from 0 to {MAX_SEED}")
    if protocol == "all":
        return np.full(len(corpus.clips), "train")
    if protocol == "random":
        return _random(corpus, split_seed)
    if protocol == "random-10fold":
        return _random_10fold(corpus, fold, split_seed)
    if protocol == "speaker":
        return _speaker(corpus, split_seed)
    test, validation = {
        "luna": (LUNA_TEST_ACTORS, LUNA_VALIDATION_ACTORS),
        "emobox": (EMOBOX_TEST_ACTORS, EMOBOX_VALIDATION_ACTORS),
    }[protocol]
    return _fixed_actors(corpus, protocol, test[fold], validation[fold])


def check_fold(protocol: str, fold: int) -> None:
    """Raise UsageError when there is no such protocol, or it has no such fold."""
    if protocol not in PROTOCOLS:
        near = difflib.get_close_matches(protocol, PROTOCOLS, 1, 0.0)[0]
        raise UsageError(f"there is no protocol '{protocol}'; did you mean '{near}'? There are {', '.join(PROTOCOLS)}")
    num_folds = PROTOCOLS[protocol].num_folds
    if not 0 <= fold < num_folds:
        folds = f"its folds are 0 to {num_folds - 1}" if num_folds > 1 else "it has fold 0 only"
        raise UsageError(f"protocol '{protocol}' has no fold {fold}: {folds}")


def missing_emotions(corpus: Corpus, subsets: np.ndarray) -> list[str]:
    """Return one line for each subset that has no clip of some emotion of the corpus; none when all have all."""
    emotions = _emotions(corpus)
    lines = []
    for subset in SUBSETS:
        present = set(emotions[subsets == subset])
        missing = [f"'{emotion}'" for emotion in corpus.emotions if emotion not in present]
        if missing and present:
            consequence = {
                "train": "it cannot be learnt",
                "validation": "it has no say in which epoch is kept",
                "test": "how well it is recognised is not measured",
            }[subset]
            lines.append(
                f"the {subset} subset has no clip of {', '.join(missing)}: {consequence}; "
                "take another --split-seed, --fold or --protocol"
            )
    return lines


# Protocols


def _random(corpus: Corpus, split_seed: int) -> np.ndarray:
    emotions = _emotions(corpus)
    everything = np.arange(len(emotions))
    test = _draw(corpus, "random", everything, TEST_FRACTION, split_seed)
    is_test = np.isin(everything, test)
    is_test = _keep_together(corpus, is_test, np.ones(len(emotions), bool), split_seed)
    return _with_validation(corpus, "random", is_test, split_seed)


def _random_10fold(corpus: Corpus, fold: int, split_seed: int) -> np.ndarray:
    """TIM-Net shuffles with scikit-learn's KFold and seed 46; its own order of the clips is not published."""
    num_clips, num_folds = len(corpus.clips), PROTOCOLS["random-10fold"].num_folds
    if num_clips < num_folds:
        raise CorpusError(f"corpus '{corpus.name}' has {num_clips} clips, too few for ten folds: add clips")
    folds = np.empty(num_clips, int)
    shuffled = KFold(num_folds, shuffle=True, random_state=TIMNET_SEED + split_seed)
    for index, (_, test) in enumerate(shuffled.split(folds)):
        folds[test] = index
    folds = _keep_together(corpus, folds, np.ones(num_clips, bool), split_seed)
    return _with_validation(corpus, "random-10fold", folds == fold, split_seed)


def _with_validation(corpus: Corpus, protocol: str, is_test: np.ndarray, split_seed: int) -> np.ndarray:
    """Draw a stratified tenth of what is not test as validation."""
    validation = _draw(corpus, protocol, np.flatnonzero(~is_test), VALIDATION_FRACTION, split_seed)
    is_validation = np.isin(np.arange(len(is_test)), validation)
    is_validation = _keep_together(corpus, is_validation, ~is_test, split_seed)
    return np.where(is_test, "test", np.where(is_validation, "validation", "train"))


def _draw(corpus: Corpus, protocol: str, indices: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw a fraction of the clips at these indices, stratified by emotion; at least as many as there are emotions."""
    emotions = _emotions(corpus)[indices]
    names, counts = np.unique(emotions, return_counts=True)
    num_drawn = max(round(fraction * len(indices)), len(names))
    try:
        _, drawn = train_test_split(indices, test_size=num_drawn, stratify=emotions, random_state=seed)
    except ValueError as error:  # An emotion with one clip only, or as many to draw as there are.
        rarest = names[np.argmin(counts)]
        raise CorpusError(
            f"corpus '{corpus.name}' is too small for protocol '{protocol}': of its {len(corpus.clips)} clips "
            f"{sum(clip.emotion == rarest for clip in corpus.clips)} are '{rarest}': "
            "give ten clips or more of each emotion, or leave that emotion out"
        ) from error
    return drawn


def _keep_together(corpus: Corpus, sides: np.ndarray, among: np.ndarray, seed: int) -> np.ndarray:
    """Bring clips of the same content to one side, and swap back clips of the same emotion, so that the sizes stay.

    `sides` [clips] holds each clip's side, of any two or more; only clips where `among` [clips] is true are touched.
    The clips of a torn recording go where most of them are (on a tie to the side of the first). Where no clip of the
    same emotion is left to swap, one of another is; where no clip at all is left, the sizes change.
    """
    sides = sides.copy()
    emotions = _emotions(corpus)
    groups = _same_content(corpus)
    alone = among.copy()
    for group in groups:
        alone[group] = False
    order = np.random.default_rng(seed).permutation(len(sides))
    for group in groups:
        group = [index for index in group if among[index]]
        here = [sides[index] for index in group]
        home = max(here, key=here.count, default=None)
        for index in group:
            if sides[index] == home:
                continue
            swappable = order[alone[order] & (sides[order] == home)]
            if swappable.size:  # The first of the same emotion, else the first.
                partner = swappable[np.argmax(emotions[swappable] == emotions[index])]
                sides[partner] = sides[index]
            sides[index] = home
    return sides


def _fixed_actors(corpus: Corpus, protocol: str, test: Sequence[int], validation: Sequence[int]) -> np.ndarray:
    speakers = _speakers(corpus, protocol)
    missing = [f"{actor:02d}" for actor in (*test, *validation) if f"{actor:02d}" not in speakers]
    if missing:
        fitting = (
            "protocol 'speaker' fits any corpus" if len(set(speakers)) > 2 else "protocol 'random' needs no speakers"
        )
        raise CorpusError(
            f"protocol '{protocol}' is made of RAVDESS's actors, and corpus '{corpus.name}' has no speaker "
            f"{', '.join(missing)} for this fold: {fitting}"
        )
    subsets = np.full(len(speakers), "train", dtype="<U10")
    subsets[np.isin(speakers, [f"{actor:02d}" for actor in validation])] = "validation"
    subsets[np.isin(speakers, [f"{actor:02d}" for actor in test])] = "test"
    if "train" not in subsets:
        raise CorpusError(
            f"corpus '{corpus.name}' has no speaker left to train on in protocol '{protocol}': add the other actors"
        )
    for group in _same_content(corpus):
        if len(set(subsets[group])) > 1:
            names = " and ".join(corpus.clips[index].name for index in group[:2])
            raise CorpusError(
                f"{names} are one recording of two speakers, and protocol '{protocol}' parts them: take one out, "
                "or use protocol 'speaker'"
            )
    return subsets


def _speaker(corpus: Corpus, split_seed: int) -> np.ndarray:
    speakers = _speakers(corpus, "speaker")
    blocks = _inseparable_speakers(corpus)
    if len(blocks) < 3:
        shared = " that share no recording" if len(blocks) < len(set(speakers)) else ""
        raise CorpusError(
            f"corpus '{corpus.name}' has {len(blocks)} speaker{'s' * (len(blocks) != 1)}{shared}, too few for protocol "
            "'speaker', which needs 3: add speakers, or use protocol 'random'"
        )
    queue = _balanced_order(blocks, {clip.speaker: clip.sex for clip in corpus.clips}, split_seed)
    wanted = max(1, round(TEST_FRACTION * len(set(speakers))))
    subsets = np.full(len(speakers), "train", dtype="<U10")
    for subset in ("test", "validation"):
        subsets[np.isin(speakers, _take(queue, wanted))] = subset
    return subsets


def _take(queue: list[tuple[str, ...]], wanted: int) -> list[str]:
    """Take blocks off the queue while they fit into `wanted` speakers; at least one, the smallest if none fits."""
    taken = []
    for block in list(queue):
        if len(taken) + len(block) <= wanted:
            taken.extend(block)
            queue.remove(block)
    if not taken:
        smallest = min(queue, key=len)
        queue.remove(smallest)
        taken.extend(smallest)
    return taken


def _inseparable_speakers(corpus: Corpus) -> list[tuple[str, ...]]:
    """Return the speakers in blocks: those that share a recording, directly or through others, are one block."""
    block_of = {clip.speaker: {clip.speaker} for clip in corpus.clips}
    for group in _same_content(corpus):
        joined = set().union(*(block_of[corpus.clips[index].speaker] for index in group))
        for speaker in joined:
            block_of[speaker] = joined
    return sorted({tuple(sorted(block)) for block in block_of.values()})


def _balanced_order(blocks: list[tuple[str, ...]], sexes: dict[str, str], seed: int) -> list[tuple[str, ...]]:
    """Shuffle the blocks so that every stretch of them has the sexes in about the corpus's proportion."""
    generator = np.random.default_rng(seed)
    by_sex = defaultdict(list)
    for block in blocks:
        by_sex[sexes[block[0]]].append(block)
    places = []
    for sex in sorted(by_sex):
        shuffled = generator.permutation(len(by_sex[sex]))
        tie_break = generator.random()
        places += [((rank + 0.5) / len(shuffled), tie_break, by_sex[sex][index]) for rank, index in enumerate(shuffled)]
    return [block for _, _, block in sorted(places)]


# Columns of a corpus


def _emotions(corpus: Corpus) -> np.ndarray:
    return np.array([clip.emotion for clip in corpus.clips])


def _speakers(corpus: Corpus, protocol: str) -> np.ndarray:
    unknown = [clip.name for clip in corpus.clips if not clip.speaker]
    if unknown:
        example = f"{len(unknown)} of {len(corpus.clips)} clips ({unknown[0]}{', ...' * (len(unknown) > 1)})"
        raise CorpusError(
            f"protocol '{protocol}' needs speakers, and corpus '{corpus.name}' does not say who speaks in {example}: "
            "name them in a manifest.csv, or use protocol 'random'"
        )
    return np.array([clip.speaker for clip in corpus.clips])


def _same_content(corpus: Corpus) -> list[list[int]]:
    """Return the indices of the clips that are one recording, for each recording that is there more than once."""
    by_content = defaultdict(list)
    for index, clip in enumerate(corpus.clips):
        by_content[clip.content or clip.name].append(index)
    return [group for group in by_content.values() if len(group) > 1]
