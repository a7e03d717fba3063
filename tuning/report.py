"""What a search has found: the table of its trials, each setting drawn against the score, the best configuration."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emokeras.config import to_json
from emokeras.files import write_text
from emokeras.reporting import plots
from emokeras.results.other_settings import SUFFIX
from tuning.plan import Plan
from tuning.spaces import Between, to_config

ENDED = ("COMPLETED", "FAILED")
REASON = "reason"  # the file in a trial's folder that says why it failed


@dataclass(frozen=True)
class Trial:
    """A trial as KerasTuner keeps it: `status` is RUNNING, COMPLETED or FAILED, `reason` why it failed."""

    name: str
    status: str
    score: float | None
    values: dict[str, Any]
    reason: str


def read_trials(project: Path) -> list[Trial]:
    """Read the trials of a search, in the order in which they began; one that is being written is left out."""
    trials = []
    for path in sorted(Path(project).glob("trial_*/trial.json"), key=lambda path: int(path.parent.name[6:])):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        status = "FAILED" if value["status"] == "INVALID" else value["status"]
        values = value["hyperparameters"]["values"]
        reason = Path(project).parent / "trials" / value["trial_id"] / REASON
        why = reason.read_text(encoding="utf-8") if reason.exists() else ""
        trials.append(Trial(value["trial_id"], status, value["score"], values, why))
    return trials


def best_of(trials: Sequence[Trial], objective: str) -> Trial | None:
    """Return the trial with the best score, the first of equals; None before one is completed."""
    completed = [trial for trial in trials if trial.status == "COMPLETED"]
    sign = -1 if objective.endswith("loss") else 1
    return max(completed, key=lambda trial: sign * trial.score, default=None)


def write_report(plan: Plan, trials: Sequence[Trial]) -> None:
    """Write trials.csv, scores.png and, once a trial is completed, best.json, which `train --config` takes."""
    write_text(plan.folder / "trials.csv", _table(plan, trials))
    best = best_of(trials, plan.objective)
    if best is None:
        return
    config = to_config(plan.config, best.values, plan.space)
    write_text(plan.folder / "best.json", to_json(replace(config, recipe=f"{config.recipe}{SUFFIX}")))
    plots.save(draw_scores(plan, trials), plan.folder / "scores.png")


def _table(plan: Plan, trials: Sequence[Trial]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_rounds = any("tuner/epochs" in trial.values for trial in trials)
    writer.writerow(["trial", "status", plan.objective, *plan.space, *(["epochs"] if has_rounds else []), "reason"])
    for trial in trials:
        score = "" if trial.score is None else f"{trial.score:.6f}"
        values = [trial.values.get(path, "") for path in plan.space]
        rounds = [trial.values.get("tuner/epochs", "")] if has_rounds else []
        writer.writerow([trial.name, trial.status, score, *values, *rounds, trial.reason])
    return text.getvalue()


def draw_scores(plan: Plan, trials: Sequence[Trial]):
    """Draw the score of each completed trial against each setting that was searched; the best one stands out."""
    completed = [trial for trial in trials if trial.status == "COMPLETED"]
    best = best_of(trials, plan.objective)
    panels = {}
    for path, own in plan.space.items():
        drawn = [trial.values[path] for trial in completed]
        if isinstance(own, Between):
            panels[path] = plots.Panel(drawn, (own.low, own.high), own.log)
        else:
            panels[path] = plots.Panel(drawn, choices=own.values)
    scores = np.array([trial.score for trial in completed])
    epochs = np.array([trial.values.get("tuner/epochs", plan.epochs) for trial in completed])
    return plots.scores_by_setting(panels, scores, completed.index(best), plan.objective, epochs)
