"""Child processes: how they start, what they print, how they end, and that none outlives this process.

An ensemble's members, the jobs of a benchmark and the workers of a search are commands that run in children. Each is
started by `start`, waited for by `run_to_end` or `run_side_by_side`, and stopped by `stop`.
"""

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from emokeras.errors import ERROR_PREFIX, RunError, UsageError

INTERRUPT_SECONDS, TERMINATE_SECONDS = 5.0, 10.0  # how long a child has to end by itself, and after SIGTERM
SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl

# Loaded here: nothing may be imported between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    _LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def python(module: str, *words: str) -> list[str]:
    """Return the arguments that run a module of ours with this Python."""
    return [sys.executable, "-m", module, *words]


def start(words: Sequence[str], variables: Mapping[str, str] | None = None, **options) -> subprocess.Popen:
    """Start a command that ends with this process: on Linux it gets SIGTERM even when this process is killed.

    Parameters
    ----------
    variables: environment variables beside this process's own.
    options: as for subprocess.Popen, such as `stdout`; by default its output goes where this process's output goes.
    """
    sys.stdout.flush()
    environment = os.environ | (variables or {})
    hook = _end_with_parent if _LIBC else None
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment, preexec_fn=hook, **options)


def how_ended(status: int) -> str:
    """Return in words how a child ended that failed: "ended by SIGKILL", "exit status 1"."""
    if status >= 0:
        return f"exit status {status}"
    names = {number.value: number.name for number in signal.Signals}
    return f"ended by {names.get(-status, f'signal {-status}')}"


def stop(children: Iterable[subprocess.Popen], patience_seconds: float = 0.0) -> None:
    """End children: wait for them, then SIGTERM, then SIGKILL."""
    children = list(children)
    _wait(children, patience_seconds)
    for end, seconds in (("terminate", TERMINATE_SECONDS), ("kill", TERMINATE_SECONDS)):
        for child in children:
            if child.poll() is None:
                getattr(child, end)()
        _wait(children, seconds)


def _wait(children: Sequence[subprocess.Popen], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it is treated as Ctrl-C. No terminal has sent it to the children as well."""


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise Terminated in the block, a KeyboardInterrupt as of Ctrl-C, so that it can end its children."""

    def interrupt(*_):
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # Only the main thread may set handlers.
        yield
        return
    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def run_to_end(words: Sequence[str]) -> int:
    """Run a command to its end, its output and progress bar where ours are; return its exit status.

    Ctrl-C and SIGTERM end it, then raise KeyboardInterrupt.
    """
    child = start(words)
    with interrupted_by_sigterm():
        try:
            return child.wait()
        except KeyboardInterrupt as interrupt:
            # On a terminal Ctrl-C has reached the child as well.
            stop([child], 0.0 if isinstance(interrupt, Terminated) else INTERRUPT_SECONDS)
            raise


def run_side_by_side(commands: Mapping[str, Sequence[str]], at_once: int, say: Callable[[str], None]) -> None:
    """Run named commands, at most `at_once` at the same time; pass on their lines as they come, each after its name.

    Each has its share of the cores for TensorFlow's threads: with all of them, threads wait for a core that another
    process fills, which took a quarter more processor time and was no faster. When one fails, and at Ctrl-C or SIGTERM,
    the others are ended.

    Raises
    ------
    RunError: a command failed; the message is the one line that it printed, or how it ended.
    UsageError: the same with exit status 2: its arguments are wrong.
    """
    waiting = dict(commands)
    children: dict[str, subprocess.Popen] = {}
    lines: queue.Queue[tuple[str, str | None]] = queue.Queue()
    errors: dict[str, str] = {}
    with interrupted_by_sigterm():
        try:
            while waiting or children:
                while waiting and len(children) < at_once:
                    name = next(iter(waiting))
                    threads = max(1, num_cores() // min(at_once, len(children) + len(waiting)))
                    children[name] = _start_with_lines(name, waiting.pop(name), threads, lines)
                name, line = lines.get()
                if line is not None:
                    if line.startswith(ERROR_PREFIX):
                        errors[name] = line.removeprefix(ERROR_PREFIX)
                    else:
                        say(f"  {name}: {line}")
                    continue
                status = children[name].wait()
                del children[name]
                if not status and name in errors:
                    say(f"  {name}: {ERROR_PREFIX}{errors[name]}")
                if status:
                    error = UsageError if status == UsageError.exit_status else RunError
                    raise error(
                        f"{name}: {errors.get(name) or f'{how_ended(status)}; give --resume to continue the run'}"
                    )
        finally:
            stop(children.values())


def _start_with_lines(name: str, words: Sequence[str], threads: int, lines: queue.Queue) -> subprocess.Popen:
    """Start a command whose lines, and None at its end, go into a queue with its name."""
    variables = {f"TF_NUM_{pool}_THREADS": str(threads) for pool in ("INTRAOP", "INTEROP")}
    variables = {key: value for key, value in variables.items() if key not in os.environ}
    child = start(words, variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")

    def read():
        for line in child.stdout:
            lines.put((name, line.rstrip("\n")))
        lines.put((name, None))

    threading.Thread(target=read, daemon=True).start()
    return child
