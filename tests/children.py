"""For tests that start processes: waiting for what they do, and whether they have ended."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 60.0, what: str = "what was waited for") -> Any:
    """Return what a condition returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.02)
    return value


def is_running(process: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started and that have not been waited for."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
