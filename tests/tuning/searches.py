"""For tests of searches: a small search as arguments and as a plan, and what it left."""

import argparse
import csv

from emokeras import runs
from tuning.plan import Plan, plan_search

ONLY = "training.learning_rate,encoder.units,model.dropout"
BATCH_SIZE = "training.batch_size=8"


def arguments(corpus, folder, max_trials, *more, epochs=2) -> list[str]:
    """Return the arguments of `tuning.search`."""
    given = ["text-gru", "--epochs", str(epochs), "--tuner", "random", "--set", BATCH_SIZE, "--only", ONLY]
    given += ["--corpus", str(corpus), "--search-dir", str(folder), "--max-trials", str(max_trials)]
    return [*given, *more]


def plan(corpus, folder, max_trials, **changes) -> Plan:
    """Return the plan of the same search."""
    given = {
        "recipe": "text-gru", "tuner": "random", "max_trials": max_trials, "epochs": 2, "corpus": str(corpus),
        "protocol": None, "fold": None, "seed": None, "objective": "val_balanced_accuracy", "executions": 1,
        "only": ONLY, "set": [BATCH_SIZE], "search_dir": folder,
    }  # fmt: skip
    return plan_search(argparse.Namespace(**given | changes))


def table(folder) -> list[dict[str, str]]:
    """Read the rows of trials.csv."""
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def num_epochs(folder, trial) -> int:
    """Return how many epochs of a trial are in its history."""
    path = folder / "trials" / trial / "seed-0" / "history.csv"
    return len(runs.read_history(path)) if path.exists() else 0
