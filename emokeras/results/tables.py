"""The runs of one recipe to its row in a table."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from emokeras import recipes
from emokeras.reporting import metrics
from emokeras.reporting.texts import mean_and_deviation, percent, short, with_interval
from emokeras.results.rows import Run
from emokeras.runs.differences import differing_settings, removed_settings, whole_settings

RANDOM_ENCODER = "whisper-random"  # the folder's name of a Whisper base with random weights (docs/recipes.md)
BENCHMARK_COLUMNS = ("recipe", "runs", "WA %", "UA %", "pooled WA %", "F1 %", "minutes")


def complete_runs(group: Sequence[Run]) -> list[Run]:
    """Return the runs of those seeds that have every fold of the protocol; none if no seed has.

    Further runs of single folds are left out: these folds would have more weight than the others.
    """
    folds = defaultdict(set)
    for run in group:
        folds[_seeds(run)].add(run.metrics["fold"])
    return [run for run in group if len(folds[_seeds(run)]) == run.num_folds]


def recipe_rows(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, str]]:
    """Return the rows of recipes, {column: text}, the highest accuracy first."""
    names = sorted(groups, key=lambda recipe: (-_mean(groups[recipe], "accuracy"), recipe))
    return [{"recipe": recipe} | recipe_row(groups[recipe]) for recipe in names]


def benchmark_rows(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, str]]:
    """Return the rows of a benchmark, with fewer columns: recipes with every fold of the protocol first."""
    complete = {recipe: runs for recipe, group in groups.items() if (runs := complete_runs(group))}
    partial = {recipe: group for recipe, group in groups.items() if recipe not in complete}
    rows = recipe_rows(complete) + recipe_rows(partial)
    return [{column: row[column] for column in BENCHMARK_COLUMNS} for row in rows]


def recipe_row(group: Sequence[Run]) -> dict[str, str]:
    """Return the figures of a recipe over its runs, {column: text}."""
    parameters = sorted({run.metrics["num_parameters"] for run in group})
    return {
        "runs": _runs_text(group),
        "test clips": f"{len({clip for run in group for clip in run.clips}):,}",
        "WA %": mean_and_deviation([run.test["accuracy"] for run in group]),
        "UA %": mean_and_deviation([run.test["balanced_accuracy"] for run in group]),
        "pooled WA %": with_interval(*pooled([run.correct for run in group], group)),
        "P %": percent(_mean(group, "precision_weighted")),
        "F1 %": percent(_mean(group, "f1_weighted")),
        "parameters": "–".join(f"{count:,}" for count in dict.fromkeys((parameters[0], parameters[-1]))),
        "minutes": mean_minutes(group, "train_seconds"),
        "CPU-minutes": mean_minutes(group, "train_cpu_seconds"),
    }


def pooled(values: Sequence[np.ndarray], group: Sequence[Run]) -> tuple[float, list[float] | None, list[float]]:
    """Return the mean of values over all runs' test clips, its 95 % interval, and each speaker's mean.

    Parameters
    ----------
    values: for each run int [clips], in the order of its clips: 1 for a correct prediction, or paired gains.

    The interval resamples clips, or speakers where whole speakers are tested. With fewer than MIN_SPEAKERS of these
    there is none, and only then the speakers' means are returned.
    """
    together = np.concatenate(values)
    groups = np.concatenate([run.groups for run in group])
    names = np.unique(groups)
    if group[0].protocol.whole_speakers and len(names) < metrics.MIN_SPEAKERS:
        return float(together.mean()), None, [float(together[groups == name].mean()) for name in names]
    return float(together.mean()), metrics.interval(together, groups), []


def gain_text(mean: float, interval: list[float] | None, speaker_gains: Sequence[float]) -> str:
    """Return what `pooled` gives of paired gains as +2.8 [0.9, 4.8]."""
    text = with_interval(mean, interval, speaker_gains)
    return text if text.startswith("-") else f"+{text}"


def mean_minutes(group: Sequence[Run], key: str) -> str:
    """Return the mean of `train_seconds` or `train_cpu_seconds` in minutes; a dash if a run has not counted them."""
    seconds = [run.metrics.get(key) for run in group]
    return "–" if None in seconds else f"{statistics.mean(seconds) / 60:.1f}"


def settings_note(recipe: str, group: Sequence[Run]) -> str:
    """Return what a row is pretrained on, and how its settings differ from the recipe's present ones; "" where there is
    nothing to say."""
    settings = group[0].settings
    removed = removed_settings(settings)
    if recipe in recipes.RECIPES:
        differing = differing_settings(settings, recipes.RECIPES[recipe].config).items()
        parts = [f"`{key}` {short(own)}, now {short(now)}" for key, (own, now) in differing if key not in removed]
    else:
        parts = ["not a recipe: its settings are in the config.json of its runs"]
    if removed:
        trimmed = any(key.endswith("audio.trim_decibels") for key in removed)
        earlier = [f"`{key}` {short(value)}" for key, value in removed.items() if not key.endswith("trim_decibels")]
        parts += ["earlier trimming"] if trimmed else []
        parts += [f"settings of an earlier version: {', '.join(earlier)}"] if earlier else []
    speech = sorted(
        {value for key, value in whole_settings(settings).items() if key.endswith("model.pretrained") and value}
    )
    if speech == [RANDOM_ENCODER]:
        parts.insert(0, "a control: the weights of its speech encoder, of the sizes of Whisper base, are random")
    elif speech:
        names = ", ".join(f"`{name}`" for name in speech)
        parts.insert(0, f"pretrained ({names}); its training audio is not public, contamination cannot be excluded")
    return "; ".join(parts)


def folds_text(group: Sequence[Run]) -> str:
    """Return "5 folds", or "2 of 5 folds"."""
    num_folds, folds = group[0].num_folds, {run.metrics["fold"] for run in group}
    return f"{num_folds} folds" if len(folds) == num_folds else f"{len(folds)} of {num_folds} folds"


def _runs_text(group: Sequence[Run]) -> str:
    """Return the number of folds, splits and seeds."""
    seeds = {_seeds(run) for run in group}
    seeds_text = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    if not group[0].protocol.has_folds:
        splits = len({run.metrics["split_seed"] for run in group})
        if splits == 1:
            return seeds_text
        return f"{splits} splits" if splits == len(group) else f"{len(group)} runs of {splits} splits"
    text = f"{folds_text(group)} × {seeds_text}"
    is_whole = len(group) == len({run.metrics["fold"] for run in group}) * len(seeds)
    return text if is_whole else f"{len(group)} runs of {text}"


def _seeds(run: Run) -> tuple[int, int]:
    return run.metrics["seed"], run.metrics["split_seed"]


def _mean(group: Sequence[Run], key: str) -> float:
    return statistics.mean(run.test[key] for run in group)
