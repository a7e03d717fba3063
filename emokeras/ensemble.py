"""Make one recogniser of several trained runs: late fusion, with weights that are fitted on their validation clips.

    python -m emokeras.ensemble runs/mel-resnet/demo-speaker-split-0-seed-0 runs/text-gru/demo-speaker-split-0-seed-0

    weighted             the softmax of a weighted mean of the logits; the weights, none negative and of sum 1, have the
                         least cross-entropy on validation (the default)
    stacking             a regularised logistic regression over all logits, fitted on validation
    mean-logits          the softmax of the plain mean of the logits
    mean-probabilities   the plain mean of the probabilities
    vote                 the share of the runs whose likeliest emotion it is; ties by the mean probability

The runs must have learned, validated and been tested on the same clips. What comes of it is a run folder like any
other, which evaluate, predict and export take. Rows under results/ can be fused too: that gives figures, and no model.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from emokeras import commandline
from emokeras.config import EnsembleMethod


def ensemble(
    runs_to_fuse: Sequence[Path],
    method: EnsembleMethod = "weighted",
    name: str | None = None,
    run_dir: Path | None = None,
    results: Path | None = None,
    say=print,
) -> dict:
    """Fuse runs that have ended; return the ensemble's metrics.

    Parameters
    ----------
    runs_to_fuse: run folders, or rows under results/, of single networks.
    name: what it is called in tables, as a recipe is; by default the method and the runs' recipes.
    run_dir: its run folder; a new one under runs/ by default.
    results: where to keep a copy of the figures, for RESULTS.md.

    Raises RunError where the runs' splits differ or something is not there, UsageError for runs that are ensembles
    themselves.
    """
    from emokeras import runs
    from emokeras.config import Config, ensemble_of, read_config
    from emokeras.errors import CorpusError, UsageError

    members, configs = {}, {}
    for folder in map(Path, runs_to_fuse):
        config = read_config(folder / "config.json")
        if not isinstance(config, Config):
            raise UsageError(f"{folder} is an ensemble: give the runs that it is made of")
        number = sum(other.recipe == config.recipe for other in configs.values()) + 1
        member = config.recipe if number == 1 else f"{config.recipe}-{number}"
        members[member], configs[member] = folder, config
    name = name or "-".join([method, *members])
    config = ensemble_of(name, configs, method)

    commandline.import_tensorflow()
    from emokeras.data.corpora import load_corpus
    from emokeras.models.late import fit_combination
    from emokeras.training.ensemble import agreeing_metrics, fuse_runs
    from emokeras.training.run import copy_member

    corpus = agreeing_metrics(members)[next(iter(members))]["corpus"]
    validation = runs.read_stacked(members.values(), runs.PREDICTION_FILES["validation"])
    fit_combination(method, validation.probabilities, validation.labels)  # What cannot be fused leaves no folder.
    try:
        clips = load_corpus(config.experiment.corpus).clips
    except CorpusError:
        clips = ()
        say(f"corpus {corpus} is not here: no figures by sex and intensity")
    folder = Path(run_dir or runs.default_run_dir(config, corpus))
    say(f"run folder: {folder}")
    runs.create_run(folder)
    for member, run in members.items():
        copy_member(run, folder / "members" / member)
    lacking = [member for member in members if not (folder / "members" / member / "model.keras").is_file()]
    if lacking:
        say(f"{', '.join(lacking)}: no model.keras there, so that this ensemble has figures and cannot be served")
    result = fuse_runs(config, {member: folder / "members" / member for member in members}, folder, clips, say)
    if results:
        say(f"figures kept in {runs.keep_results(folder, results)}")
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.ensemble", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a row under results/")
    parser.add_argument("--method", choices=get_args(EnsembleMethod), default="weighted")
    parser.add_argument("--name", help="its name in tables (default: the method and the runs' recipes)")
    parser.add_argument("--run-dir", type=Path, metavar="D", help="the run folder (default: a new one under runs/)")
    parser.add_argument("--results", type=Path, metavar="D", help="keep a copy of the figures under D, for RESULTS.md")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.reporting import screen

    metrics = ensemble(arguments.runs, arguments.method, arguments.name, arguments.run_dir, arguments.results)
    screen.print_metrics(metrics)


if __name__ == "__main__":
    raise SystemExit(main())
