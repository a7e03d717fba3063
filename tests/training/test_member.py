"""Members of an ensemble that are trained at the same time, each in a process: same results, and a kill ends all."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from children import children_of, is_running, wait_for

from emokeras import runs, train
from emokeras.config import ensemble_of, read_config, to_json
from emokeras.files import write_text
from emokeras.processes import num_cores
from emokeras.training.run import default_members_at_once


def test_one_member_a_core_or_one_where_there_is_a_gpu(monkeypatch):
    assert default_members_at_once() == num_cores()
    monkeypatch.setattr("keras.distribution.list_devices", lambda kind=None: ["gpu:0"])
    assert default_members_at_once() == 1


def test_less_than_one_at_once_is_refused(demo_folder, tmp_path, capsys):
    arguments = ["flagship", "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    assert train.main([*arguments, "--members-at-once", "0"]) == 2
    assert capsys.readouterr().err == "error: --members-at-once 0: 1 or more\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_members_end_continue_and_are_those_trained_one_by_one(trained_run, mfcc_run, demo_folder, tmp_path):
    configs = {run.name: read_config(run / "config.json") for run in (trained_run, mfcc_run)}
    write_text(tmp_path / "both.json", to_json(ensemble_of("both", configs, "weighted")))
    folder = tmp_path / "run"
    arguments = ["--config", str(tmp_path / "both.json"), "--corpus", str(demo_folder), "--run-dir", str(folder)]
    words = [sys.executable, "-m", "emokeras.train", *arguments, "--members-at-once", "2"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: (folder / "members" / trained_run.name / "history.csv").exists(), 400, "the first epoch")
        members = children_of(running.pid)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    wait_for(lambda: not any(map(is_running, members)), what="the end of the members")
    assert members
    assert not (folder / "metrics.json").exists()

    assert train.main(["--resume", str(folder), "--members-at-once", "2"]) == 0
    assert runs.read_metrics(folder)["recipe"] == "both"
    for alone in (trained_run, mfcc_run):
        member = folder / "members" / alone.name
        histories = [runs.read_history(run / "history.csv") for run in (member, alone)]
        assert [row["epoch"] for row in histories[0]] == [row["epoch"] for row in histories[1]]
        found, expected = (runs.read_predictions(run / "predictions.csv").probabilities for run in (member, alone))
        np.testing.assert_allclose(found, expected, atol=1e-4)
