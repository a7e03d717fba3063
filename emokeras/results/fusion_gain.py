"""What fusion gives: each branch alone, each pair, all of them, and the networks that were trained jointly."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from emokeras import runs
from emokeras.config import InputName
from emokeras.models.late import combine, fit_combination
from emokeras.recipes import RECIPES
from emokeras.reporting import metrics as figures_of
from emokeras.reporting.texts import markdown_table, mean_and_deviation, with_interval
from emokeras.results.rows import Run

ABOUT = """\
What fusion gives, over {runs}: each branch alone, each pair and all of them as a weighted
ensemble, whose weights are fitted on each run's validation clips, and the networks that learned jointly. Of each input
stands one of the recipes that `python -m emokeras.train --list` has: the one with the most runs, of equals the one that
is better on validation. **Gain** is the accuracy beyond the better of a row's own branches, with the 95 % interval of a
paired bootstrap over clips.
"""
SCRIPT_TEXT = """\
The transcripts here are RAVDESS's two sentences, which say nothing of the emotion: text adds nothing, as it must.
"""


def fusion_section(rows: Mapping[str, Sequence[Run]], has_scripts: bool) -> list[str]:
    """Return the lines of the comparison for one corpus and protocol; none where there is nothing to compare.

    `rows` are the runs of each recipe; `has_scripts` says that transcripts cannot tell anything.
    """
    branches = _branches(rows)
    if len(branches) < 2:
        return []
    keys = sorted(set.intersection(*(set(_by_key(rows[recipe])) for recipe in branches.values())))
    if not keys:
        return []
    alone = {name: [_by_key(rows[recipe])[key] for key in keys] for name, recipe in branches.items()}
    lines = [_alone(recipe, alone[name]) for name, recipe in branches.items()]
    for size in sorted({2, len(branches)}):
        for names in itertools.combinations(branches, size):
            lines.append(_weighted([branches[name] for name in names], [alone[name] for name in names]))
    for recipe, group in rows.items():
        inputs = list(group[0].settings.get("encoders", {}))
        own = _by_key(group)
        if len(inputs) > 1 and set(inputs) <= set(branches) and set(keys) <= set(own):
            lines.append(_row(f"`{recipe}`", "joint", [own[key] for key in keys], [alone[name] for name in inputs]))
    text = [SCRIPT_TEXT] if has_scripts and "tokens" in branches else []
    about = ABOUT.format(runs=f"{len(keys)} run{'s' * (len(keys) > 1)} of each")
    return ["#### Fusion", "", about, *text, *markdown_table(lines, ("branches", "fusion", "weights")), ""]


def _branches(rows: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Return, for each input, the recipe of one branch that stands for it: one with a name of its own before what was
    searched or changed for a comparison. An input that lacks folds or splits which others have is left out until it has
    them."""
    candidates = defaultdict(list)
    for recipe, group in rows.items():
        inputs = list(group[0].settings.get("encoders", {}))
        if len(inputs) == 1:
            validation = np.mean([run.metrics["validation"]["accuracy"] for run in group])
            candidates[inputs[0]].append((recipe in RECIPES, len(group), validation, recipe))
    chosen = {name: max(candidates[name])[-1] for name in get_args(InputName) if name in candidates}
    splits = {
        name: {(run.metrics["fold"], run.metrics["split_seed"]) for run in rows[recipe]}
        for name, recipe in chosen.items()
    }
    most = max(map(len, splits.values()), default=0)
    return {name: recipe for name, recipe in chosen.items() if len(splits[name]) == most}


def _by_key(group: Sequence[Run]) -> dict[tuple, Run]:
    """Return runs by what must be equal in those that are compared: the last tells the split's clips by content."""
    return {tuple(run.metrics.get(key) for key in ("fold", "seed", "split_seed", "split_sha256")): run for run in group}


def _alone(recipe: str, group: Sequence[Run]) -> dict[str, str]:
    """Return the row of a branch alone."""
    return _row(f"`{recipe}`", "–", group, [])


def _weighted(recipes: Sequence[str], members: Sequence[Sequence[Run]]) -> dict[str, str]:
    """Return the row of a weighted ensemble of branches, the weights the mean over its runs."""
    answers, weights = [], []
    for fused in zip(*members, strict=True):
        folders = [run.folder for run in fused]
        validation = runs.read_stacked(folders, "validation_predictions.csv")
        combination = fit_combination("weighted", validation.probabilities, validation.labels)
        test = runs.read_stacked(folders, "predictions.csv")
        predicted = combine(test.probabilities, combination).argmax(axis=1)
        answers.append(Answer(test.clips, test.labels, predicted))
        weights.append(combination.weights)
    label = " + ".join(f"`{recipe}`" for recipe in recipes)
    told = " · ".join(f"{weight:.2f}" for weight in np.mean(weights, axis=0))
    return _row(label, "weighted", answers, members, told)


class Answer(NamedTuple):
    """What is said together of the test clips of one fold and seed: labels and predicted emotions, int [clips]."""

    clips: list[str]
    labels: np.ndarray
    predicted: np.ndarray


def _row(
    label: str, fusion: str, answers: Sequence[Answer | Run], members: Sequence[Sequence[Run]], weights: str = "–"
) -> dict[str, str]:
    """Return a row of the table; `members` are the runs of the branches, whose better one it is compared with."""
    gain = "–"
    if members:
        best = max(members, key=lambda group: np.mean([run.test["accuracy"] for run in group]))
        clips, gains = [], []
        for answer, run in zip(answers, best, strict=True):
            is_right = dict(zip(answer.clips, answer.labels == answer.predicted, strict=True))
            clips += run.clips
            gains += [int(is_right[clip]) - int(was) for clip, was in zip(run.clips, run.correct, strict=True)]
        gain = with_interval(float(np.mean(gains)), figures_of.gain_interval(gains, clips))
        gain = gain if gain.startswith("-") else f"+{gain}"
    return {
        "branches": label,
        "fusion": fusion,
        "WA %": mean_and_deviation([float(np.mean(one.labels == one.predicted)) for one in answers]),
        "UA %": mean_and_deviation([figures_of.balanced_accuracy(one.labels, one.predicted) for one in answers]),
        "gain % [95 %]": gain,
        "weights": weights,
    }
