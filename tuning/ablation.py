"""Measure what each idea gives a recipe, on validation clips: the recipe as it is, and with each change, trained alike.

    python -m tuning.ablation mfcc-tcn --epochs 40 --protocol luna --folds 0,1
    python -m tuning.ablation mfcc-tcn --epochs 40 --protocol luna --ideas "no mixup,equalisation"
    python -m tuning.ablation mfcc-tcn --epochs 40 --protocol luna --change encoder.filters=96

The ideas are those of tuning/ideas.py, and each --change is one more; the test subset is not read. Stopped or killed,
it goes on by the same command: what is measured stands in results/ablation.csv, and results/ablation.md is written from
that after each training.
"""

import argparse
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emokeras import commandline
from emokeras.config import Config, ExperimentConfig, override, settings, with_experiment
from emokeras.errors import EmokerasError, RunError, UsageError, first_line
from emokeras.reporting.texts import percent, short
from emokeras.runs import run_folder_name
from tuning.ideas import IDEAS
from tuning.recipe import add_split_options, configuration_of, folds_and_seeds, given_settings, settings_told
from tuning.spaces import applies
from tuning.tried import KEYS, PLAIN, Row, add_row, is_kept, read_rows

if TYPE_CHECKING:
    from emokeras.data.corpora import Corpus


@dataclass(frozen=True)
class Attempt:
    """One training: a recipe's configuration with an idea in it. `changes` tells what the idea changes."""

    idea: str
    changes: str
    config: Config
    plain: str

    def key(self, corpus: str) -> Row:
        """Return what tells its row from others."""
        own = {
            **{key: getattr(self.config.experiment, key) for key in ("protocol", "fold", "seed", "split_seed")},
            **{key: getattr(self, key) for key in ("plain", "idea", "changes")},
            "corpus": corpus,
            "recipe": self.config.recipe,
            "epochs": self.config.training.epochs,
            "config": digest(self.config),
        }
        return {key: str(own[key]) for key in KEYS}


