"""Combine trained runs to an ensemble: late fusion, with weights that are fitted on their validation clips.

    python -m emokeras.ensemble runs/mel-resnet/demo-speaker-split-0-seed-0 runs/text-gru/demo-speaker-split-0-seed-0

    weighted             softmax of a weighted mean of the logits; the weights, non-negative with sum 1, minimize the
                         cross-entropy on validation (the default)
    stacking             a regularized logistic regression over all logits, fitted on validation
    mean-logits          softmax of the mean of the logits
    mean-probabilities   the mean of the probabilities
    vote                 the share of the runs whose most likely emotion it is; the mean probability breaks ties

The runs must have been trained, validated and tested on the same clips. The result is a run folder like any other,
which evaluate, predict and export take. Rows under results/ can be combined too: that gives metrics, but no model.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from emokeras import commandline
from emokeras.config import EnsembleMethod
from emokeras.errors import CorpusError, UsageError


def ensemble(
    runs_to_combine: Sequence[Path],
    *,
    method: EnsembleMethod = "weighted",
    weights: Sequence[float] = (),
    name: str | None = None,
    run_dir: Path | None = None,
    results: Path | None = None,
    say=print,
) -> dict:
    """Combine runs that have ended; return the ensemble's metrics.

    Parameters
    ----------
    runs_to_combine: run folders, or rows under results/, of single networks.
    weights: those of the runs in "weighted", in proportion; by default they are fitted on validation.
    name: its name in tables, like a recipe's; by default the method and the runs' recipes.
    run_dir: its run folder, by default a new one under runs/.
    results: a folder that gets a copy of the metrics and predictions, for RESULTS.md.
    say: called with each line to print.

    Raises
    ------
    RunError: the runs' splits differ, or a file is missing.
    UsageError: a run is an ensemble itself, or the runs do not fit together.
    """
    from emokeras import runs
    from emokeras.config import Config, ensemble_of, read_config

    members, configs = {}, {}
    for folder in map(Path, runs_to_combine):
        config = read_config(folder / "config.json")
        if not isinstance(config, Config):
            raise UsageError(f"{folder} is an ensemble: give the runs of its members")
        number = sum(other.recipe == config.recipe for other in configs.values()) + 1
        member = config.recipe if number == 1 else f"{config.recipe}-{number}"
        members[member], configs[member] = folder, config
    name = name or "-".join([method, *members])
    config = ensemble_of(name, configs, method, weights)

    commandline.import_tensorflow()
    from emokeras.data.corpora import load_corpus
    from emokeras.models.late import fit_combination
    from emokeras.training.ensemble import agreeing_metrics, fuse_runs
    from emokeras.training.run import copy_member

    corpus = agreeing_metrics(members)[next(iter(members))]["corpus"]
    validation = runs.read_stacked(members.values(), runs.PREDICTION_FILES["validation"])
    fit_combination(
        method, validation.probabilities, validation.labels, weights
    )  # An error here leaves no folder behind.
    try:
        clips = load_corpus(config.experiment.source, emotion_map=config.experiment.emotion_map).clips
    except CorpusError:
        clips = ()
        say(f"corpus {corpus} is not on this machine: no metrics by sex and intensity")
    folder = Path(run_dir or runs.default_run_dir(config, corpus))
    say(f"run folder: {folder}")
    runs.create_run(folder)
    for member, run in members.items():
        copy_member(run, folder / "members" / member)
    copies = {member: folder / "members" / member for member in members}
    lacking = [member for member, copy in copies.items() if not (copy / "model.keras").is_file()]
    if lacking:
        say(f"no model.keras in {', '.join(lacking)}: this ensemble has metrics and predictions, but cannot be served")
    metrics = fuse_runs(config, copies, folder, clips, say)
    if results:
        say(f"figures kept in {runs.keep_results(folder, results)}")
    return metrics


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.ensemble", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a row under results/")
    parser.add_argument("--method", choices=get_args(EnsembleMethod), default="weighted")
    parser.add_argument("--weights", metavar="W,W", help="of the runs, in proportion (default: fitted on validation)")
    parser.add_argument("--name", help="its name in tables (default: the method and the runs' recipes)")
    parser.add_argument("--run-dir", type=Path, metavar="D", help="the run folder (default: a new one under runs/)")
    parser.add_argument("--results", type=Path, metavar="D", help="copy metrics and predictions to D, for RESULTS.md")
    return commandline.run_command(_work, parser.parse_args(argv))


def _weights(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(weight) for weight in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--weights {text}: give a number for each run, such as 1,1,2") from None


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.reporting import screen

    metrics = ensemble(
        arguments.runs,
        method=arguments.method,
        weights=_weights(arguments.weights),
        name=arguments.name,
        run_dir=arguments.run_dir,
        results=arguments.results,
    )
    screen.print_metrics(metrics)


if __name__ == "__main__":
    raise SystemExit(main())
