"""Splits have the right sizes and whole speakers, test every clip once, and keep identical recordings together."""

from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from emokeras.config import ExperimentConfig, MeasuredProtocol
from emokeras.data.corpora import Clip, Corpus, ravdess
from emokeras.data.splits import PROTOCOLS, SUBSETS, check_fold, draw_split, missing_emotions, split_digest
from emokeras.errors import CorpusError, UsageError

MEASURED = get_args(MeasuredProtocol)
EVERY_FOLD = [(protocol, fold) for protocol in MEASURED for fold in range(PROTOCOLS[protocol].num_folds)]


def split(corpus: Corpus, protocol: str, fold: int = 0, split_seed: int = 0) -> np.ndarray:
    """Return the subset of each clip."""
    return draw_split(corpus, ExperimentConfig(protocol=protocol, fold=fold, split_seed=split_seed)).subsets


def make_corpus(clips) -> Corpus:
    clips = tuple(sorted(clips, key=lambda clip: clip.name))
    return Corpus("fake", clips, tuple(dict.fromkeys(clip.emotion for clip in clips)))


def fake_ravdess(actors=range(1, 25)) -> Corpus:
    """Return a corpus of RAVDESS's 60 names per actor. Two of actor 07 are one recording, as in the real clips."""
    clips = []
    for actor in actors:
        for emotion in range(1, 9):
            for strength in ("01",) if emotion == 1 else ("01", "02"):
                for statement in ("01", "02"):
                    for take in ("01", "02"):
                        name = f"03-01-{emotion:02d}-{strength}-{statement}-{take}-{actor:02d}"
                        fields = ravdess.parse(name)
                        content = name.replace("03-01-03-01-02-02-07", "03-01-03-01-02-01-07")
                        clips.append(Clip(name, Path(name), fields.emotion, fields.speaker, content, sex=fields.sex))
    return make_corpus(clips)


def clip(number: int, emotion: str, speaker: str = "", content: str = "", sex: str = "") -> Clip:
    name = f"{number:04d}"
    return Clip(name, Path(name), emotion, speaker, content or name, sex=sex)


def speakers_of(corpus, subsets, subset) -> set[str]:
    return {clip.speaker for clip, one in zip(corpus.clips, subsets, strict=True) if one == subset}


def subsets_of_contents(corpus, subsets) -> dict[str, set[str]]:
    found = {}
    for one, subset in zip(corpus.clips, subsets, strict=True):
        found.setdefault(one.content, set()).add(subset)
    return found


@pytest.fixture(scope="module")
def corpus():
    return fake_ravdess()


# All protocols


@pytest.mark.parametrize(("protocol", "fold"), EVERY_FOLD)
def test_each_recording_is_in_one_subset(corpus, protocol, fold):
    subsets = split(corpus, protocol, fold)
    assert subsets.shape == (1440,)
    assert set(subsets.tolist()) == set(SUBSETS)
    assert all(len(found) == 1 for found in subsets_of_contents(corpus, subsets).values())
    assert missing_emotions(corpus, subsets) == []


@pytest.mark.parametrize("protocol", ["random-10fold", "luna", "emobox"])
def test_the_folds_test_every_clip_once(corpus, protocol):
    folds = [split(corpus, protocol, fold) == "test" for fold in range(PROTOCOLS[protocol].num_folds)]
    assert (np.sum(folds, axis=0) == 1).all()


@pytest.mark.parametrize(("protocol", "fold"), [pair for pair in EVERY_FOLD if PROTOCOLS[pair[0]].whole_speakers])
def test_a_protocol_of_whole_speakers_has_each_in_one_subset(corpus, protocol, fold):
    subsets = split(corpus, protocol, fold)
    train, validation, test = (speakers_of(corpus, subsets, subset) for subset in SUBSETS)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train | validation | test) == 24


def test_the_protocol_all_is_for_training_only(corpus):
    assert set(split(corpus, "all")) == {"train"}


@pytest.mark.parametrize("protocol", MEASURED)
def test_the_split_seed_determines_the_split(corpus, protocol):
    first = split(corpus, protocol, split_seed=1)
    assert split(corpus, protocol, split_seed=1).tolist() == first.tolist()
    is_drawn = protocol not in ("luna", "emobox")
    assert (split(corpus, protocol, split_seed=2).tolist() != first.tolist()) == is_drawn


# random and random-10fold


@pytest.mark.parametrize("seed", range(5))
def test_random_is_stratified_and_its_sizes_are_exact(corpus, seed):
    subsets = split(corpus, "random", split_seed=seed)
    assert Counter(subsets.tolist()) == {"train": 1037, "validation": 115, "test": 288}
    emotions = np.array([one.emotion for one in corpus.clips])
    tested = Counter(emotions[subsets == "test"].tolist())
    assert all(count in ((19, 20) if emotion == "neutral" else (38, 39)) for emotion, count in tested.items())


