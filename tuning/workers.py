"""A chief and its workers on this machine: child processes that are restarted when they die, and ended together.

KerasTuner's chief keeps the trials and hands them out over gRPC; a worker that comes back under its id gets the trial
that it died in. The port is not secured: it is one of loopback unless --chief names another address.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from emokeras import processes
from emokeras.errors import RunError, UsageError
from tuning.trials import read_trials

CHIEF = "chief"
STARTED, RESTARTED = "started", "restarted"  # the values of --supervised
DEATHS_IN_A_ROW = 10
POLL_SECONDS, END_SECONDS = 0.5, 10.0


def supervise(arguments: Sequence[str], num_workers: int, chief: str | None, project: Path) -> int:
    """Run a search with a chief and workers on this machine until it ends.

    A worker or a chief that dies is restarted under its id; Ctrl-C and SIGTERM end all of them.

    Parameters
    ----------
    arguments: of `tuning.search`; chief: the address to listen at, by default a free port of loopback.
    project: KerasTuner's folder of the search.

    Returns
    -------
    The exit status of the chief, or of a worker whose arguments are wrong.

    Raises
    ------
    RunError: one of them died again and again while no trial ended.
    """
    with contextlib.nullcontext() if chief else reserved_port() as port:
        words = [*arguments, "--chief", chief or f"127.0.0.1:{port}"]
        children: dict[str, subprocess.Popen] = {}
        with processes.interrupted_by_sigterm():
            try:
                return _run_children(words, num_workers, project, children)
            finally:
                processes.stop(children.values())


def _run_children(words: Sequence[str], num_workers: int, project: Path, children: dict[str, subprocess.Popen]) -> int:
    devices = gpus()

    def start(name: str, how: str) -> None:
        command = processes.python("tuning.search", *words, "--worker-id", name, "--supervised", how)
        output = None if name == CHIEF else subprocess.DEVNULL
        children[name] = processes.start(command, gpu_variables(name, devices), stdout=output)

    names = [CHIEF, *(f"worker-{number}" for number in range(num_workers))]
    for name in names:
        start(name, STARTED)
    num_ended, deaths = 0, dict.fromkeys(names, 0)  # since the last trial ended
    while children[CHIEF].poll() != 0:
        time.sleep(POLL_SECONDS)
        for name, child in list(children.items()):
            status = child.poll()
            if not status:
                continue
            if status == UsageError.exit_status or (name == CHIEF and status == RunError.exit_status):
                return status  # It has printed why, and would end in the same way again.
            now_ended = sum(trial.has_ended for trial in read_trials(project))
            if now_ended > num_ended:
                num_ended, deaths = now_ended, dict.fromkeys(names, 0)
            deaths[name] += 1
            if deaths[name] >= DEATHS_IN_A_ROW:
                raise RunError(f"{name} ended {DEATHS_IN_A_ROW} times: its messages are above")
            print(f"{name}: {processes.how_ended(status)}; it is started again", file=sys.stderr)
            start(name, RESTARTED)
    processes.stop(children.values(), END_SECONDS)
    return 0


def role_variables(chief: str | None, worker_id: str) -> dict[str, str]:
    """Return the variables from which KerasTuner reads its role. Raises UsageError for an address that is none."""
    host, _, port = (chief or "").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--chief {chief or ''}: give HOST:PORT, where the chief listens")
    return {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port, "KERASTUNER_TUNER_ID": worker_id}


def chief_address() -> str:
    """Return HOST:PORT of the chief, as `role_variables` gave it to this process."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def is_supervised(worker_id: str) -> bool:
    """Return whether an id is one of those that `supervise` gives to workers."""
    return re.fullmatch(r"worker-\d+", worker_id) is not None


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []


def gpu_variables(name: str, devices: Sequence[str]) -> dict[str, str]:
    """Return the variable that gives each worker one GPU, in turn, and the chief none."""
    if name == CHIEF:
        return {"CUDA_VISIBLE_DEVICES": "-1"}
    number = int(name.removeprefix("worker-"))
    return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a port of loopback until the chief, which takes seconds to start, listens there.

    A bound socket reserves it. On Linux the chief can listen at the same time; on other systems the port is only free.
    """
    with socket.socket() as reserving:
        reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserving.bind(("127.0.0.1", 0))
        port = reserving.getsockname()[1]
        if sys.platform != "linux":
            reserving.close()
        yield port
