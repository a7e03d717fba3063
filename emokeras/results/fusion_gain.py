"""The gain of fusion: each branch alone, each pair, all of them, and the networks trained jointly."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from emokeras import runs
from emokeras.config import InputName
from emokeras.models.late import combine, fit_combination
from emokeras.recipes import RECIPES
from emokeras.reporting import metrics
from emokeras.reporting.texts import markdown_table, mean_and_deviation
from emokeras.results.rows import Run
from emokeras.results.tables import gain_text, pooled

ABOUT = """\
Over {runs}: each branch alone, each pair and all branches as a weighted ensemble, with weights fitted on each
run's validation clips, and the networks trained jointly. Each input is represented by the recipe with the most runs,
and of several by the one with the higher validation accuracy. **Gain** is the WA beyond that of the row's best branch,
paired by clip.
"""


class Answers(NamedTuple):
    """Predictions for the test clips of one fold and seed: names [clips], labels and predicted emotions int [clips]."""

    clips: list[str]
    labels: np.ndarray
    predicted: np.ndarray


def fusion_section(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the lines of the comparison for one corpus and protocol; none where there is nothing to compare. `groups`
    are the runs of each recipe."""
    branches = _branches(groups)
    of_split = {recipe: runs_by_split(group) for recipe, group in groups.items()}
    splits = sorted(set.intersection(*(set(of_split[recipe]) for recipe in branches.values()))) if branches else []
    if len(branches) < 2 or not splits:
        return []
    alone = {recipe: [of_split[recipe][split] for split in splits] for recipe in branches.values()}
    table = [_row(f"`{recipe}`", "–", group, []) for recipe, group in alone.items()]
    for size in sorted({2, len(branches)}):
        for members in itertools.combinations(alone, size):
            table.append(_weighted(members, [alone[recipe] for recipe in members]))
    for recipe, own in of_split.items():
        inputs = list(groups[recipe][0].settings.get("encoders", {}))
        if len(inputs) > 1 and set(inputs) <= set(branches) and set(splits) <= set(own):
            own_branches = [alone[branches[name]] for name in inputs]
            table.append(_row(f"`{recipe}`", "joint", [own[split] for split in splits], own_branches))
    about = ABOUT.format(runs=f"{len(splits)} run{'s' * (len(splits) > 1)} of each")
    return ["### Fusion", "", about, *markdown_table(table, ("branches", "fusion", "weights")), ""]


def paired_gains(answers: Sequence[Answers | Run], baseline: Sequence[Run]) -> list[np.ndarray]:
    """Return for each run of the baseline int [clips]: 1 where only the answers are correct, -1 where only the run is,
    else 0. Answers and runs are of the same splits, in the same order."""
    gains = []
    for own, run in zip(answers, baseline, strict=True):
        correct = dict(zip(own.clips, own.labels == own.predicted, strict=True))
        gains.append(np.array([correct[clip] for clip in run.clips], dtype=int) - run.correct)
    return gains


def _branches(groups: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Return for each input the recipe that represents it; a configuration that is no recipe only if no recipe has the
    input. An input is left out if others have more folds or splits."""
    candidates = defaultdict(list)
    for recipe, group in groups.items():
        inputs = list(group[0].settings.get("encoders", {}))
        if len(inputs) == 1:
            validation = np.mean([run.metrics["validation"]["accuracy"] for run in group])
            candidates[inputs[0]].append((recipe in RECIPES, len(group), validation, recipe))
    chosen = {name: max(candidates[name])[-1] for name in get_args(InputName) if name in candidates}
    num_splits = {
        name: len({(run.metrics["fold"], run.metrics["split_seed"]) for run in groups[recipe]})
        for name, recipe in chosen.items()
    }
    return {name: recipe for name, recipe in chosen.items() if num_splits[name] == max(num_splits.values())}


def runs_by_split(group: Sequence[Run]) -> dict[tuple, Run]:
    """Return runs by what must be equal in runs that are compared; the digest covers the clips' content."""
    return {tuple(run.metrics.get(key) for key in ("fold", "seed", "split_seed", "split_sha256")): run for run in group}


def _weighted(recipes: Sequence[str], members: Sequence[Sequence[Run]]) -> dict[str, str]:
    """Return the row of a weighted ensemble of branches; the weights are the mean over its runs."""
    answers, weights = [], []
    for fused in zip(*members, strict=True):
        folders = [run.folder for run in fused]
        validation = runs.read_stacked(folders, runs.PREDICTION_FILES["validation"])
        combination = fit_combination("weighted", validation.probabilities, validation.labels)
        test = runs.read_stacked(folders, runs.PREDICTION_FILES["test"])
        answers.append(Answers(test.clips, test.labels, combine(test.probabilities, combination).argmax(axis=1)))
        weights.append(combination.weights)
    label = " + ".join(f"`{recipe}`" for recipe in recipes)
    return _row(label, "weighted", answers, members, " · ".join(f"{weight:.2f}" for weight in np.mean(weights, axis=0)))


def _row(
    label: str,
    fusion: str,
    answers: Sequence[Answers | Run],
    branches: Sequence[Sequence[Run]],
    weights: str = "–",
) -> dict[str, str]:
    """Return a row of the table, compared with the best of its branches' runs."""
    gain = "–"
    if branches:
        best = max(branches, key=lambda group: np.mean([run.test["accuracy"] for run in group]))
        gain = gain_text(*pooled(paired_gains(answers, best), best))
    return {
        "branches": label,
        "fusion": fusion,
        "WA %": mean_and_deviation([float(np.mean(own.labels == own.predicted)) for own in answers]),
        "UA %": mean_and_deviation([metrics.balanced_accuracy(own.labels, own.predicted) for own in answers]),
        "gain %": gain,
        "weights": weights,
    }
