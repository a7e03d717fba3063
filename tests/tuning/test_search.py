"""Real searches: trials are judged on validation, a killed search goes on, a chief leads workers that may die."""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emokeras import runs, train
from emokeras.config import override, read_config, to_json
from emokeras.recipes import RECIPES
from tuning import search, workers
from tuning.plan import PROJECT, held, plan_search
from tuning.report import best_of, read_trials
from tuning.tuner import HyperbandOracle, RandomOracle, Tuner

ROOT = Path(__file__).parents[2]
QUICK = ["text-gru", "--epochs", "2", "--tuner", "random", "--set", "training.batch_size=8"]
ONLY = ["--only", "training.learning_rate,encoder.units,model.dropout"]


def arguments(demo_folder, folder, max_trials, *more) -> list[str]:
    given = [*QUICK, *ONLY, "--corpus", str(demo_folder), "--search-dir", str(folder)]
    return [*given, "--max-trials", str(max_trials), *more]


def namespace(demo_folder, folder, max_trials) -> argparse.Namespace:
    """Return the same, as the command has them."""
    return argparse.Namespace(
        recipe="text-gru", tuner="random", max_trials=max_trials, epochs=2, corpus=str(demo_folder), protocol=None,
        fold=None, seed=None, objective="val_balanced_accuracy", executions=1, only=ONLY[1], set=[QUICK[-1]],
        search_dir=folder,
    )  # fmt: skip


