"""results/generalization.md: what runs give on other corpora and under conditions, from the rows that
`python -m emokeras.evaluate --results` keeps beside them."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emokeras import runs
from emokeras.data.conditions import CONDITIONS, NEVER_TRAINED
from emokeras.data.corpora import COMMON_EMOTIONS
from emokeras.data.splits import PROTOCOLS
from emokeras.errors import RunError
from emokeras.reporting.metrics import among, point_figures
from emokeras.reporting.texts import markdown_table, mean_and_deviation
from emokeras.results.rows import KEEP_TOGETHER, TOLERANCE, computed_again

ABOUT = """\
What trained runs give under recording conditions and on corpora that they were not trained on. Conditions are in
`emokeras/data/conditions.py`, with their sources; those marked † are never used in training.

- Each cell is the mean over a recipe's runs, ± their standard deviation, and in brackets the difference to clean over
  the same runs.
- **UA** is the mean recall over the emotions. On a corpus without some of a model's emotions there are three: the model
  chooses among all of its emotions; among those that the corpus has; and among the common four, {common},
  over clips of these only.
- **Calibration error** is the mean distance between confidence and accuracy over 15 bins of equal mass, among all of
  the model's emotions.
- On its own corpus a model is tested on the test clips of its fold; on EMOVO and nEMO on all speakers but those on whom
  recipes may be chosen (`DEVELOPMENT_SPEAKERS`).

```bash
python -m emokeras.evaluate MODEL --corpus C,C --conditions all --results results
```

This makes the rows of one run or export.
"""
NUMBERS = {
    "UA %": lambda figures: figures["balanced_accuracy"],
    "UA % among the emotions of the corpus": lambda figures: _among(figures, "among_corpus_emotions"),
    "UA % among the common four": lambda figures: _among(figures, "among_common_emotions"),
    "Calibration error %": lambda figures: figures["expected_calibration_error"],
}


@dataclass(frozen=True)
class ConditionRow:
    """One run on one corpus under one condition: what metrics.json holds, the figures computed again, and the names and
    speakers of the clips, [clips]."""

    metrics: dict[str, Any]
    test: dict[str, Any]
    clips: list[str]
    speakers: list[str]

    @property
    def num_folds(self) -> int:
        """The folds that the run's protocol has on its corpus; 0 where the row does not say."""
        return self.metrics.get("num_folds") or PROTOCOLS[self.metrics["protocol"]].num_folds

    @property
    def run(self) -> tuple[int, int, int]:
        return tuple(self.metrics[key] for key in ("fold", "seed", "split_seed"))


def read_conditions(results_root: Path) -> dict[str, list[ConditionRow]]:
    """Read all rows of corpora and conditions: {test corpus: rows}.

    Raises RunError, naming the row, when its figures do not agree with its predictions or it belongs in another folder.
    """
    rows = defaultdict(list)
    for folder in sorted(Path(results_root).glob(f"*/*/*/*/{runs.CONDITIONS_FOLDER}/*/*/")):
        row = read_condition(folder, results_root)
        rows[row.metrics["test_corpus"]].append(row)
    return dict(rows)


def read_condition(folder: Path, results_root: Path) -> ConditionRow:
    """Read one row and compute its figures again. Raises RunError as `read_conditions` does."""
    written = runs.read_metrics(folder)
    belongs_in = runs.condition_folder(written, results_root, where=folder / "metrics.json")
    if belongs_in != folder:
        raise RunError(f"{folder} holds the row that belongs in {belongs_in}: move it there")
    for key, known in (("protocol", PROTOCOLS), ("condition", CONDITIONS)):
        if written[key] not in known:
            raise RunError(f"{folder}: there is no {key} '{written[key]}'; there are {', '.join(known)}")
    predictions, test = computed_again(folder, "test", written)
    parts = {"among_corpus_emotions": written.get("corpus_emotions", ()), "among_common_emotions": COMMON_EMOTIONS}
    for key, part in parts.items():
        if written["test"].get(key) is None:
            continue
        kept = [emotion for emotion in predictions.emotions if emotion in part]
        _, labels, shares = among(predictions.labels, predictions.probabilities, predictions.emotions, kept)
        test[key] = point_figures(labels, shares, kept)
        own, found = written["test"][key]["balanced_accuracy"], test[key]["balanced_accuracy"]
        if abs(own - found) > TOLERANCE:
            raise RunError(
                f"{folder}: {key} has balanced_accuracy {own:.6g} in metrics.json, but {found:.6g} by predictions.csv: "
                f"{KEEP_TOGETHER}"
            )
    return ConditionRow(written, test, predictions.clips, predictions.speakers)


