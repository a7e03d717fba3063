"""What was measured on validation clips: the table ablation.csv, its page ablation.md, and the options of the commands
that fill it, `tuning.ablation` and `tuning.ensemble_gain`."""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from emokeras import commandline
from emokeras.config import Config, ExperimentConfig, MeasuredProtocol
from emokeras.data.corpora import Corpus, default_source, load_corpus
from emokeras.data.splits import check_fold, draw_split
from emokeras.errors import UsageError
from emokeras.files import csv_text, parse_csv, write_text
from emokeras.reporting.texts import markdown_table, percent
from emokeras.runs import read_history, run_folder_name
from emokeras.training.jobs import SET_BY_JOBS

UNCHANGED = "as it is"  # the idea of a row of the recipe itself
UNCHANGED_IDEA = (UNCHANGED, "")  # one line of the page, in whatever words --set changed the recipe before
# What identifies a training. `config` is the digest of its configuration, `plain` that of the unchanged recipe.
KEYS = ("corpus", "protocol", "recipe", "plain", "epochs", "idea", "changes", "config", "fold", "seed", "split_seed")
TABLE_KEYS = ("recipe", "corpus", "protocol", "epochs", "plain")  # shared by the rows of one table
FIGURES = ("clips", "balanced_accuracy", "accuracy", "loss", "training_accuracy", "cpu_minutes")
ABOUT = """\
# Ablations

Each row changes one thing in a recipe. The changed recipe and the recipe "as it is" are trained on the same folds, with
the same seeds, for the same number of epochs. Figures are of the validation clips, averaged over the last tenth of the
epochs. No test clip of a fold was used; but under `luna` the validation speakers of one fold are test speakers of
another. **Gain** is the difference in balanced accuracy (UA) from the recipe as it is, over the trainings that both
have. One clip of a fold's 120 to 300 is 0.3 to 0.8 %: a gain of 2 or less is noise unless many trainings agree. The
loss (cross-entropy, lower is better) shows smaller differences. Settings next to "as it is" apply to its whole table.

In the table of an ensemble each row leaves out one member, so a negative gain is what the member contributes. Members
are trained separately; the ensemble is the mean of their logits, with the weights that each run keeps.

Some early rows have names or settings of that time: "equalisation", "breath before and after the words" (a longer
window with less trimming), "less each clip's mean" (cepstral mean normalization), "other vocal tracts" (vocal tract
length perturbation), and recipes and settings that were removed since ([history.md](history.md)).

Written by `python -m tuning.ablation` and `python -m tuning.ensemble_gain` from ablation.csv.
"""

Row = dict[str, str]


# Trainings


def digest(config: Config) -> str:
    """Return eight characters that identify a configuration, whatever its fold and seeds."""
    own = json.dumps(_non_default(replace(config, experiment=ExperimentConfig())), sort_keys=True)
    return hashlib.sha256(own.encode()).hexdigest()[:8]


def _non_default(value: Any) -> Any:
    """Return the settings that are not at their default, so that a setting of a later version changes no digest."""
    if isinstance(value, dict):
        return {key: _non_default(own) for key, own in value.items()}
    if not is_dataclass(value):
        return value
    changed = {}
    for field in fields(value):
        own = getattr(value, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if own != default or field.name == "kind":
            changed[field.name] = _non_default(own)
    return changed


class Trained(NamedTuple):
    """A trained network on the validation clips: labels int [clips], logits float32 [clips, emotions]; its history."""

    labels: np.ndarray
    logits: np.ndarray
    history: list[dict[str, float]]


def run_folder(config: Config, corpus: Corpus, runs_dir: Path) -> Path:
    """Return the folder of a training in `runs_dir`."""
    return runs_dir / config.recipe / f"{digest(config)}-{run_folder_name(config.experiment, corpus.name)}"


def train(config: Config, corpus: Corpus, runs_dir: Path) -> Trained:
    """Train a network in its folder of `runs_dir`, or continue it there; do not read the test subset."""
    import keras

    from emokeras.training.run import train_unscored
    from emokeras.training.score import predict_logits

    folder = run_folder(config, corpus, runs_dir)
    try:
        setup = train_unscored(config, corpus, folder, config.training.epochs)
        logits = predict_logits(setup.model, setup.validation_inputs)
    finally:
        keras.backend.clear_session()
    return Trained(setup.subsets["validation"].labels, logits, read_history(folder / "history.csv"))


# Options of both commands


def add_options(parser: argparse.ArgumentParser, what_set_does: str) -> None:
    """Add the options for what is measured on which clips, and where runs and figures go."""
    parser.add_argument("--corpus", metavar="C[,C...]", help="ravdess, emodb, demo, a folder, zip or manifest.csv")
    parser.add_argument("--protocol", choices=get_args(MeasuredProtocol), help="how clips are split (default: speaker)")
    parser.add_argument("--folds", default="0", metavar="K,K", help="of the protocol, from 0 (default: 0)")
    parser.add_argument("--seeds", default="0", metavar="S,S", help="of weights and augmentation (default: 0)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=what_set_does)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/ablation"), metavar="D", help="where runs go")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="D", help="where figures go")


