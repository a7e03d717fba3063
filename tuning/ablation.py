"""Measure the gain of single changes to a recipe on validation clips.

    python -m tuning.ablation mfcc-tcn --epochs 40 --protocol luna --folds 0,1
    python -m tuning.ablation mfcc-tcn --epochs 40 --protocol luna --ideas "equalization,limited band"
    python -m tuning.ablation mfcc-tcn --epochs 40 --protocol luna --change encoder.filters=96

The recipe is trained as it is and with each change: the ideas that `--list` shows, and each --change. The test subset
is not read. A stopped or killed ablation continues with the same command. Figures are appended to results/ablation.csv,
and results/ablation.md is written again after each training.
"""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emokeras import commandline
from emokeras.config import Config, override, settings, with_experiment
from emokeras.data.corpora import Corpus
from emokeras.errors import EmokerasError, RunError, UsageError, first_line
from emokeras.reporting.texts import percent, short
from tuning import measurements
from tuning.measurements import UNCHANGED, Row
from tuning.spaces import applies, recipe_config

# Measured ideas; in ablation.csv some have the name in the comment.
IDEAS: dict[str, dict[str, Any]] = {
    "longer window with less trimming": {  # breath before and after the words
        "audio.speech_decibels": 55.0,
        "audio.window_seconds": 3.84,
    },
    "MFCCs up to 16 kHz": {  # MFCCs of what is above 8 kHz too
        "audio.sample_rate_hz": 32000,
        "mfcc.fft_size": 2048,
        "mfcc.high_hz": 16000.0,
    },
    "cepstral mean normalization": {"encoder.centered": True},  # less each clip's mean
    "vocal tract length perturbation": {"augment.vocal_tract_change": 0.1},  # other vocal tracts
    "larger gain changes": {"augment.gain_decibels": 12.0},  # more change of loudness
    "equalization": {"augment.equalization_decibels": 6.0},  # equalisation
    "limited band": {"augment.band_limit_probability": 0.3},  # telephones and low rates
    "colored noise": {"augment.noise_probability": 0.5, "augment.noise_slope_decibels": [-6.0, 0.0]},  # of rooms too
    "channel variants": {"augment.num_variants": 2},  # copies over other channels, with codecs
    "layer normalization after blocks": {"encoder.layer_normalization": True},  # blocks end in layer normalisation
    "Muon": {"training.optimizer": "muon"},
    "longer moving average": {"training.ema_momentum": 0.998},  # a longer moving average
}


@dataclass(frozen=True)
class Training:
    """One training of an ablation: the idea, what it changes in words, the configuration, and the digest of the recipe
    without it."""

    idea: str
    changes: str
    config: Config
    plain: str

    def key(self, corpus: str) -> Row:
        """Return what identifies its row in ablation.csv."""
        return measurements.row_key(
            self.config.experiment,
            corpus=corpus,
            recipe=self.config.recipe,
            plain=self.plain,
            epochs=self.config.training.epochs,
            idea=self.idea,
            changes=self.changes,
            config=measurements.digest(self.config),
        )


