"""The short tables that the commands print."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emokeras import recipes
from emokeras.data.splits import PROTOCOLS
from emokeras.errors import RunError
from emokeras.reporting.texts import percent, with_interval


def print_metrics(metrics: Mapping[str, Any], subset: str = "test", console: Console | None = None) -> None:
    """Print the short table of a run: its subsets side by side, then the emotions of one subset. Speakers that are too
    few for an interval are listed too.

    Parameters
    ----------
    metrics: what metrics.json holds; of the subsets only the one to show is needed.
    subset: the subset whose emotions are shown.
    console: the output, by default stdout. If it is not a terminal, the text is plain.

    Raises
    ------
    RunError: `metrics` lacks the subset.
    """
    console = console or _console()
    shown = [name for name in ("test", "validation") if name in metrics]
    if metrics.get("protocol") == "all":
        console.print(f"{metrics['recipe']} was trained on all {metrics['num_train']} clips: no clip is left to test")
        return
    if subset not in metrics:
        raise RunError(f"the metrics have no subset '{subset}', only {', '.join(shown) or 'none'}")
    shown = [subset, *(name for name in shown if name != subset)]

    summary = _table(console, _title(metrics), "", *shown)
    lines = {
        "clips": lambda scores: str(sum(row["support"] for row in scores["per_emotion"].values())),
        "accuracy (WA) %": lambda scores: _figure(scores, "accuracy"),
        "balanced accuracy (UA) %": lambda scores: _figure(scores, "balanced_accuracy"),
        "macro F1 %": lambda scores: percent(scores["f1_macro"]),
        "calibration error %": lambda scores: percent(scores["expected_calibration_error"]),
    }
    for label, text in lines.items():
        summary.add_row(label, *(escape(text(metrics[name])) for name in shown))

    emotions = _table(console, f"{subset}, by emotion", "", "precision %", "recall %", "F1 %", "clips")
    for name, row in metrics[subset]["per_emotion"].items():
        figures = (percent(row[key]) for key in ("precision", "recall", "f1"))
        emotions.add_row(escape(name), *figures, str(row["support"]))
    tables = [summary, emotions]
    if metrics[subset]["accuracy_ci95"] is None and metrics[subset]["by_speaker"]:
        speakers = _table(console, f"{subset}, by speaker", "", "WA %", "UA %", "clips")
        for name, row in metrics[subset]["by_speaker"].items():
            figures = (percent(row[key]) for key in ("accuracy", "balanced_accuracy"))
            speakers.add_row(escape(name), *figures, str(row["support"]))
        tables.append(speakers)
    for number, table in enumerate(tables):
        if number and not console.is_terminal:
            console.print()
        console.print(table)


def print_predictions(answers: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the answers of `emokeras.predict`: for each file the emotion with its probability, and the second most
    probable one where the model has several; below, the remark on each file that has one."""
    console = console or _console()
    table = _table(console, "", "file", "emotion", "%", "or", "%")
    for column in (table.columns[1], table.columns[3]):
        column.justify = "left"
    for answer in answers:
        most_probable = sorted((answer["probabilities"] or {}).items(), key=lambda item: -item[1])[:2]
        cells = [text for emotion, share in most_probable for text in (escape(emotion), percent(share))]
        table.add_row(escape(answer["file"]), *(cells or ["none"]))
    console.print(table)
    for answer in answers:
        if answer["remark"]:
            console.print(f"{escape(answer['file'])}: {escape(answer['remark'])}", soft_wrap=True)


def print_benchmark(title: str, rows: Sequence[Mapping[str, str]], console: Console | None = None) -> None:
    """Print the rows of a benchmark, {column: text} each: the recipe and its figures over the runs."""
    console = console or _console()
    table = _table(console, title, *rows[0])
    table.columns[1].justify = "left"
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console.print(table)


def print_conditions(title: str, scores: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a corpus's figures, a line for each condition. Where the model has emotions that the corpus lacks, "UA
    corpus" and "UA common" are as if it had those of the corpus, or the common four, only.

    Parameters
    ----------
    scores: by condition what `metrics.score` returns, with `same_as_clean`, and `among_corpus_emotions` and
        `among_common_emotions` where the model has emotions that the corpus lacks.
    """
    console = console or _console()
    columns = {
        "clips": lambda own: str(sum(row["support"] for row in own["per_emotion"].values())),
        "WA %": lambda own: percent(own["accuracy"]),
        "UA %": lambda own: percent(own["balanced_accuracy"]),
        "UA women": lambda own: percent(own["by_sex"].get("female", {}).get("balanced_accuracy")),
        "UA men": lambda own: percent(own["by_sex"].get("male", {}).get("balanced_accuracy")),
        "calibration error %": lambda own: percent(own["expected_calibration_error"]),
        "NLL": lambda own: f"{own['cross_entropy']:.3f}",
        "same answer %": lambda own: percent(own["same_as_clean"]),
    }
    for key, name in (
        ("among_corpus_emotions", "UA corpus"),
        ("among_common_emotions", "UA common"),
    ):
        if any(key in own for own in scores.values()):
            columns[name] = lambda own, key=key: percent((own[key] or {}).get("balanced_accuracy"))
    table = _table(console, title, "condition", *columns)
    for condition, own in scores.items():
        table.add_row(escape(condition), *(text(own) for text in columns.values()))
    console.print(table)


def print_recipes(console: Console | None = None) -> None:
    """Print the recipes: name, source, and the figure that the source reports."""
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


def _figure(scores: Mapping[str, Any], key: str) -> str:
    return with_interval(scores[key], scores[f"{key}_ci95"], [row[key] for row in scores["by_speaker"].values()])


def _title(metrics: Mapping[str, Any]) -> str:
    parts = [" on ".join(metrics[key] for key in ("recipe", "corpus") if key in metrics)]
    parts += [f"protocol {metrics['protocol']}"] if "protocol" in metrics else []
    if "seed" in metrics:
        has_folds = PROTOCOLS[metrics["protocol"]].has_folds
        parts.append(f"fold {metrics['fold']}" if has_folds else f"split {metrics['split_seed']}")
        parts.append(f"seed {metrics['seed']}")
    return ", ".join(part for part in parts if part)
