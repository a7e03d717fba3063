"""What an ablation has measured: rows in a table, and the page that tells what each idea gave."""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emokeras.files import write_text
from emokeras.reporting.texts import markdown_table, percent

PLAIN = "as it is"
# What says which training a row is of; `plain` and `config` are digests of configurations, `plain` the recipe's own.
KEYS = ("corpus", "protocol", "recipe", "plain", "epochs", "idea", "changes", "config", "fold", "seed", "split_seed")
TOGETHER = ("recipe", "corpus", "protocol", "epochs", "plain")  # What the rows of one table share.
FIGURES = ("clips", "balanced_accuracy", "accuracy", "loss", "training_accuracy", "cpu_minutes")
ABOUT = """\
# What was tried

Each idea changes one thing in a recipe, which is then trained as the recipe as it is: on the same folds, with the same
seeds and for the same number of epochs. Figures are of the validation clips, the mean over the last tenth of the
epochs; the test clips were not read. **Gain** is the balanced accuracy (UA) beyond that of the recipe as it is, over
the trainings that both have. Of one fold's 120 clips one is 0.8 %: gains of 2 or less are noise unless many folds
agree; the loss (cross-entropy) tells smaller differences. Written by `python -m tuning.ablation` from ablation.csv.
"""

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Read what was measured; nothing where there is no such file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write what was measured, and the page beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*KEYS, *FIGURES], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    write_text(path.with_suffix(".md"), page(rows))


def page(rows: Sequence[Row]) -> str:
    """Return the page that tells what each idea gave."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in TOGETHER)].append(row)
    lines = [ABOUT]
    for (recipe, corpus, protocol, epochs, plain), group in groups.items():
        names = dict.fromkeys(row["idea"] for row in group)
        if PLAIN not in names:  # There is nothing to compare with yet.
            continue
        others = [line for name in names if name != PLAIN and (line := _line(name, group))]
        table = [_line(PLAIN, group), *sorted(others, key=lambda line: -float(line["gain %"]))]
        lines.append(f"## {recipe}, {corpus}, protocol {protocol}, {epochs} epochs (configuration {plain})\n")
        lines += [*markdown_table(table, ("idea", "change")), ""]
    return "\n".join(lines)


def _line(idea: str, group: Sequence[Row]) -> Row | None:
    """Return an idea's line, over the trainings that the recipe as it is has too; None where there is none."""

    def by_run(name: str) -> dict[tuple, Row]:
        return {(row["fold"], row["seed"], row["split_seed"]): row for row in group if row["idea"] == name}

    own, plain = by_run(idea), by_run(PLAIN)
    shared = [key for key in own if key in plain]
    if not shared:
        return None

    def mean(name: str, rows: dict[tuple, Row] = own) -> float:
        return float(np.mean([float(rows[key][name]) for key in shared]))

    gain, loss = (mean(name) - mean(name, plain) for name in ("balanced_accuracy", "loss"))
    return {
        "idea": idea,
        "change": own[shared[0]]["changes"],
        "folds × seeds": str(len(shared)),
        "UA %": percent(mean("balanced_accuracy")),
        "gain %": f"{100 * gain:+.1f}" if idea != PLAIN else "",
        "loss": f"{mean('loss'):.3f}",
        "loss gain": f"{loss:+.3f}" if idea != PLAIN else "",
        "training accuracy %": percent(mean("training_accuracy")),
        "CPU-minutes": f"{mean('cpu_minutes'):.0f}",
    }
