"""What an ablation has measured: rows in a table, and the page that tells what each idea gave."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emokeras.files import write_text
from emokeras.reporting.texts import markdown_table, percent

PLAIN = "as it is"
AS_IT_IS = (PLAIN, "")  # what its line is known by, whatever was set in the recipe before
# What says which training a row is of; `plain` and `config` are digests of configurations, `plain` the recipe's own.
KEYS = ("corpus", "protocol", "recipe", "plain", "epochs", "idea", "changes", "config", "fold", "seed", "split_seed")
TOGETHER = ("recipe", "corpus", "protocol", "epochs", "plain")  # What the rows of one table share.
FIGURES = ("clips", "balanced_accuracy", "accuracy", "loss", "training_accuracy", "cpu_minutes")
ABOUT = """\
# What was tried

Each idea changes one thing in a recipe, which is then trained as the recipe as it is: on the same folds, with the same
seeds and for the same number of epochs. Figures are of the validation clips, the mean over the last tenth of the
epochs; no test clip of a fold was read, though under `luna` the speakers who validate one fold test another. **Gain**
is the balanced accuracy (UA) beyond that of the recipe as it is, over the trainings that both have. Of a fold's 120 to
300 clips one is 0.3 to 0.8 %: gains of 2 or less are noise unless many trainings agree; the loss (cross-entropy, less
is better) tells smaller differences. Settings beside "as it is" are those of a whole table.

The table of an ensemble tells what it is **without** each of its members: a gain below 0 is what the member gives. They
are trained each for itself, and answer by the mean of their logits as they are in the end.

Written by `python -m tuning.ablation` and `python -m tuning.members` from ablation.csv.
"""

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Read what was measured; nothing where there is no such file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def is_kept(key: Row, rows: Sequence[Row]) -> bool:
    """Tell whether what this tells from others is measured: the digests tell its settings, which --set may have told in
    another order."""
    return any(all(row[name] == key[name] for name in KEYS if name != "changes") for row in rows)


def add_row(path: Path, row: Row) -> None:
    """Add what was measured to the table, to whose end others may write too, and write the page anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*KEYS, *FIGURES], lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)
    write_text(path.with_suffix(".md"), page(read_rows(path)))


def page(rows: Sequence[Row]) -> str:
    """Return the page that tells what each idea gave."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in TOGETHER)].append(row)
    lines = [ABOUT]
    for (recipe, corpus, protocol, epochs, plain), group in groups.items():
        ideas = dict.fromkeys(map(_idea, group))
        if AS_IT_IS not in ideas:  # There is nothing to compare with yet.
            continue
        others = [line for idea in ideas if idea != AS_IT_IS and (line := _line(idea, group))]
        table = [_line(AS_IT_IS, group), *sorted(others, key=lambda line: -float(line["gain %"]))]
        lines.append(f"## {recipe}, {corpus}, protocol {protocol}, {epochs} epochs (configuration {plain})\n")
        lines += [*markdown_table(table, ("idea", "change")), ""]
    return "\n".join(lines)


def _idea(row: Row) -> tuple[str, str]:
    """Return what the line of a row is known by, (name, changes)."""
    return AS_IT_IS if row["idea"] == PLAIN else (row["idea"], row["changes"])


def _line(idea: tuple[str, str], group: Sequence[Row]) -> Row | None:
    """Return the line of an idea, (name, changes), over the trainings that the recipe as it is has too; None where
    there is none."""

    def by_run(idea: tuple[str, str]) -> dict[tuple, Row]:
        rows = [row for row in group if _idea(row) == idea]
        return {(row["fold"], row["seed"], row["split_seed"]): row for row in rows}

    own, plain = by_run(idea), by_run(AS_IT_IS)
    shared = [key for key in own if key in plain]
    if not shared:
        return None

    def mean(name: str, rows: dict[tuple, Row] = own) -> float:
        return float(np.mean([float(rows[key][name]) for key in shared]))

    gain, loss = (mean(name) - mean(name, plain) for name in ("balanced_accuracy", "loss"))
    return {
        "idea": idea[0],
        "change": own[shared[-1]]["changes"],
        "folds × seeds": str(len(shared)),
        "UA %": percent(mean("balanced_accuracy")),
        "gain %": f"{100 * gain:+.1f}" if idea != AS_IT_IS else "",
        "loss": f"{mean('loss'):.3f}",
        "loss change": f"{loss:+.3f}" if idea != AS_IT_IS else "",
        "training accuracy %": percent(mean("training_accuracy")),
        "CPU-minutes": f"{mean('cpu_minutes'):.0f}",
    }
