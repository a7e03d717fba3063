"""Runs that are combined: an ensemble is a run like any other; a network's branches can start from runs."""

import json
import shutil

import keras
import numpy as np
import pytest

from emokeras import ensemble, evaluate, export, predict, runs, train
from emokeras.config import EnsembleConfig, override, read_config
from emokeras.data import corpora, features
from emokeras.data.audio import load_waveform
from emokeras.errors import CorpusError
from emokeras.models.late import combine, read_combination
from emokeras.recognizer import load_recognizer
from emokeras.reporting.metrics import cross_entropy
from emokeras.runs.differences import removed_settings
from emokeras.training import run

FILES = runs.PREDICTION_FILES
TRANSCRIPTS = ["that was the second chair", "", "leave the room now!"]


@pytest.fixture(scope="module")
def members(trained_run, mfcc_run, text_run):
    """Return the runs of the ensemble by their names in it."""
    return {"mel-cnn3": trained_run, "mfcc-cnn2": mfcc_run, "text-gru": text_run}


@pytest.fixture(scope="module")
def fused(members, tmp_path_factory):
    """Return an ensemble of a spectrogram, an MFCC and a text branch, made by the command."""
    folder = tmp_path_factory.mktemp("ensembles") / "three"
    names = [str(member) for member in members.values()]
    assert ensemble.main([*names, "--run-dir", str(folder), "--results", str(folder.parent / "results")]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(fused):
    target = fused.parent / "saved_models" / "three"
    assert export.main([str(fused), str(target)]) == 0
    return target


@pytest.fixture(scope="module")
def members_answers(members, recordings):
    """Return the probabilities that the runs themselves give the recordings, [clips, emotions] each."""
    waveforms = [load_waveform(file, 16000) for file in recordings]
    return {name: load_recognizer(member).predict(waveforms, TRANSCRIPTS) for name, member in members.items()}


def test_the_predictions_are_the_weighted_combination_of_the_members(fused, members):
    combination = read_combination(fused / "ensemble.json")
    assert sum(combination.weights) == pytest.approx(1)
    for file in FILES.values():
        own, first, *others = (runs.read_predictions(place / file) for place in (fused, *members.values()))
        assert (own.clips, own.speakers, own.emotions) == (first.clips, first.speakers, first.emotions)
        np.testing.assert_array_equal(own.labels, first.labels)
        expected = combine(np.stack([each.probabilities for each in (first, *others)]), combination)
        np.testing.assert_allclose(own.probabilities, expected, atol=1e-6)


def test_the_metrics_have_the_weights_and_what_they_gain_on_validation(fused, trained_run):
    metrics = runs.read_metrics(fused)
    assert list(metrics["ensemble"]["weights"]) == ["mel-cnn3", "mfcc-cnn2", "text-gru"]
    losses = metrics["ensemble"]["validation_cross_entropy"]
    answers = runs.read_predictions(fused / FILES["validation"])
    assert losses["weighted"] == pytest.approx(cross_entropy(answers.labels, answers.probabilities), abs=1e-5)
    assert losses["weighted"] <= min(losses.values()) + 1e-6
    assert set(losses) == {"mel-cnn3", "mfcc-cnn2", "text-gru", "mean of the logits", "weighted"}
    assert metrics["recipe"] == "weighted-mel-cnn3-mfcc-cnn2-text-gru"
    # From the corpus, predictions.csv does not have it:
    assert metrics["test"]["by_sex"].keys() == runs.read_metrics(trained_run)["test"]["by_sex"].keys() != set()


def test_an_ensemble_has_the_files_of_a_run(fused, trained_run):
    for name in ("config.json", "metrics.json", "confusion_matrix.png", "reliability.png", *FILES.values()):
        assert (fused / name).is_file(), name
    assert (fused / "split.csv").read_bytes() == (trained_run / "split.csv").read_bytes()
    assert isinstance(read_config(fused / "config.json"), EnsembleConfig)
    row = fused.parent / "results" / "demo" / "speaker" / "weighted-mel-cnn3-mfcc-cnn2-text-gru" / "split-0-seed-0"
    assert {path.name for path in row.iterdir()} == set(runs.RESULT_FILES)


def test_run_and_export_predict_the_combination_of_the_members_answers(
    fused, exported, members_answers, recordings, capsys
):
    arguments = [*map(str, recordings), *(part for text in TRANSCRIPTS for part in ("--transcript", text)), "--json"]
    expected = combine(np.stack(list(members_answers.values())), read_combination(fused / "ensemble.json"))
    for model in (fused, exported):
        assert predict.main([*arguments, "--model", str(model)]) == 0
        answers = [json.loads(line)["probabilities"] for line in capsys.readouterr().out.splitlines()]
        np.testing.assert_allclose([list(answer.values()) for answer in answers], expected, atol=1e-5)


def test_evaluate_computes_the_metrics_of_run_and_export(fused, exported, demo_folder):
    for model in (fused, exported):
        scores = evaluate.evaluate(model, corpus=str(demo_folder), say=lambda line: None)
        assert scores["accuracy"] == pytest.approx(runs.read_metrics(fused)["test"]["accuracy"])
        assert scores["cross_entropy"] == pytest.approx(runs.read_metrics(fused)["test"]["cross_entropy"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("method", ["stacking", "mean-logits", "mean-probabilities", "vote"])
def test_an_ensemble_of_any_method_is_served(method, trained_run, mfcc_run, members_answers, recordings, tmp_path):
    folder = tmp_path / "run"
    runs_given = [str(mfcc_run), str(trained_run)]
    assert ensemble.main([*runs_given, "--method", method, "--name", "both", "--run-dir", str(folder)]) == 0
    assert runs.read_metrics(folder)["recipe"] == "both"
    answers = np.stack([members_answers["mfcc-cnn2"], members_answers["mel-cnn3"]])
    expected = combine(answers, read_combination(folder / "ensemble.json"))
    waveforms = [load_waveform(file, 16000) for file in recordings]
    np.testing.assert_allclose(load_recognizer(folder).predict(waveforms), expected, atol=1e-5)


def copied(member, target):
    shutil.copytree(member, target)
    return target


def refusal(capsys, *arguments) -> str:
    """Return the one line with which the command refuses."""
    assert ensemble.main([str(argument) for argument in arguments]) in (1, 2)
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_runs_of_different_splits_are_refused(trained_run, mfcc_run, tmp_path, capsys):
    other = copied(mfcc_run, tmp_path / "other")
    target = tmp_path / "run"
    changed = {
        "split_sha256": ("0" * 64, "differ in their split, clip by clip"),
        "protocol": ("random", "differ in their protocol: speaker and random"),
        "fold": (1, "differ in their fold: 0 and 1"),
        "emotions": (["calm"], "differ in their emotions"),
        "corpus": ("other", "differ in their corpus: demo and other"),
    }
    metrics = runs.read_metrics(other)
    for key, (value, expected) in changed.items():
        runs.write_json(other / "metrics.json", metrics | {key: value})
        assert expected in refusal(capsys, trained_run, other, "--run-dir", target)
    runs.write_json(other / "metrics.json", {key: metrics[key] for key in metrics if key != "split_sha256"})
    assert "has no split_sha256 in its metrics" in refusal(capsys, other, trained_run, "--run-dir", target)
    assert not target.exists()


def test_predictions_of_other_clips_are_refused(trained_run, mfcc_run, tmp_path, capsys):
    other = copied(mfcc_run, tmp_path / "other")
    path = other / FILES["validation"]
    clip = runs.read_predictions(path).clips[0]
    path.write_text(path.read_text().replace(clip, "another"))
    assert "has other clips than" in refusal(capsys, trained_run, other, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("without_pictures")
def test_rows_of_results_give_the_same_predictions_and_no_model(
    trained_run, mfcc_run, tmp_path, recordings, monkeypatch, capsys
):
    def load_corpus(source, emotion_map):
        raise CorpusError(f"there is no corpus {source}")

    monkeypatch.setattr(corpora, "load_corpus", load_corpus)
    rows = [runs.keep_results(member, tmp_path / "results") for member in (trained_run, mfcc_run)]
    for name, given in (("rows", rows), ("runs", (trained_run, mfcc_run))):
        arguments = [*map(str, given), "--name", name, "--run-dir", str(tmp_path / name)]
        assert ensemble.main(arguments) == 0
    lines = capsys.readouterr().out
    assert "cannot be served" in lines
    assert "corpus demo is not on this machine: no metrics by sex" in lines
    for file in FILES.values():
        assert (tmp_path / "rows" / file).read_bytes() == (tmp_path / "runs" / file).read_bytes()
    assert predict.main([str(recordings[0]), "--model", str(tmp_path / "rows")]) == 1
    assert "make it of the runs themselves" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_runs_of_an_earlier_version_are_combined_and_their_ensemble_keeps_the_mark(trained_run, mfcc_run, tmp_path):
    """Their answers are not computed again."""
    earlier = copied(trained_run, tmp_path / "earlier")
    tree = runs.read_json(earlier / "config.json")
    tree["audio"] = {"sample_rate_hz": 16000, "trim_decibels": 40.0, "window_seconds": 1.28, "num_windows": 3}
    runs.write_json(earlier / "config.json", tree)
    arguments = [
        str(earlier),
        str(mfcc_run),
        "--run-dir",
        str(tmp_path / "run"),
        "--results",
        str(tmp_path / "results"),
    ]
    assert ensemble.main(arguments) == 0
    (row,) = (tmp_path / "results").glob("demo/speaker/*/*/config.json")
    for file in (tmp_path / "run" / "config.json", row):
        assert removed_settings(runs.read_json(file)) == {"members.mel-cnn3.audio.trim_decibels": 40.0}
        assert read_config(file).members["mel-cnn3"].audio.speech_decibels == 40.0


def test_an_ensemble_is_made_of_single_networks(fused, trained_run, tmp_path, capsys):
    assert "is an ensemble" in refusal(capsys, fused, trained_run, "--run-dir", tmp_path / "run")


@pytest.mark.usefixtures("without_pictures")
def test_the_same_recipe_twice_has_two_names(trained_run, tmp_path):
    assert ensemble.main([str(trained_run), str(trained_run), "--run-dir", str(tmp_path / "run")]) == 0
    assert list(read_config(tmp_path / "run" / "config.json").members) == ["mel-cnn3", "mel-cnn3-2"]


# Recipes whose members are found or trained


@pytest.mark.usefixtures("without_pictures")
def test_members_are_taken_from_runs_beside_and_others_are_trained(
    trained_run, mfcc_run, demo_corpus, tmp_path, monkeypatch, recordings
):
    for member in (trained_run, mfcc_run):
        copied(member, tmp_path / member.name / "demo-speaker-split-0-seed-0")
    configs = {member.name: read_config(member / "config.json") for member in (trained_run, mfcc_run)}
    config = EnsembleConfig("both", configs, "weighted", configs["mel-cnn3"].experiment)
    lines, trained = [], []

    class Untrained(Exception):
        """Ends the training of an ensemble at its first member."""

    def train_network(config, *_):
        trained.append((config.recipe, config.experiment.seed, config.training.batch_size))
        raise Untrained

    monkeypatch.setattr(run, "_train_network", train_network)
    folder = tmp_path / "both" / "demo-speaker-split-0-seed-0"
    metrics = run.train(config, demo_corpus, folder, lines.append)
    assert trained == []
    taken = [
        f"member {member.name}: taken from {tmp_path / member.name / folder.name}" for member in (trained_run, mfcc_run)
    ]
    assert [line for line in lines if line.startswith("member")] == taken
    assert metrics["num_test"] == 8
    assert load_recognizer(folder).predict([load_waveform(recordings[0], 16000)]).shape == (1, 8)

    # With another seed, or another setting of a member, there is no such run.
    for number, path in enumerate(("experiment.seed", "members.mfcc-cnn2.training.batch_size")):
        target = tmp_path / f"both-{number}" / folder.name
        with pytest.raises(Untrained):
            run.train(override(config, {path: 3}), demo_corpus, target, lambda line: None, members_at_once=1)
        assert (target / "members" / "mel-cnn3" / "model.keras").is_file() == (number == 1)
    assert trained == [("mel-cnn3", 3, 8), ("mfcc-cnn2", 0, 3)]


# Branches to start from


@pytest.mark.slow
@pytest.mark.usefixtures("without_graphs", "without_pictures")
def test_frozen_branches_give_the_embeddings_that_they_gave_alone(
    trained_run, mfcc_run, demo_folder, tmp_path, recordings
):
    settings = [f"model.branches={trained_run},{mfcc_run}", "training.frozen_epochs=9", "training.epochs=1"]
    settings += ["training.batch_size=8", "training.warmup_epochs=0"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    joined = tmp_path / "run"
    assert train.main(["early-mel-mfcc", "--corpus", str(demo_folder), "--run-dir", str(joined), *arguments]) == 0

    config = read_config(joined / "config.json")
    waveform = load_waveform(recordings[1], 16000)[np.newaxis]
    windows = features.serving_inputs(config, {"waveform": waveform}).inputs
    inputs = {name: value[:, 0] for name, value in windows.items()}
    network, *alone = (
        keras.saving.load_model(place / "model.keras", compile=False) for place in (joined, trained_run, mfcc_run)
    )
    for name, single in zip(("spectrogram", "mfcc"), alone, strict=True):
        own = {key: inputs[key] for key in (name, f"{name}_mask")}
        expected = keras.Model(single.inputs, single.get_layer(f"{name}_pooled").output)(own)
        found = keras.Model(network.inputs, network.get_layer(f"{name}_pooled").output)(inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert runs.shareable_config(joined).model.branches == ("mel-cnn3", "mfcc-cnn2")


def test_branches_of_another_split_are_refused_and_nothing_is_written(mfcc_run, demo_folder, tmp_path, capsys):
    other = copied(mfcc_run, tmp_path / "other_split")
    runs.write_json(other / "metrics.json", runs.read_metrics(other) | {"split_sha256": "0" * 64})
    arguments = ["early-mel-mfcc", "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    for branch, message in ((other, "was trained on another split"), ("nowhere", "is no run that has ended")):
        assert train.main([*arguments, "--set", f"model.branches={branch}"]) in (1, 2)
        line = capsys.readouterr().err
        assert f"model.branches: {branch} {message}" in line
        assert line.count("\n") == 1
        assert not (tmp_path / "run").exists()
