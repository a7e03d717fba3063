"""Rows under results/: their figures agree with their predictions, or they are refused."""

import json
import shutil

import pytest
from kept_runs import keep_run, written

from emokeras import runs
from emokeras.errors import RunError
from emokeras.results.rows import read_rows, read_run


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def test_rows_are_read_by_corpus_protocol_and_recipe(results):
    folders = [keep_run(results, 20 + fold, "luna", fold=fold) for fold in (0, 1)]
    keep_run(results, 30, "speaker", corpus="demo", recipe="other")
    rows = read_rows(results)
    assert {corpus: {name: [*groups] for name, groups in protocols.items()} for corpus, protocols in rows.items()} == {
        "demo": {"speaker": ["other"]},
        "ravdess": {"luna": ["mel-resnet"]},
    }
    luna = rows["ravdess"]["luna"]["mel-resnet"]
    assert [run.folder for run in luna] == folders
    assert [run.test["accuracy"] for run in luna] == [20 / 40, 21 / 40]
    assert [run.correct.sum() for run in luna] == [20, 21]


def test_speakers_are_independent_where_whole_speakers_are_tested_else_clips(results):
    by_clip = read_run(keep_run(results, 30), results)
    by_speaker = read_run(keep_run(results, 30, "luna"), results)
    assert by_clip.groups == by_clip.clips
    assert by_speaker.groups == by_speaker.speakers
    assert len(set(by_speaker.groups)) == 5


def test_metrics_of_earlier_versions_are_read(results):
    """Their intervals are by clip, or missing: tables compute them again."""
    folder = keep_run(results, 30, "luna")
    value = runs.read_metrics(folder)
    value["test"]["accuracy_ci95"] = [0.6, 0.9]
    del value["test"]["balanced_accuracy_ci95"], value["train_cpu_seconds"]
    runs.write_json(folder / "metrics.json", value)
    assert read_run(folder, results).test["accuracy"] == 0.75


def test_runs_of_one_row_with_different_settings_are_refused(results):
    keep_run(results, 30, seed=0, **{"training.epochs": 120})
    keep_run(results, 30, seed=1, **{"training.epochs": 3})
    with pytest.raises(RunError, match=r"split-0-seed-1: training.epochs is 3, in split-0-seed-0 it is 120"):
        read_rows(results)


def test_a_setting_that_an_older_run_lacks_counts_as_its_default(results):
    folder = keep_run(results, 30, seed=0)
    tree = json.loads((folder / "config.json").read_text())
    del tree["augment"]["band_limit_probability"]
    (folder / "config.json").write_text(json.dumps(tree))
    keep_run(results, 30, seed=1)
    read_rows(results)
    keep_run(results, 30, seed=2, **{"augment.band_limit_probability": 0.5})
    with pytest.raises(RunError, match=r"split-0-seed-2: augment.band_limit_probability is 0.5, .* it is 0"):
        read_rows(results)


@pytest.mark.parametrize("name", runs.RESULT_FILES)
def test_a_run_without_one_of_its_files_is_refused(results, name):
    folder = keep_run(results, 30)
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"split-0-seed-0 lacks {name}"):
        read_rows(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["test"].update(accuracy=0.95), r"accuracy of test is 0.95 .* but 0.75 by predictions.csv"),
        (lambda value: value["test"].update(f1_weighted=0.7501), "f1_weighted of test is 0.7501"),
        (lambda value: value["test"].update(accuracy="75 %"), "accuracy of test is 75 %"),
        (lambda value: value["validation"].update(accuracy=0.95), r"but 0.75 by validation_predictions.csv"),
        (lambda value: value["test"]["confusion_matrix"][0].reverse(), "confusion_matrix of test"),
        (lambda value: value.update(num_test=41), "num_test of test is 41"),
        (lambda value: value["emotions"].reverse(), "emotions of test"),
        (lambda value: value["test"].pop("balanced_accuracy"), r"does not hold the figures of test.*balanced_accuracy"),
        (lambda value: value.update(test=None), "does not hold the figures of test"),
        (lambda value: value.update(seed=4), "belongs in .*split-0-seed-4"),
        (lambda value: value.pop("corpus"), "lacks 'corpus'"),
    ],
)
def test_metrics_that_disagree_with_the_predictions_are_refused(results, change, message):
    folder = keep_run(results, 30)
    value = runs.read_metrics(folder)
    change(value)
    runs.write_json(folder / "metrics.json", value)
    with pytest.raises(RunError, match=message) as caught:
        read_rows(results)
    assert "\n" not in str(caught.value)


def test_files_of_two_runs_are_refused(results):
    folder = keep_run(results, 30, seed=0)
    other = keep_run(results, 30, seed=1)
    shutil.copy(other / "config.json", folder)
    with pytest.raises(RunError, match=r"seed is 0 in metrics.json, 1 in config.json"):
        read_rows(results)


def test_a_clip_named_twice_is_refused(results):
    folder = keep_run(results, 30)
    path = folder / "predictions.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(RunError, match="names a clip twice"):
        read_rows(results)


def test_an_unknown_protocol_is_refused(results):
    keep_run(results, 30)
    (results / "ravdess" / "random").rename(results / "ravdess" / "moon")
    folder = results / "ravdess" / "moon" / "mel-resnet" / "split-0-seed-0"
    runs.write_json(folder / "metrics.json", runs.read_metrics(folder) | {"protocol": "moon"})
    with pytest.raises(RunError, match="there is no protocol 'moon'; there are random, "):
        read_rows(results)


def test_a_folder_without_runs_is_refused(results):
    with pytest.raises(RunError, match="holds no run: train with --results"):
        read_rows(results)


def test_rows_of_joined_corpora_are_in_one_folder_and_made_by_the_command_of_their_page(results):
    of_corpora = {"num_folds": 2, "experiment.corpora": ["a", "b"]}
    for fold in (0, 1):
        folder = keep_run(results, 30, "left-out", corpus="a+b", fold=fold, **of_corpora)
    assert folder == results / "a+b" / "left-out" / "mel-resnet" / "fold-1-seed-0"
    assert "| `mel-resnet` | 2 folds" in written(results, "left-out")
    command = "python -m emokeras.train RECIPE --corpus a,b --protocol left-out --fold K --seed S --results results"
    assert command in written(results, "left-out").splitlines()
    pairs = {"experiment.emotion_map": ["calm=neutral", "fearful=sad"]}
    name = "a+b,calm=neutral,fearful=sad"
    folder = keep_run(results, 30, "loso", corpus=name, **of_corpora | {"num_folds": 9} | pairs)
    assert folder.parents[2] == results / "a+b-calm=neutral-fearful=sad"
    command = "python -m emokeras.train RECIPE --corpus a,b --map calm=neutral,fearful=sad --protocol loso --fold K"
    assert f"{command} --seed S --results results" in written(results, "loso").splitlines()
