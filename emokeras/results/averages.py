"""Runs of one recipe -> its line in a table: mean and deviation over the runs, their clips together."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from emokeras.data.splits import PROTOCOLS
from emokeras.reporting import metrics as figures_of
from emokeras.reporting.texts import mean_and_deviation, percent, with_interval
from emokeras.results.rows import Run


def whole_seeds(protocol: str, group: Sequence[Run]) -> list[Run]:
    """Return the runs of the seeds that have all folds of a protocol; where no seed has, all runs. A fold that was run
    more often than the others would weigh more than they."""
    num_folds = PROTOCOLS[protocol].num_folds if protocol in PROTOCOLS else 1
    folds_of = defaultdict(set)
    for run in group:
        folds_of[run.metrics["seed"], run.metrics["split_seed"]].add(run.metrics["fold"])
    whole = {seed for seed, folds in folds_of.items() if len(folds) == num_folds}
    return [run for run in group if not whole or (run.metrics["seed"], run.metrics["split_seed"]) in whole]


def by_accuracy(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the recipes' names, the most accurate first."""
    return sorted(rows, key=lambda recipe: (-_mean(rows[recipe], "accuracy"), recipe))


def figures_row(protocol: str, group: Sequence[Run]) -> dict[str, str]:
    """Return the figures of a recipe over its runs, by the names of the columns."""
    correct = np.concatenate([run.correct for run in group])
    clips = [clip for run in group for clip in run.clips]
    parameters = sorted({run.metrics["num_parameters"] for run in group})
    return {
        "runs": _runs_text(protocol, group),
        "test clips": f"{len(set(clips)):,}",
        "WA %": mean_and_deviation([run.test["accuracy"] for run in group]),
        "UA %": mean_and_deviation([run.test["balanced_accuracy"] for run in group]),
        "pooled WA % [95 %]": with_interval(float(correct.mean()), figures_of.accuracy_interval(correct, clips)),
        "P %": percent(_mean(group, "precision_weighted")),
        "R %": percent(_mean(group, "recall_weighted")),
        "F1 %": percent(_mean(group, "f1_weighted")),
        "parameters": "–".join(f"{count:,}" for count in dict.fromkeys((parameters[0], parameters[-1]))),
        "minutes": _minutes([run.metrics["train_seconds"] for run in group]),
        "CPU-minutes": _minutes([run.metrics.get("train_cpu_seconds") for run in group]),
    }


def _minutes(seconds: Sequence[float | None]) -> str:
    """Return the mean in minutes; nothing where a run did not count them."""
    return "–" if None in seconds else f"{statistics.mean(seconds) / 60:.1f}"


def _runs_text(protocol: str, group: Sequence[Run]) -> str:
    """Say how many folds, splits and seeds were run, and when folds are lacking."""
    folds = {run.metrics["fold"] for run in group}
    seeds = {(run.metrics["seed"], run.metrics["split_seed"]) for run in group}
    seeds_text = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    num_folds = PROTOCOLS[protocol].num_folds if protocol in PROTOCOLS else 1
    if num_folds == 1:
        splits = len({run.metrics["split_seed"] for run in group})
        if splits == 1:
            return seeds_text
        return f"{splits} splits" if splits == len(group) else f"{len(group)} runs of {splits} splits"
    folds_text = f"{num_folds} folds" if len(folds) == num_folds else f"{len(folds)} of {num_folds} folds"
    text = f"{folds_text} × {seeds_text}"
    return text if len(group) == len(folds) * len(seeds) else f"{len(group)} runs of {text}"


def _mean(group: Sequence[Run], key: str) -> float:
    return statistics.mean(run.test[key] for run in group)
