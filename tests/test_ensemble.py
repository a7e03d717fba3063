"""Runs that are fused: an ensemble is a run like any other, and runs of different splits are refused."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile

from emokeras import ensemble, evaluate, export, predict, runs, train
from emokeras.config import EnsembleConfig, override, read_config, to_json
from emokeras.data.audio import load_waveform
from emokeras.models.late import combine, read_combination
from emokeras.recipes import RECIPES
from emokeras.recognizer import load_recognizer
from emokeras.reporting.metrics import cross_entropy
from emokeras.training import members

FILES = {"test": "predictions.csv", "validation": "validation_predictions.csv"}


@pytest.fixture(scope="module")
def fused(trained_run, mfcc_run, text_run, tmp_path_factory):
    """Return an ensemble of a spectrogram, an MFCC and a text branch, made by the command."""
    folder = tmp_path_factory.mktemp("ensembles") / "three"
    names = [str(run) for run in (trained_run, mfcc_run, text_run)]
    assert ensemble.main([*names, "--run-dir", str(folder), "--results", str(folder.parent / "results")]) == 0
    return folder


def test_an_ensemble_says_what_its_weights_make_of_its_members(fused, trained_run, mfcc_run, text_run):
    combination = read_combination(fused / "ensemble.json")
    assert sum(combination.weights) == pytest.approx(1)
    for file in FILES.values():
        read = [runs.read_predictions(run / file) for run in (trained_run, mfcc_run, text_run)]
        clips, speakers, labels, emotions, probabilities = runs.read_predictions(fused / file)
        assert (clips, speakers, emotions) == (read[0][0], read[0][1], read[0][3])
        np.testing.assert_array_equal(labels, read[0][2])
        expected = combine(np.stack([each[4] for each in read]), combination)
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_it_tells_weights_and_what_they_gain_on_validation(fused, trained_run):
    metrics = runs.read_metrics(fused)
    told = metrics["ensemble"]
    assert list(told["weights"]) == ["mel-cnn3", "mfcc-cnn2", "text-gru"]
    losses = told["validation_cross_entropy"]
    _, _, labels, _, probabilities = runs.read_predictions(fused / FILES["validation"])
    assert losses["weighted"] == pytest.approx(cross_entropy(labels, probabilities), abs=1e-5)
    assert losses["weighted"] <= min(losses.values()) + 1e-6
    assert set(losses) == {"mel-cnn3", "mfcc-cnn2", "text-gru", "mean of the logits", "weighted"}
    assert metrics["recipe"] == "weighted-mel-cnn3-mfcc-cnn2-text-gru"
    # Which predictions.csv does not tell:
    assert metrics["test"]["by_sex"].keys() == runs.read_metrics(trained_run)["test"]["by_sex"].keys() != set()


def test_it_has_the_files_of_a_run(fused, trained_run):
    for name in (
        "config.json",
        "split.csv",
        "metrics.json",
        "confusion_matrix.png",
        "reliability.png",
        *FILES.values(),
    ):
        assert (fused / name).is_file(), name
    assert (fused / "split.csv").read_bytes() == (trained_run / "split.csv").read_bytes()
    assert isinstance(read_config(fused / "config.json"), EnsembleConfig)
    row = fused.parent / "results" / "demo" / "speaker" / "weighted-mel-cnn3-mfcc-cnn2-text-gru" / "split-0-seed-0"
    assert {path.name for path in row.iterdir()} == set(runs.RESULT_FILES)


@pytest.fixture(scope="module")
def exported(fused):
    target = fused.parent / "saved_models" / "three"
    assert export.main([str(fused), str(target)]) == 0
    return target


def test_one_exported_model_takes_the_waveform_and_says_what_predict_says(fused, exported, recordings, capsys):
    said = ["that was the second chair", "", "leave the room now!"]
    arguments = [*map(str, recordings), *(part for text in said for part in ("--transcript", text)), "--json"]
    answers = []
    for model in (fused, exported):
        assert predict.main([*arguments, "--model", str(model)]) == 0
        answers.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for own, other in zip(*answers, strict=True):
        np.testing.assert_allclose(
            list(own["probabilities"].values()), list(other["probabilities"].values()), atol=1e-5
        )
    # The members' own answers, combined by hand.
    waveforms = [load_waveform(file, 16000) for file in recordings]
    each = [load_recognizer(fused / "members" / name).predict(waveforms, said) for name in read_members(fused)]
    expected = combine(np.stack(each), read_combination(fused / "ensemble.json"))
    np.testing.assert_allclose([list(answer["probabilities"].values()) for answer in answers[0]], expected, atol=1e-5)


def read_members(folder):
    return read_config(folder / "config.json").members


def test_evaluate_gives_its_figures_again(fused, exported, demo_folder):
    for model in (fused, exported):
        scores = evaluate.evaluate(model, corpus=str(demo_folder), say=lambda line: None)
        assert scores["accuracy"] == pytest.approx(runs.read_metrics(fused)["test"]["accuracy"])
        assert scores["cross_entropy"] == pytest.approx(runs.read_metrics(fused)["test"]["cross_entropy"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stacking", "mean-logits", "mean-probabilities", "vote"])
def test_every_method_can_be_served(method, trained_run, mfcc_run, recordings, tmp_path):
    folder = tmp_path / "run"
    runs_given = [str(mfcc_run), str(trained_run)]
    assert ensemble.main([*runs_given, "--method", method, "--name", "both", "--run-dir", str(folder)]) == 0
    assert runs.read_metrics(folder)["recipe"] == "both"
    waveforms = [load_waveform(file, 16000) for file in recordings]
    each = [load_recognizer(run).predict(waveforms) for run in (mfcc_run, trained_run)]
    expected = combine(np.stack(each), read_combination(folder / "ensemble.json"))
    np.testing.assert_allclose(load_recognizer(folder).predict(waveforms), expected, atol=1e-5)


def copied(run, target):
    shutil.copytree(run, target)
    return target


def refused(capsys, *arguments) -> str:
    """Return the one line with which the command refuses."""
    assert ensemble.main([str(argument) for argument in arguments]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


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
        assert expected in refused(capsys, trained_run, other, "--run-dir", target)
    runs.write_json(other / "metrics.json", {key: metrics[key] for key in metrics if key != "split_sha256"})
    assert "does not say its split_sha256" in refused(capsys, other, trained_run, "--run-dir", target)
    assert not target.exists()


def test_another_content_is_another_split(trained_run):
    rows = runs.read_split(trained_run)
    digest = runs.read_metrics(trained_run)["split_sha256"]

    class Clip:
        def __init__(self, row):
            self.name, self.content = row["clip"], row["content"]

    subsets = [row["subset"] for row in rows]
    assert runs.split_digest([Clip(row) for row in rows], subsets) == digest
    assert runs.split_digest([Clip(row) for row in rows[::-1]], subsets[::-1]) == digest
    rows[3]["content"] = "another"
    assert runs.split_digest([Clip(row) for row in rows], subsets) != digest


def test_predictions_of_other_clips_are_refused(trained_run, mfcc_run, tmp_path, capsys):
    other = copied(mfcc_run, tmp_path / "other")
    path = other / FILES["test"]
    path.write_text(path.read_text().replace("Actor_05", "Actor_99"))
    rows = list(csv.reader(path.open()))
    assert len(rows) == 9
    said = refused(capsys, trained_run, other, "--run-dir", tmp_path / "run")
    assert "has other clips than" in said or "differ" in said


def test_rows_of_results_give_the_same_figures_and_no_model(fused, trained_run, mfcc_run, tmp_path, recordings, capsys):
    rows = [runs.keep_results(run, tmp_path / "results") for run in (trained_run, mfcc_run)]
    for name, given in (("rows", rows), ("runs", (trained_run, mfcc_run))):
        arguments = [*map(str, given), "--name", name, "--run-dir", str(tmp_path / name)]
        assert ensemble.main(arguments) == 0
    said = capsys.readouterr().out
    assert "cannot be served" in said
    for file in FILES.values():
        assert (tmp_path / "rows" / file).read_bytes() == (tmp_path / "runs" / file).read_bytes()
    assert predict.main([str(recordings[0]), "--model", str(tmp_path / "rows")]) == 1
    assert "make it of the runs themselves" in capsys.readouterr().err


def test_an_ensemble_is_made_of_single_networks(fused, trained_run, tmp_path, capsys):
    assert "is an ensemble" in refused(capsys, fused, trained_run, "--run-dir", tmp_path / "run")


def test_networks_that_hear_at_other_rates_are_refused(trained_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "slow")
    config = override(
        read_config(trained_run / "config.json"), {"spectrogram.high_hz": 4000.0, "audio.sample_rate_hz": 8000}
    )
    (tmp_path / "slow" / "config.json").write_text(to_json(config))
    said = refused(capsys, trained_run, tmp_path / "slow", "--run-dir", tmp_path / "run")
    assert "members: all must hear at one audio.sample_rate_hz, these are mel-cnn3 16000, mel-cnn3-2 8000" in said


def test_the_same_recipe_twice_has_two_names(trained_run, tmp_path):
    assert ensemble.main([str(trained_run), str(trained_run), "--run-dir", str(tmp_path / "run")]) == 0
    assert list(read_members(tmp_path / "run")) == ["mel-cnn3", "mel-cnn3-2"]


# Recipes whose members are found or trained


def test_members_that_lie_beside_are_taken_and_others_trained(
    trained_run, mfcc_run, demo_corpus, tmp_path, monkeypatch, recordings
):
    for name, run in (("mel-cnn3", trained_run), ("mfcc-cnn2", mfcc_run)):
        copied(run, tmp_path / name / "demo-speaker-split-0-seed-0")
    configs = {run.name: read_config(run / "config.json") for run in (trained_run, mfcc_run)}
    config = EnsembleConfig("both", configs, "weighted", configs["mel-cnn3"].experiment)
    lines, trained = [], []
    monkeypatch.setattr(members, "train_run", lambda config, corpus, folder, *_: trained.append(config.recipe))
    folder = tmp_path / "both" / "demo-speaker-split-0-seed-0"
    metrics = members.train_with_members(config, demo_corpus, folder, say=lines.append)
    assert trained == []
    assert [line.split(":")[0] for line in lines[:2]] == ["member mel-cnn3", "member mfcc-cnn2"]
    assert metrics["num_test"] == 8
    (sound,) = [soundfile.read(recordings[0], dtype="float32")[0][::3]]
    assert load_recognizer(folder).predict([sound]).shape == (1, 8)
    # Another seed, another setting: there is no such run, and it would be trained.
    for number, path in enumerate(("experiment.seed", "members.mfcc-cnn2.training.batch_size")):
        with pytest.raises(Exception, match=r"config\.json cannot be read"):  # of what was not trained in truth
            members.train_with_members(
                override(config, {path: 3}),
                demo_corpus,
                folder.with_name(f"other-{number}"),
                say=lambda line: None,
                at_once=1,
            )
    assert trained == ["mel-cnn3", "mfcc-cnn2"] * 2  # beside other-0 and other-1 there lies nothing at all


# Branches to start from


@pytest.fixture(scope="module")
def joined(trained_run, mfcc_run, demo_folder, tmp_path_factory):
    """Return an early fusion of both runs' branches, which stand still for all its epochs."""
    folder = tmp_path_factory.mktemp("joined") / "run"
    settings = [f"model.branches={trained_run},{mfcc_run}", "training.frozen_epochs=9", "training.epochs=1"]
    settings += ["training.batch_size=8", "training.warmup_epochs=0"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert train.main(["early-mel-mfcc", "--corpus", str(demo_folder), "--run-dir", str(folder), *arguments]) == 0
    return folder


def test_frozen_branches_give_what_they_gave_alone(joined, trained_run, mfcc_run, recordings):
    import keras

    from emokeras.data import features

    config = read_config(joined / "config.json")
    waveform = load_waveform(recordings[1], 16000)[np.newaxis]
    network = keras.saving.load_model(joined / "model.keras", compile=False)
    shown = {name: value[:, 0] for name, value in features.serving_inputs(config, {"waveform": waveform}).items()}
    for name, run in (("spectrogram", trained_run), ("mfcc", mfcc_run)):
        alone = keras.saving.load_model(run / "model.keras", compile=False)
        own = {key: shown[key] for key in (name, f"{name}_mask")}
        expected = keras.Model(alone.inputs, alone.get_layer(f"{name}_pooled").output)(own)
        found = keras.Model(network.inputs, network.get_layer(f"{name}_pooled").output)(shown)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # Body, features and pooling are the runs' own, not the recipe's.
    alone = read_config(trained_run / "config.json")
    assert config.spectrogram == alone.spectrogram
    assert config.encoders["spectrogram"].filters == alone.encoders["spectrogram"].filters
    assert config.pooling_of("spectrogram") == alone.pooling_of("spectrogram")


def test_kept_figures_name_the_branches_recipes_and_not_their_paths(joined, tmp_path):
    kept = runs.keep_results(joined, tmp_path)
    assert read_config(kept / "config.json").model.branches == ("mel-cnn3", "mfcc-cnn2")


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        (["nowhere"], "nowhere is no run that has ended, and no recipe"),
        (["text_run"], "has a tokens branch, this network has none"),
        (["trained_run", "trained_run"], "has a spectrogram branch, .* has one too"),
        (["other_split"], "was trained on another split"),
        (["fused"], "is an ensemble: give runs of single networks"),
        (["flagship"], "flagship is an ensemble: give runs of single networks"),
        (["mel-resnet-muon"], "mel-resnet-muon trains on the validation clips too in the end"),
    ],
)
def test_branches_that_do_not_fit_are_refused_before_anything_is_trained(
    branches, expected, request, mfcc_run, demo_folder, tmp_path, capsys
):
    import re

    other = copied(mfcc_run, tmp_path / "other_split")
    runs.write_json(other / "metrics.json", runs.read_metrics(other) | {"split_sha256": "0" * 64})
    paths = []
    for name in branches:
        known = name in ("text_run", "trained_run", "fused")
        paths.append(str(request.getfixturevalue(name) if known else name if name in RECIPES else tmp_path / name))
    setting = f"model.branches={json.dumps(paths)}"
    arguments = ["early-mel-mfcc", "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    assert train.main([*arguments, "--set", setting]) in (1, 2)
    said = capsys.readouterr().err
    assert re.search(expected, said), said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
