"""Several networks that train at the same time, each in a process of its own: a small one does not fill all of a
processor's cores."""

import multiprocessing
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from emokeras import commandline
from emokeras.config import AnyConfig
from emokeras.data.corpus import Corpus
from emokeras.errors import EmokerasError, RunError
from emokeras.training.jobs import END_WITH_PARENT, how_ended


class Training(NamedTuple):
    """What is trained, the folder of its run, and whether it goes on with what was begun there."""

    config: AnyConfig
    folder: Path
    resume: bool


def default_at_once() -> int:
    """Return how many networks train at the same time: one for each core, or one where a GPU is at hand, whose memory
    they would have to share."""
    import keras

    return 1 if keras.distribution.list_devices("gpu") else num_cores()


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_side_by_side(
    train: Callable, trainings: Mapping[str, Training], corpus: Corpus, at_once: int, say: Callable = print
) -> None:
    """Call `train(config, corpus, folder, resume)`, a function of a module, for these networks, at most `at_once` of
    them at the same time; say their lines as they come, each after its network's name.

    Each has its share of the cores for its threads: where these wait for a core that another network fills, they take a
    quarter more of the processor's time, and end no sooner.
    Where one fails, or at Ctrl-C, the others are stopped; all go on from their last whole epoch when they are resumed.
    Raises what the one that failed raised, and RunError where its process ended without a word.
    """
    context = multiprocessing.get_context("spawn")  # A forked TensorFlow hangs.
    waiting = list(trainings.items())
    running: dict[Connection, tuple[str, multiprocessing.Process]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, training = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                threads = max(1, num_cores() // min(at_once, len(running) + 1 + len(waiting)))
                work = pickle.dumps((train, training, corpus))
                process = context.Process(target=_train, args=(work, threads, theirs), daemon=True)
                process.start()
                theirs.close()  # The child's is the only one left: ours ends when the child does.
                running[ours] = name, process
            for ours in wait(list(running)):
                name, process = running[ours]
                message = _receive(ours, name, process)
                if isinstance(message, str):
                    say(f"  {name}: {message}")
                elif message:
                    raise message
                else:
                    process.join()
                    del running[ours]
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _receive(ours: Connection, name: str, process: multiprocessing.Process) -> str | Exception | None:
    """Return what a child has told: a line, what went wrong, or None at its end."""
    try:
        return ours.recv()
    except EOFError:
        process.join()
        return RunError(f"the training of {name}: {how_ended(process.exitcode)}; go on with it by --resume")


def _train(work: bytes, threads: int, parent: Connection) -> None:
    """Train one network in this process; tell the parent each line, and at last what went wrong, or None. The `work` is
    unpickled here, for that imports TensorFlow."""
    if END_WITH_PARENT:
        END_WITH_PARENT()
    for pool in ("INTRAOP", "INTEROP"):
        os.environ.setdefault(f"TF_NUM_{pool}_THREADS", str(threads))
    sys.stdout = sys.stderr = Lines(parent.send)
    # A lock between processes, which tqdm would make, is lost when this one is killed, and Python complains of it.
    tqdm.set_lock(threading.RLock())
    try:
        commandline.import_tensorflow()
        train, training, corpus = pickle.loads(work)
        train(training.config, corpus, training.folder, training.resume)
        parent.send(None)
    except KeyboardInterrupt:  # All of a terminal's processes get it; the parent says so.
        raise SystemExit(130) from None
    except (EmokerasError, OSError) as error:
        parent.send(error)
    except Exception:
        traceback.print_exc()
        parent.send(RunError("the training of a member failed, what it said stands above"))


class Lines:
    """A text stream whose whole lines are told, one by one."""

    def __init__(self, tell: Callable[[str], object]):
        self.tell, self.begun = tell, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self.tell(line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: a line is told when it is whole."""

    def isatty(self) -> bool:
        return False
