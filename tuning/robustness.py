"""Measure how single changes to a recipe stand recording conditions and other corpora, on validation clips.

    python -m tuning.robustness mfcc-delta-tcn --epochs 20 --protocol luna --folds 0,3 --ideas "equalization,Muon"
    python -m tuning.robustness mfcc-delta-tcn --epochs 20 --protocol luna --also ~/emovo,~/nemo --ideas equalization

The recipe is trained as it is and with each change, as by `tuning.ablation`. Each network is tested on the validation
clips of its fold under every condition (docs/conditions.md), and on the development speakers of other corpora. The test
subset is not read. A stopped measurement continues with the same command. Figures are appended to
results/robustness.csv, and results/robustness.md is written again after each training.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emokeras import commandline
from emokeras.data.conditions import NEVER_TRAINED
from emokeras.data.corpora import Corpus, default_source
from emokeras.errors import UsageError
from emokeras.files import replacing, write_text
from emokeras.reporting.texts import markdown_table, percent
from tuning import measurements
from tuning.ablation import Training, choose_ideas, measure_missing, plan_trainings
from tuning.measurements import KEYS, TABLE_KEYS, UNCHANGED, Row
from tuning.spaces import recipe_config

FIGURES = ("clips", "balanced_accuracy", "among_corpus_emotions", "women", "men", "calibration_error", "cross_entropy")
COLUMNS = (*KEYS, "test_corpus", "condition", *FIGURES)
# The columns of the page: means over conditions.
GROUPS = {
    "level": ("level-minus-20", "level-plus-20", "dc"),
    "noise": ("white-noise-20", "white-noise-10", "white-noise-5"),
    "babble": ("babble-20", "babble-10", "babble-5"),
    "around": ("silence-around", "low-noise-around", "room-noise-around"),
    "telephone": ("telephone",),
    "codecs": ("mp3", "opus"),
    "rooms": ("reverberation-0.3", "reverberation-0.6"),
    "never trained": NEVER_TRAINED,
}
ABOUT = """\
# Robustness

What changes to a recipe give under recording conditions ([docs/conditions.md](../docs/conditions.md)) and on other
corpora: UA in percent, on validation clips, over the trainings that a line has. A fold has 120 validation clips, of two
speakers; under `luna` the validation speakers of one fold are test speakers of another. **Mean** is that of the groups
of conditions to its left, clean among them. **Women** and **men** are clean. On other corpora figures are of their
development speakers, among the emotions that the corpus has. Some rows have settings that were removed since.

