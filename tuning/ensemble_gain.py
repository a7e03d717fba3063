"""Measure what each member contributes to an ensemble on validation clips: the mean of all logits, and without each.

    python -m tuning.ensemble_gain mel-resnet-muon mfcc-resnet-muon --epochs 100,70 --protocol luna --folds 0,1

Members are trained separately on the training clips; the test subset is not read. A stopped or killed measurement
continues with the same command. Runs and figures go where those of `python -m tuning.ablation` go.
"""

import argparse
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from emokeras import commandline
from emokeras.config import Config, with_experiment
from emokeras.errors import UsageError
from emokeras.reporting.texts import percent
from tuning import measurements
from tuning.measurements import UNCHANGED, Row, Trained
from tuning.spaces import recipe_config


def combinations(configs: Mapping[str, Config], corpus: str, given: str) -> dict[tuple[str, ...], Row]:
    """Return the members to average, all and all without each, with what identifies their rows.

    Parameters
    ----------
    configs: of all members, by name; given: what was set in all of them before, in words.
    """

    def digest_of(names: Iterable[str]) -> str:
        return hashlib.sha256(" ".join(measurements.digest(configs[name]) for name in names).encode()).hexdigest()[:8]

    ideas = {tuple(configs): UNCHANGED}
    ideas |= {tuple(other for other in configs if other != name): f"without {name}" for name in configs}
    return {
        names: measurements.row_key(
            next(iter(configs.values())).experiment,
            corpus=corpus,
            recipe="mean of the logits of " + ", ".join(configs),
            plain=digest_of(configs),
            epochs=", ".join(str(config.training.epochs) for config in configs.values()),
            idea=idea,
            changes=given if idea == UNCHANGED else "",
            config=digest_of(names),
        )
        for names, idea in ideas.items()
    }


def ensemble_figures(members: Sequence[Trained], emotions: Sequence[str]) -> Row:
    """Return the figures of the mean of members' logits."""
    from emokeras.reporting.metrics import point_figures
    from emokeras.training.score import to_probabilities

    probabilities = to_probabilities(np.mean([member.logits for member in members], axis=0))
    scores = point_figures(members[0].labels, probabilities, emotions)
    return measurements.figures(
        clips=len(probabilities),
        balanced_accuracy=scores["balanced_accuracy"],
        accuracy=scores["accuracy"],
        loss=scores["cross_entropy"],
        training_accuracy=float(np.mean([member.history[-1]["accuracy"] for member in members])),
        cpu_minutes=sum(row["cpu_seconds"] for member in members for row in member.history) / 60,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.ensemble_gain", __doc__)
    parser.add_argument(
        "recipes", nargs="+", metavar="recipe", help="two or more, as `emokeras.train --list` shows them"
    )
    parser.add_argument("--epochs", metavar="N,N", help="epochs of each, in their order (default: the recipes')")
    measurements.add_options(parser, "change all members")
    return commandline.run_command(_work, parser.parse_args(argv))


def _member_configs(arguments: argparse.Namespace) -> dict[str, Config]:
    """Return the configurations of the members by their recipes' names. Raises UsageError."""
    names = arguments.recipes
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"{' '.join(names)}: name two recipes or more, each once")
    given = measurements.given_settings(arguments) | {"training.refit_epochs": 0}  # A refit has no validation clips.
    if not arguments.epochs:
        return {name: recipe_config(name, given) for name in names}
    epochs = commandline.parse_numbers("--epochs", arguments.epochs)
    if len(epochs) != len(names):
        raise UsageError(f"--epochs {arguments.epochs}: give a number for each of {', '.join(names)}")
    return {
        name: recipe_config(name, given | {"training.epochs": number})
        for name, number in zip(names, epochs, strict=True)
    }


def _work(arguments: argparse.Namespace) -> None:
    configs = _member_configs(arguments)
    folds, seeds = measurements.folds_and_seeds(arguments, next(iter(configs.values())).experiment.protocol)
    commandline.import_tensorflow()
    trainings = [
        {name: with_experiment(config, fold=fold, seed=seed) for name, config in configs.items()}
        for fold, seed in itertools.product(folds, seeds)
    ]
    corpus = measurements.load_corpus_for([next(iter(own.values())) for own in trainings], arguments.corpus)
    path, given = arguments.results / "ablation.csv", measurements.changes_of(arguments)
    for own in trainings:
        experiment = next(iter(own.values())).experiment
        where = f"fold {experiment.fold}, seed {experiment.seed}"
        rows = measurements.read_rows(path)
        keys = combinations(own, corpus.name, given)
        missing = {names: key for names, key in keys.items() if not measurements.is_measured(key, rows)}
        if not missing:
            print(f"{where}: done already")
            continue
        trained = {}
        for name, config in own.items():
            print(f"{where}: {name}", flush=True)
            trained[name] = measurements.train(config, corpus, arguments.runs_dir)
        for names, key in missing.items():
            row = key | ensemble_figures([trained[name] for name in names], corpus.emotions)
            measurements.add_row(path, row)
            print(f"  {row['idea']}: UA {percent(float(row['balanced_accuracy']))} %, loss {row['loss']}", flush=True)
    print(f"figures are in {path}, tables in {path.with_suffix('.md')}")


if __name__ == "__main__":
    raise SystemExit(main())
