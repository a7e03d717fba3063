"""Measure what each member gives an ensemble, on validation clips: the mean of all members' logits, and without each.

    python -m tuning.members mel-resnet-muon mfcc-resnet-muon --epochs 100,70 --protocol luna --folds 0,1

Each member is trained for itself on the training clips; the test subset is not read. Stopped or killed, it goes on by
the same command: the trainings are those of `python -m tuning.ablation`, beside whose rows what is measured stands.
"""

import argparse
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from emokeras import commandline
from emokeras.config import Config, with_experiment
from emokeras.errors import UsageError
from emokeras.reporting.texts import percent
from tuning.ablation import digest, run_folder
from tuning.recipe import add_split_options, configuration_of, folds_and_seeds, given_settings, settings_told
from tuning.tried import KEYS, PLAIN, Row, add_row, is_kept, read_rows

if TYPE_CHECKING:
    from emokeras.data.corpora import Corpus


class Answer(NamedTuple):
    """What a trained member says of the validation clips: their labels [clips] and its logits [clips, emotions]; and
    what its training came to."""

    labels: np.ndarray
    logits: np.ndarray
    training_accuracy: float
    cpu_minutes: float


def combinations(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return who answers together, by idea: all, and all without each."""
    return {PLAIN: tuple(names)} | {
        f"without {name}": tuple(other for other in names if other != name) for name in names
    }


def key_of(configs: Mapping[str, Config], idea: str, together: Sequence[str], corpus: str, given: str = "") -> Row:
    """Return what tells the row of a combination from others. `given` tells what was set in all members before."""
    first = next(iter(configs.values()))

    def digest_of(names: Sequence[str]) -> str:
        return hashlib.sha256(" ".join(digest(configs[name]) for name in names).encode()).hexdigest()[:8]

    own = {
        **{key: getattr(first.experiment, key) for key in ("protocol", "fold", "seed", "split_seed")},
        "corpus": corpus,
        "recipe": "mean of the logits of " + ", ".join(configs),
        "plain": digest_of(list(configs)),
        "epochs": ", ".join(str(config.training.epochs) for config in configs.values()),
        "idea": idea,
        "changes": given if idea == PLAIN else "",
        "config": digest_of(together),
    }
    return {key: str(own[key]) for key in KEYS}


def answer(config: Config, corpus: "Corpus", runs_dir: Path) -> Answer:
    """Train a member, or go on with it; return what it says of the validation clips."""
    import keras

    from emokeras.runs import read_history
    from emokeras.training.fit import train_unscored
    from emokeras.training.score import predict_logits
    from emokeras.training.subsets import evaluation_inputs

    try:
        run = train_unscored(config, corpus, run_folder(config, corpus.name, runs_dir), config.training.epochs)
        validation = run.subsets["validation"]
        history = read_history(run.folder / "history.csv")
        return Answer(
            validation.labels,
            predict_logits(run.model, evaluation_inputs(validation, run.config)),
            history[-1]["accuracy"],
            sum(row["cpu_seconds"] for row in history) / 60,
        )
    finally:
        keras.backend.clear_session()


def figures_of(answers: Sequence[Answer], emotions: Sequence[str]) -> Row:
    """Return the figures of members that answer together by the mean of their logits."""
    from emokeras.reporting.metrics import point_figures
    from emokeras.training.score import to_probabilities

    probabilities = to_probabilities(np.mean([one.logits for one in answers], axis=0))
    figures = point_figures(answers[0].labels, probabilities, emotions)
    return {
        "clips": str(len(probabilities)),
        "balanced_accuracy": f"{figures['balanced_accuracy']:.4f}",
        "accuracy": f"{figures['accuracy']:.4f}",
        "loss": f"{figures['cross_entropy']:.4f}",
        "training_accuracy": f"{np.mean([one.training_accuracy for one in answers]):.4f}",
        "cpu_minutes": f"{sum(one.cpu_minutes for one in answers):.1f}",
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.members", __doc__)
    parser.add_argument(
        "recipes", nargs="+", metavar="recipe", help="two or more, as `emokeras.train --list` shows them"
    )
    parser.add_argument("--epochs", metavar="N,N", help="epochs of each, in their order (default: the recipes')")
    add_split_options(parser, "change all members")
    return commandline.run_command(_work, parser.parse_args(argv))


def _configurations(arguments: argparse.Namespace) -> dict[str, Config]:
    """Return the members' configurations by their recipes' names. Raises UsageError for what cannot be members."""
    names = arguments.recipes
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UsageError(f"{' '.join(names)}: name two recipes or more, each once")
    given = given_settings(arguments.set)
    if arguments.protocol:
        given["experiment.protocol"] = arguments.protocol
    given["training.refit_epochs"] = 0  # What comes after validation is not measured here.
    epochs = commandline.parse_numbers("--epochs", arguments.epochs) if arguments.epochs else None
    if epochs and len(epochs) != len(names):
        raise UsageError(f"--epochs {arguments.epochs}: give a number for each of {', '.join(names)}")
    each = [{"training.epochs": number} for number in epochs] if epochs else [{}] * len(names)
    return {name: configuration_of(name, given | own) for name, own in zip(names, each, strict=True)}


def _work(arguments: argparse.Namespace) -> None:
    configs = _configurations(arguments)
    numbers = folds_and_seeds(arguments, next(iter(configs.values())).experiment.protocol)
    commandline.import_tensorflow()
    from emokeras.training.members import share_tellers

    from emokeras.data.corpora import default_source, load_corpus
    from emokeras.runs import run_folder_name
    from emokeras.training.subsets import split_corpus

    corpus = load_corpus(arguments.corpus or default_source())
    trainings = [
        {name: with_experiment(config, fold=fold, seed=seed) for name, config in configs.items()}
        for fold, seed in itertools.product(*numbers)
    ]
    for own in trainings:
        split_corpus(corpus, next(iter(own.values())).experiment)  # Refused before anything is trained.
    path, given = arguments.results / "ablation.csv", settings_told(arguments.set)
    for own in trainings:
        experiment = next(iter(own.values())).experiment
        where = f"fold {experiment.fold}, seed {experiment.seed}"
        keys = {
            together: key_of(own, idea, together, corpus.name, given)
            for idea, together in combinations(arguments.recipes).items()
        }
        kept = read_rows(path)
        missing = {together: key for together, key in keys.items() if not is_kept(key, kept)}
        if not missing:
            print(f"{where}: done already")
            continue
        runs_of = {name: run_folder(config, corpus.name, arguments.runs_dir) for name, config in own.items()}
        told_in = f"{keys[tuple(own)]['config']}-{run_folder_name(experiment, corpus.name)}"
        share_tellers(own, runs_of, corpus, arguments.runs_dir / "tellers" / told_in, print)
        answers = {}
        for name, config in own.items():
            print(f"{where}: {name}", flush=True)
            answers[name] = answer(config, corpus, arguments.runs_dir)
        for together, key in missing.items():
            row = key | figures_of([answers[name] for name in together], corpus.emotions)
            add_row(path, row)
            print(f"  {row['idea']}: UA {percent(float(row['balanced_accuracy']))} %, loss {row['loss']}", flush=True)
    print(f"figures are kept in {path}, their tables in {path.with_suffix('.md')}")


if __name__ == "__main__":
    raise SystemExit(main())
