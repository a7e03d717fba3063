"""A chief and its workers: what each is given, and that a search survives their deaths."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from children import wait_for
from searches import arguments, num_epochs, plan, table

from emokeras import processes
from emokeras.errors import RunError
from tuning import search, workers
from tuning.trials import read_trials
from tuning.tuner import Tuner

ROOT = Path(__file__).parents[2]


NO_ADDRESS = "192.0.2.1:9"  # kept for documentation, no machine's


def become_chief(monkeypatch, address):
    for name, value in workers.role_variables(address, "chief").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def port():
    with workers.reserved_port() as port:
        yield port


def test_a_chief_that_cannot_listen_is_one_line(demo_folder, tmp_path, monkeypatch, capsys):
    become_chief(monkeypatch, NO_ADDRESS)
    given = arguments(demo_folder, tmp_path / "s", 2, "--chief", NO_ADDRESS, "--worker-id", "chief")
    assert search.main(given) == 1
    error = capsys.readouterr().err
    assert f"the chief cannot listen at {NO_ADDRESS}: give --chief an address of this machine" in error
    assert error.count("\n") == 1


def test_two_chiefs_do_not_share_a_port(demo_folder, tmp_path, monkeypatch, capsys):
    """gRPC would let them, and workers would get trials of either."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        become_chief(monkeypatch, address)
        assert search.main(arguments(demo_folder, tmp_path / "s", 2, "--chief", address, "--worker-id", "chief")) == 1
    assert f"the chief cannot listen at {address}" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the port is not reserved")
def test_nobody_else_takes_a_port_before_the_chief_listens_there(port):
    with socket.socket() as other, socket.socket() as chief:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        chief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
        chief.bind(("127.0.0.1", port))
        chief.listen()
        with socket.create_connection(("127.0.0.1", port)):
            chief.accept()[0].close()


def test_each_worker_sees_one_gpu_in_turn_and_the_chief_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    names = ("chief", "worker-0", "worker-1", "worker-2")
    variables = [workers.gpu_variables(name, workers.gpus()) for name in names]
    assert [own["CUDA_VISIBLE_DEVICES"] for own in variables] == ["-1", "4", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert workers.gpu_variables("worker-0", workers.gpus()) == {}


def test_threads_are_set_before_tensorflow_reads_them(monkeypatch):
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("emokeras.commandline.import_tensorflow", lambda: pytest.fail("the recipe comes first"))
    assert search.main(["no-such-recipe", "--threads", "3"]) == 2
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == os.environ["TF_NUM_INTEROP_THREADS"] == "3"


def test_a_trial_in_which_its_worker_dies_three_times_fails(demo_folder, tmp_path, monkeypatch):
    folder = tmp_path / "s"
    monkeypatch.setattr(Tuner, "_score", lambda *_: 0.5)
    for trial, deaths in enumerate("12"):  # The second death is not the last; the third is.
        (folder / "trials" / str(trial)).mkdir(parents=True)
        (folder / "trials" / str(trial) / "deaths").write_text(deaths)
        Tuner(plan(demo_folder, folder, trial + 1), None, restarted=True).run()
    first, second = read_trials(folder / "keras-tuner")
    assert (first.status, second.status) == ("COMPLETED", "FAILED")
    assert second.reason == "its worker died in it 3 times: is the memory too small?"


def test_a_worker_that_dies_ten_times_while_no_trial_ends_ends_the_search(tmp_path, monkeypatch, capfd):
    def dying(module, *words):
        is_worker = words[words.index("--worker-id") + 1] == "worker-0"
        return [sys.executable, "-c", "raise SystemExit(7)" if is_worker else "import time; time.sleep(60)"]

    monkeypatch.setattr(processes, "python", dying)
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.02)
    with pytest.raises(RunError, match="worker-0 ended 10 times"):
        workers.supervise([], 1, "127.0.0.1:9", tmp_path)
    # gRPC, where another test of this process has loaded it, prints lines of its own after a fork, or aborts the child.
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("worker-0")]
    ways = {"worker-0: exit status 7; it is started again", "worker-0: ended by SIGABRT; it is started again"}
    assert len(lines) == 9
    assert set(lines) <= ways


# Real processes, each with a TensorFlow of its own


