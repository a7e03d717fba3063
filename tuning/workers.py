"""A chief and its workers on this machine: each a process of its own, started again when it dies, ended together.

KerasTuner's chief keeps the trials and says over gRPC what to try next; a worker that comes back under its own id gets
the trial that it was lost in. Its port is not secured: it listens on loopback unless --chief names another address.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from emokeras.errors import RunError, UsageError
from emokeras.training.jobs import END_WITH_PARENT
from tuning.report import ENDED, read_trials

CHIEF = "chief"
BEGUN, AGAIN = "begun", "again"  # what --supervised tells a child: that it is the first of its name, or not
DEATHS_IN_A_ROW = 10
POLL_SECONDS, END_SECONDS = 0.5, 10.0


def supervise(given: Sequence[str], num_workers: int, chief: str | None, project: Path) -> int:
    """Run the search of these arguments with a chief and workers; return the exit status.

    A worker that dies is started again under its id, and goes on with its trial, but for the third time in one. A chief
    that dies is started again and keeps what has ended. Ctrl-C ends all of them. `project` is where the trials lie.

    Raises RunError when one of them cannot be kept running: it dies again and again, and no trial ends.
    """
    with contextlib.nullcontext() if chief else kept_port() as port:
        return _supervise(given, num_workers, chief or f"127.0.0.1:{port}", project)


def _supervise(given: Sequence[str], num_workers: int, address: str, project: Path) -> int:
    command = [sys.executable, "-m", "tuning.search", *_without(given, ("--workers", "--chief")), "--chief", address]
    names = [CHIEF, *(f"worker-{number}" for number in range(num_workers))]
    variables = {name: _variables(number - 1) for number, name in enumerate(names)}
    deaths = dict.fromkeys(names, 0)  # since a trial has ended
    ended = 0
    children: dict[str, subprocess.Popen] = {}

    def start(name: str, how: str) -> None:
        words = [*command, "--worker-id", name, "--supervised", how]
        quiet = None if name == CHIEF else subprocess.DEVNULL
        children[name] = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=quiet, env=os.environ | variables[name], preexec_fn=END_WITH_PARENT
        )

    earlier = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name in names:
            start(name, BEGUN)
        while True:
            time.sleep(POLL_SECONDS)
            for name, child in list(children.items()):
                status = child.poll()
                if not status:
                    continue
                if status == UsageError.exit_status or (name == CHIEF and status == RunError.exit_status):
                    return status  # It has said why, and would say the same again.
                now_ended = sum(trial.status in ENDED for trial in read_trials(project))
                if now_ended > ended:
                    ended, deaths = now_ended, dict.fromkeys(names, 0)
                deaths[name] += 1
                if deaths[name] >= DEATHS_IN_A_ROW:
                    raise RunError(f"{name} ended {DEATHS_IN_A_ROW} times: what it said stands above")
                print(f"{name} ended ({_how(status)}) and is started again", file=sys.stderr)
                start(name, AGAIN)
            if children[CHIEF].poll() == 0:
                _wait(children, END_SECONDS)
                return 0
    finally:
        signal.signal(signal.SIGTERM, earlier)
        _end(children)


def environment(chief: str | None, worker_id: str) -> dict[str, str]:
    """Return the variables by which KerasTuner knows its role. Raises UsageError when the chief's address is none."""
    host, _, port = (chief or "").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--chief {chief or ''}: give HOST:PORT, where the chief listens")
    return {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port, "KERASTUNER_TUNER_ID": worker_id}


def chief_address() -> str:
    """Return where the chief of this process listens, HOST:PORT, as `environment` gave it."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def gpus() -> list[str]:
    """Return the GPUs of this machine as CUDA_VISIBLE_DEVICES names them; those alone that are visible to us."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return told.stdout.split() if told.returncode == 0 else []


def is_ours(worker_id: str) -> bool:
    """Tell whether an id is one that `supervise` gives."""
    return re.fullmatch(r"worker-\d+", worker_id) is not None


def _variables(number: int) -> dict[str, str]:
    """Return what a child's environment has beside ours: a worker gets one GPU, in turn; the chief (-1) none."""
    devices = gpus()
    if number < 0:
        return {"CUDA_VISIBLE_DEVICES": "-1"}
    return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}


def _without(given: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return arguments without these options and their values."""
    kept, skip = [], False
    for word in given:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif not word.startswith(tuple(f"{option}=" for option in options)):
            kept.append(word)
    return kept


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """Give a port of loopback that nobody takes before the chief listens there, which needs seconds to start.

    A bound socket keeps it; Linux lets a chief listen beside one that does not listen, other systems may not.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port = keeper.getsockname()[1]
        if sys.platform != "linux":
            keeper.close()
        yield port


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _wait(children: Mapping[str, subprocess.Popen], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(child.poll() is None for child in children.values()):
        time.sleep(0.1)


def _end(children: Mapping[str, subprocess.Popen]) -> None:
    for end, seconds in (("terminate", 10), ("kill", 10)):
        for child in children.values():
            if child.poll() is None:
                getattr(child, end)()
        _wait(children, seconds)
