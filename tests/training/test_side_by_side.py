"""Members of an ensemble that train at the same time: what comes of it, and what ends one ends."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from emokeras import runs, train
from emokeras.config import EnsembleConfig, read_config, to_json
from emokeras.files import write_text
from emokeras.training import side_by_side
from emokeras.training.side_by_side import Lines, Training, default_at_once, train_side_by_side

MEMBERS = ["mel-cnn3", "mfcc-cnn2"]


def test_lines_are_told_when_they_are_whole():
    told = []
    stream = Lines(told.append)
    for text in ("epoch 1", "/2\nepoch 2/2\n", "th", "e end"):
        assert stream.write(text) == len(text)
    assert told == ["epoch 1/2", "epoch 2/2"]


def test_a_member_a_core_but_one_at_a_time_on_a_gpu(monkeypatch):
    assert default_at_once() == len(os.sched_getaffinity(0))
    monkeypatch.setattr("keras.distribution.list_devices", lambda kind: [f"{kind}:0"])
    assert default_at_once() == 1


def test_none_at_once_is_refused(demo_folder, tmp_path, capsys):
    arguments = ["flagship", "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    assert train.main([*arguments, "--members-at-once", "0"]) == 2
    assert capsys.readouterr().err == "error: --members-at-once 0: 1 or more\n"


def say_threads(config, corpus, folder, resume):
    """Say how many threads this process has."""
    print(os.environ["TF_NUM_INTRAOP_THREADS"])


@pytest.mark.slow
@pytest.mark.parametrize(("names", "at_once", "threads"), [("abc", 2, "2"), ("ab", 4, "2"), ("a", 2, "4")])
def test_networks_side_by_side_share_the_cores(monkeypatch, tmp_path, names, at_once, threads):
    monkeypatch.setattr(side_by_side, "num_cores", lambda: 4)
    for pool in ("INTRAOP", "INTEROP"):
        monkeypatch.delenv(f"TF_NUM_{pool}_THREADS", raising=False)
    trainings = {name: Training("", tmp_path / name, resume=False) for name in names}
    said = []
    train_side_by_side(say_threads, trainings, None, at_once, said.append)
    assert sorted(said)[:2] == [f"  {name}: {threads}" for name in names[:2]]


@pytest.fixture
def arguments(trained_run, mfcc_run, demo_folder, tmp_path):
    """Return the arguments that train two small members in tmp_path/run."""
    configs = {run.name: read_config(run / "config.json") for run in (trained_run, mfcc_run)}
    config = EnsembleConfig("both", configs, "weighted", configs["mel-cnn3"].experiment)
    write_text(tmp_path / "both.json", to_json(config))
    given = ["--config", str(tmp_path / "both.json"), "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    return [*given, "--members-at-once", "2"]


@pytest.mark.slow
def test_side_by_side_they_learn_what_they_learn_one_by_one(arguments, trained_run, mfcc_run, tmp_path, capfd):
    assert train.main(arguments) == 0
    out = capfd.readouterr().out
    for alone in (trained_run, mfcc_run):
        assert f"  {alone.name}: epoch 1/" in out
        beside = tmp_path / "run" / "members" / alone.name
        said = [runs.read_predictions(run / "predictions.csv")[-1] for run in (alone, beside)]
        np.testing.assert_allclose(*said, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["member", "all", "interrupted"])
def test_what_ends_one_ends_all_and_all_go_on(arguments, tmp_path, ended):
    """A member that is killed, a parent that is killed, Ctrl-C: no process outlives it, and --resume ends the run."""
    folder = tmp_path / "run"
    running = subprocess.Popen(
        [sys.executable, "-m", "emokeras.train", *arguments, "--epochs", "400"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A job in the background, as CI may be, hands down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    histories = [folder / "members" / name / "history.csv" for name in MEMBERS]
    wait_until(lambda: all(path.exists() and len(path.read_text().splitlines()) > 2 for path in histories))
    children = children_of(running.pid)
    assert len(children) >= 2
    if ended == "member":
        os.kill(next(child for child in children if trains(child)), signal.SIGKILL)
    else:
        running.send_signal(signal.SIGKILL if ended == "all" else signal.SIGINT)
    out = running.communicate(timeout=60)[0].decode()
    wait_until(lambda: not any(is_alive(child) for child in children))
    if ended == "interrupted":
        assert running.returncode == 130
        assert out.splitlines()[-2:] == [
            f"to go on with this run: python -m emokeras.train --resume {folder}",
            "interrupted",
        ]
    elif ended == "member":
        assert running.returncode == 1
        assert ": ended by SIGKILL; go on with it by --resume" in out.splitlines()[-1]
        done = [len(path.read_text().splitlines()) - 1 for path in histories]
        shorten(folder, epochs=max(done) + 1)
        assert train.main(["--resume", str(folder)]) == 0
        for path in histories:
            assert [row["epoch"] for row in runs.read_history(path)] == list(range(1, max(done) + 2))


def shorten(folder, epochs: int) -> None:
    """Let a run that was begun with many epochs end soon."""
    for path in [folder / "config.json", *folder.glob("members/*/config.json")]:
        config = json.loads(path.read_text())
        for network in config.get("members", {"": config}).values():
            network["training"]["epochs"] = epochs
        path.write_text(json.dumps(config))


def wait_until(is_so, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children_of(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(child) for child in file.read().split()]


def trains(process: int) -> bool:
    """Say whether a process is one that trains, and not multiprocessing's own."""
    with open(f"/proc/{process}/cmdline") as file:
        return "spawn_main" in file.read()


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