@pytest.mark.slow
def test_a_worker_whose_chief_never_comes_ends_with_one_line(demo_folder, tmp_path, port):
    address = f"127.0.0.1:{port}"
    given = arguments(demo_folder, tmp_path / "s", 2, "--chief", address, "--worker-id", "a")
    code = (
        "import os, sys; from tuning import search, workers; "
        f"os.environ |= workers.role_variables({address!r}, 'a'); "
        "from keras_tuner.src.distribute import oracle_client; oracle_client.TIMEOUT = 1; "
        "sys.exit(search.main(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert f"error: no chief answers at {address}: start it, or give its address by --chief" in ended.stderr
    assert "Traceback" not in ended.stderr


def running_processes(folder) -> dict[str, tuple[int, str]]:
    """Return the process number and CUDA_VISIBLE_DEVICES of a search's chief and workers, as /proc has them."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "tuning.search" in words and str(folder) in words and "--worker-id" in words:
            devices = [value.partition("=")[2] for value in variables if value.startswith("CUDA_VISIBLE_DEVICES=")]
            found[words[words.index("--worker-id") + 1]] = (int(entry.name), *devices)
    return found


@contextlib.contextmanager
def running_search(given):
    """Run a search in a process of its own, which sees two GPUs; give the process, and what waits while it runs."""
    # A process that a shell starts in the background ignores Ctrl-C, and so would its children.
    process = subprocess.Popen(
        [sys.executable, "-m", "tuning.search", *given, "--threads", "1"],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "0,1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def wait(condition):
        def condition_while_running():
            assert process.poll() is None, process.communicate()
            return condition()

        return wait_for(condition_while_running, 300)

    try:
        yield process, wait
    finally:
        process.kill()
        process.wait()


class Killed(NamedTuple):
    """A search whose worker and whose chief were killed, and the trials that had ended before the chief was killed."""

    folder: Path
    out: str
    err: str
    devices: dict[str, str]  # CUDA_VISIBLE_DEVICES of each process
    ended_before: dict[str, float]  # their scores


@pytest.fixture(scope="module")
def killed(demo_folder, tmp_path_factory):
    """Run a search with a chief and a worker, and another worker that waited for the chief; kill the first two."""
    folder = tmp_path_factory.mktemp("searches") / "killed"

    def completed() -> dict[str, float]:
        return {trial.name: trial.score for trial in read_trials(folder / "keras-tuner") if trial.status == "COMPLETED"}

    with workers.reserved_port() as port:
        given = [*arguments(demo_folder, folder, 3, epochs=20), "--chief", f"127.0.0.1:{port}"]
        with running_search([*given, "--worker-id", "a"]) as (joined, _):
            assert next(joined.stdout) == f"waiting for the chief at 127.0.0.1:{port}\n"
            with running_search([*given, "--workers", "1"]) as (search_process, wait):
                wait(lambda: num_epochs(folder, "0") >= 2 and num_epochs(folder, "1") >= 2)
                before = running_processes(folder)
                os.kill(before["worker-0"][0], signal.SIGKILL)
                wait(lambda: running_processes(folder).get("worker-0", before["worker-0"]) != before["worker-0"])
                ended_before = wait(completed)
                os.kill(before["chief"][0], signal.SIGKILL)
                out, err = search_process.communicate(timeout=600)
            assert (search_process.returncode, joined.wait(60)) == (0, 0), err
    assert not running_processes(folder)
    devices = {name: own for name, (_, own) in before.items()}
    return Killed(folder, out, err, devices, ended_before)


@pytest.mark.slow
def test_a_search_finishes_though_a_worker_and_the_chief_are_killed(killed):
    assert "worker-0: ended by SIGKILL; it is started again" in killed.err
    assert "chief: ended by SIGKILL; it is started again" in killed.err
    rows = table(killed.folder)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    assert [num_epochs(killed.folder, row["trial"]) for row in rows] == [20] * 3  # none lost, none twice
    assert killed.out.count("3/3") == 1


@pytest.mark.slow
def test_a_restarted_chief_keeps_the_trials_that_had_ended(killed):
    kept = {row["trial"]: float(row["val_balanced_accuracy"]) for row in table(killed.folder)}
    assert killed.ended_before
    for name, score in killed.ended_before.items():
        assert kept[name] == pytest.approx(score, abs=1e-6)


@pytest.mark.slow
def test_only_the_workers_of_this_machine_share_its_gpus(killed):
    assert killed.devices == {"chief": "-1", "worker-0": "0", "a": "0,1"}


@pytest.mark.slow
def test_ctrl_c_ends_the_chief_and_the_workers(demo_folder, tmp_path):
    with running_search(arguments(demo_folder, tmp_path / "s", 50, "--workers", "1")) as (process, wait):
        wait(lambda: running_processes(tmp_path / "s").keys() == {"chief", "worker-0"})
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=180)
    assert process.returncode == 130
    wait_for(lambda: not running_processes(tmp_path / "s"))
