"""Figures -> the short tables that a person sees."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emokeras import recipes, runs
from emokeras.errors import RunError
from emokeras.reporting.texts import percent, with_interval
from emokeras.results.averages import by_accuracy, figures_row
from emokeras.results.rows import Run


def print_metrics(metrics: Mapping[str, Any], subset: str = "test", console: Console | None = None) -> None:
    """Print the short table of a run: its subsets side by side, then the emotions of one subset.

    Args:
        metrics: what metrics.json holds; of the subsets it needs only the one to show.
        subset: whose emotions to show.
        console: where to; stdout by default. Where that is no terminal, the text is plain.
    """
    console = console or _console()
    shown = [name for name in ("test", "validation") if name in metrics]
    if metrics.get("protocol") == "all":
        console.print(f"all {metrics['num_train']} clips have trained {metrics['recipe']}: nothing is measured")
        return
    if subset not in metrics:
        raise RunError(f"the metrics have no subset '{subset}', only {', '.join(shown) or 'none'}")
    shown = [subset, *(name for name in shown if name != subset)]

    summary = _table(console, _title(metrics), "", *shown)
    lines = {
        "clips": lambda scores: str(sum(row["support"] for row in scores["per_emotion"].values())),
        "accuracy (WA) %": lambda scores: with_interval(scores["accuracy"], scores["accuracy_ci95"]),
        "balanced accuracy (UA) %": lambda scores: with_interval(
            scores["balanced_accuracy"], scores["balanced_accuracy_ci95"]
        ),
        "macro F1 %": lambda scores: percent(scores["f1_macro"]),
        "calibration error %": lambda scores: percent(scores["expected_calibration_error"]),
    }
    for label, text in lines.items():
        summary.add_row(label, *(escape(text(metrics[name])) for name in shown))

    emotions = _table(console, f"{subset}, by emotion", "", "precision %", "recall %", "F1 %", "clips")
    for name, row in metrics[subset]["per_emotion"].items():
        figures = (percent(row[key]) for key in ("precision", "recall", "f1"))
        emotions.add_row(escape(name), *figures, str(row["support"]))
    console.print(summary)
    if not console.is_terminal:
        console.print()
    console.print(emotions)


def print_predictions(answers: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print what `emokeras.predict` answers: each file's emotion with its probability, and the next likely one."""
    console = console or _console()
    table = _table(console, "", "file", "emotion", "%", "or", "%")
    for column in (table.columns[1], table.columns[3]):
        column.justify = "left"
    for answer in answers:
        (emotion, share), (other, other_share), *_ = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
        table.add_row(escape(answer["file"]), escape(emotion), percent(share), escape(other), percent(other_share))
    console.print(table)


def print_benchmark(groups: Mapping[str, Sequence[Run]], console: Console | None = None) -> None:
    """Print what a benchmark measured: one line a recipe, over its runs, the most accurate first.

    Args:
        groups: for each recipe the runs of it to average, as `read_run` reads them; of one corpus and protocol.
        console: where to; stdout by default. Where that is no terminal, the text is plain.
    """
    console = console or _console()
    measured = next(group[0].metrics for group in groups.values())
    columns = ("runs", "WA %", "UA %", "pooled WA % [95 %]", "F1 %", "minutes")
    title = f"{measured['corpus']}, protocol {measured['protocol']}"
    table = _table(console, title, "recipe", *columns)
    table.columns[1].justify = "left"
    for recipe in by_accuracy(groups):
        row = figures_row(measured["protocol"], groups[recipe])
        table.add_row(escape(recipe), *(escape(row[column]) for column in columns))
    console.print(table)


def print_recipes(console: Console | None = None) -> None:
    """Print the recipes: name, where each comes from, and the figure its source reports."""
    console = console or _console()
    table = _table(console, "recipes", "name", "source", "reported there, %")
    for column in table.columns[1:]:
        column.justify = "left"
    for name, recipe in recipes.RECIPES.items():
        table.add_row(escape(name), escape(recipe.source), escape(recipe.reported or "-"))
    console.print(table)


def _console() -> Console:
    """A terminal has its own width; a file or a pipe gets whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=400)


def _table(console: Console, title: str, first: str, *others: str) -> Table:
    table = Table(
        title=escape(title), title_justify="left", box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False
    )
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _title(metrics: Mapping[str, Any]) -> str:
    parts = [" on ".join(metrics[key] for key in ("recipe", "corpus") if key in metrics)]
    parts += [f"protocol {metrics['protocol']}"] if "protocol" in metrics else []
    if "seed" in metrics:
        parts.append(
            runs.run_name(metrics.get("protocol", ""), *(metrics[key] for key in ("fold", "seed", "split_seed")))
        )
    return ", ".join(part for part in parts if part)
