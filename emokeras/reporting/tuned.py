"""What a search has found beside what it began with: both trained on the same folds with the same new seeds."""

from collections.abc import Mapping, Sequence

from emokeras.reporting.rows import Run
from emokeras.reporting.texts import markdown_table, mean_and_deviation

SUFFIX = "-tuned"  # ends the name of a search's best configuration; more after it tells that of another search
ABOUT = """\
What `python -m tuning.search` found on validation, and the recipe as it stands: both trained afresh, on the same folds
with the same seeds, each for as many epochs as it has.
"""


def tuned_section(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the lines that compare each found configuration with its recipe; none where there is none.

    `rows` are the runs of each recipe under one protocol.
    """
    lines = []
    for found in [name for name in rows if SUFFIX in name]:
        recipe = found.partition(SUFFIX)[0]
        keys = {_key(run) for run in rows[found]} & {_key(run) for run in rows.get(recipe, [])}
        for name in (recipe, found) if keys else ():
            line = _line(name, [run for run in rows[name] if _key(run) in keys])
            if line not in lines:  # Two searches may be compared with the same runs of a recipe.
                lines.append(line)
    return ["#### Search", "", ABOUT, *markdown_table(lines, ("configuration", "folds")), ""] if lines else []


def _line(name: str, group: Sequence[Run]) -> dict[str, str]:
    folds = ", ".join(str(fold) for fold in sorted({run.metrics["fold"] for run in group}))
    epochs = sorted({run.settings["training"]["epochs"] for run in group})
    line = {"configuration": f"`{name}`", "folds": folds, "runs": str(len(group))}
    line["epochs"] = ", ".join(map(str, epochs))
    for subset in ("validation", "test"):
        scores = [run.metrics[subset] for run in group]
        line[f"{subset} WA %"] = mean_and_deviation([one["accuracy"] for one in scores])
        line[f"{subset} UA %"] = mean_and_deviation([one["balanced_accuracy"] for one in scores])
    return line


def _key(run: Run) -> tuple[int, int, int]:
    return run.metrics["fold"], run.metrics["seed"], run.metrics["split_seed"]
