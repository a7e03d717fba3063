"""Searches in one process: trials are scored on validation, and a search that was stopped continues."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import grpc
import pytest
from searches import BATCH_SIZE, ONLY, arguments, num_epochs, plan, table

from emokeras import runs, train
from emokeras.config import override, read_config, to_json
from emokeras.files import locked
from emokeras.recipes import RECIPES
from emokeras.training import callbacks
from emokeras.training.run import make_network
from tuning import search, workers
from tuning.oracles import RandomOracle
from tuning.trials import best_trial, read_trials
from tuning.tuner import Tuner


class Lost(grpc.RpcError):
    def code(self):
        return grpc.StatusCode.UNAVAILABLE


class Searched(NamedTuple):
    """A search of three trials. The second fails; the third is interrupted after its first epoch, and the chief is lost
    when it is sent the third's score. Outputs and tables are of each command, the last one's table is in `folder`."""

    folder: Path
    outputs: list[str]
    tables: list[list[dict[str, str]]]
    epochs: list[tuple[str, int]]  # trial, epoch
    sent: list[str]  # the trials whose score was sent


@pytest.fixture(scope="module")
def searched(demo_folder, tmp_path_factory):
    own = Searched(tmp_path_factory.mktemp("searches") / "search", [], [], [], [])
    score, update_trial, on_epoch_end = Tuner._score, RandomOracle.update_trial, callbacks.Validation.on_epoch_end

    def score_all_but_second(self, trial, config, execution):
        if trial.trial_id == "1":
            raise MemoryError("no room for 9 GiB")
        return score(self, trial, config, execution)

    def interrupt_third(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        own.epochs.append((self.folder.parent.name, epoch + 1))
        if own.epochs[-1] == ("2", 1):
            raise KeyboardInterrupt

    def lose_third(self, trial_id, *more, **options):
        own.sent.append(trial_id)
        if own.sent == ["0", "2"]:
            raise Lost
        return update_trial(self, trial_id, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tuner, "_score", score_all_but_second)
        patch.setattr(callbacks.Validation, "on_epoch_end", interrupt_third)
        patch.setattr(RandomOracle, "update_trial", lose_third)
        for max_trials, status in ((1, 0), (1, 0), (3, 130), (3, 0)):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                assert search.main(arguments(demo_folder, own.folder, max_trials)) == status
            own.outputs.append(output.getvalue())
            own.tables.append(table(own.folder))
    return own


def test_a_trial_is_scored_by_the_epoch_that_its_run_keeps(searched):
    for row in (row for row in table(searched.folder) if row["status"] == "COMPLETED"):
        run = searched.folder / "trials" / row["trial"] / "seed-0"
        history = runs.read_history(run / "history.csv")
        assert len(history) == 2
        kept = max(history, key=lambda one: (one["val_accuracy"], -one["epoch"]))  # text-gru selects by val_accuracy
        assert float(row["val_balanced_accuracy"]) == pytest.approx(kept["val_balanced_accuracy"], abs=1e-6)
        config = read_config(run / "config.json")
        assert config.training.learning_rate == pytest.approx(float(row["training.learning_rate"]))
        assert list(config.encoders["tokens"].units) == json.loads(row["encoder.units"])
        assert not (run / "predictions.csv").exists()  # The test subset was not read.
    assert (searched.folder / "scores.png").stat().st_size > 10_000
    assert {path.parent.name for path in searched.folder.glob("tensorboard/*/events*")} == {"0", "1", "2"}


def test_the_first_trial_is_the_recipe(searched):
    first, second, third = table(searched.folder)
    recipe = RECIPES["text-gru"].config
    assert {path: first[path] for path in ONLY.split(",")} == {
        "training.learning_rate": str(recipe.training.learning_rate),
        "encoder.units": json.dumps(list(recipe.encoders["tokens"].units)),
        "model.dropout": str(recipe.model.dropout),
    }
    assert len({row["training.learning_rate"] for row in (first, second, third)}) == 3


def test_a_finished_search_stays_as_it_is_and_a_larger_number_continues_it(searched):
    assert "this search is finished" in searched.outputs[1]
    assert searched.tables[1] == searched.tables[0]
    assert "1 of 3 trials are done already" in searched.outputs[2]
    assert searched.tables[3][:1] == searched.tables[0]


def test_a_trial_that_fails_is_recorded_and_the_search_continues(searched):
    first, failed, third = table(searched.folder)
    assert (failed["status"], failed["reason"], failed["val_balanced_accuracy"]) == ("FAILED", "no room for 9 GiB", "")
    assert first["status"] == third["status"] == "COMPLETED"
    assert "[2/3] trial 1: failed: no room for 9 GiB; best" in searched.outputs[2]


def test_an_interrupted_search_continues_in_the_epoch_where_it_was(searched):
    assert searched.epochs == [("0", 1), ("0", 2), ("2", 1), ("2", 2)]
    assert f"to continue this search, give the same command again: {searched.folder}" in searched.outputs[2]


def test_a_score_that_did_not_reach_the_chief_is_sent_again_without_training(searched):
    assert searched.sent == ["0", "2", "2"]
    assert num_epochs(searched.folder, "2") == 2


def test_a_chief_continues_a_search_that_began_without_one(searched, demo_folder, tmp_path, monkeypatch):
    shutil.copytree(searched.folder, tmp_path / "s")
    for name, value in workers.role_variables("192.0.2.1:9", "chief").items():
        monkeypatch.setenv(name, value)
    oracle = Tuner(plan(demo_folder, tmp_path / "s", 4), None).oracle
    statuses = {name: trial.status for name, trial in oracle.trials.items()}
    assert statuses == {"0": "COMPLETED", "1": "FAILED", "2": "COMPLETED"}
    assert oracle.create_trial("worker-0").trial_id == "3"
    assert oracle.create_trial("worker-1").status == "STOPPED"


def test_train_takes_the_best_configuration_unchanged(searched, tmp_path):
    best = best_trial(read_trials(searched.folder / "keras-tuner"), "val_balanced_accuracy")
    scores = [row["val_balanced_accuracy"] for row in table(searched.folder)]
    assert best.score == max(float(score) for score in scores if score)
    assert train.main(["--config", str(searched.folder / "best.json"), "--run-dir", str(tmp_path / "run")]) == 0
    config = read_config(tmp_path / "run" / "config.json")
    assert config.recipe == "text-gru-tuned"
    assert config.training.learning_rate == best.values["training.learning_rate"]
    assert config.training.batch_size == 8  # fixed by --set
    # The same configuration and seed give the same validation score.
    validation = runs.read_metrics(tmp_path / "run")["validation"]
    assert validation["balanced_accuracy"] == pytest.approx(best.score, abs=1e-6)


def test_another_search_in_its_folder_is_refused(searched, demo_folder, capsys):
    assert search.main(arguments(demo_folder, searched.folder, 3, "--objective", "val_loss")) == 1
    error = capsys.readouterr().err
    assert "holds a search with --objective val_balanced_accuracy, not val_loss" in error
    assert error.count("\n") == 1


def test_one_process_at_a_time_leads_a_search(searched, demo_folder, capsys):
    with locked(searched.folder / "lock", "unused"):
        assert search.main(arguments(demo_folder, searched.folder, 3)) == 1
    assert "is being searched already: wait for that search's end, or end it" in capsys.readouterr().err


def test_a_score_is_never_that_of_other_settings(searched, demo_folder, tmp_path, capsys):
    """As where a new search draws its trials in a folder with the runs of an earlier one."""
    run = tmp_path / "s" / "trials" / "0" / "seed-0"
    shutil.copytree(searched.folder / "trials" / "0" / "seed-0", run)
    config = read_config(run / "config.json")
    (run / "config.json").write_text(to_json(override(config, {"model.dropout": 0.123})))
    assert search.main(arguments(demo_folder, tmp_path / "s", 1)) == 1
    assert "trials/0/seed-0 holds a training with other settings" in capsys.readouterr().err


def test_hyperband_continues_the_training_of_a_promoted_trial(searched, demo_folder, demo_corpus, tmp_path):
    tuner = Tuner(plan(demo_folder, tmp_path / "s", 9), demo_corpus)
    config = tuner.plan.config

    def score(trial_id, **values):
        trial = SimpleNamespace(trial_id=trial_id, hyperparameters=SimpleNamespace(values=values))
        return tuner._score(trial, config, 0)

    score("0000", **{"tuner/epochs": 1})
    score("0001", **{"tuner/epochs": 2, "tuner/trial_id": "0000"})
    assert (num_epochs(tmp_path / "s", "0000"), num_epochs(tmp_path / "s", "0001")) == (1, 2)
    # The first trial of `searched` has the same settings and was not interrupted.
    ours, uninterrupted = (
        [(row["loss"], row["val_loss"]) for row in runs.read_history(folder / "seed-0" / "history.csv")]
        for folder in (tmp_path / "s" / "trials" / "0001", searched.folder / "trials" / "0")
    )
    assert ours == uninterrupted


def test_a_recipe_that_cannot_be_trained_ends_the_search_which_continues_when_that_is_mended(
    searched, demo_folder, tmp_path, capsys
):
    start = tmp_path / "start"
    given = arguments(demo_folder, tmp_path / "s", 1, "--set", f"model.start_from={start}", "--only", "model.dropout")
    for _ in range(2):
        assert search.main(given) == 2
        assert capsys.readouterr().err == (
            f"error: model.start_from: {start} is no run of one network that has ended, and no export of one\n"
        )
    shutil.copytree(searched.folder / "trials" / "0" / "seed-0", start)
    make_network(read_config(start / "config.json"), is_new=False).save(start / "model.keras")
    assert search.main(given) == 0
    assert [row["status"] for row in table(tmp_path / "s")] == ["COMPLETED"]


# Plans


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--only", "encoder.l3"], "--only encoder.l3: the space of text-gru has encoder.l2"),
        (["--max-trials", "0"], "--max-trials 0: give 1 or more"),
        (["--workers", "-1"], "--workers -1: give 1 or more"),
        (["--threads", "0"], "--threads 0: give 1 or more"),
        (["--worker-id", "a"], "give HOST:PORT"),
        (["--worker-id", "a", "--workers", "2"], "give --workers, or --chief and --worker-id"),
        (["--chief", "10.0.0.1:80"], "give --worker-id too"),
        (["--chief", "10.0.0.1:80", "--worker-id", "worker-0"], "workers that --workers starts are named like that"),
        (["--chief", "10.0.0.1:80", "--worker-id", "chief-2"], "workers that --workers starts are named like that"),
        (["--chief", "10.0.0.1:80", "--worker-id", "a/b"], "--worker-id a/b: give another, of letters, digits"),
        (["--chief", "10.0.0.1:80", "--worker-id", "oracle"], "--worker-id oracle: give another"),
        (["--set", "encoder.l3=1"], "did you mean 'encoder.l2'"),
        (["--set", "experiment.corpora=ravdess"], "--set experiment.corpora: give --corpus instead"),
        (["--set", "model.dropout=0.3"], "--only model.dropout: the space of text-gru has"),
        (["--set", "encoders.tokens.units=32"], "--only encoder.units: the space of text-gru has"),
        (["--seed", "5000000000"], "experiment.seed: Input should be less than or equal to 2147483647"),
        (["--seed", "2147483647"], "--seed 2147483647 is out of range"),
        (["--workers", "2", "--fold", "17", "--protocol", "random-10fold"], "fold 17"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(more, expected, tmp_path, demo_folder, capsys):
    assert search.main(arguments(demo_folder, tmp_path / "s", 2, *more)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_an_ensemble_is_not_searched_but_its_members(capsys):
    assert search.main(["weighted-mel-mfcc"]) == 2
    assert "give one of its members, mel-resnet, mfcc-tcn" in capsys.readouterr().err


def test_what_is_set_is_fixed(demo_folder, tmp_path):
    """By `encoder.KEY` or by `encoders.INPUT.KEY`, which are one setting here."""
    free = plan(demo_folder, tmp_path / "s", 1, only=None)
    given = [BATCH_SIZE, "model.dropout=0.3", "encoders.tokens.l2=1e-5"]
    fixed = plan(demo_folder, tmp_path / "s", 1, only=None, set=given)
    assert free.space.keys() - fixed.space.keys() == {"model.dropout", "encoder.l2"}
    assert (fixed.config.model.dropout, fixed.config.encoders["tokens"].l2) == (0.3, 1e-5)


def test_paths_in_a_plan_are_absolute(demo_folder, tmp_path, monkeypatch):
    """best.json trains from any folder, and a search is the same one from any folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start").mkdir()
    own = plan(demo_folder, "s", 1, only=None, set=["model.start_from=start"])
    assert (own.config.model.start_from, own.folder) == (str(tmp_path / "start"), tmp_path / "s")