def table(folder) -> list[dict[str, str]]:
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def searched(demo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches") / "search"
    assert search.main(arguments(demo_folder, folder, 2)) == 0
    return folder


def test_trials_are_scored_by_what_their_runs_would_keep(searched):
    rows = table(searched)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 2
    for row in rows:
        run = searched / "trials" / row["trial"] / "seed-0"
        history = runs.read_history(run / "history.csv")
        assert len(history) == 2
        kept = max(history, key=lambda one: (one["val_accuracy"], -one["epoch"]))  # text-gru selects by val_accuracy
        assert float(row["val_balanced_accuracy"]) == pytest.approx(kept["val_balanced_accuracy"], abs=1e-6)
        config = read_config(run / "config.json")
        assert config.training.learning_rate == pytest.approx(float(row["training.learning_rate"]))
        assert list(config.encoders["tokens"].units) == json.loads(row["encoder.units"])
        assert not (run / "predictions.csv").exists()  # Nothing was asked of the test clips.
    assert (searched / "scores.png").stat().st_size > 10_000
    assert len(list((searched / "tensorboard").glob("*/events*"))) == 2


def test_the_first_trial_is_the_recipe_as_it_stands(searched):
    first, second = table(searched)
    recipe = RECIPES["text-gru"].config
    own = {path: first[path] for path in ONLY[1].split(",")}
    assert own == {
        "training.learning_rate": str(recipe.training.learning_rate),
        "encoder.units": json.dumps(list(recipe.encoders["tokens"].units)),
        "model.dropout": str(recipe.model.dropout),
    }
    assert second["training.learning_rate"] != first["training.learning_rate"]


def test_train_takes_the_best_configuration_unchanged(searched, tmp_path):
    best = best_of(read_trials(searched / PROJECT), "val_balanced_accuracy")
    assert best.score == max(float(row["val_balanced_accuracy"]) for row in table(searched))
    assert train.main(["--config", str(searched / "best.json"), "--run-dir", str(tmp_path / "run")]) == 0
    config = read_config(tmp_path / "run" / "config.json")
    assert config.recipe == "text-gru-tuned"
    assert config.training.learning_rate == best.values["training.learning_rate"]
    # The same configuration and seed: the run says on validation what the trial said.
    validation = runs.read_metrics(tmp_path / "run")["validation"]
    assert validation["balanced_accuracy"] == pytest.approx(best.score, abs=1e-6)


def test_a_finished_search_says_so_and_a_larger_number_goes_on(searched, demo_folder, capsys):
    before = table(searched)
    assert search.main(arguments(demo_folder, searched, 2)) == 0
    assert "this search is finished" in capsys.readouterr().out
    assert table(searched) == before
    assert search.main(arguments(demo_folder, searched, 3)) == 0
    assert "2 of 3 trials are done already" in capsys.readouterr().out
    assert table(searched)[:2] == before
    assert len(table(searched)) == 3


def test_another_search_in_its_folder_is_refused(searched, demo_folder, capsys):
    assert search.main(arguments(demo_folder, searched, 2, "--objective", "val_loss")) == 1
    said = capsys.readouterr().err
    assert "holds a search with --objective val_balanced_accuracy, not val_loss" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--only", "encoder.l3"], "--only encoder.l3: the space of text-gru has encoder.l2"),
        (["--max-trials", "0"], "--max-trials 0: give 1 or more"),
        (["--workers", "-1"], "--workers -1: give 1 or more"),
        (["--threads", "0"], "--threads 0: give 1 or more"),
        (["--worker-id", "a"], "give HOST:PORT"),
        (["--chief", "10.0.0.1:80"], "give --worker-id too"),
        (["--chief", "10.0.0.1:80", "--worker-id", "worker-0"], "workers that --workers starts are named like that"),
        (["--chief", "10.0.0.1:80", "--worker-id", "chief-2"], "workers that --workers starts are named like that"),
        (["--chief", "10.0.0.1:80", "--worker-id", "a/b"], "--worker-id a/b: give another, of letters, digits"),
        (["--chief", "10.0.0.1:80", "--worker-id", "oracle"], "--worker-id oracle: give another"),
        (["--set", "encoder.l3=1"], "did you mean 'encoder.l2'"),
        (["--set", "experiment.corpus=ravdess"], "--set experiment.corpus: give --corpus instead"),
        (["--seed", "5000000000"], "experiment.seed: Input should be less than or equal to 2147483647"),
        (["--seed", "2147483647"], "--seed 2147483647 is out of range"),
        (["--workers", "2", "--fold", "17", "--protocol", "random-10fold"], "fold 17"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(more, expected, tmp_path, demo_folder, capsys):
    assert search.main([*QUICK, "--corpus", str(demo_folder), "--search-dir", str(tmp_path / "s"), *more]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_what_is_set_is_fixed(demo_folder, tmp_path, capsys):
    given = arguments(demo_folder, tmp_path / "s", 1, "--set", "model.dropout=0.3")
    assert search.main(given) == 2
    assert "--only model.dropout: the space of text-gru has" in capsys.readouterr().err
    del given[given.index("--only") : given.index("--only") + 2]
    assert search.main([*given, "--set", "training.epochs=1"]) == 0
    (only,) = table(tmp_path / "s")
    assert "model.dropout" not in only
    assert read_config(tmp_path / "s" / "best.json").model.dropout == 0.3


def test_what_is_set_by_its_inputs_name_is_fixed_too(demo_folder, tmp_path, capsys):
    given = arguments(demo_folder, tmp_path / "s", 1, "--set", "encoders.tokens.l2=1e-5", "--only", "encoder.l2")
    assert search.main(given) == 2
    assert "--only encoder.l2: the space of text-gru has" in capsys.readouterr().err


def test_a_recipe_that_cannot_be_trained_ends_the_search_which_goes_on_when_that_is_mended(
    trained_run, demo_folder, tmp_path, capsys
):
    given = arguments(demo_folder, tmp_path / "s", 1, "--set", f"training.teacher={tmp_path / 'teacher'}")
    for _ in range(2):
        assert search.main(given) == 2
        assert capsys.readouterr().err == f"error: training.teacher: {tmp_path / 'teacher'} is no run that has ended\n"
    (tmp_path / "teacher").symlink_to(trained_run)
    assert search.main(given) == 0
    assert [row["status"] for row in table(tmp_path / "s")] == ["COMPLETED"]


def test_one_process_at_a_time_leads_a_search(searched, demo_folder, capsys):
    with held(searched):
        assert search.main(arguments(demo_folder, searched, 2)) == 1
    assert "is being searched already: wait for that search's end, or end it" in capsys.readouterr().err


def test_an_ensemble_is_not_searched_but_its_members(capsys):
    assert search.main(["weighted-mel-mfcc"]) == 2
    assert "take one of its members, mel-resnet, mfcc-tcn" in capsys.readouterr().err


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(demo_folder, tmp_path, monkeypatch):
    score = Tuner._score

    def failing(self, trial, config, number):
        if trial.trial_id == "0":
            raise MemoryError("no room for 9 GiB")
        return score(self, trial, config, number)

    monkeypatch.setattr(Tuner, "_score", failing)
    assert search.main(arguments(demo_folder, tmp_path / "s", 2)) == 0
    first, second = table(tmp_path / "s")
    assert (first["status"], first["reason"], first["val_balanced_accuracy"]) == ("FAILED", "no room for 9 GiB", "")
    assert second["status"] == "COMPLETED"


def test_a_search_that_is_broken_goes_on_with_the_trial_it_was_in(demo_folder, tmp_path, monkeypatch):
    from emokeras.training import callbacks

    whole = callbacks.Validation.on_epoch_end
    epochs = []

    def broken(self, epoch, logs=None):
        whole(self, epoch, logs)
        epochs.append((self.folder.parent.name, epoch + 1))
        if epochs == [("0", 1), ("0", 2), ("1", 1)]:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.Validation, "on_epoch_end", broken)
    assert search.main(arguments(demo_folder, tmp_path / "s", 2)) == 130
    assert search.main(arguments(demo_folder, tmp_path / "s", 2)) == 0
    assert epochs == [("0", 1), ("0", 2), ("1", 1), ("1", 2)]
    assert [row["status"] for row in table(tmp_path / "s")] == ["COMPLETED"] * 2


@pytest.mark.parametrize(("most", "rounds"), [(27, (3, 9, 27)), (40, (5, 14, 40)), (70, (8, 24, 70))])
def test_hyperband_begins_with_a_ninth_of_the_epochs_and_promotes_the_best(most, rounds):
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    oracle = HyperbandOracle(most, 24, objective=keras_tuner.Objective("score", "max"), hyperparameters=space, seed=1)
    oracle._set_project_dir("/tmp", "unused-hyperband")
    oracle.save = oracle._save_trial = lambda *_: None
    oracle.verbose = 0
    epochs = []
    for _ in range(24):
        trial = oracle.create_trial("tuner0")
        values = trial.hyperparameters.values
        epochs.append(values["tuner/epochs"])
        if values["tuner/initial_epoch"]:
            past = oracle.trials[values["tuner/trial_id"]]
            assert past.hyperparameters.values["x"] == values["x"]
        oracle.update_trial(trial.trial_id, {"score": values["x"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert epochs[:12] == [rounds[0]] * 12
    assert set(epochs) == set(rounds)


# Chief and workers


def random_oracle(folder):
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    objective = keras_tuner.Objective("score", "max")
    made = RandomOracle(max_trials=9, objective=objective, hyperparameters=space, seed=1)
    made._set_project_dir(str(folder), "project")
    made.verbose = 0
    return made


def test_an_oracle_that_is_started_again_knows_who_trains_what(tmp_path):
    first = random_oracle(tmp_path)
    ended, ongoing = first.create_trial("a"), first.create_trial("b")
    first.update_trial(ended.trial_id, {"score": 0.5})
    ended.status = "COMPLETED"
    first.end_trial(ended)  # Written down before it is struck off the list of what is under way.
    again = random_oracle(tmp_path)
    again.reload()
    assert again.create_trial("b").trial_id == ongoing.trial_id
    third = again.create_trial("a")
    assert third.trial_id not in (ended.trial_id, ongoing.trial_id)
    assert [trial.score for trial in again.get_best_trials()] == [0.5]


def test_a_trial_whose_beginning_is_half_written_down_is_given_again(tmp_path):
    first = random_oracle(tmp_path)
    first.create_trial("a")
    before = Path(first._get_oracle_fname()).read_bytes()
    lost = first.create_trial("b")
    Path(first._get_oracle_fname()).write_bytes(before)  # As when it is killed after the trial's own file.
    again = random_oracle(tmp_path)
    again.reload()
    assert again.create_trial("c").trial_id == lost.trial_id
    assert again.create_trial("d").trial_id not in ("0", lost.trial_id)


def test_trials_of_those_that_will_not_come_back_are_given_to_others(tmp_path):
    first = random_oracle(tmp_path)
    lost, kept = first.create_trial("worker-1"), first.create_trial("b0")
    again = random_oracle(tmp_path)
    again.reload()
    again.put_back(workers.is_ours)
    assert again.tuner_ids == {"b0"}
    assert again.create_trial("worker-0").trial_id == lost.trial_id
    assert again.create_trial("b0").trial_id == kept.trial_id


@pytest.fixture
def as_chief(monkeypatch):
    for name, own in workers.environment("192.0.2.1:9", "chief").items():
        monkeypatch.setenv(name, own)


def test_a_chief_takes_up_what_a_search_without_one_began(as_chief, searched, demo_folder, tmp_path):
    shutil.copytree(searched, tmp_path / "s")
    done = len(table(searched))
    oracle = Tuner(plan_search(namespace(demo_folder, tmp_path / "s", done + 1)), None).oracle
    assert [trial.status for trial in oracle.trials.values()] == ["COMPLETED"] * done
    assert oracle.create_trial("worker-0").trial_id == str(done)
    assert oracle.create_trial("worker-1").status == "STOPPED"


def test_a_chief_that_cannot_listen_says_so_in_one_line(as_chief, demo_folder, tmp_path, capsys):
    # An address kept for documentation is no machine's.
    given = arguments(demo_folder, tmp_path / "s", 2, "--chief", "192.0.2.1:9", "--worker-id", "chief")
    assert search.main(given) == 1
    said = capsys.readouterr().err
    assert "the chief cannot listen at 192.0.2.1:9: give --chief an address of this machine" in said
    assert said.count("\n") == 1


def test_two_chiefs_do_not_share_a_port(demo_folder, tmp_path, monkeypatch, capsys):
    """As gRPC lets them: workers would be given trials of the other's."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for name, own in workers.environment(address, "chief").items():
            monkeypatch.setenv(name, own)
        assert search.main(arguments(demo_folder, tmp_path / "s", 2, "--chief", address, "--worker-id", "chief")) == 1
    assert f"the chief cannot listen at {address}" in capsys.readouterr().err


@pytest.fixture
def port():
    with workers.kept_port() as port:
        yield port


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the port is not kept")
def test_nobody_else_takes_a_port_before_the_chief_listens_there(port):
    with socket.socket() as other, socket.socket() as chief:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        chief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As gRPC does.
        chief.bind(("127.0.0.1", port))
        chief.listen()
        with socket.create_connection(("127.0.0.1", port)):
            chief.accept()[0].close()


def test_a_score_is_never_that_of_other_settings(searched, demo_folder, tmp_path, capsys):
    """As where trials are drawn anew in a folder that holds the runs of earlier ones."""
    run = tmp_path / "s" / "trials" / "0" / "seed-0"
    shutil.copytree(searched / "trials" / "0" / "seed-0", run)
    config = read_config(run / "config.json")
    (run / "config.json").write_text(to_json(override(config, {"model.dropout": 0.123})))
    assert search.main(arguments(demo_folder, tmp_path / "s", 1)) == 1
    assert "trials/0/seed-0 holds a training with other settings" in capsys.readouterr().err


def test_a_score_that_a_dying_chief_was_told_is_told_again(demo_folder, tmp_path, monkeypatch):
    import grpc

    class Lost(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE

    told, update_trial = [], RandomOracle.update_trial

    def die_at_first(self, trial_id, *more, **options):
        told.append(trial_id)
        if len(told) == 1:
            raise Lost
        return update_trial(self, trial_id, *more, **options)

    monkeypatch.setattr(RandomOracle, "update_trial", die_at_first)
    assert search.main(arguments(demo_folder, tmp_path / "s", 1)) == 0
    assert told == ["0", "0"]
    assert [row["status"] for row in table(tmp_path / "s")] == ["COMPLETED"]
    assert epochs_of(tmp_path / "s", "0") == 2  # Not trained again.


def test_a_worker_whose_chief_never_comes_says_so_in_one_line(demo_folder, tmp_path, port):
    """In a process of its own: gRPC's threads do not go with the forks of other tests."""
    address = f"127.0.0.1:{port}"
    given = arguments(demo_folder, tmp_path / "s", 2, "--chief", address, "--worker-id", "a")
    code = (
        "import os, sys; from tuning import search, workers; "
        f"os.environ |= workers.environment({address!r}, 'a'); "
        "from keras_tuner.src.distribute import oracle_client; oracle_client.TIMEOUT = 1; "
        "sys.exit(search.main(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert f"error: no chief answers at {address}: start it, or give its address by --chief" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_worker_that_is_before_its_chief_waits_for_it(demo_folder, tmp_path, port):
    # What joins from another machine reads the search's folder; the chief makes it.
    folder = tmp_path / "s"
    given = [*arguments(demo_folder, folder, 1), "--chief", f"127.0.0.1:{port}", "--worker-id"]
    worker = subprocess.Popen([sys.executable, "-m", "tuning.search", *given, "a"], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert next(worker.stdout).decode() == f"waiting for the chief at 127.0.0.1:{port}\n"
        chief = subprocess.run([sys.executable, "-m", "tuning.search", *given, "chief"], cwd=ROOT, timeout=300)
        assert chief.returncode == 0
        assert worker.wait(60) == 0
    finally:
        worker.kill()
    assert [row["status"] for row in table(folder)] == ["COMPLETED"]


def test_each_worker_sees_one_gpu_in_turn_and_the_chief_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    seen = [workers._variables(number)["CUDA_VISIBLE_DEVICES"] for number in (-1, 0, 1, 2)]
    assert seen == ["-1", "4", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert workers._variables(0) == {}


def test_threads_are_set_before_tensorflow_reads_them(monkeypatch):
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("emokeras.commandline.import_tensorflow", lambda: pytest.fail("the recipe comes first"))
    assert search.main(["no-such-recipe", "--threads", "3"]) == 2
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == os.environ["TF_NUM_INTEROP_THREADS"] == "3"


def test_a_trial_in_which_its_worker_dies_three_times_is_given_up(demo_folder, demo_corpus, tmp_path):
    folder = tmp_path / "s"
    for trial, deaths in enumerate("12"):  # The second time it goes on, the third time it does not.
        (folder / "trials" / str(trial)).mkdir(parents=True)
        (folder / "trials" / str(trial) / "deaths").write_text(deaths)
        Tuner(plan_search(namespace(demo_folder, folder, trial + 1)), demo_corpus, after_death=True).run()
    first, second = read_trials(folder / PROJECT)
    assert (first.status, second.status) == ("COMPLETED", "FAILED")
    assert second.reason == "its worker died in it 3 times: is the memory too small?"


def processes(folder) -> dict[str, int]:
    """Return the chief's and the workers' process numbers by their id, as /proc has them."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "tuning.search" in words and str(folder) in words and "--worker-id" in words:
                found[words[words.index("--worker-id") + 1]] = int(entry.name)
                devices = [value for value in variables if value.startswith("CUDA_VISIBLE_DEVICES=")]
                found[f"{words[words.index('--worker-id') + 1]} gpu"] = "".join(devices).partition("=")[2]
    return found


def wait_for(condition, seconds=600, running=None):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert running is None or running.poll() is None, "it ended before"
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)
    return value


@contextlib.contextmanager
def searching(demo_folder, folder, max_trials, num_workers, epochs):
    given = arguments(demo_folder, folder, max_trials, "--workers", str(num_workers), "--threads", "1")
    given[given.index("--epochs") + 1] = str(epochs)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0,1"}
    command = [sys.executable, "-m", "tuning.search", *given]
    # What a shell starts in the background ignores Ctrl-C, and so would all that we start.
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield running
    finally:
        running.kill()
        print(*running.communicate())  # What a test that fails is to be understood by.


def epochs_of(folder, trial) -> int:
    path = folder / "trials" / trial / "seed-0" / "history.csv"
    return len(runs.read_history(path)) if path.exists() else 0


@pytest.mark.slow
def test_a_chief_and_workers_finish_though_a_worker_and_the_chief_are_killed(demo_folder, tmp_path):
    folder = tmp_path / "s"
    with searching(demo_folder, folder, 4, 2, epochs=40) as running:
        found = wait_for(lambda: len(seen := processes(folder)) == 6 and seen, running=running)
        assert {name: found[f"{name} gpu"] for name in ("chief", "worker-0", "worker-1")} == {
            "chief": "-1", "worker-0": "0", "worker-1": "1",
        }  # fmt: skip
        wait_for(lambda: epochs_of(folder, "0") >= 3 and epochs_of(folder, "1") >= 3, running=running)
        os.kill(found["worker-0"], signal.SIGKILL)
        lost = found["worker-0"]
        again = wait_for(lambda: (seen := processes(folder)).get("worker-0", lost) != lost and seen, running=running)
        wait_for(lambda: any(trial.status == "COMPLETED" for trial in read_trials(folder / PROJECT)), running=running)
        done = {trial.name: trial.score for trial in read_trials(folder / PROJECT) if trial.status == "COMPLETED"}
        os.kill(again["chief"], signal.SIGKILL)
        out, err = running.communicate(timeout=900)
    assert running.returncode == 0, err
    assert "worker-0 ended (SIGKILL) and is started again" in err
    assert "chief ended (SIGKILL) and is started again" in err
    rows = table(folder)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 4
    for row in rows:
        assert epochs_of(folder, row["trial"]) == 40  # none lost, none twice
    kept = {row["trial"]: float(row["val_balanced_accuracy"]) for row in rows}
    for name, score in done.items():
        assert kept[name] == pytest.approx(score, abs=1e-6)
    assert not [name for name in processes(folder) if "gpu" not in name]
    assert out.count("4/4") == 1


@pytest.mark.slow
def test_ctrl_c_ends_all_of_them(demo_folder, tmp_path):
    folder = tmp_path / "s"
    with searching(demo_folder, folder, 50, 1, epochs=100) as running:
        wait_for(lambda: epochs_of(folder, "00") >= 2, running=running)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=180)
    assert running.returncode == 130
    wait_for(lambda: not [name for name in processes(folder) if "gpu" not in name], 60)
