"""What is said of a training clip is said by a network that has not heard it, nor anything of its speaker."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny
from scipy.special import softmax
from test_fit import Broken, broken_after

from emokeras.config import Config, EnsembleConfig, override
from emokeras.errors import CorpusError, UsageError
from emokeras.recipes import RECIPES
from emokeras.reporting import runs
from emokeras.training import fit, members
from emokeras.training.crossfit import crossfit, part_clips
from emokeras.training.subsets import split_corpus, take_subsets


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
    """Return the run of two networks that tell of the clips together; it was broken when they had, and went on."""
    other = tiny(RECIPES["mfcc-cnn2"].config)
    both = {"mel-cnn3": config, "mfcc-cnn2": replace(other, training=config.training)}
    both = EnsembleConfig("both", both, "mean-logits", config.experiment)
    folder = tmp_path_factory.mktemp("crossfit") / "both" / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "train_run", broken)
        with pytest.raises(Broken):
            members.train_with_members(both, demo_corpus, folder, say=silent, at_once=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "prepare", broken)  # They have told: nobody is asked again.
        members.train_with_members(both, demo_corpus, folder, True, silent, at_once=1)
    return folder


def broken(*arguments):
    raise Broken


def test_members_tell_together(ensemble, demo_corpus, config):
    folders = [ensemble / "members" / name for name in ("mel-cnn3", "mfcc-cnn2")]
    own = runs.read_together(folders, "crossfit/predictions.csv").probabilities
    together = runs.read_together(folders, "crossfit/together.csv").probabilities
    assert abs(own[0] - own[1]).max() > 1e-3
    np.testing.assert_allclose(together, 2 * [softmax(np.log(own).mean(axis=0), axis=1)], atol=1e-6)
    prepared = fit.prepare(config, demo_corpus, folders[0], True, silent)
    expected = 0.75 * np.eye(8)[prepared.subsets["train"].labels] + 0.25 * together[0]
    np.testing.assert_allclose(prepared.targets["emotion"], expected, atol=1e-6)


def test_what_the_members_parts_took_counts(ensemble):
    rows = [row for path in (ensemble / "members").rglob("history.csv") for row in runs.read_history(path)]
    assert len(rows) == 2 * (2 + 2 * 2 + 1)
    seconds = sum(row["seconds"] for row in rows)
    assert runs.read_metrics(ensemble)["train_seconds"] == pytest.approx(seconds, abs=0.2)


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
