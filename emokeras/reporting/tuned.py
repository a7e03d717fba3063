"""What a search has found beside what it began with: both trained on the same folds with the same new seeds."""

from collections.abc import Mapping, Sequence

from emokeras.reporting.rows import Run
from emokeras.reporting.texts import markdown_table, mean_and_deviation

SUFFIX = "-tuned"  # of the name that the best configuration of a search has
ABOUT = """\
What `python -m tuning.search` found on validation, and the recipe as it stands: both trained afresh, on the same folds
with the same seeds, each for as many epochs as it has.
"""


def tuned_section(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the lines that compare each found configuration with its recipe; none where there is none.

    `rows` are the runs of each recipe under one protocol.
    """
    lines = []
    for recipe, found in rows.items():
        default = rows.get(recipe.removesuffix(SUFFIX), [])
        keys = {_key(run) for run in found} & {_key(run) for run in default}
        if not recipe.endswith(SUFFIX) or not keys:
            continue
        folds = ", ".join(str(fold) for fold in sorted({fold for fold, _, _ in keys}))
        for name, group in ((recipe.removesuffix(SUFFIX), default), (recipe, found)):
            own = [run for run in group if _key(run) in keys]
            epochs = sorted({run.settings["training"]["epochs"] for run in own})
            line = {"configuration": f"`{name}`", "folds": folds, "runs": str(len(own))}
            line["epochs"] = ", ".join(map(str, epochs))
            for subset in ("validation", "test"):
                scores = [run.metrics[subset] for run in own]
                line[f"{subset} WA %"] = mean_and_deviation([one["accuracy"] for one in scores])
                line[f"{subset} UA %"] = mean_and_deviation([one["balanced_accuracy"] for one in scores])
            lines.append(line)
    return ["#### Search", "", ABOUT, *markdown_table(lines, ("configuration", "folds")), ""] if lines else []


def _key(run: Run) -> tuple[int, int, int]:
    return run.metrics["fold"], run.metrics["seed"], run.metrics["split_seed"]