def test_random_10fold_has_ten_folds_of_144(corpus):
    for fold in range(10):
        counts = Counter(split(corpus, "random-10fold", fold).tolist())
        assert counts == {"train": 1166, "validation": 130, "test": 144}


@pytest.mark.parametrize("protocol", ["random", "random-10fold"])
@pytest.mark.parametrize("seed", range(5))
def test_many_identical_recordings_stay_together_and_the_sizes_are_exact(protocol, seed):
    """100 of 400 recordings are there twice, some with two emotions."""
    emotions = ("happy", "sad", "angry", "calm")
    clips = [clip(number, emotions[number % 4]) for number in range(400)]
    clips += [
        clip(400 + number, emotions[(number + number // 90) % 4], content=f"{number:04d}") for number in range(100)
    ]
    corpus = make_corpus(clips)
    subsets = split(corpus, protocol, split_seed=seed)
    assert all(len(found) == 1 for found in subsets_of_contents(corpus, subsets).values())
    expected = {"random": (360, 40, 100), "random-10fold": (405, 45, 50)}[protocol]
    assert tuple(Counter(subsets.tolist())[subset] for subset in SUBSETS) == expected


def test_every_subset_of_a_small_corpus_has_every_emotion():
    corpus = make_corpus(clip(number, ("happy", "sad", "angry", "calm")[number % 4]) for number in range(16))
    subsets = split(corpus, "random")
    assert Counter(subsets.tolist()) == {"train": 8, "validation": 4, "test": 4}
    assert missing_emotions(corpus, subsets) == []


@pytest.mark.parametrize("protocol", ["random", "random-10fold"])
def test_too_few_clips_of_an_emotion_are_refused(protocol):
    clips = [clip(number, "happy") for number in range(50)] + [clip(99, "sad")]
    with pytest.raises(
        CorpusError, match=f"too small for protocol '{protocol}': 1 of its 51 clips are 'sad': give ten"
    ):
        split(make_corpus(clips), protocol)


def test_too_few_clips_for_ten_folds_are_refused():
    with pytest.raises(CorpusError, match="has 9 clips, too few for ten folds"):
        split(make_corpus(clip(number, "happy") for number in range(9)), "random-10fold")


# luna and emobox


@pytest.mark.parametrize(
    ("protocol", "fold", "test", "validation"),
    [
        ("luna", 0, "02 05 14 15 16", "03 06"),
        ("luna", 4, "01 04 09 22", "02 05"),
        ("emobox", 0, "01 11 20 21", "04 10"),
        ("emobox", 5, "06 13 17 22", "01 11"),
    ],
)
def test_the_published_folds(corpus, protocol, fold, test, validation):
    subsets = split(corpus, protocol, fold)
    assert speakers_of(corpus, subsets, "test") == set(test.split())
    assert speakers_of(corpus, subsets, "validation") == set(validation.split())


@pytest.mark.parametrize("protocol", ["luna", "emobox"])
def test_the_published_folds_need_their_actors(protocol):
    part = fake_ravdess([1, 2, 3, 4, 10])
    with pytest.raises(CorpusError, match=r"has no speaker .*11.* for this fold: use protocol 'speaker'"):
        split(part, protocol, {"luna": 1, "emobox": 0}[protocol])
    other = make_corpus(clip(number, "happy", f"anna{number % 4}") for number in range(20))
    with pytest.raises(CorpusError, match="for the actors of RAVDESS, and corpus 'fake' has no speaker"):
        split(other, protocol)


def test_a_published_fold_needs_training_speakers():
    with pytest.raises(CorpusError, match="no speaker left to train on"):
        split(fake_ravdess([2, 5, 14, 15, 16, 3, 6]), "luna", 0)


def test_a_published_fold_with_one_recording_in_two_subsets_is_refused(corpus):
    clips = list(corpus.clips)
    shared = [number for number, one in enumerate(clips) if one.name.endswith(("01-01-01-01-01", "01-01-01-01-02"))][:2]
    for number in shared:
        clips[number] = clip(number, "neutral", clips[number].speaker, content="shared")
    with pytest.raises(
        CorpusError, match="are one recording with two speakers, which protocol 'luna' puts into two subsets"
    ):
        split(make_corpus(clips), "luna", 0)


# speaker


@pytest.mark.parametrize("seed", range(5))
def test_speakers_are_split_60_20_20_with_both_sexes_in_every_subset(corpus, seed):
    subsets = split(corpus, "speaker", split_seed=seed)
    sex_of = {one.speaker: one.sex for one in corpus.clips}
    for subset, num_speakers in zip(SUBSETS, (14, 5, 5), strict=True):
        sexes = Counter(sex_of[speaker] for speaker in speakers_of(corpus, subsets, subset))
        assert sexes.total() == num_speakers
        assert abs(sexes["male"] - sexes["female"]) <= 1


def test_the_test_subset_has_the_proportion_of_sexes_of_the_corpus():
    clips = [
        clip(number, "happy", f"{number % 20:02d}", sex="male" if number % 20 < 15 else "female")
        for number in range(200)
    ]
    corpus = make_corpus(clips)
    for seed in range(5):
        tested = speakers_of(corpus, split(corpus, "speaker", split_seed=seed), "test")
        assert len(tested) == 4
        assert sum(speaker >= "15" for speaker in tested) == 1


def test_speakers_that_share_a_recording_stay_together():
    """02 shares one with 05, and 05 another with 08, so the three are together."""
    clips = [clip(number, "happy", f"{number % 10:02d}") for number in range(100)]
    clips += [clip(200, "happy", "02", "x"), clip(201, "happy", "05", "x")]
    clips += [clip(202, "happy", "05", "y"), clip(203, "happy", "08", "y")]
    corpus = make_corpus(clips)
    for seed in range(20):
        subsets = split(corpus, "speaker", split_seed=seed)
        assert all(len(found) == 1 for found in subsets_of_contents(corpus, subsets).values())
        block = {"02", "05", "08"}
        assert sum(bool(block & speakers_of(corpus, subsets, subset)) for subset in SUBSETS) == 1
        assert [len(speakers_of(corpus, subsets, subset)) for subset in SUBSETS] == [6, 2, 2]


def test_three_speakers_are_enough_and_two_are_not():
    three = make_corpus(clip(number, "happy", f"{number % 3}") for number in range(9))
    assert Counter(split(three, "speaker").tolist()) == {"train": 3, "validation": 3, "test": 3}
    two = make_corpus(clip(number, "happy", f"{number % 2}") for number in range(9))
    with pytest.raises(CorpusError, match="has 2 speakers, too few for protocol 'speaker', which needs 3"):
        split(two, "speaker")
    joined = make_corpus([*three.clips, clip(20, "happy", "0", "x"), clip(21, "happy", "1", "x")])
    with pytest.raises(CorpusError, match="has 2 speakers without a shared recording, too few"):
        split(joined, "speaker")


@pytest.mark.parametrize("protocol", ["speaker", "luna", "emobox"])
def test_unknown_speakers_are_refused(protocol):
    corpus = make_corpus([clip(1, "happy", "01"), clip(2, "happy"), clip(3, "happy")])
    with pytest.raises(
        CorpusError, match=rf"'{protocol}' needs speakers.* for 2 of 3 clips \(0002, \.\.\.\): give a manifest"
    ):
        split(corpus, protocol)


# Arguments and warnings


def test_the_message_for_an_unknown_protocol_has_the_nearest_one():
    with pytest.raises(UsageError, match="no protocol 'speakers'; did you mean 'speaker'"):
        check_fold("speakers", 0)


@pytest.mark.parametrize(
    ("protocol", "fold", "folds"), [("luna", 5, "0 to 4"), ("luna", -1, "0 to 4"), ("random", 1, "0 only")]
)
def test_a_fold_out_of_range_is_refused(protocol, fold, folds):
    with pytest.raises(UsageError, match=f"protocol '{protocol}' has no fold {fold}: .*{folds}"):
        check_fold(protocol, fold)


def test_the_digest_depends_on_clips_and_subsets_in_any_order(corpus):
    drawn = draw_split(corpus, ExperimentConfig(protocol="luna", fold=1))
    assert split_digest(corpus.clips[::-1], drawn.subsets[::-1]) == drawn.digest
    assert draw_split(corpus, ExperimentConfig(protocol="luna", fold=2)).digest != drawn.digest
    assert split_digest(corpus.clips[1:], drawn.subsets[1:]) != drawn.digest
    changed = [clip(0, "calm"), *corpus.clips[1:]]
    assert split_digest(changed, drawn.subsets) != drawn.digest
    np.testing.assert_array_equal(drawn.indices("test"), np.flatnonzero(drawn.subsets == "test"))


def test_a_missing_emotion_gives_a_warning_for_each_subset():
    corpus = make_corpus([clip(1, "happy"), clip(2, "sad"), clip(3, "happy"), clip(4, "happy")])
    lines = missing_emotions(corpus, np.array(["train", "train", "validation", "test"]))
    assert len(lines) == 2
    assert lines[1].startswith("the test subset has no clip of 'sad': ")
    assert not any("\n" in line for line in lines)
