"""What is said of a training clip is said by a network that has not heard it, nor anything of its speaker."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny
from scipy.special import softmax
from test_fit import Broken, broken_after

from emokeras.config import Config, EnsembleConfig, override, read_config
from emokeras.errors import CorpusError, UsageError
from emokeras.recipes import RECIPES
from emokeras.reporting import runs
from emokeras.training import fit, members
from emokeras.training.crossfit import crossfit, part_clips
from emokeras.training.subsets import split_corpus, take_subsets

TELLERS = ("mel-cnn2", "mfcc-cnn2")


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def config() -> Config:
    settings = {"epochs": 2, "refit_epochs": 1, "crossfit_parts": 2, "crossfit_epochs": 2, "crossfit_share": 0.25}
    config = tiny(RECIPES["mel-cnn3"].config)
    return override(config, {f"training.{name}": value for name, value in settings.items()})


@pytest.fixture(scope="module")
def train(config, demo_corpus, tmp_path_factory):
    return take_subsets(config, demo_corpus, tmp_path_factory.mktemp("split"), silent)["train"]


def clips_of(corpus, config, *subsets):
    names = split_corpus(corpus, config.experiment)
    return [clip for clip, name in zip(corpus.clips, names, strict=True) if name in subsets]


def test_parts_are_of_whole_speakers_with_every_emotion(config, demo_corpus):
    clips = clips_of(demo_corpus, config, "train")
    parts = part_clips(clips, clips_of(demo_corpus, config, "validation", "test"), 3, 0)
    assert sorted(np.bincount(parts)) == [8, 8, 8]
    for speaker in {clip.speaker for clip in clips}:
        assert len({part for part, clip in zip(parts, clips, strict=True) if clip.speaker == speaker}) == 1
    for number in range(3):
        assert len({clip.emotion for part, clip in zip(parts, clips, strict=True) if part == number}) == 8


def test_speakers_who_are_on_all_sides_are_in_all_parts(config, demo_corpus):
    clips = clips_of(demo_corpus, config, "train")
    parts = part_clips(clips, clips[:1], 2, 0)
    assert len({(clip.speaker, part) for clip, part in zip(clips, parts, strict=True)}) == 6
    unknown = [replace(clip, speaker="") for clip in clips]
    np.testing.assert_array_equal(part_clips(unknown, [], 2, 0), parts)
    twice = part_clips([*clips, *clips], clips[:1], 2, 0)
    np.testing.assert_array_equal(twice[: len(clips)], twice[len(clips) :])


def test_more_parts_than_speakers_are_refused_before_anything_is_trained(config, demo_corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"^training.crossfit_parts=4: 3 speakers train: take fewer parts$"):
        fit.train_run(override(config, {"training.crossfit_parts": 4}), demo_corpus, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "parts", "why"), [("mel-cnn3", 1, "nothing is left"), ("early-mel-mfcc", 2, "have heard all training")]
)
def test_what_nobody_can_say_unheard_is_refused(recipe, parts, why):
    with pytest.raises(UsageError, match=rf"training\.crossfit_parts.*{why}"):
        override(RECIPES[recipe].config, {"training.crossfit_parts": parts})


def test_each_part_is_told_by_who_has_heard_the_others_and_is_told_once(train, demo_corpus, tmp_path):
    parts = np.arange(len(train.clips)) % 2
    asked = []

    def answer(rest, part, folder):
        asked.append(folder.name)
        assert {clip.name for clip in rest.clips}.isdisjoint(clip.name for clip in part.clips)
        assert len(rest.clips) + len(part.clips) == len(train.clips)
        return np.eye(8)[(part.labels + len(asked)) % 8]

    said = crossfit(demo_corpus.emotions, train, parts, tmp_path, silent, answer)
    np.testing.assert_array_equal(said.argmax(axis=1), (train.labels + parts + 1) % 8)
    (tmp_path / "crossfit/part-2/predictions.csv").unlink()
    asked = ["again"]
    np.testing.assert_array_equal(crossfit(demo_corpus.emotions, train, parts, tmp_path, silent, answer), said)
    assert asked == ["again", "part-2"]


@pytest.fixture(scope="module")
def run(config, demo_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossfit") / "run"
    fit.train_run(config, demo_corpus, folder, say=silent)
    return folder


def test_labels_have_a_share_of_what_was_said_unheard(config, demo_corpus, run, monkeypatch):
    """Those of the validation clips, which train in the end, of what was said of them in validation."""
    begun = []
    monkeypatch.setattr(fit, "fit", lambda run, say: begun.append(run))
    prepared = fit.prepare(config, demo_corpus, run, True, silent)
    validated = np.eye(8)[[3] * 8]
    fit.refit(prepared, demo_corpus, validated, silent)
    said = {}
    for number in (1, 2):
        names, _, _, _, probabilities = runs.read_predictions(run / f"crossfit/part-{number}/predictions.csv")
        said |= dict(zip(names, probabilities, strict=True))
    train, validation = prepared.subsets["train"], prepared.subsets["validation"]
    expected = 0.75 * np.eye(8)[train.labels] + 0.25 * np.array([said[clip.name] for clip in train.clips])
    np.testing.assert_allclose(prepared.targets["emotion"], expected, atol=1e-6)
    of_validation = 0.75 * np.eye(8)[validation.labels] + 0.25 * validated
    np.testing.assert_allclose(begun[0].targets["emotion"], np.concatenate([expected, of_validation]), atol=1e-6)


def test_what_the_parts_took_counts(run):
    histories = [runs.read_history(run / part / "history.csv") for part in ("", "crossfit/part-1", "crossfit/part-2")]
    assert [len(rows) for rows in histories] == [2, 2, 2]
    histories.append(runs.read_history(run / "refit/history.csv"))
    seconds = sum(row["seconds"] for rows in histories for row in rows)
    assert runs.read_metrics(run)["train_seconds"] == pytest.approx(seconds, abs=0.06)


@pytest.fixture(scope="module")
def ensemble(config, demo_corpus, tmp_path_factory):
    """Return the run of two networks that are told of the clips by two others. It was broken when these had told, and
    went on."""
    folder = tmp_path_factory.mktemp("crossfit") / "both" / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name in TELLERS:
            own = replace(tiny(RECIPES[name].config), training=replace(config.training, crossfit_parts=0))
            patch.setitem(RECIPES, name, replace(RECIPES[name], config=own))
        first = override(config, {"training.crossfit_by": TELLERS})
        both = {"first": first, "second": override(first, {"training.crossfit_share": 0.75})}
        both = EnsembleConfig("both", both, "mean-logits", config.experiment)
        with patch.context() as broken:
            broken.setattr(members, "train_run", fail)
            with pytest.raises(Broken):
                members.train_with_members(both, demo_corpus, folder, say=silent, at_once=1)
        patch.setattr(fit, "ask_own_kind", fail)  # All has been said: nobody is asked again.
        members.train_with_members(both, demo_corpus, folder, True, silent, at_once=1)
    return folder


def fail(*arguments):
    raise Broken


def test_members_are_told_by_others_together(ensemble, demo_corpus, config):
    tellers = [ensemble / "crossfit" / name for name in TELLERS]
    said = [runs.read_predictions(run / "crossfit/predictions.csv")[-1] for run in tellers]
    assert abs(said[0] - said[1]).max() > 1e-3
    together = softmax(np.log(said).mean(axis=0), axis=1)
    for name, share in (("first", 0.25), ("second", 0.75)):
        run = ensemble / "members" / name
        prepared = fit.prepare(read_config(run / "config.json"), demo_corpus, run, True, silent)
        expected = (1 - share) * np.eye(8)[prepared.subsets["train"].labels] + share * together
        np.testing.assert_allclose(prepared.targets["emotion"], expected, atol=1e-6)


def test_those_who_tell_are_as_their_recipes(ensemble):
    for name in TELLERS:
        own = read_config(ensemble / "crossfit" / name / "config.json")
        assert own.encoders.keys() == RECIPES[name].config.encoders.keys()
        assert (own.training.crossfit_parts, own.training.crossfit_epochs) == (2, 2)


def test_what_they_took_counts_once(ensemble):
    """Two members of two epochs and a refit of one; two networks for each of two parts, of two epochs."""
    rows = [row for path in ensemble.rglob("history.csv") for row in runs.read_history(path)]
    assert len(rows) == 2 * (2 + 1) + 2 * 2 * 2
    metrics = runs.read_metrics(ensemble)
    assert metrics["train_seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=0.2)
    assert metrics["epochs_run"] == 4


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"crossfit_by": ["mel-cnn3"]}, r"training\.crossfit_by: say of how many parts"),
        ({"crossfit_by": ["flagship"], "crossfit_parts": 2}, r"^training\.crossfit_by: flagship is made of other"),
        (
            {"crossfit_by": ["early-mel-mfcc"], "crossfit_parts": 2},
            r"^training\.crossfit_by: early-mel-mfcc is made of",
        ),
        ({"crossfit_by": ["mel-cnn33"], "crossfit_parts": 2}, "did you mean 'mel-cnn3'"),
    ],
)
def test_who_cannot_tell_is_refused_before_anything_is_trained(settings, why, demo_corpus, tmp_path):
    given = {f"training.{name}": value for name, value in settings.items()}
    with pytest.raises(UsageError, match=why):
        fit.train_run(override(RECIPES["mel-cnn2"].config, given), demo_corpus, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_broken_in_a_part_goes_on_as_if_whole(config, demo_corpus, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        broken_after(1, patch)
        with pytest.raises(Broken):
            fit.train_run(config, demo_corpus, tmp_path / "run", say=silent)
    assert not (tmp_path / "run/crossfit/part-1/predictions.csv").exists()
    fit.train_run(config, demo_corpus, tmp_path / "run", resume=True, say=silent)
    for file in ("crossfit/part-1/predictions.csv", "validation_predictions.csv", "predictions.csv"):
        assert (tmp_path / "run" / file).read_text() == (run / file).read_text()