def choose_ideas(names: str | None, changes: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return the settings of ideas: of those named, "IDEA,IDEA", and one idea for each change, "section.key=value" or
    several of these with ";" between them; without either, all ideas. Raises UsageError for an unknown name."""
    if names is None and not changes:
        return dict(IDEAS)
    chosen = [name.strip() for name in names.split(",")] if names else []
    for name in chosen:
        if name not in IDEAS:
            raise UsageError(f"there is no idea '{name}'; `--list` shows them")
    return {name: IDEAS[name] for name in chosen} | {
        change: commandline.parse_settings(change.split(";"), "--change") for change in changes
    }


def plan_trainings(
    config: Config,
    ideas: Mapping[str, Mapping[str, Any]],
    folds: Sequence[int],
    seeds: Sequence[int],
    given: str = "",
) -> list[Training]:
    """Return the trainings of an ablation: for each fold and seed the recipe, and the recipe with each idea that
    changes it.

    Parameters
    ----------
    ideas: {name: {dotted path: value}}; given: what was set in the recipe before, in words.

    Raises
    ------
    UsageError: an unknown setting, or a value that does not fit.
    """
    configs = {UNCHANGED: (given, config)}
    for idea, values in ideas.items():
        if idea not in IDEAS:
            override(config, values)  # Refuses a wrong setting of --change; not all IDEAS fit all recipes.
        if not all(applies(path, config) for path in values):
            print(f"{idea}: changes nothing in {config.recipe}")
            continue
        changed = override(config, values)
        if changed == config:
            print(f"{idea}: {config.recipe} has it already")
            continue
        before, after = settings(config), settings(changed)
        changes = [
            f"{path} {short(before.get(path))} → {short(value)}"
            for path, value in after.items()
            if before.get(path) != value
        ]
        configs[idea] = (", ".join(changes), changed)
    plain = measurements.digest(config)
    return [
        Training(idea, changes, with_experiment(own, fold=fold, seed=seed), plain)
        for fold, seed, (idea, (changes, own)) in itertools.product(folds, seeds, configs.items())
    ]


def measure(training: Training, corpus: Corpus, runs_dir: Path) -> Row:
    """Train, or continue; return the row of ablation.csv, with means over the last tenth of the epochs."""
    labels, _, history = measurements.train(training.config, corpus, runs_dir)
    last = history[-max(1, len(history) // 10) :]

    def mean(name: str) -> float:
        return float(np.mean([row[name] for row in last]))

    return training.key(corpus.name) | measurements.figures(
        clips=len(labels),
        balanced_accuracy=mean("val_balanced_accuracy"),
        accuracy=mean("val_accuracy"),
        loss=mean("val_loss"),
        training_accuracy=mean("accuracy"),
        cpu_minutes=sum(row["cpu_seconds"] for row in history) / 60,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.ablation", __doc__)
    parser.add_argument("recipe", nargs="?", help="a name that `python -m emokeras.train --list` shows")
    parser.add_argument("--list", action="store_true", help="show the ideas")
    parser.add_argument("--ideas", metavar="IDEA,IDEA", help="only these (default: all that change the recipe)")
    parser.add_argument(
        "--change", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one more idea, alone unless --ideas"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of each training (default: the recipe's)")
    measurements.add_options(parser, "change the recipe in all trainings")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    if arguments.list:
        for idea, values in IDEAS.items():
            print(f"{idea:40s} {', '.join(f'{path}={value}' for path, value in values.items())}")
        return
    if not arguments.recipe:
        raise UsageError("name a recipe; `python -m emokeras.train --list` shows them")
    given = measurements.given_settings(arguments)
    if arguments.epochs is not None:
        given["training.epochs"] = arguments.epochs
    config = recipe_config(arguments.recipe, given)
    ideas = choose_ideas(arguments.ideas, arguments.change)
    folds, seeds = measurements.folds_and_seeds(arguments, config.experiment.protocol)
    trainings = plan_trainings(config, ideas, folds, seeds, given=measurements.changes_of(arguments))
    commandline.import_tensorflow()
    corpus = measurements.load_corpus_for([training.config for training in trainings], arguments.corpus)

    def measure_one(training: Training, path: Path) -> str:
        row = measure(training, corpus, arguments.runs_dir)
        measurements.add_row(path, row)
        return f"UA {percent(float(row['balanced_accuracy']))} %, loss {row['loss']}"

    measure_missing(trainings, corpus, arguments.results / "ablation.csv", measure_one)


def measure_missing(
    trainings: Sequence[Training], corpus: Corpus, path: Path, measure_one: Callable[[Training, Path], str]
) -> None:
    """Measure the trainings that the table at `path` does not have. `measure_one` adds the rows of a training to the
    table and returns what to print of it. Raises RunError in the end where some have failed."""
    failed = []
    for number, training in enumerate(trainings, start=1):
        experiment = training.config.experiment
        where = f"[{number}/{len(trainings)}] {training.idea}, fold {experiment.fold}, seed {experiment.seed}"
        if measurements.is_measured(training.key(corpus.name), measurements.read_rows(path)):
            print(f"{where}: done already")
            continue
        print(f"{where}: begins" + (f" ({training.changes})" if training.changes else ""), flush=True)
        try:
            print(f"{where}: {measure_one(training, path)}", flush=True)
        except EmokerasError as error:
            failed.append(f"{training.idea} ({first_line(error)})")
            print(f"{where}: failed, {first_line(error)}", flush=True)
    print(f"figures are in {path}, tables in {path.with_suffix('.md')}")
    if failed:
        raise RunError(f"{len(failed)} of {len(trainings)} trainings failed: {', '.join(failed)}")


if __name__ == "__main__":
    raise SystemExit(main())
