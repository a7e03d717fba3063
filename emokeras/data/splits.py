"""Splits of a corpus into train, validation and test, by protocol. Identical recordings are in one subset."""

import difflib
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import KFold, train_test_split

from emokeras.config import ExperimentConfig
from emokeras.data.corpora import Corpus
from emokeras.errors import CorpusError, UsageError

SUBSETS = ("train", "validation", "test")
UNUSED = "unused"  # the subset of clips that a run neither trains on nor tests
TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1  # of the training side, in the random protocols; of its speakers in left-out
TIMNET_SEED = 46


@dataclass(frozen=True)
class Split:
    """The subset of each clip of a corpus, str [clips], the `split_digest`, and the number of folds."""

    subsets: np.ndarray
    digest: str
    num_folds: int

    def indices(self, subset: str) -> np.ndarray:
        """Return the indices of a subset's clips."""
        return np.flatnonzero(self.subsets == subset)


@dataclass(frozen=True)
class Protocol:
    """A protocol. `num_folds` is 0 where it depends on the corpus. With `whole_speakers` no test speaker is in training
    or validation."""

    num_folds: int
    whole_speakers: bool
    description: str

    @property
    def has_folds(self) -> bool:
        return self.num_folds != 1


PROTOCOLS = {
    "random": Protocol(
        1, False, "stratified by emotion: 20 % test, a tenth of the rest validation; not speaker-independent"
    ),
    "random-10fold": Protocol(10, False, "ten shuffled folds (those of TIM-Net, seed 46); not speaker-independent"),
    "luna": Protocol(5, True, "RAVDESS, five speaker-independent folds (Luna-Jiménez et al.)"),
    "emobox": Protocol(6, True, "RAVDESS, six speaker-independent folds (EmoBox)"),
    "speaker": Protocol(1, True, "any corpus: whole speakers, 60 % train, 20 % validation, 20 % test"),
    "speaker-kfold": Protocol(5, True, "any corpus: five folds of whole speakers; the next fold is validation"),
    "loso": Protocol(0, True, "any corpus: a fold for each speaker; the next speaker is validation"),
    "left-out": Protocol(0, True, "several corpora: a fold for each, tested on a recognizer of the others"),
    "given": Protocol(
        1, False, "a corpus with a split of its own, by folders or a column; not always speaker-independent"
    ),
    "all": Protocol(1, False, "all clips are for training, without evaluation: for a model to deploy"),
}

# Luna-Jiménez et al., Applied Sciences 12(1): 327, 2022; validation actors as ResLSTM-SER published them.
LUNA_TEST_ACTORS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
LUNA_VALIDATION_ACTORS = ((3, 6), (10, 11), (8, 17), (1, 14), (2, 5))
# Ma et al., "EmoBox", Interspeech 2024; validation: the first two actors of the next fold.
EMOBOX_TEST_ACTORS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
EMOBOX_VALIDATION_ACTORS = tuple(actors[:2] for actors in (*EMOBOX_TEST_ACTORS[1:], EMOBOX_TEST_ACTORS[0]))

# Of corpora that no model of ours trains on, the speakers on whom recipes may be chosen; figures are of the others. Of
# EMOVO a woman and a man, of nEMO the first two women and the first two men by the alphabet.
DEVELOPMENT_SPEAKERS = {"emovo": ("f1", "m1"), "nemo": ("EB0", "IC0", "KS0", "MP0")}


