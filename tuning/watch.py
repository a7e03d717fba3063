"""What a search shows while it runs: a line for each trial that has ended, and its report, written anew each time."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from tuning.plan import PROJECT, Plan
from tuning.report import ENDED, best_of, read_trials, write_report


class Watch:
    """Looks at the trials of a search as they lie on the disk, whoever writes them."""

    def __init__(self, plan: Plan, say: Callable):
        self.plan, self.say = plan, say
        self.told = {trial.name for trial in self._trials() if trial.status in ENDED}
        self.lock = threading.Lock()

    def look(self) -> None:
        """Say what has ended since the last look, and write the report."""
        with self.lock:
            trials = self._trials()
            new = [trial for trial in trials if trial.status in ENDED and trial.name not in self.told]
            best = best_of(trials, self.plan.objective)
            for trial in new:
                self.told.add(trial.name)
                is_scored = trial.status == "COMPLETED"
                outcome = f"{self.plan.objective} {trial.score:.4f}" if is_scored else f"failed: {trial.reason}"
                so_far = f"; best {best.score:.4f} (trial {best.name})" if best else ""
                self.say(f"[{len(self.told)}/{self.plan.max_trials}] trial {trial.name}: {outcome}{so_far}")
            if new:
                write_report(self.plan, trials)

    @contextlib.contextmanager
    def every_second(self) -> Iterator[None]:
        """Look each second while something blocks, and once more after it."""
        stop = threading.Event()

        def watch():
            while not stop.wait(1.0):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.look()

    def _trials(self):
        return read_trials(self.plan.folder / PROJECT)