def generalization_page(rows: Mapping[str, Sequence[ConditionRow]]) -> list[str]:
    """Return the lines of the page without its header. `rows` are those of each test corpus, in the order shown."""
    common = ", ".join(COMMON_EMOTIONS[:-1]) + f" and {COMMON_EMOTIONS[-1]}"
    lines = ["# Other corpora and recording conditions", "", ABOUT.format(common=common)]
    for corpus, group in rows.items():
        clips = {clip for row in group for clip in row.clips}
        speakers = {speaker for row in group for speaker in row.speakers} - {""}
        lines += [f"## On {corpus}", "", f"{len(clips):,} test clips of {len(speakers)} speakers.", ""]
        for title, number in NUMBERS.items():
            if any(number(row.test) is not None for row in group):
                lines += [f"### {title}", "", *_table(group, number), ""]
    return lines


def _table(group: Sequence[ConditionRow], number: Callable[[Mapping], float | None]) -> list[str]:
    """Return the lines of a table of one number: a line for each condition, a column for each recipe."""
    systems, num_folds = defaultdict(lambda: defaultdict(dict)), {}
    for row in group:
        num_folds[_system(row)] = row.num_folds
        if (value := number(row.test)) is not None:
            systems[_system(row)][row.metrics["condition"]][row.run] = value
    names = {system: _name(system, systems[system], num_folds[system]) for system in sorted(systems, key=_order)}
    table = []
    for condition in CONDITIONS:
        if not any(condition in own for own in systems.values()):
            continue
        line = {"condition": condition + " †" * (condition in NEVER_TRAINED)}
        for system, name in names.items():
            line[name] = _cell(condition, systems[system])
        table.append(line)
    return markdown_table(table, ("condition",))


def _cell(condition: str, of_condition: Mapping[str, Mapping[tuple, float]]) -> str:
    values, clean = of_condition.get(condition, {}), of_condition.get("clean", {})
    if not values:
        return "–"
    text = mean_and_deviation(list(values.values()))
    if len(values) < len(set().union(*of_condition.values())):
        text += f" [{len(values)} runs]"
    differences = [value - clean[run] for run, value in values.items() if run in clean]
    if condition == "clean" or not differences:
        return text
    points = round(100 * statistics.mean(differences), 1) + 0.0  # without the sign of -0.0
    return f"{text} ({points:+.1f})"


def _system(row: ConditionRow) -> tuple[str, str, str]:
    return tuple(row.metrics[key] for key in ("corpus", "protocol", "recipe"))


def _order(system: tuple[str, str, str]) -> tuple:
    corpus, protocol, recipe = system
    return corpus, list(PROTOCOLS).index(protocol), recipe


def _name(system: tuple[str, str, str], of_condition: Mapping[str, Mapping[tuple, float]], num_folds: int) -> str:
    """Return the head of a column: `recipe`, what it was trained on, and over how many folds."""
    corpus, protocol, recipe = system
    own = set().union(*of_condition.values())
    folds = len({fold for fold, *_ in own})
    counted = f"{len(own)} run{'s' * (len(own) > 1)}"
    if num_folds > 1:
        counted = f"{num_folds} folds" if folds == num_folds else f"{folds} of {num_folds} folds"
        counted += f", {len(own)} runs" * (len(own) > folds)
    return f"`{recipe}` ({corpus}, {protocol}, {counted})"


def _among(figures: Mapping[str, Any], key: str) -> float | None:
    return figures[key]["balanced_accuracy"] if key in figures else None
