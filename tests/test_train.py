"""The train command: the run folder it leaves, resuming after a kill, one seed one result, what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import sklearn.metrics
from conftest import tiny_arguments, tiny_settings

from emokeras import predict, runs, train
from emokeras.config import ExperimentConfig, override, read_config, to_json, with_experiment
from emokeras.files import write_text
from emokeras.training.epochs import with_epochs_beside

FILES = {
    "config.json", "split.csv", "history.csv", "metrics.json", "predictions.csv", "validation_predictions.csv",
    "model.keras", "confusion_matrix.png", "curves.png", "reliability.png", "examples.png", "checkpoints",
    "tensorboard",
}  # fmt: skip


def run_train(demo_folder, folder, *more):
    return train.main(["mel-cnn3", "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments(), *more])


def figures_of(folder):
    """Return everything of metrics.json that time does not change."""
    timed = ("train_seconds", "train_cpu_seconds")
    return {name: figure for name, figure in runs.read_metrics(folder).items() if name not in timed}


def test_run_folder_is_whole(trained_run, demo_corpus):
    assert {path.name for path in trained_run.iterdir()} == FILES
    metrics = runs.read_metrics(trained_run)
    assert (metrics["recipe"], metrics["corpus"], metrics["protocol"]) == ("mel-cnn3", "demo", "speaker")
    assert (metrics["num_train"], metrics["num_validation"], metrics["num_test"]) == (24, 8, 8)
    assert metrics["emotions"] == list(demo_corpus.emotions)
    assert (metrics["epochs_run"], metrics["backend"]) == (3, "tensorflow")
    history = runs.read_history(trained_run / "history.csv")
    assert metrics["best_epoch"] == min(history, key=lambda row: row["val_loss"])["epoch"]
    assert metrics["train_seconds"] == pytest.approx(sum(row["seconds"] for row in history), abs=0.06)
    assert metrics["train_cpu_seconds"] == pytest.approx(sum(row["cpu_seconds"] for row in history), abs=0.06)
    assert metrics["train_cpu_seconds"] > 0


def test_metrics_follow_from_the_predictions(trained_run):
    metrics = runs.read_metrics(trained_run)
    for subset, file in (("test", "predictions.csv"), ("validation", "validation_predictions.csv")):
        _, _, labels, _, probabilities = runs.read_predictions(trained_run / file)
        predicted = probabilities.argmax(axis=1)
        assert metrics[subset]["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
        assert metrics[subset]["confusion_matrix"] == sklearn.metrics.confusion_matrix(labels, predicted).tolist()
    best = [row for row in runs.read_history(trained_run / "history.csv") if row["epoch"] == metrics["best_epoch"]]
    assert metrics["validation"]["cross_entropy"] == pytest.approx(best[0]["val_loss"], abs=1e-6)


def test_no_speaker_stands_in_two_subsets(trained_run):
    subsets = {}
    for row in runs.read_split(trained_run):
        subsets.setdefault(row["speaker"], set()).add(row["subset"])
    assert all(len(names) == 1 for names in subsets.values())


def test_one_seed_gives_one_result_and_the_written_configuration_brings_it_back(trained_run, tmp_path):
    assert train.main(["--config", str(trained_run / "config.json"), "--run-dir", str(tmp_path / "again")]) == 0
    assert read_config(tmp_path / "again" / "config.json") == read_config(trained_run / "config.json")
    assert figures_of(tmp_path / "again") == figures_of(trained_run)
    for file in ("predictions.csv", "validation_predictions.csv", "split.csv"):
        assert (tmp_path / "again" / file).read_bytes() == (trained_run / file).read_bytes()


def test_another_seed_another_result_kept_for_the_results_page(trained_run, demo_folder, tmp_path, capsys):
    arguments = ["--seed", "1", "--epochs", "1", "--mixed-precision", "--results", str(tmp_path / "results")]
    assert run_train(demo_folder, tmp_path / "other", *arguments) == 0
    assert "stays float32" in capsys.readouterr().out
    assert figures_of(tmp_path / "other")["validation"] != figures_of(trained_run)["validation"]
    kept = tmp_path / "results" / "demo" / "speaker" / "mel-cnn3" / "split-0-seed-1"
    assert {path.name for path in kept.iterdir()} == {
        "metrics.json", "config.json", "predictions.csv", "validation_predictions.csv",
    }  # fmt: skip


def test_early_stopping_ends_a_run_that_does_not_improve(demo_folder, tmp_path):
    # With a learning rate of nearly nothing and no moving statistics, the first epoch stays the most accurate.
    settings = ["patience_epochs=2", "learning_rate=1e-12", "select_by=val_accuracy"]
    arguments = [part for setting in settings for part in ("--set", f"training.{setting}")]
    arguments += ["--epochs", "30", "--set", "encoder.batch_normalization=false"]
    assert run_train(demo_folder, tmp_path / "run", *arguments) == 0
    metrics = runs.read_metrics(tmp_path / "run")
    assert (metrics["epochs_run"], metrics["best_epoch"]) == (3, 1)


@pytest.fixture(scope="module")
def unbroken(demo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert run_train(demo_folder, folder, "--epochs", "6") == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT], ids=lambda ending: ending.name)
def test_broken_run_goes_on_to_the_metrics_of_the_unbroken_one(demo_folder, unbroken, tmp_path, ending):
    folder = tmp_path / "run"
    arguments = ["mel-cnn3", "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments()]
    command = [sys.executable, "-m", "emokeras.train", *arguments, "--epochs", "6"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background, as CI may be, hands down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    history = folder / "history.csv"
    deadline = time.monotonic() + 400
    while not (history.exists() and len(runs.read_history(history)) >= 2):
        assert process.poll() is None, "the run ended before it could be broken"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(ending)
    output, errors = process.communicate(timeout=180)
    if ending == signal.SIGINT:
        assert process.returncode == 130
        assert f"--resume {folder}" in output
        assert errors.splitlines()[-1] == "interrupted"
    assert not (folder / "metrics.json").exists()
    # The corpus may have moved meanwhile, and may not have changed.
    moved = shutil.copytree(demo_folder, tmp_path / "moved" / "demo")
    assert train.main(["--resume", str(folder), "--corpus", str(moved / "Actor_01")]) == 1
    assert train.main(["--resume", str(folder), "--corpus", str(moved)]) == 0
    assert figures_of(folder) == figures_of(unbroken)
    assert [row["epoch"] for row in runs.read_history(history)] == [1, 2, 3, 4, 5, 6]


def test_an_ended_run_is_not_trained_again_but_its_figures_can_be_kept(trained_run, tmp_path, capsys):
    before = (trained_run / "model.keras").stat().st_mtime_ns
    assert train.main(["--resume", str(trained_run), "--results", str(tmp_path)]) == 0
    assert (tmp_path / "demo" / "speaker" / "mel-cnn3" / "split-0-seed-0" / "metrics.json").is_file()
    assert "has ended already" in capsys.readouterr().out
    assert (trained_run / "model.keras").stat().st_mtime_ns == before


def test_all_clips_train_and_nothing_is_measured(demo_folder, demo_corpus, tmp_path, capsys):
    """Such a run goes on as any other, and predicts; its figures cannot be kept, there are none."""
    folder = tmp_path / "run"
    assert run_train(demo_folder, folder, "--protocol", "all", "--epochs", "2") == 0
    assert "mel-cnn3 was trained on all 40 clips: no clip is left to test" in capsys.readouterr().out
    metrics = runs.read_metrics(folder)
    assert (metrics["num_train"], metrics["num_validation"], metrics["num_test"]) == (40, 0, 0)
    assert metrics["best_epoch"] == 2
    assert not {"test", "validation"} & metrics.keys()
    assert not list(folder.glob("*predictions.csv"))
    assert list(runs.read_history(folder / "history.csv")[0])[1:3] == ["loss", "accuracy"]
    assert train.main(["--resume", str(folder), "--results", str(tmp_path / "results")]) == 1
    assert "has no figures to keep" in capsys.readouterr().err
    clip = demo_corpus.clips[0]
    assert predict.main([str(clip.path), "--model", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["emotion"] in demo_corpus.emotions


def test_all_clips_train_as_long_as_the_measured_runs_beside_were_best(trained_run, tmp_path):
    """The median of runs of the same settings; others, and what is no run, do not count."""
    config, said = read_config(trained_run / "config.json"), []
    for seed, (best_epoch, change) in enumerate([(5, {}), (9, {}), (6, {}), (1, {"encoder.l2": 0.1})]):
        run = tmp_path / str(seed)
        shutil.copytree(trained_run, run)
        runs.write_json(run / "metrics.json", runs.read_metrics(run) | {"best_epoch": best_epoch, "seed": seed})
        write_text(run / "config.json", to_json(override(config, change)))
    (tmp_path / "notes").mkdir()
    everything = with_experiment(config, protocol="all")
    found = with_epochs_beside(everything, "demo", tmp_path / "all", said.append).training
    assert (found.epochs, found.select_by) == (6, "last")
    assert said == ["epochs: 6, the median of those at which 3 runs beside it were kept"]
    alone = with_epochs_beside(everything, "other", tmp_path / "all", said.append).training
    assert alone.epochs == config.training.epochs
    assert "no measured run of these settings lies beside it" in said[-1]


def test_an_ensemble_cannot_be_fused_on_nothing(demo_folder, tmp_path, capsys):
    arguments = ["--corpus", str(demo_folder), "--protocol", "all", "--run-dir", str(tmp_path / "run")]
    assert train.main(["weighted-mel-mfcc", *arguments]) == 2
    assert "protocol all leaves no validation clip" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_list_names_every_recipe_and_its_source(capsys):
    assert train.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "mel-cnn3" in shown
    assert "mel-resnet" in shown
    assert "A: 3-layer CNN" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["mel-cn3"], 2, "there is no recipe 'mel-cn3'; did you mean 'mel-cnn3'?"),
        (["mel-cnn3", "--set", "encoder.dropuot=0.1"], 2, "did you mean 'encoder.dropout'?"),
        (["mel-cnn3", "--set", "encoder.dropout=2"], 2, "encoders.spectrogram.dropout"),
        (["mel-cnn3", "--set", "training.epochs"], 2, "section.key=value"),
        (["mel-cnn3", "--epochs", "0"], 2, "training.epochs"),
        (["mel-cnn3", "--corpus", "/no/such/folder"], 1, "/no/such/folder"),
        (["--config", "/no/such.json"], 2, "/no/such.json cannot be read"),
        (["--resume", "/no/such/run"], 1, "/no/such/run holds no run"),
        (["mel-cnn3", "--resume", "/no/such/run"], 2, "--resume goes on with a run as it was begun"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments) == status
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(trained_run, demo_folder, capsys):
    assert run_train(demo_folder, trained_run) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_a_test_subset_without_an_emotion_is_told(demo_folder, tmp_path, capsys):
    # A manifest whose test speaker never is angry.
    rows = list(csv.DictReader((demo_folder / "manifest.csv").open()))
    speakers = {
        row["speaker"] for row in runs.read_split(_split(rows, demo_folder, tmp_path)) if row["subset"] == "test"
    }
    kept = [row for row in rows if not (row["speaker"] in speakers and row["emotion"] == "angry")]
    corpus = write_manifest(tmp_path / "partial", demo_folder, kept)
    assert train.main(["--corpus", str(corpus), "--run-dir", str(tmp_path / "run"), *tiny_arguments()]) == 0
    assert "warning: the test subset has no clip of 'angry'" in capsys.readouterr().out
    assert runs.read_metrics(tmp_path / "run")["test"]["per_emotion"]["angry"]["recall"] is None


def _split(rows, demo_folder, tmp_path):
    """Return a folder with the split.csv of the whole corpus."""
    from emokeras.data.corpora import load_corpus
    from emokeras.data.splits import draw_split

    corpus = load_corpus(write_manifest(tmp_path / "whole", demo_folder, rows))
    runs.write_split(tmp_path, corpus.clips, draw_split(corpus, ExperimentConfig(protocol="speaker")).subsets)
    return tmp_path


def write_manifest(folder, demo_folder, rows):
    """Write a manifest.csv of these rows of the demo corpus's."""
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"path": os.path.join(demo_folder, row["path"])} for row in rows)
    return folder / "manifest.csv"


def test_help_needs_no_tensorflow():
    code = "import sys; from emokeras.train import main\n"
    code += "try: main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.rstrip().endswith("False")


def test_settings_of_the_run_are_those_that_were_asked_for(trained_run):
    written = json.loads((trained_run / "config.json").read_text())
    assert written["encoders"]["spectrogram"]["filters"] == tiny_settings()["encoders.spectrogram.filters"]
    assert written["audio"]["window_seconds"] == tiny_settings()["audio.window_seconds"]