def given_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings of --set and --protocol, by dotted path. Raises UsageError for what has another option."""
    given = commandline.parse_settings(arguments.set)
    for key, option in SET_BY_JOBS.items():
        if f"experiment.{key}" in given:
            raise UsageError(f"--set experiment.{key}: give {option} instead")
    return given | ({"experiment.protocol": arguments.protocol} if arguments.protocol else {})


def changes_of(arguments: argparse.Namespace) -> str:
    """Return what --set changes in the recipe, for the table; the split seed has a column of its own."""
    return ", ".join(pair for pair in arguments.set if not pair.startswith("experiment.split_seed="))


def folds_and_seeds(arguments: argparse.Namespace, protocol: str) -> tuple[list[int], list[int]]:
    """Return the folds and the seeds. Raises UsageError for what is no number, or no fold of the protocol."""
    folds, seeds = (commandline.parse_numbers(f"--{name}", getattr(arguments, name)) for name in ("folds", "seeds"))
    for fold in folds:
        check_fold(protocol, fold)
    return folds, seeds


def load_corpus_for(configs: Sequence[Config], source: str | None) -> Corpus:
    """Return the corpus for trainings. Raises CorpusError, before anything is trained, where one cannot split it."""
    first = configs[0]
    corpus = load_corpus(source or default_source(), first.decode_rate_hz, first.experiment.emotion_map)
    for config in configs:
        draw_split(corpus, config.experiment)
    return corpus


# The table


def row_key(experiment: ExperimentConfig, **columns: Any) -> Row:
    """Return the columns of KEYS; those of the split and the seed are the experiment's."""
    columns |= {name: getattr(experiment, name) for name in ("protocol", "fold", "seed", "split_seed")}
    return {name: str(columns[name]) for name in KEYS}


def read_rows(path: Path) -> list[Row]:
    """Read the table; it has no rows where there is no file yet. Raises RunError for a damaged line."""
    if not path.exists():
        return []
    header, rows = parse_csv(path.read_text(encoding="utf-8"), path, "remove or repair the line")
    return [dict(zip(header, row, strict=True)) for row in rows]


def figures(**columns: float) -> Row:
    """Return the columns of FIGURES as the table writes them: a number of clips, minutes, and shares and losses."""
    digits = {"clips": 0, "cpu_minutes": 1}
    return {name: f"{columns[name]:.{digits.get(name, 4)}f}" for name in FIGURES}


def is_measured(key: Row, rows: Sequence[Row]) -> bool:
    """Return whether the table has a training. Of settings the digests are compared, not how --set wrote them."""
    return any(all(row[name] == key[name] for name in KEYS if name != "changes") for row in rows)


def add_row(path: Path, row: Row) -> None:
    """Append a row to the table, to which other processes may append too, and write its page again."""
    append_rows(path, [*KEYS, *FIGURES], [row])
    write_text(path.with_suffix(".md"), page(read_rows(path)))


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Append rows to a table; the first ones come after the names of the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        header = [] if file.tell() else [columns]
        file.write(csv_text([*header, *([row[name] for name in columns] for row in rows)]))


# The page


def page(rows: Sequence[Row]) -> str:
    """Return the page with a table for each recipe: a line for each idea, the largest gain first."""
    tables = defaultdict(list)
    for row in rows:
        tables[tuple(row[key] for key in TABLE_KEYS)].append(row)
    lines = [ABOUT]
    for (recipe, corpus, protocol, epochs, plain), table in tables.items():
        ideas = dict.fromkeys(map(_idea, table))
        if UNCHANGED_IDEA not in ideas:  # nothing to compare with yet
            continue
        others = [line for idea in ideas if idea != UNCHANGED_IDEA and (line := _line(idea, table))]
        others.sort(key=lambda line: -float(line["gain %"]))
        lines.append(f"## {recipe}, {corpus}, protocol {protocol}, {epochs} epochs (configuration {plain})\n")
        lines += [*markdown_table([_line(UNCHANGED_IDEA, table), *others], ("idea", "change")), ""]
    return "\n".join(lines)


def _idea(row: Row) -> tuple[str, str]:
    """Return (idea, changes), which identify a line of the page."""
    return UNCHANGED_IDEA if row["idea"] == UNCHANGED else (row["idea"], row["changes"])


def _line(idea: tuple[str, str], table: Sequence[Row]) -> Row | None:
    """Return the line of an idea over the trainings that the unchanged recipe has too; None without any."""

    def by_training(idea: tuple[str, str]) -> dict[tuple, Row]:
        return {(row["fold"], row["seed"], row["split_seed"]): row for row in table if _idea(row) == idea}

    own, unchanged = by_training(idea), by_training(UNCHANGED_IDEA)
    shared = [key for key in own if key in unchanged]
    if not shared:
        return None

    def mean(name: str, rows: dict[tuple, Row] = own) -> float:
        return float(np.mean([float(rows[key][name]) for key in shared]))

    is_change = idea != UNCHANGED_IDEA
    gain, loss_change = (mean(name) - mean(name, unchanged) for name in ("balanced_accuracy", "loss"))
    return {
        "idea": idea[0],
        "change": own[shared[-1]]["changes"],
        "folds × seeds": str(len(shared)),
        "UA %": percent(mean("balanced_accuracy")),
        "gain %": f"{100 * gain:+.1f}" if is_change else "",
        "loss": f"{mean('loss'):.3f}",
        "loss change": f"{loss_change:+.3f}" if is_change else "",
        "training accuracy %": percent(mean("training_accuracy")),
        "CPU-minutes": f"{mean('cpu_minutes'):.0f}",
    }