def digest(config: Config) -> str:
    """Return eight characters that tell a configuration from others, but not which run it is of."""
    told = json.dumps(_unusual(replace(config, experiment=ExperimentConfig())), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def run_folder(config: Config, corpus: str, runs_dir: Path) -> Path:
    """Return where a training lies."""
    return Path(runs_dir) / config.recipe / f"{digest(config)}-{run_folder_name(config.experiment, corpus)}"


def _unusual(value: Any) -> Any:
    """Return what in a configuration is not at its default, so that settings that come later do not change it."""
    if isinstance(value, dict):
        return {key: _unusual(own) for key, own in value.items()}
    if not is_dataclass(value):
        return value
    told = {}
    for field in fields(value):
        own = getattr(value, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if own != default or field.name == "kind":
            told[field.name] = _unusual(own)
    return told


def chosen_ideas(names: str | None, changes: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return ideas by name: those named, with commas between, and one for each change, "section.key=value"; where
    neither is given, all. Raises UsageError for a name that there is not."""
    if names is None and not changes:
        return dict(IDEAS)
    chosen = [name.strip() for name in names.split(",")] if names else []
    for name in chosen:
        if name not in IDEAS:
            raise UsageError(f"there is no idea '{name}'; `--list` shows those of tuning/ideas.py")
    return {name: IDEAS[name] for name in chosen} | {
        change: commandline.parse_settings([change], "--change") for change in changes
    }


def plan_trials(
    config: Config,
    ideas: Mapping[str, Mapping[str, Any]],
    folds: Sequence[int],
    seeds: Sequence[int],
    say=print,
    given: str = "",
) -> list[Attempt]:
    """Return the recipe as it is and with each idea, {name: {dotted path: value}}, that changes something in it, for
    each fold and seed. `given` tells what was set in the recipe before. Raises UsageError for a setting or a value that
    there is not."""
    variants = {PLAIN: (given, config)}
    for idea, values in ideas.items():
        if idea not in IDEAS:
            override(config, values)  # Refuses a setting that there is not; of the named ideas not all fit all recipes.
        if not all(applies(path, config) for path in values):
            say(f"{idea}: changes nothing in {config.recipe}")
            continue
        changed = override(config, values)
        if changed == config:
            say(f"{idea}: {config.recipe} is so already")
            continue
        was, becomes = settings(config), settings(changed)
        differing = [path for path in becomes if was.get(path) != becomes[path]]
        told = ", ".join(f"{path} {short(was.get(path))} → {short(becomes[path])}" for path in differing)
        variants[idea] = (told, changed)
    plain = digest(config)
    return [
        Attempt(idea, changes, with_experiment(own, fold=fold, seed=seed), plain)
        for fold, seed, (idea, (changes, own)) in itertools.product(folds, seeds, variants.items())
    ]


def measure(trial: Attempt, corpus: "Corpus", runs_dir: Path) -> Row:
    """Train, or go on; return the row that is kept."""
    import keras

    from emokeras.runs import read_split
    from emokeras.training.fit import validate_run

    folder = run_folder(trial.config, corpus.name, runs_dir)
    try:
        history = validate_run(trial.config, corpus, folder, trial.config.training.epochs)
    finally:
        keras.backend.clear_session()
    last = history[-max(1, len(history) // 10) :]

    def mean(name: str) -> str:
        return f"{np.mean([row[name] for row in last]):.4f}"

    figures = {
        "clips": str(sum(row["subset"] == "validation" for row in read_split(folder))),
        "balanced_accuracy": mean("val_balanced_accuracy"),
        "accuracy": mean("val_accuracy"),
        "loss": mean("val_loss"),
        "training_accuracy": mean("accuracy"),
        "cpu_minutes": f"{sum(row['cpu_seconds'] for row in history) / 60:.1f}",
    }
    return trial.key(corpus.name) | figures


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.ablation", __doc__)
    parser.add_argument("recipe", nargs="?", help="a name that `python -m emokeras.train --list` shows")
    parser.add_argument("--list", action="store_true", help="show the ideas")
    parser.add_argument("--ideas", metavar="IDEA,IDEA", help="these alone (default: all that change the recipe)")
    parser.add_argument(
        "--change", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one more idea, alone unless --ideas"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of each training (default: the recipe's)")
    add_split_options(parser, "change the recipe for all trainings")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    if arguments.list:
        for idea, values in IDEAS.items():
            print(f"{idea:40s} {', '.join(f'{path}={value}' for path, value in values.items())}")
        return
    if not arguments.recipe:
        raise UsageError("name a recipe; `python -m emokeras.train --list` shows them")
    commandline.import_tensorflow()
    from emokeras.data.corpora import default_source, load_corpus
    from emokeras.training.subsets import split_corpus

    given = given_settings(arguments.set)
    flags = {"experiment.protocol": arguments.protocol, "training.epochs": arguments.epochs}
    config = configuration_of(arguments.recipe, given | {key: own for key, own in flags.items() if own is not None})
    ideas = chosen_ideas(arguments.ideas, arguments.change)
    numbers = folds_and_seeds(arguments, config.experiment.protocol)
    trials = plan_trials(config, ideas, *numbers, given=settings_told(arguments.set))
    corpus = load_corpus(arguments.corpus or default_source())
    for trial in trials:
        split_corpus(corpus, trial.config.experiment)  # What cannot be split is refused before anything is trained.
    path = arguments.results / "ablation.csv"
    failed = []
    for number, trial in enumerate(trials, start=1):
        experiment = trial.config.experiment
        where = f"[{number}/{len(trials)}] {trial.idea}, fold {experiment.fold}, seed {experiment.seed}"
        if is_kept(trial.key(corpus.name), read_rows(path)):
            print(f"{where}: done already")
            continue
        print(f"{where}: begins" + (f" ({trial.changes})" if trial.changes else ""), flush=True)
        try:
            row = measure(trial, corpus, arguments.runs_dir)
        except EmokerasError as error:
            failed.append(f"{trial.idea} ({first_line(error)})")
            print(f"{where}: failed, {first_line(error)}", flush=True)
            continue
        add_row(path, row)
        print(f"{where}: UA {percent(float(row['balanced_accuracy']))} %, loss {row['loss']}", flush=True)
    print(f"figures are kept in {path}, their tables in {path.with_suffix('.md')}")
    if failed:
        raise RunError(f"{len(failed)} of {len(trials)} trainings failed: {', '.join(failed)}")


if __name__ == "__main__":
    raise SystemExit(main())
