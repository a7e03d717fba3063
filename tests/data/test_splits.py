"""Splits have the right sizes and whole speakers, test every clip once, and keep identical recordings together."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from emokeras.config import ExperimentConfig, MeasuredProtocol
from emokeras.data.corpora import Clip, Corpus, join_corpora, map_emotions, ravdess
from emokeras.data.splits import (
    DEVELOPMENT_SPEAKERS,
    PROTOCOLS,
    SUBSETS,
    UNUSED,
    check_fold,
    draw_split,
    missing_emotions,
    num_folds,
    split_digest,
    trained_emotions,
)
from emokeras.errors import CorpusError, UsageError

# Of one corpus, without a split of its own.
MEASURED = [protocol for protocol in get_args(MeasuredProtocol) if protocol not in ("left-out", "given")]
FIXED = ("luna", "emobox", "loso")  # protocols that draw nothing
EVERY_FOLD = [(protocol, fold) for protocol in MEASURED for fold in range(PROTOCOLS[protocol].num_folds or 24)]


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


@pytest.mark.parametrize(
    ("protocol", "count"), [("random-10fold", 10), ("luna", 5), ("emobox", 6), ("speaker-kfold", 5), ("loso", 24)]
)
def test_the_folds_test_every_clip_once(corpus, protocol, count):
    folds = [split(corpus, protocol, fold) == "test" for fold in range(count)]
    assert (np.sum(folds, axis=0) == 1).all()
    assert draw_split(corpus, ExperimentConfig(protocol=protocol)).num_folds == count
    with pytest.raises(UsageError, match=f"no fold {count}: its folds are 0 to {count - 1}"):
        split(corpus, protocol, count)


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
    assert (split(corpus, protocol, split_seed=2).tolist() == first.tolist()) == (protocol in FIXED)


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


@pytest.mark.parametrize("protocol", ["speaker", "luna", "emobox", "speaker-kfold", "loso"])
def test_unknown_speakers_are_refused(protocol):
    corpus = make_corpus([clip(1, "happy", "01"), clip(2, "happy"), clip(3, "happy")])
    with pytest.raises(
        CorpusError, match=rf"'{protocol}' needs speakers.* for 2 of 3 clips \(0002, \.\.\.\): give a manifest"
    ):
        split(corpus, protocol)


# given


def with_split(corpus, splits) -> Corpus:
    return replace(corpus, clips=tuple(replace(one, split=own) for one, own in zip(corpus.clips, splits, strict=True)))


def test_the_split_of_a_corpus_is_used_as_it_is():
    clips = make_corpus(clip(number, ("happy", "sad")[number % 2]) for number in range(12))
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 3 + [""]
    assert split(with_split(clips, splits), "given").tolist() == [*splits[:-1], "unused"]


def test_without_validation_clips_a_tenth_of_the_training_clips_validates():
    clips = make_corpus(clip(number, ("happy", "sad")[number % 2]) for number in range(60))
    given = with_split(clips, ["train"] * 40 + ["test"] * 20)
    subsets = split(given, "given")
    assert (subsets[40:] == "test").all()
    assert (subsets == "validation").sum() == 4
    assert missing_emotions(given, subsets) == []


def test_what_is_no_split_is_refused():
    clips = make_corpus(clip(number, ("happy", "sad")[number % 2], content=f"{number % 5}") for number in range(10))
    with pytest.raises(CorpusError, match="no split of its own with train clips: name folders train and test"):
        split(clips, "given")
    with pytest.raises(CorpusError, match="no split of its own with test clips"):
        split(with_split(clips, ["train"] * 10), "given")
    with pytest.raises(CorpusError, match="0000 and 0005 are one recording in two subsets"):
        split(with_split(clips, ["train"] * 5 + ["test"] * 5), "given")


# speaker-kfold and loso


def fold_of_speakers(corpus, protocol, count, split_seed=0) -> dict[str, int]:
    """Return the fold that tests each speaker."""
    folds = {}
    for fold in range(count):
        for speaker in speakers_of(corpus, split(corpus, protocol, fold, split_seed), "test"):
            assert folds.setdefault(speaker, fold) == fold
    return folds


@pytest.mark.parametrize(("protocol", "count"), [("speaker-kfold", 5), ("loso", 24)])
def test_the_next_fold_is_validation(corpus, protocol, count):
    folds = [split(corpus, protocol, fold) for fold in range(count)]
    for fold, subsets in enumerate(folds):
        tested_next = speakers_of(corpus, folds[(fold + 1) % count], "test")
        assert speakers_of(corpus, subsets, "validation") == tested_next


@pytest.mark.parametrize("seed", range(5))
def test_the_folds_of_speakers_have_both_sexes_and_about_one_size(corpus, seed):
    sex_of = {one.speaker: one.sex for one in corpus.clips}
    folds = fold_of_speakers(corpus, "speaker-kfold", 5, seed)
    assert sorted(Counter(folds.values()).values()) == [4, 5, 5, 5, 5]
    for fold in range(5):
        sexes = Counter(sex_of[speaker] for speaker in folds if folds[speaker] == fold)
        assert abs(sexes["male"] - sexes["female"]) <= 1


def test_loso_tests_one_speaker_a_fold_in_their_order(corpus):
    assert fold_of_speakers(corpus, "loso", 24) == {f"{number + 1:02d}": number for number in range(24)}


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_recording_are_in_one_fold(seed):
    """02 shares one with 05, and 05 another with 08."""
    clips = [clip(number, "happy", f"{number % 10:02d}") for number in range(100)]
    clips += [clip(200, "happy", "02", "x"), clip(201, "happy", "05", "x")]
    clips += [clip(202, "happy", "05", "y"), clip(203, "happy", "08", "y")]
    corpus = make_corpus(clips)
    folds = fold_of_speakers(corpus, "speaker-kfold", 5, seed)
    assert folds["02"] == folds["05"] == folds["08"]
    assert len(folds) == 10
    for fold in range(5):
        subsets = split(corpus, "speaker-kfold", fold, seed)
        assert set(subsets) == set(SUBSETS)
        assert all(len(found) == 1 for found in subsets_of_contents(corpus, subsets).values())
    with pytest.raises(CorpusError, match=r"speakers who share recordings, such as 02, 05, 08, whom protocol 'loso'"):
        split(corpus, "loso", 0, seed)


@pytest.mark.parametrize(("protocol", "needed"), [("speaker-kfold", 5), ("loso", 3)])
def test_too_few_speakers_for_folds_are_refused(protocol, needed):
    enough = make_corpus(clip(number, "happy", f"{number % needed}") for number in range(20))
    assert len(fold_of_speakers(enough, protocol, needed)) == needed
    few = make_corpus(clip(number, "happy", f"{number % (needed - 1)}") for number in range(20))
    message = f"has {needed - 1} speakers, too few for protocol '{protocol}', which needs {needed}"
    with pytest.raises(CorpusError, match=message):
        split(few, protocol)


def test_loso_of_a_corpus_without_speakers_says_so():
    with pytest.raises(CorpusError, match="protocol 'loso' needs speakers"):
        split(make_corpus(clip(number, "happy") for number in range(9)), "loso")


# left-out


def fake_corpus(name: str, emotions, speakers, first: int = 0) -> Corpus:
    """Return a corpus in which each speaker has two clips of each emotion; numbers begin at `first`."""
    pairs = [(speaker, emotion) for speaker in speakers for emotion in emotions for _ in range(2)]
    return replace(
        make_corpus(clip(first + n, emotion, speaker) for n, (speaker, emotion) in enumerate(pairs)), name=name
    )


@pytest.fixture(scope="module")
def three():
    """Return three corpora as one: EMOVO has "calm", which the others lack, and two development speakers; nobody else
    than "b" has "fearful", and "c" has no "sad"."""
    emovo = fake_corpus("EMOVO", ("calm", "happy", "sad"), ("f1", "f2", "m1", "m2", "m3"))
    b = fake_corpus("b", ("happy", "sad", "fearful"), [f"{number:02d}" for number in range(10)], 1000)
    c = fake_corpus("c", ("happy", "angry"), [f"{number:02d}" for number in range(10)], 2000)
    return join_corpora([c, emovo, b])


@pytest.mark.parametrize(("fold", "tested"), enumerate(["EMOVO", "b", "c"]))
def test_a_fold_tests_one_corpus_and_no_clip_or_speaker_of_it_trains(three, fold, tested):
    subsets = split(three, "left-out", fold)
    corpora = {subset: set() for subset in (*SUBSETS, UNUSED)}
    for one, subset in zip(three.clips, subsets, strict=True):
        corpora[subset].add(one.corpus)
    assert corpora["test"] == {tested}
    assert corpora["train"] == {"EMOVO", "b", "c"} - {tested}
    assert corpora[UNUSED] <= {tested}
    seen = speakers_of(three, subsets, "train") | speakers_of(three, subsets, "validation")
    assert not any(speaker.startswith(f"{tested}/") for speaker in seen)
    assert not speakers_of(three, subsets, "train") & speakers_of(three, subsets, "validation")
    others = {one.speaker for one in three.clips if one.corpus != tested}
    assert seen == others
    assert len(speakers_of(three, subsets, "validation")) == max(1, round(0.1 * len(others)))
    assert all(len(found) == 1 for found in subsets_of_contents(three, subsets).values())
    assert (
        draw_split(three, ExperimentConfig(protocol="left-out", fold=fold)).num_folds
        == 3
        == num_folds("left-out", three)
    )


def test_speakers_that_recipes_are_chosen_on_and_emotions_that_the_others_lack_are_unused(three):
    assert DEVELOPMENT_SPEAKERS["emovo"] == ("f1", "m1")
    subsets = split(three, "left-out", 0)
    for one, subset in zip(three.clips, subsets, strict=True):
        if one.corpus == "EMOVO":
            is_test = one.speaker not in ("EMOVO/f1", "EMOVO/m1") and one.emotion != "calm"
            assert subset == ("test" if is_test else UNUSED)
    # Where another corpus is tested, all of their clips train or validate.
    subsets = split(three, "left-out", 1)
    assert {"EMOVO/f1", "EMOVO/m1"} <= speakers_of(three, subsets, "train") | speakers_of(three, subsets, "validation")
    assert {one.emotion for one, subset in zip(three.clips, subsets, strict=True) if subset == UNUSED} == {"fearful"}


def test_a_network_has_the_emotions_of_the_corpora_that_train_it(three):
    def emotions(fold, protocol="left-out"):
        return trained_emotions(three, ExperimentConfig(protocol=protocol, fold=fold))

    assert emotions(0) == ("happy", "sad", "angry", "fearful")
    assert emotions(1) == ("calm", "happy", "sad", "angry")
    assert emotions(2) == ("calm", "happy", "sad", "fearful")
    assert emotions(0, "speaker") == three.emotions == ("calm", "happy", "sad", "angry", "fearful")
    with pytest.raises(UsageError, match="'left-out' has no fold 3: its folds are 0 to 2"):
        emotions(3)


def test_mapped_emotions_are_those_of_the_others(three):
    mapped = map_emotions(three, ["calm=happy"])
    subsets = split(mapped, "left-out", 0)
    tested = [one for one, subset in zip(mapped.clips, subsets, strict=True) if subset == "test"]
    assert len(tested) == 3 * 6
    assert trained_emotions(mapped, ExperimentConfig(protocol="left-out")) == ("happy", "sad", "angry", "fearful")


@pytest.mark.parametrize("fold", range(2))
def test_a_recording_on_both_sides_is_neither_trained_on_nor_tested(fold):
    """It is there three times, with two speakers; twice in one of the corpora."""
    a = fake_corpus("a", ("happy", "sad"), ("x", "y", "z"))
    b = fake_corpus("b", ("happy", "sad"), ("x", "y", "z"), 1000)
    own = clip(500, "sad", "z", content="1000"), clip(501, "sad", "z", content="1000")
    corpus = join_corpora([replace(a, clips=(*a.clips, *own)), b])
    subsets = split(corpus, "left-out", fold)
    shared = [subset for one, subset in zip(corpus.clips, subsets, strict=True) if one.content == "1000"]
    assert shared == [UNUSED] * 3
    assert Counter(subsets.tolist())["test"] == (12, 11)[fold]
    assert Counter(subsets.tolist())[UNUSED] == 3


def test_the_order_of_the_corpora_does_not_matter(three):
    def part(name):
        return Corpus(
            name,
            tuple(
                replace(one, name=one.name.partition("/")[2], speaker=one.speaker.partition("/")[2], corpus="")
                for one in three.clips
                if one.corpus == name
            ),
            (),
        )

    again = join_corpora([part(name) for name in ("b", "EMOVO", "c")])
    for fold in range(3):
        experiment = ExperimentConfig(protocol="left-out", fold=fold)
        assert draw_split(again, experiment).digest == draw_split(three, experiment).digest


def test_one_corpus_cannot_be_left_out(corpus):
    with pytest.raises(CorpusError, match="'left-out' needs two corpora or more, and 'fake' is one: give several"):
        split(corpus, "left-out")


def test_the_corpora_that_train_need_two_speakers():
    a = fake_corpus("a", ("happy", "sad"), ("x", "y"))
    b = fake_corpus("b", ("happy", "sad"), ("x",), 1000)
    corpus = join_corpora([a, b])
    assert set(split(corpus, "left-out", 1)) == set(SUBSETS)
    with pytest.raises(CorpusError, match="1 speaker, too few for protocol 'left-out', which needs 2"):
        split(corpus, "left-out", 0)


# Arguments and warnings


def test_the_message_for_an_unknown_protocol_has_the_nearest_one():
    with pytest.raises(UsageError, match="no protocol 'speakers'; did you mean 'speaker'"):
        check_fold("speakers", 0)


@pytest.mark.parametrize(
    ("protocol", "fold", "folds"),
    [("luna", 5, "0 to 4"), ("luna", -1, "0 to 4"), ("random", 1, "0 only"), ("loso", -1, "begin at 0")],
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