def draw_split(corpus: Corpus, experiment: ExperimentConfig) -> Split:
    """Return the split of a corpus by the protocol, fold and split seed of an experiment.

    The folds of luna and emobox are fixed; for the other protocols the split seed matters. Clips with the same
    `content` are in one subset.

    Raises
    ------
    UsageError: the protocol has no such fold.
    CorpusError: the protocol cannot split this corpus.
    """
    check_fold(experiment.protocol, experiment.fold, corpus)
    match experiment.protocol:
        case "random":
            subsets = _random(corpus, experiment)
        case "random-10fold":
            subsets = _random_10fold(corpus, experiment)
        case "luna":
            subsets = _fixed_actors(corpus, experiment, LUNA_TEST_ACTORS, LUNA_VALIDATION_ACTORS)
        case "emobox":
            subsets = _fixed_actors(corpus, experiment, EMOBOX_TEST_ACTORS, EMOBOX_VALIDATION_ACTORS)
        case "speaker":
            subsets = _speaker(corpus, experiment)
        case "speaker-kfold" | "loso":
            subsets = _speaker_folds(corpus, experiment)
        case "left-out":
            subsets = _left_out(corpus, experiment)
        case "given":
            subsets = _given(corpus, experiment)
        case "all":
            subsets = np.full(len(corpus.clips), "train")
    count = num_folds(experiment.protocol, corpus)
    return Split(subsets, split_digest(corpus.clips, subsets), count)