Written by `python -m tuning.robustness` from robustness.csv.
"""


def measure(training: Training, corpus: Corpus, source: str, also: Sequence[str], runs_dir: Path) -> list[Row]:
    """Train, or continue, and test on validation clips; return the rows of robustness.csv. `source` is where the corpus
    is, `also` are other corpora."""
    import keras

    from emokeras.evaluate import evaluate_conditions
    from emokeras.training.run import train_unscored

    config = training.config
    folder = measurements.run_folder(config, corpus, runs_dir)
    try:
        setup = train_unscored(config, corpus, folder, config.training.epochs)
        with replacing(folder / "model.keras") as temporary:
            setup.model.save(temporary)
    finally:
        keras.backend.clear_session()
    silent = {"subset": "validation", "say": lambda line: None}
    scores = evaluate_conditions(folder, corpora=[source], conditions=["all"], **silent)
    if also:
        scores |= evaluate_conditions(folder, corpora=also, **silent)
    key = training.key(corpus.name)
    return [
        key | {"test_corpus": tested, "condition": condition} | _figures(own)
        for tested, of_condition in scores.items()
        for condition, own in of_condition.items()
    ]


def _figures(scores: dict[str, Any]) -> Row:
    among = scores.get("among_corpus_emotions") or scores
    values = {
        "balanced_accuracy": scores["balanced_accuracy"],
        "among_corpus_emotions": among["balanced_accuracy"],
        "women": among["by_sex"].get("female", {}).get("balanced_accuracy", np.nan),
        "men": among["by_sex"].get("male", {}).get("balanced_accuracy", np.nan),
        "calibration_error": scores["expected_calibration_error"],
        "cross_entropy": scores["cross_entropy"],
    }
    clips = sum(own["support"] for own in scores["per_emotion"].values())
    return {"clips": str(clips)} | {name: f"{value:.4f}" for name, value in values.items()}


def page(rows: Sequence[Row]) -> str:
    """Return the page with a table for each recipe: a line for each idea, the highest mean first."""
    tables = defaultdict(lambda: defaultdict(list))
    for row in rows:
        tables[tuple(row[key] for key in TABLE_KEYS)][row["idea"], row["changes"]].append(row)
    lines = [ABOUT]
    for (recipe, corpus, protocol, epochs, plain), ideas in tables.items():
        table = [_line(idea, changes, corpus, own) for (idea, changes), own in ideas.items()]
        table.sort(key=lambda line: (line["idea"] != UNCHANGED, -float(line["mean"])))  # Clean is always there.
        lines.append(f"## {recipe}, {corpus}, protocol {protocol}, {epochs} epochs (configuration {plain})\n")
        others = dict.fromkeys(row["test_corpus"] for own in ideas.values() for row in own)
        columns = ["idea", "change", "trainings", "clean", *GROUPS, "mean", "women", "men"]
        columns += [name for name in others if name != corpus]
        lines += [*markdown_table([{name: line.get(name, "–") for name in columns} for line in table], columns[:2]), ""]
    return "\n".join(lines)


def _line(idea: str, changes: str, corpus: str, rows: Sequence[Row]) -> Row:
    """Return the line of an idea: means over its trainings, and over the conditions of each group."""
    own = [row for row in rows if row["test_corpus"] == corpus]

    def mean(conditions: Sequence[str], figure: str = "balanced_accuracy", of: Sequence[Row] = own) -> float:
        values = [float(row[figure]) for row in of if row["condition"] in conditions]
        return float(np.mean(values)) if values else np.nan  # Babble needs speakers enough; a corpus may lack a sex.

    groups = {"clean": mean(["clean"])} | {name: mean(conditions) for name, conditions in GROUPS.items()}
    others = sorted({row["test_corpus"] for row in rows} - {corpus})
    figures = groups | {
        "mean": float(np.nanmean(list(groups.values()))),
        **{sex: mean(["clean"], sex) for sex in ("women", "men")},
        **{
            name: mean(["clean"], "among_corpus_emotions", [row for row in rows if row["test_corpus"] == name])
            for name in others
        },
    }
    trainings = len({(row["fold"], row["seed"], row["split_seed"]) for row in own})
    return {"idea": idea, "change": changes, "trainings": str(trainings)} | {
        name: "–" if np.isnan(value) else percent(value) for name, value in figures.items()
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.robustness", __doc__)
    parser.add_argument("recipe", help="a name that `python -m emokeras.train --list` shows")
    parser.add_argument("--ideas", metavar="IDEA,IDEA", help="those of `python -m tuning.ablation --list`")
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one more idea; several changes of one idea with ';' between them",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of each training (default: the recipe's)")
    parser.add_argument("--also", metavar="C,C", help="other corpora, of which the development speakers are tested")
    measurements.add_options(parser, "change the recipe in all trainings")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    given = measurements.given_settings(arguments)
    if arguments.epochs is not None:
        given["training.epochs"] = arguments.epochs
    # A refit would train on the validation clips.
    config = recipe_config(arguments.recipe, {"training.refit_epochs": 0} | given)
    if not config.takes_audio:
        raise UsageError(f"{arguments.recipe} takes no audio: no condition changes what it takes")
    ideas = choose_ideas(arguments.ideas or "", arguments.change)
    folds, seeds = measurements.folds_and_seeds(arguments, config.experiment.protocol)
    trainings = plan_trainings(config, ideas, folds, seeds, given=measurements.changes_of(arguments))
    commandline.import_tensorflow()
    corpus = measurements.load_corpus_for([training.config for training in trainings], arguments.corpus)
    source = arguments.corpus or default_source()
    also = arguments.also.split(",") if arguments.also else []

    def measure_one(training: Training, path: Path) -> str:
        rows = measure(training, corpus, source, also, arguments.runs_dir)
        measurements.append_rows(path, COLUMNS, rows)
        write_text(path.with_suffix(".md"), page(measurements.read_rows(path)))
        line = _line(training.idea, "", corpus.name, rows)
        return f"UA {line['clean']} %, under conditions {line['mean']} %"

    measure_missing(trainings, corpus, arguments.results / "robustness.csv", measure_one)


if __name__ == "__main__":
    raise SystemExit(main())
