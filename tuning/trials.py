"""The trials of a search as KerasTuner keeps them: reading them, their table and picture, and a line as each ends."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emokeras.config import to_json
from emokeras.files import write_csv, write_text
from emokeras.reporting import plots, search_plots
from tuning.plan import Plan
from tuning.spaces import Between, to_config

REASON = "reason"  # the file in a trial's folder with why it failed


@dataclass(frozen=True)
class Trial:
    """One trial. `status` is RUNNING, COMPLETED or FAILED, `reason` why it failed."""

    name: str
    status: str
    score: float | None
    values: dict[str, Any]
    reason: str

    @property
    def has_ended(self) -> bool:
        return self.status in ("COMPLETED", "FAILED")


def read_trials(project: Path) -> list[Trial]:
    """Read the trials in KerasTuner's folder of a search, in the order in which they began."""
    trials = []
    for path in sorted(project.glob("trial_*/trial.json"), key=lambda path: int(path.parent.name[6:])):
        value = json.loads(path.read_text(encoding="utf-8"))
        status = "FAILED" if value["status"] == "INVALID" else value["status"]
        reason = project.parent / "trials" / value["trial_id"] / REASON
        why = reason.read_text(encoding="utf-8") if reason.exists() else ""
        trials.append(Trial(value["trial_id"], status, value["score"], value["hyperparameters"]["values"], why))
    return trials


def best_trial(trials: Sequence[Trial], objective: str) -> Trial | None:
    """Return the completed trial with the best score, the first of equals; None where there is none."""
    completed = [trial for trial in trials if trial.status == "COMPLETED"]
    sign = -1 if objective.endswith("loss") else 1
    return max(completed, key=lambda trial: sign * trial.score, default=None)


def write_results(plan: Plan, trials: Sequence[Trial]) -> None:
    """Write trials.csv and, once a trial is completed, scores.png and best.json, which `train --config` takes."""
    with_epochs = any("tuner/epochs" in trial.values for trial in trials)  # Hyperband's trials differ in them.
    header = ["trial", "status", plan.objective, *plan.space, *(["epochs"] if with_epochs else []), "reason"]
    rows = []
    for trial in trials:
        score = "" if trial.score is None else f"{trial.score:.6f}"
        values = [trial.values.get(path, "") for path in (*plan.space, *(["tuner/epochs"] if with_epochs else []))]
        rows.append([trial.name, trial.status, score, *values, trial.reason])
    write_csv(plan.folder / "trials.csv", header, rows)
    if best := best_trial(trials, plan.objective):
        config = to_config(plan.config, best.values, plan.space)
        write_text(plan.folder / "best.json", to_json(replace(config, recipe=f"{config.recipe}-tuned")))
        plots.save(draw_scores(plan, trials), plan.folder / "scores.png")


def draw_scores(plan: Plan, trials: Sequence[Trial]):
    """Draw the score of each completed trial against each setting of the space; the best trial is marked."""
    completed = [trial for trial in trials if trial.status == "COMPLETED"]
    panels = {}
    for path, own in plan.space.items():
        values = [trial.values[path] for trial in completed]
        if isinstance(own, Between):
            panels[path] = search_plots.Panel(values, (own.low, own.high), own.log)
        else:
            panels[path] = search_plots.Panel(values, choices=own.values)
    scores = np.array([trial.score for trial in completed])
    epochs = np.array([trial.values.get("tuner/epochs", plan.config.training.epochs) for trial in completed])
    best = completed.index(best_trial(completed, plan.objective))
    return search_plots.scores_by_setting(panels, scores, best, plan.objective, epochs)


class Progress:
    """Prints a line for each trial that ends and rewrites the search's results, whichever process ran the trial."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.printed = {trial.name for trial in read_trials(plan.project) if trial.has_ended}

    def update(self) -> None:
        """Print what has ended since the last call, and write the results."""
        trials = read_trials(self.plan.project)
        new = [trial for trial in trials if trial.has_ended and trial.name not in self.printed]
        best = best_trial(trials, self.plan.objective)
        for trial in new:
            self.printed.add(trial.name)
            is_scored = trial.status == "COMPLETED"
            outcome = f"{self.plan.objective} {trial.score:.4f}" if is_scored else f"failed: {trial.reason}"
            so_far = f"; best {best.score:.4f} (trial {best.name})" if best else ""
            print(f"[{len(self.printed)}/{self.plan.max_trials}] trial {trial.name}: {outcome}{so_far}", flush=True)
        if new:
            write_results(self.plan, trials)
