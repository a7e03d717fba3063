"""Configurations that are no recipe, each beside the recipe it is named after: on the same splits, with the same
seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from emokeras import recipes
from emokeras.reporting.texts import markdown_table, mean_and_deviation, short
from emokeras.results.rows import Run
from emokeras.runs.differences import differences, whole_settings

SUFFIX = "-tuned"  # ends the name of a search's best configuration; more after it tells that of another search
ABOUT = """\
Other settings than a recipe's, each beside the recipe it is named after: trained afresh on the same splits with the
same seeds. `-tuned` is what `python -m tuning.search` found on validation; its trials stand in `trials.csv` beside its
runs. With `training.refit_epochs` a network went on with the validation clips too, once they had judged it: its
validation figures are from before.
"""


def other_settings_section(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the lines that compare each configuration that is no recipe with its recipe; none where there is none.

    `rows` are the runs of each recipe under one protocol.
    """
    compared = defaultdict(list)  # those that are compared with the same runs of a recipe
    for name in rows:
        recipe = _recipe_of(name)
        if keys := {_key(run) for run in rows[name]} & {_key(run) for run in rows.get(recipe, [])}:
            compared[recipe, tuple(sorted(keys))].append(name)
    lines = []
    for (recipe, keys), names in compared.items():
        plain, *others = ([run for run in rows[name] if _key(run) in keys] for name in (recipe, *names))
        lines.append(_line(recipe, plain, ""))
        for name, group in zip(names, others, strict=True):
            changes = differences(*(whole_settings(runs[0].settings) for runs in (group, plain)))
            told = ", ".join(f"{path} {short(value)}" for path, (value, _) in changes.items())
            lines.append(_line(name, group, told))
    texts = ("configuration", "other than the recipe", "splits", "seeds")
    return ["#### Other settings", "", ABOUT, *markdown_table(lines, texts), ""] if lines else []


def _recipe_of(name: str) -> str:
    """Return the recipe that a configuration is named after; nothing for a recipe, and for what is named otherwise."""
    if name in recipes.RECIPES:
        return ""
    return max((recipe for recipe in recipes.RECIPES if name.startswith(f"{recipe}-")), key=len, default="")


def _line(name: str, group: Sequence[Run], changes: str) -> dict[str, str]:
    kind = group[0].folder.name.partition("-")[0]  # A run is called fold-K-seed-S or split-P-seed-S.
    splits = _listed(run.metrics["fold" if kind == "fold" else "split_seed"] for run in group)
    line = {"configuration": f"`{name}`", "other than the recipe": changes, "splits": f"{kind} {splits}"}
    line["seeds"] = _listed(run.metrics["seed"] for run in group)
    for subset in ("validation", "test"):
        scores = [run.metrics[subset] for run in group]
        line[f"{subset} WA %"] = mean_and_deviation([one["accuracy"] for one in scores])
        line[f"{subset} UA %"] = mean_and_deviation([one["balanced_accuracy"] for one in scores])
    return line


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(numbers))))


def _key(run: Run) -> tuple[int, int, int]:
    return run.metrics["fold"], run.metrics["seed"], run.metrics["split_seed"]
