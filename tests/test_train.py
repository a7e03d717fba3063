"""The train command: the run folder it writes, equal results of equal seeds, resuming after a kill, what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest
import sklearn.metrics
from children import wait_for
from conftest import tiny_arguments, tiny_settings

from emokeras import predict, runs, train
from emokeras.config import read_config
from emokeras.files import write_csv

FILES = {
    "config.json", "split.csv", "history.csv", "metrics.json", "predictions.csv", "validation_predictions.csv",
    "model.keras", "confusion_matrix.png", "curves.png", "reliability.png", "examples.png", "checkpoints",
    "tensorboard",
}  # fmt: skip

quick = pytest.mark.usefixtures("without_graphs", "without_pictures")


def arguments_of(corpus, folder, *more) -> list[str]:
    return ["mel-cnn3", "--corpus", str(corpus), "--run-dir", str(folder), *tiny_arguments(), *more]


def run_train(corpus, folder, *more) -> int:
    return train.main(arguments_of(corpus, folder, *more))


def metrics_of(folder) -> dict:
    """Return metrics.json without what depends on time."""
    timed = ("train_seconds", "train_cpu_seconds")
    return {name: value for name, value in runs.read_metrics(folder).items() if name not in timed}


def test_the_run_folder_has_its_files_and_metrics(trained_run, demo_corpus):
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


def test_the_metrics_follow_from_the_predictions(trained_run):
    metrics = runs.read_metrics(trained_run)
    for subset, file in runs.PREDICTION_FILES.items():
        answers = runs.read_predictions(trained_run / file)
        predicted = answers.probabilities.argmax(axis=1)
        assert metrics[subset]["accuracy"] == sklearn.metrics.accuracy_score(answers.labels, predicted)
        confusion_matrix = sklearn.metrics.confusion_matrix(answers.labels, predicted)
        assert metrics[subset]["confusion_matrix"] == confusion_matrix.tolist()
    best = [row for row in runs.read_history(trained_run / "history.csv") if row["epoch"] == metrics["best_epoch"]]
    assert metrics["validation"]["cross_entropy"] == pytest.approx(best[0]["val_loss"], abs=1e-6)


def test_no_speaker_is_in_two_subsets(trained_run):
    subsets = {}
    for row in runs.read_split(trained_run):
        subsets.setdefault(row["speaker"], set()).add(row["subset"])
    assert all(len(names) == 1 for names in subsets.values())


def test_the_settings_are_those_that_were_given(trained_run):
    written = json.loads((trained_run / "config.json").read_text())
    assert written["encoders"]["spectrogram"]["filters"] == tiny_settings()["encoders.spectrogram.filters"]
    assert written["audio"]["window_seconds"] == tiny_settings()["audio.window_seconds"]


@pytest.mark.slow
def test_the_written_configuration_gives_the_same_run(trained_run, tmp_path):
    assert train.main(["--config", str(trained_run / "config.json"), "--run-dir", str(tmp_path / "again")]) == 0
    assert read_config(tmp_path / "again" / "config.json") == read_config(trained_run / "config.json")
    assert metrics_of(tmp_path / "again") == metrics_of(trained_run)
    for file in ("predictions.csv", "validation_predictions.csv", "split.csv"):
        assert (tmp_path / "again" / file).read_bytes() == (trained_run / file).read_bytes()


@quick
def test_another_seed_gives_other_results_which_can_be_kept(trained_run, demo_folder, tmp_path, capsys):
    arguments = ["--seed", "1", "--epochs", "1", "--mixed-precision", "--results", str(tmp_path / "results")]
    assert run_train(demo_folder, tmp_path / "other", *arguments) == 0
    assert "stays float32" in capsys.readouterr().out
    assert metrics_of(tmp_path / "other")["validation"] != metrics_of(trained_run)["validation"]
    kept = tmp_path / "results" / "demo" / "speaker" / "mel-cnn3" / "split-0-seed-1"
    assert {path.name for path in kept.iterdir()} == {
        "metrics.json", "config.json", "predictions.csv", "validation_predictions.csv",
    }  # fmt: skip


@quick
def test_early_stopping_ends_a_run_that_does_not_improve(small_folder, tmp_path):
    # With a learning rate of nearly 0 and no moving statistics, the first epoch stays the most accurate.
    settings = ["training.patience_epochs=2", "training.learning_rate=1e-12", "training.select_by=val_accuracy"]
    settings += ["encoder.batch_normalization=false", "model.normalize_embedding=false"]
    arguments = ["--epochs", "30", *(part for setting in settings for part in ("--set", setting))]
    assert run_train(small_folder, tmp_path / "run", *arguments) == 0
    metrics = runs.read_metrics(tmp_path / "run")
    assert (metrics["epochs_run"], metrics["best_epoch"]) == (3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT], ids=lambda ending: ending.name)
def test_a_killed_run_continues_to_the_metrics_of_an_unbroken_one(demo_folder, trained_run, tmp_path, ending, capsys):
    folder, history = tmp_path / "run", tmp_path / "run" / "history.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "emokeras.train", *arguments_of(demo_folder, folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background, as CI may be, ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(lambda: process.poll() is not None or (history.exists() and len(runs.read_history(history)) >= 2), 400)
    process.send_signal(ending)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == (130 if ending == signal.SIGINT else -ending)
    if ending == signal.SIGINT:
        assert f"--resume {folder}" in output
        assert errors.splitlines()[-1] == "interrupted"
    assert not (folder / "metrics.json").exists()
    assert train.main(["--resume", str(folder)]) == 0
    assert "continues after epoch" in capsys.readouterr().out
    assert metrics_of(folder) == metrics_of(trained_run)
    assert [row["epoch"] for row in runs.read_history(history)] == [1, 2, 3]


def test_a_run_that_has_ended_is_not_trained_again_and_its_figures_can_be_kept(trained_run, tmp_path, capsys):
    before = (trained_run / "model.keras").stat().st_mtime_ns
    assert train.main(["--resume", str(trained_run), "--results", str(tmp_path)]) == 0
    assert (tmp_path / "demo" / "speaker" / "mel-cnn3" / "split-0-seed-0" / "metrics.json").is_file()
    assert "has ended already" in capsys.readouterr().out
    assert (trained_run / "model.keras").stat().st_mtime_ns == before


@quick
def test_a_run_on_all_clips_predicts_and_has_no_figures(small_folder, recordings, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run_train(small_folder, folder, "--protocol", "all", "--epochs", "2") == 0
    assert "mel-cnn3 was trained on all 24 clips: no clip is left to test" in capsys.readouterr().out
    metrics = runs.read_metrics(folder)
    assert (metrics["num_train"], metrics["num_validation"], metrics["num_test"]) == (24, 0, 0)
    assert metrics["best_epoch"] == 2
    assert not {"test", "validation"} & metrics.keys()
    assert not list(folder.glob("*predictions.csv"))
    assert list(runs.read_history(folder / "history.csv")[0])[1:3] == ["loss", "accuracy"]
    assert train.main(["--resume", str(folder), "--results", str(tmp_path / "results")]) == 1
    assert "has no figures to keep" in capsys.readouterr().err
    assert predict.main([str(recordings[0]), "--model", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["emotion"] in metrics["emotions"]


@quick
def test_an_emotion_without_test_clips_is_warned_of_and_has_no_recall(demo_folder, trained_run, tmp_path, capsys):
    speakers = {row["speaker"] for row in runs.read_split(trained_run) if row["subset"] == "test"}
    with (demo_folder / "manifest.csv").open(newline="") as file:
        rows = [row | {"path": os.path.join(demo_folder, row["path"])} for row in csv.DictReader(file)]
    kept = [row for row in rows if row["speaker"] not in speakers or row["emotion"] != "angry"]
    assert len(kept) == 39
    write_csv(tmp_path / "manifest.csv", list(kept[0]), [list(row.values()) for row in kept])
    assert run_train(tmp_path / "manifest.csv", tmp_path / "run", "--epochs", "1") == 0
    assert "warning: the test subset has no clip of 'angry'" in capsys.readouterr().out
    assert runs.read_metrics(tmp_path / "run")["test"]["per_emotion"]["angry"]["recall"] is None


def test_list_shows_the_recipes_and_their_sources(capsys):
    assert train.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "mel-cnn3" in shown
    assert "mel-resnet" in shown
    assert "A: 3-layer CNN" in shown


def test_a_corpus_of_one_emotion_is_refused(tmp_path, capsys):
    import numpy as np
    import soundfile

    for number in range(5):
        folder = tmp_path / "mine" / f"person{number}" / "happy"
        folder.mkdir(parents=True)
        samples = np.random.default_rng(number).normal(0.0, 0.1, 8000)
        soundfile.write(folder / "a.wav", samples, 16000)
        (tmp_path / "mine" / f"person{number}" / "sad").mkdir()
        (tmp_path / "mine" / f"person{number}" / "sad" / "a.m4a").write_bytes(b"sound")
    assert run_train(tmp_path / "mine", tmp_path / "run") == 1
    printed = capsys.readouterr()
    assert "left out 5 files, audio that is not read (.m4a)" in printed.out
    assert "has one emotion only, happy: there is nothing to tell apart" in printed.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["mel-cn3"], 2, "there is no recipe 'mel-cn3'; did you mean 'mel-cnn3'?"),
        (["mel-cnn3", "--set", "encoder.dropuot=0.1"], 2, "did you mean 'encoder.dropout'?"),
        (["mel-cnn3", "--set", "encoder.dropout=2"], 2, "encoders.spectrogram.dropout"),
        (["mel-cnn3", "--set", "training.epochs"], 2, "section.key=value"),
        (["mel-cnn3", "--set", "experiment.corpora=demo"], 2, "experiment.corpora: give --corpus instead"),
        (["mel-cnn3", "--epochs", "0"], 2, "training.epochs"),
        (["mel-cnn3", "--corpus", "/no/such/folder"], 1, "/no/such/folder"),
        (["--config", "/no/such.json"], 2, "/no/such.json cannot be read"),
        (["--resume", "/no/such/run"], 1, "/no/such/run holds no run"),
        (["mel-cnn3", "--resume", "/no/such/run"], 2, "--resume continues a run as it was begun"),
        (["mel-cnn3", "--protocol", "all", "--results", "results"], 2, "there are no results to copy"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments) == status
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_run_is_not_overwritten(trained_run, demo_folder, capsys):
    assert run_train(demo_folder, trained_run) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_help_needs_no_tensorflow():
    code = "import sys; from emokeras.train import main\n"
    code += "try: main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.rstrip().endswith("False")
