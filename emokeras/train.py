"""Train one recipe on one split of a corpus, and score it once on the test subset.

    python -m emokeras.train mel-resnet --corpus ~/ravdess --protocol random --seed 0

The run folder it leaves holds the model, the configuration, the split, every prediction, metrics and pictures;
`tensorboard --logdir runs` shows it while it grows.
"""

import argparse
from pathlib import Path
from typing import get_args

from emokeras import commandline
from emokeras.config import ProtocolName


def train(
    recipe: str | None = None,
    *,
    corpus: str | None = None,
    run_dir: Path | None = None,
    resume: Path | None = None,
    config_file: Path | None = None,
    values: dict | None = None,
    results: Path | None = None,
    members_at_once: int | None = None,
    say=print,
) -> dict:
    """Train a recipe or a configuration file, or continue a run; return the metrics.

    Parameters
    ----------
    recipe: a name of `recipes.RECIPES`; by default that of the model that the network starts from
        (`model.start_from`), else `mel-cnn3`.
    corpus: "ravdess", "emodb", "demo", a folder, zip or manifest.csv, or several of these separated by commas; by
        default that of the configuration, else RAVDESS where it has been prepared, else the demo corpus.
    run_dir: the run folder; by default a new one under runs/.
    resume: the folder of an interrupted run, which continues after its last whole epoch with its configuration. Give
        `corpus` too where the corpus has moved; other clips are refused.
    config_file: a config.json instead of a recipe.
    values: settings by dotted path, as `recipes.configure` takes them.
    results: where to keep a copy of the figures, for RESULTS.md.
    members_at_once: networks of an ensemble that are trained at the same time; by default one per core, or one where
        there is a GPU.
    """
    from emokeras import runs
    from emokeras.config import read_config_to_train
    from emokeras.data.corpora import absolute_source, load_corpus, split_source
    from emokeras.errors import UsageError
    from emokeras.recipes import configure

    if members_at_once is not None and members_at_once < 1:
        raise UsageError(f"--members-at-once {members_at_once}: 1 or more")
    values = dict(values or {})
    if resume:
        if recipe or config_file or values or run_dir:
            raise UsageError("--resume continues a run as it was begun: give no recipe, --config, --run-dir or --set")
        runs.check_run(resume, resume=True)
        if (Path(resume) / "metrics.json").exists():
            say(f"{resume} has ended already; there is nothing to train")
            return _copy_results(resume, runs.read_metrics(resume), results, say)
        config = read_config_to_train(Path(resume) / "config.json")
        source = absolute_source(corpus or config.experiment.source)
    else:
        config = _configuration(recipe, config_file, values)
        source = absolute_source(corpus or config.experiment.source or _default_source(say))
        config = configure(config, {"experiment.corpora": split_source(source)} | values)
    if results and config.experiment.protocol == "all":
        raise UsageError("protocol all has no test clips, so there are no results to copy: leave --results out")

    commandline.import_tensorflow()
    from emokeras.training import run

    loaded = load_corpus(source, config.decode_rate_hz, config.experiment.emotion_map)
    say(f"corpus {loaded.name}: {len(loaded.clips)} clips, {len(loaded.speakers)} speakers")
    for note in loaded.notes:
        say(f"  {note}")
    folder = Path(resume or run_dir or runs.default_run_dir(config, loaded.name))
    say(f"run folder: {folder}")
    try:
        if resume:
            metrics = run.continue_run(folder, loaded, source, say, members_at_once)
        else:
            metrics = run.train(config, loaded, folder, say, members_at_once)
    except KeyboardInterrupt:
        say(f"\nto continue this run: python -m emokeras.train --resume {folder}")
        raise
    return _copy_results(folder, metrics, results, say)


