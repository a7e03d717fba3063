"""What a clip teaches: its emotion, softened by a teacher that heard only training clips, and what else is known."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import scipy.special
from conftest import tiny

from emokeras import runs
from emokeras.config import Config, override, with_experiment
from emokeras.data.audio import load_waveforms
from emokeras.errors import RunError, UsageError
from emokeras.recipes import RECIPES, configure
from emokeras.recognizer import load_recognizer
from emokeras.training import fit, targets
from emokeras.training.members import train_with_members
from emokeras.training.subsets import split_corpus, take_subsets


@pytest.fixture(scope="module")
def config(demo_corpus) -> Config:
    return with_experiment(tiny(RECIPES["mel-cnn3"].config), emotions=demo_corpus.emotions)


@pytest.fixture(scope="module")
def train(config, demo_corpus, tmp_path_factory):
    return take_subsets(config, demo_corpus, tmp_path_factory.mktemp("split"), lambda line: None)["train"]


def taught(config: Config, **changes) -> Config:
    return override(config, {f"training.{name}": value for name, value in changes.items()})


def test_a_clip_teaches_its_emotion(config, demo_corpus, train):
    (name, labels), *others = targets.make_targets(config, demo_corpus, train).items()
    assert (name, others) == ("emotion", [])
    np.testing.assert_array_equal(labels, np.eye(8)[train.labels])


def test_auxiliaries_are_one_hot(config, demo_corpus, train):
    labels = targets.make_targets(taught(config, auxiliaries={"sex": 0.2, "speaker": -0.1}), demo_corpus, train)
    for name in ("sex", "speaker"):
        values = np.array([getattr(clip, name) for clip in train.clips])
        assert labels[name].shape == (24, len(set(values)))
        np.testing.assert_array_equal(labels[name].sum(axis=1), 1)
        same = values[:, np.newaxis] == values
        np.testing.assert_array_equal(labels[name] @ labels[name].T, same)


@pytest.mark.parametrize(("value", "why"), [("", "is not known"), ("strong", "have the same")])
def test_an_auxiliary_that_cannot_be_learned_is_refused(config, demo_corpus, train, value, why):
    dull = [replace(clip, intensity=value) for clip in train.clips]
    with pytest.raises(UsageError, match=f"(intensity.*{why}|{why}.*intensity)"):
        targets.check_targets(taught(config, auxiliaries={"intensity": 0.2}), dull, ["train"] * len(dull))


def test_what_cannot_be_taught_leaves_no_run(config, demo_corpus, tmp_path):
    dull = replace(demo_corpus, clips=[replace(clip, intensity="strong") for clip in demo_corpus.clips])
    with pytest.raises(UsageError, match="leave it out"):
        fit.train_run(taught(config, auxiliaries={"intensity": 0.2}), dull, tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_teacher_softens_the_labels_by_what_it_says(config, demo_corpus, train, trained_run):
    whole = taught(config, teacher=str(trained_run), teacher_share=0.75, teacher_temperature=3.0)
    labels = targets.make_targets(whole, demo_corpus, train)["emotion"]
    said = load_recognizer(trained_run).predict(load_waveforms(train.clips, 16000))
    softer = scipy.special.softmax(np.log(said) / 3, axis=1)
    np.testing.assert_allclose(labels, 0.25 * np.eye(8)[train.labels] + 0.75 * softer, atol=1e-6)


def test_a_teacher_of_another_split_is_refused(config, demo_corpus, trained_run, tmp_path):
    clips, names = demo_corpus.clips, split_corpus(demo_corpus, config.experiment)
    targets.check_targets(taught(config, teacher=str(trained_run)), clips, names)
    other = split_corpus(demo_corpus, replace(config.experiment, protocol="random"))
    with pytest.raises(RunError, match=r"training\.teacher: .* on another split"):
        targets.check_targets(taught(config, teacher=str(trained_run)), clips, other)
    fewer = with_experiment(taught(config, teacher=str(trained_run)), emotions=("calm", "angry"))
    with pytest.raises(UsageError, match="knows other emotions"):
        targets.check_targets(fewer, clips, names)
    with pytest.raises(UsageError, match="is no run that has ended"):
        targets.check_targets(taught(config, teacher=str(tmp_path)), clips, names)


def test_a_teacher_may_be_named_by_its_recipe(config, tmp_path):
    """Its run on the same split lies beside the pupil's."""
    pupil = tmp_path / "runs" / "mel-cnn3" / "demo-speaker-split-0-seed-0"
    found = targets.with_teacher(taught(config, teacher="flagship"), pupil).training.teacher
    assert found == str(tmp_path / "runs" / "flagship" / "demo-speaker-split-0-seed-0")
    with pytest.raises(UsageError, match="runs/flagship/demo-speaker-split-0-seed-0 is no run that has ended"):
        targets.check_targets(taught(config, teacher=found), [], [])
    assert targets.with_teacher(taught(config, teacher="a/run"), pupil).training.teacher == "a/run"


def test_the_teacher_of_a_part_lies_beside_the_whole(demo_corpus, tmp_path):
    """And what cannot be taught is refused before a part is trained."""
    for recipe in ("early-mel-mfcc", "weighted-mel-mfcc"):
        config = configure(RECIPES[recipe].config, {"training.teacher": "flagship"})
        run = tmp_path / "runs" / recipe / "demo-speaker-split-0-seed-0"
        with pytest.raises(UsageError, match="runs/flagship/demo-speaker-split-0-seed-0 is no run that has ended"):
            train_with_members(config, demo_corpus, run, say=lambda line: None)
        assert not run.exists()


def test_what_its_teacher_was_made_with_is_no_test_for_it(config, demo_corpus, trained_run, tmp_path):
    taught_all = with_experiment(taught(config, teacher=str(trained_run)), protocol="all")
    fit.keep_heard(taught_all, [], [], tmp_path)
    heard = {row["content"]: row["subset"] for row in runs.read_earlier_splits([tmp_path])}
    assert heard == {row["content"]: row["subset"] for row in runs.clips_used(trained_run)}


def test_a_network_that_was_taught_more_is_a_network_like_any_other(config, demo_corpus, trained_run, tmp_path):
    """Its heads are gone, its history and its figures are those of the emotion, its last epoch is kept."""
    whole = taught(
        config, auxiliaries={"sex": 0.5, "speaker": -0.1}, teacher=str(trained_run), select_by="last", epochs=2
    )
    metrics = fit.train_run(whole, demo_corpus, tmp_path / "run", say=lambda line: None)
    history = runs.read_history(tmp_path / "run" / "history.csv")
    assert metrics["best_epoch"] == len(history) == 2
    assert all(0 <= row["accuracy"] <= 1 and row["loss"] > 0 for row in history)
    network = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert list(network.output) == ["emotion"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["auxiliaries"]["speaker"] == -0.1
    answers = load_recognizer(tmp_path / "run").predict(load_waveforms(demo_corpus.clips, 16000))
    names, _, _, _, kept = runs.read_predictions(tmp_path / "run" / "predictions.csv")
    said = dict(zip((clip.name for clip in demo_corpus.clips), answers, strict=True))
    np.testing.assert_allclose(kept, [said[name] for name in names], atol=1e-5)