def split_digest(clips: Sequence, subsets: Sequence[str]) -> str:
    """Return the SHA-256 of the name, content and subset of each clip, in any order.

    Runs with the same digest were trained, validated and tested on the same clips.
    """
    rows = sorted((clip.name, clip.content, str(subset)) for clip, subset in zip(clips, subsets, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def num_folds(protocol: str, corpus: Corpus) -> int:
    """Return the number of folds of a protocol on a corpus."""
    match protocol:
        case "loso":
            return max(1, len(corpus.speakers))
        case "left-out":
            return len(corpus.parts)
        case _:
            return PROTOCOLS[protocol].num_folds


def check_fold(protocol: str, fold: int, corpus: Corpus | None = None) -> None:
    """Raise UsageError when there is no such protocol or it has no such fold. Where their number depends on the corpus
    and none is given, every fold passes."""
    if protocol not in PROTOCOLS:
        near = difflib.get_close_matches(protocol, PROTOCOLS, 1, 0.0)[0]
        raise UsageError(f"there is no protocol '{protocol}'; did you mean '{near}'? There are {', '.join(PROTOCOLS)}")
    count = num_folds(protocol, corpus) if corpus else PROTOCOLS[protocol].num_folds or fold + 1
    if not 0 <= fold < count:
        folds = f"its folds are 0 to {count - 1}" if count > 1 else "it has fold 0 only" if count else "they begin at 0"
        raise UsageError(f"protocol '{protocol}' has no fold {fold}: {folds}")


def trained_emotions(corpus: Corpus, experiment: ExperimentConfig) -> tuple[str, ...]:
    """Return the emotions of a network that an experiment trains: those of the corpus, but for those that only the
    corpus has which is left out. Without clips their logits would stay random."""
    if experiment.protocol != "left-out":
        return corpus.emotions
    check_fold(experiment.protocol, experiment.fold, corpus)
    tested = sorted(corpus.parts)[experiment.fold]
    trained = {emotion for name, own in corpus.parts.items() for emotion in own if name != tested}
    return tuple(emotion for emotion in corpus.emotions if emotion in trained)


def missing_emotions(corpus: Corpus, subsets: np.ndarray) -> list[str]:
    """Return a warning for each subset without clips of some emotion of the corpus."""
    emotions = _emotions(corpus)
    lines = []
    for subset in SUBSETS:
        present = set(emotions[subsets == subset])
        missing = [f"'{emotion}'" for emotion in corpus.emotions if emotion not in present]
        if missing and present:
            consequence = {
                "train": "it cannot be recognized",
                "validation": "it does not count in model selection",
                "test": "it is not evaluated",
            }[subset]
            lines.append(
                f"the {subset} subset has no clip of {', '.join(missing)}: {consequence}; "
                "choose another --split-seed, --fold or --protocol"
            )
    return lines


# Protocols


def _random(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    everything = np.arange(len(corpus.clips))
    test = _draw(corpus, experiment, everything, TEST_FRACTION)
    is_test = _keep_together(corpus, np.isin(everything, test), np.ones(len(everything), bool), experiment.split_seed)
    return _with_validation(corpus, experiment, is_test)


def _random_10fold(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    """TIM-Net shuffles with scikit-learn's KFold and seed 46; its own order of the clips is not published."""
    num_clips, count = len(corpus.clips), PROTOCOLS["random-10fold"].num_folds
    if num_clips < count:
        raise CorpusError(f"corpus '{corpus.name}' has {num_clips} clips, too few for ten folds: add clips")
    folds = np.empty(num_clips, int)
    shuffled = KFold(count, shuffle=True, random_state=TIMNET_SEED + experiment.split_seed)
    for index, (_, test) in enumerate(shuffled.split(folds)):
        folds[test] = index
    folds = _keep_together(corpus, folds, np.ones(num_clips, bool), experiment.split_seed)
    return _with_validation(corpus, experiment, folds == experiment.fold)


def _with_validation(corpus: Corpus, experiment: ExperimentConfig, is_test: np.ndarray) -> np.ndarray:
    """Return the subsets with a stratified tenth of the clips that are not for test as validation."""
    validation = _draw(corpus, experiment, np.flatnonzero(~is_test), VALIDATION_FRACTION)
    is_validation = np.isin(np.arange(len(is_test)), validation)
    is_validation = _keep_together(corpus, is_validation, ~is_test, experiment.split_seed)
    return np.where(is_test, "test", np.where(is_validation, "validation", "train"))


def _draw(corpus: Corpus, experiment: ExperimentConfig, indices: np.ndarray, fraction: float) -> np.ndarray:
    """Return a random fraction of these indices, stratified by emotion; at least as many as there are emotions."""
    emotions = _emotions(corpus)[indices]
    names, counts = np.unique(emotions, return_counts=True)
    num_drawn = max(round(fraction * len(indices)), len(names))
    try:
        _, drawn = train_test_split(indices, test_size=num_drawn, stratify=emotions, random_state=experiment.split_seed)
    except ValueError as error:  # an emotion with one clip, or nothing left to train on
        rarest = names[np.argmin(counts)]
        raise CorpusError(
            f"corpus '{corpus.name}' is too small for protocol '{experiment.protocol}': "
            f"{sum(_emotions(corpus) == rarest)} of its {len(corpus.clips)} clips are '{rarest}': "
            "give ten clips or more of each emotion, or leave that emotion out"
        ) from error
    return drawn


def _keep_together(corpus: Corpus, parts: np.ndarray, movable: np.ndarray, seed: int) -> np.ndarray:
    """Return `parts` with all clips of one recording in one part, and the sizes of the parts unchanged.

    A recording goes to the part with most of its clips, on a tie to that of its first. In exchange a clip without
    copies changes parts, of the same emotion where there is one. Where there is no such clip, the sizes change.

    Parameters
    ----------
    parts: [clips], two or more values.
    movable: bool [clips], the clips that may change parts.
    """
    parts = parts.copy()
    emotions = _emotions(corpus)
    groups = _same_content(corpus)
    single = movable.copy()
    for group in groups:
        single[group] = False
    order = np.random.default_rng(seed).permutation(len(parts))
    for group in groups:
        group = [index for index in group if movable[index]]
        here = [parts[index] for index in group]
        home = max(here, key=here.count, default=None)
        for index in group:
            if parts[index] == home:
                continue
            swappable = order[single[order] & (parts[order] == home)]
            if swappable.size:  # The first of the same emotion, else the first.
                partner = swappable[np.argmax(emotions[swappable] == emotions[index])]
                parts[partner] = parts[index]
            parts[index] = home
    return parts


def _fixed_actors(corpus: Corpus, experiment: ExperimentConfig, tests: Sequence, validations: Sequence) -> np.ndarray:
    """Return the subsets of a protocol that lists the test and validation actors of each fold."""
    protocol = experiment.protocol
    test, validation = ([f"{actor:02d}" for actor in actors[experiment.fold]] for actors in (tests, validations))
    speakers = _speakers(corpus, protocol)
    missing = [actor for actor in (*test, *validation) if actor not in speakers]
    if missing:
        raise CorpusError(
            f"protocol '{protocol}' is for the actors of RAVDESS, and corpus '{corpus.name}' has no speaker "
            f"{', '.join(missing)} for this fold: use protocol '{'speaker' if len(set(speakers)) > 2 else 'random'}'"
        )
    subsets = np.full(len(speakers), "train", dtype="<U10")
    subsets[np.isin(speakers, validation)] = "validation"
    subsets[np.isin(speakers, test)] = "test"
    if "train" not in subsets:
        raise CorpusError(
            f"corpus '{corpus.name}' has no speaker left to train on in protocol '{protocol}': add the other actors"
        )
    for group in _same_content(corpus):
        if len(set(subsets[group])) > 1:
            names = " and ".join(corpus.clips[index].name for index in group[:2])
            raise CorpusError(
                f"{names} are one recording with two speakers, which protocol '{protocol}' puts into two subsets: "
                "remove one, or use protocol 'speaker'"
            )
    return subsets


def _speaker(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    speakers = _speakers(corpus, "speaker")
    queue = _blocks_in_order(corpus, experiment, 3)
    wanted = max(1, round(TEST_FRACTION * len(set(speakers))))
    subsets = np.full(len(speakers), "train", dtype="<U10")
    for subset in ("test", "validation"):
        subsets[np.isin(speakers, _take(queue, wanted))] = subset
    return subsets


def _speaker_folds(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    """Every speaker is tested once. Speakers who share a recording are in one fold."""
    speakers = _speakers(corpus, experiment.protocol)
    count = num_folds(experiment.protocol, corpus)
    needed = count if experiment.protocol == "speaker-kfold" else 3
    blocks = _blocks_in_order(corpus, experiment, needed)
    if experiment.protocol == "loso":
        blocks.sort()
        if len(blocks) < count:
            raise CorpusError(
                f"corpus '{corpus.name}' has speakers who share recordings, such as {', '.join(max(blocks, key=len))}, "
                "whom protocol 'loso' cannot part: use protocol 'speaker-kfold'"
            )
    folds = [[speaker for block in blocks[number::count] for speaker in block] for number in range(count)]
    subsets = np.full(len(speakers), "train", dtype="<U10")
    subsets[np.isin(speakers, folds[(experiment.fold + 1) % count])] = "validation"
    subsets[np.isin(speakers, folds[experiment.fold])] = "test"
    return subsets


def _left_out(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    """One corpus is tested, but for the speakers that recipes are chosen on; a tenth of the others' speakers are
    validation. Recordings that are on both sides, and tested clips of an emotion that the others lack, are unused."""
    names = sorted(corpus.parts)
    if len(names) < 2:
        raise CorpusError(
            f"protocol 'left-out' needs two corpora or more, and '{corpus.name}' is one: give several, --corpus A,B"
        )
    tested = names[experiment.fold]
    is_tested = np.array([clip.corpus == tested for clip in corpus.clips])
    others = replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.corpus != tested))
    subsets = np.full(len(corpus.clips), UNUSED, dtype="<U10")
    queue = _blocks_in_order(others, experiment, 2)
    validation = _take(queue, max(1, round(VALIDATION_FRACTION * len(others.speakers))))
    speakers = _speakers(corpus, "left-out")
    subsets[~is_tested] = "train"
    subsets[~is_tested & np.isin(speakers, validation)] = "validation"
    development = [f"{tested}/{speaker}" for speaker in DEVELOPMENT_SPEAKERS.get(tested.lower(), ())]
    known = {clip.emotion for clip in others.clips}
    subsets[is_tested & ~np.isin(speakers, development) & np.isin(_emotions(corpus), list(known))] = "test"
    for group in _same_content(corpus):
        if len(set(is_tested[group])) > 1:
            subsets[group] = UNUSED
    return subsets


def _given(corpus: Corpus, experiment: ExperimentConfig) -> np.ndarray:
    """The split of the corpus; without validation clips, a stratified tenth of the training clips. Clips that it does
    not name are unused."""
    subsets = np.array([clip.split or UNUSED for clip in corpus.clips], dtype="<U10")
    for subset in ("train", "test"):
        if subset not in subsets:
            raise CorpusError(
                f"corpus '{corpus.name}' has no split of its own with {subset} clips: name folders train and test, or "
                "write a column split in manifest.csv"
            )
    for group in _same_content(corpus):
        if len(set(subsets[group]) - {UNUSED}) > 1:
            names = " and ".join(corpus.clips[index].name for index in group[:2])
            raise CorpusError(f"{names} are one recording in two subsets of the split of '{corpus.name}': remove one")
    if "validation" not in subsets:
        drawn = _draw(corpus, experiment, np.flatnonzero(subsets == "train"), VALIDATION_FRACTION)
        is_validation = np.isin(np.arange(len(subsets)), drawn)
        is_validation = _keep_together(corpus, is_validation, subsets == "train", experiment.split_seed)
        subsets[is_validation] = "validation"
    return subsets


def _blocks_in_order(corpus: Corpus, experiment: ExperimentConfig, needed: int) -> list[tuple[str, ...]]:
    """Return blocks of speakers as `_balanced_order` does. Raises CorpusError where there are fewer than needed."""
    speakers = _speakers(corpus, experiment.protocol)
    blocks = _inseparable_speakers(corpus)
    if len(blocks) < needed:
        shared = " without a shared recording" if len(blocks) < len(set(speakers)) else ""
        raise CorpusError(
            f"corpus '{corpus.name}' has {len(blocks)} speaker{'s' * (len(blocks) != 1)}{shared}, too few for protocol "
            f"'{experiment.protocol}', which needs {needed}: add speakers, or use protocol 'random'"
        )
    return _balanced_order(blocks, {clip.speaker: clip.sex for clip in corpus.clips}, experiment.split_seed)


def _take(queue: list[tuple[str, ...]], wanted: int) -> list[str]:
    """Remove blocks of at most `wanted` speakers from the queue and return them; the smallest block if none fits."""
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
    """Return blocks of speakers: those who share a recording, directly or through others, are in one block."""
    block_of = {clip.speaker: {clip.speaker} for clip in corpus.clips}
    for group in _same_content(corpus):
        joined = set().union(*(block_of[corpus.clips[index].speaker] for index in group))
        for speaker in joined:
            block_of[speaker] = joined
    return sorted({tuple(sorted(block)) for block in block_of.values()})


def _balanced_order(blocks: list[tuple[str, ...]], sexes: dict[str, str], seed: int) -> list[tuple[str, ...]]:
    """Return the blocks shuffled, with about the corpus's proportion of the sexes in every part of the order."""
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
    """Return the emotion of each clip, str [clips]."""
    return np.array([clip.emotion for clip in corpus.clips])


def _speakers(corpus: Corpus, protocol: str) -> np.ndarray:
    """Return the speaker of each clip, str [clips]. Raises CorpusError when one is unknown."""
    unknown = [clip.name for clip in corpus.clips if not clip.speaker]
    if unknown:
        example = f"{len(unknown)} of {len(corpus.clips)} clips ({unknown[0]}{', ...' * (len(unknown) > 1)})"
        raise CorpusError(
            f"protocol '{protocol}' needs speakers, which are unknown in corpus '{corpus.name}' for {example}: "
            "give a manifest.csv with speakers, or use protocol 'random'"
        )
    return np.array([clip.speaker for clip in corpus.clips])


def _same_content(corpus: Corpus) -> list[list[int]]:
    """Return the indices of the clips of each recording that has more than one."""
    by_content = defaultdict(list)
    for index, clip in enumerate(corpus.clips):
        by_content[clip.content or clip.name].append(index)
    return [group for group in by_content.values() if len(group) > 1]