def _configuration(recipe: str | None, config_file: Path | None, values: dict):
    """Return the configuration that a recipe, a file, or the model that the network starts from gives."""
    from emokeras.config import read_config_to_train
    from emokeras.errors import UsageError
    from emokeras.recipes import DEFAULT_RECIPE, find_recipe
    from emokeras.training.resolve import config_of_start

    for key, mend in (("corpora", "give --corpus instead"), ("emotions", "leave it out, they are the corpus's")):
        if f"experiment.{key}" in values:
            raise UsageError(f"--set experiment.{key}: {mend}")
    if recipe and config_file:
        raise UsageError("give a recipe or --config, not both")
    if config_file:
        return read_config_to_train(config_file)
    if not recipe and values.get("model.start_from"):
        return config_of_start(Path(values["model.start_from"]))
    return find_recipe(recipe or DEFAULT_RECIPE).config


def _default_source(say) -> str:
    from emokeras.data.corpora import default_source

    source = default_source()
    if source == "demo":
        say(
            "corpus: demo, the embedded synthetic one (RAVDESS is not prepared on this machine: "
            "python -m emokeras.prepare --corpus ravdess, or give --corpus FOLDER)"
        )
    else:
        say("corpus: ravdess, as prepared on this machine (--corpus demo for the embedded one)")
    return source


def _copy_results(folder: Path, metrics: dict, results: Path | None, say) -> dict:
    """Copy the results of a finished run to `results`, if given; return the metrics."""
    if results:
        from emokeras import runs

        say(f"figures kept in {runs.keep_results(folder, results)}")
    return metrics


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.train", __doc__)
    parser.add_argument("recipe", nargs="?", help="a name that --list shows (default: mel-cnn3)")
    parser.add_argument("--corpus", metavar="C[,C...]", help="ravdess, emodb, demo, a folder, zip or manifest.csv")
    parser.add_argument("--map", metavar="calm=neutral", help="count the clips of one emotion as another")
    parser.add_argument("--protocol", choices=get_args(ProtocolName), help="how clips are split (default: speaker)")
    parser.add_argument("--fold", type=int, metavar="K", help="which fold of the protocol, from 0")
    parser.add_argument("--seed", type=int, metavar="S", help="draws weights and augmentation (default: 0)")
    parser.add_argument("--split-seed", type=int, metavar="S", help="draws the split (default: 0)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs at most (default: the recipe's)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change any setting (where it has a flag of its own, that one prevails)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a config.json instead of a recipe")
    parser.add_argument("--run-dir", type=Path, metavar="D", help="the run folder (default: a new one under runs/)")
    parser.add_argument("--resume", type=Path, metavar="D", help="continue an interrupted run")
    parser.add_argument("--results", type=Path, metavar="D", help="keep a copy of the figures under D, for RESULTS.md")
    parser.add_argument(
        "--members-at-once",
        type=int,
        metavar="N",
        help="networks of an ensemble that train at the same time (default: one a core; with a GPU: 1)",
    )
    parser.add_argument("--mixed-precision", action="store_true", default=None, help="float16 on a GPU")
    parser.add_argument("--list", action="store_true", help="show the recipes and where they come from")
    return commandline.run_command(_work, parser.parse_args(argv))


FLAGS = {
    "protocol": "experiment.protocol",
    "map": "experiment.emotion_map",
    "fold": "experiment.fold",
    "seed": "experiment.seed",
    "split_seed": "experiment.split_seed",
    "epochs": "training.epochs",
    "mixed_precision": "training.mixed_precision",
}


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.reporting import screen

    if arguments.list:
        screen.print_recipes()
        return
    given = {path: getattr(arguments, name) for name, path in FLAGS.items() if getattr(arguments, name) is not None}
    metrics = train(
        arguments.recipe,
        corpus=arguments.corpus,
        run_dir=arguments.run_dir,
        resume=arguments.resume,
        config_file=arguments.config,
        values=commandline.parse_settings(arguments.set) | given,
        results=arguments.results,
        members_at_once=arguments.members_at_once,
    )
    screen.print_metrics(metrics)


if __name__ == "__main__":
    raise SystemExit(main())
