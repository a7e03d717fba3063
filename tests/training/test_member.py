"""Members of an ensemble that are trained at the same time, each in a process: same results, and a kill ends all."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from children import children_of, is_running, wait_for

from emokeras import runs, train
from emokeras.config import EnsembleConfig, read_config, to_json
from emokeras.files import write_text
from emokeras.processes import num_cores
from emokeras.training.run import default_members_at_once


def test_one_member_a_core_or_one_where_there_is_a_gpu(monkeypatch):
    assert default_members_at_once() == num_cores()
    monkeypatch.setattr("keras.distribution.list_devices", lambda kind: [f"{kind}:0"])
    assert default_members_at_once() == 1


def test_less_than_one_at_once_is_refused(demo_folder, tmp_path, capsys):
    arguments = ["flagship", "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    assert train.main([*arguments, "--members-at-once", "0"]) == 2
    assert capsys.readouterr().err == "error: --members-at-once 0: 1 or more\n"


@pytest.fixture
def arguments(trained_run, mfcc_run, demo_folder, tmp_path):
    """Return the arguments that train two small members in tmp_path/run."""
    configs = {run.name: read_config(run / "config.json") for run in (trained_run, mfcc_run)}
    config = EnsembleConfig("both", configs, "weighted", configs["mel-cnn3"].experiment)
    write_text(tmp_path / "both.json", to_json(config))
    given = ["--config", str(tmp_path / "both.json"), "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    return [*given, "--members-at-once", "2"]


@pytest.mark.slow
def test_members_trained_side_by_side_are_those_trained_one_by_one(arguments, trained_run, mfcc_run, tmp_path, capfd):
    assert train.main(arguments) == 0
    out = capfd.readouterr().out
    for alone in (trained_run, mfcc_run):
        assert f"  {alone.name}: epoch 1/" in out
        member = tmp_path / "run" / "members" / alone.name
        found, expected = (runs.read_predictions(run / "predictions.csv").probabilities for run in (member, alone))
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_ensemble_takes_its_members_with_it_and_continues(arguments, tmp_path):
    folder = tmp_path / "run"
    running = subprocess.Popen(
        [sys.executable, "-m", "emokeras.train", *arguments, "--epochs", "400"], stdout=subprocess.DEVNULL
    )
    histories = [folder / "members" / name / "history.csv" for name in ("mel-cnn3", "mfcc-cnn2")]
    wait_for(lambda: all(path.exists() and len(runs.read_history(path)) >= 2 for path in histories), 400)
    members = children_of(running.pid)
    assert len(members) == 2
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_for(lambda: not any(is_running(member) for member in members), what="the end of the members")
    epochs = 1 + max(len(runs.read_history(path)) for path in histories)
    shorten(folder, epochs)
    assert train.main(["--resume", str(folder), "--members-at-once", "1"]) == 0
    for path in histories:
        assert [row["epoch"] for row in runs.read_history(path)] == list(range(1, epochs + 1))
    assert runs.read_metrics(folder)["recipe"] == "both"


def shorten(folder, epochs: int) -> None:
    """Change the epochs of a run that was begun with many."""
    for path in [folder / "config.json", *folder.glob("members/*/config.json")]:
        config = json.loads(path.read_text())
        for network in config.get("members", {"": config}).values():
            network["training"]["epochs"] = epochs
        path.write_text(json.dumps(config))
