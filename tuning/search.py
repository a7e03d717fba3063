"""Search for settings of a recipe: L2, dropout, learning rate, and what else its space in tuning/spaces.py has.

    python -m tuning.search mfcc-tcn --tuner bayesian --max-trials 30 --protocol luna --fold 0

Trials are judged on validation clips; the test subset is not read. A search that was stopped or killed goes on by the
same command. It leaves trials.csv, scores.png, TensorBoard's HParams page, and best.json, which trains what was found:

    python -m emokeras.train --config runs/search/mfcc-tcn/ravdess-luna-fold-0-seed-0-bayesian/best.json
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from emokeras import commandline
from emokeras.config import MeasuredProtocol, settings
from emokeras.errors import RunError, UsageError
from emokeras.files import write_text

if TYPE_CHECKING:
    from tuning.tuner import Search

OBJECTIVES = ("val_balanced_accuracy", "val_accuracy", "val_loss")


def plan_search(arguments: argparse.Namespace) -> "Search":
    """Return what the arguments ask for. Raises UsageError for a recipe or a setting that cannot be searched."""
    from emokeras.data.corpus import default_source, lasting_source
    from emokeras.reporting.runs import run_folder_name
    from tuning.recipe import configuration_of
    from tuning.spaces import space_of
    from tuning.tuner import Search

    flags = {
        "experiment.corpus": lasting_source(arguments.corpus or default_source()),
        "experiment.protocol": arguments.protocol,
        "experiment.fold": arguments.fold,
        "experiment.seed": arguments.seed,
        "training.epochs": arguments.epochs,
    }
    given = commandline.parse_settings(arguments.set) | {key: own for key, own in flags.items() if own is not None}
    config = configuration_of(arguments.recipe, given)
    space = space_of(config)
    if arguments.only:
        unknown = [path for path in arguments.only.split(",") if path not in space]
        if unknown:
            raise UsageError(f"--only {unknown[0]}: the space of {config.recipe} has {', '.join(space)}")
        space = {path: space[path] for path in arguments.only.split(",")}
    name = f"{run_folder_name(config.experiment)}-{arguments.tuner}"
    folder = arguments.search_dir or Path("runs") / "search" / config.recipe / name
    return Search(
        config,
        space,
        Path(folder).absolute(),
        arguments.tuner,
        arguments.objective,
        arguments.max_trials,
        config.experiment.seed,
        arguments.executions,
    )


def search(plan: "Search", say: Callable = print, after_death: bool = False) -> None:
    """Run a search, or the part in it that KERASTUNER_TUNER_ID gives this process: the chief's, or a worker's.

    Raises RunError when another search lies in its folder; what the corpus cannot be split for, as `train` does.
    """
    from emokeras.data.corpus import load_corpus
    from emokeras.training.subsets import corpus_digest
    from tuning.report import ENDED, best_of, read_trials
    from tuning.tuner import PROJECT, Tuner
    from tuning.watch import Watch
    from tuning.workers import CHIEF

    role = os.environ.get("KERASTUNER_TUNER_ID", "")
    leads = role in ("", CHIEF)
    corpus = load_corpus(plan.config.experiment.corpus)
    told = told_of(plan, corpus_digest(corpus, plan.config.experiment))
    if leads:
        begin(plan.folder, told)
    watch = Watch(plan, say)
    ended = [trial for trial in read_trials(plan.folder / PROJECT) if trial.status in ENDED]
    if leads:
        say(f"search folder: {plan.folder}")
        say(f"{len(plan.space)} settings are searched; {len(ended)} of {plan.max_trials} trials are done already")
    tuner = Tuner(plan, corpus, watch.look if leads else None, after_death)
    if not leads:
        say(f"waiting for the chief at {os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}")
        tuner.wait_for_chief()  # It has made the folder by then.
        check_same(plan.folder, told)
    if leads and len(ended) >= plan.max_trials:
        say("this search is finished; a larger --max-trials goes on with it")
    else:
        with watch.every_second() if role == CHIEF else contextlib.nullcontext():
            tuner.search()
    trials = read_trials(plan.folder / PROJECT)
    best = best_of(trials, plan.objective)
    if leads and not best:
        why = next((trial.reason for trial in trials if trial.reason), "no trial has begun")
        raise RunError(f"{plan.folder}: no trial was completed ({why})")
    if leads:
        say(f"best: trial {best.name}, {plan.objective} {best.score:.4f}")
        say(f"to train it: python -m emokeras.train --config {plan.folder / 'best.json'}")


def told_of(plan: "Search", split_digest: str) -> dict[str, Any]:
    """Return all that makes a search this one, and not another."""
    told = {
        **{key: own for key, own in settings(plan.config).items() if key != "experiment.corpus"},
        "--tuner": plan.algorithm,
        "--objective": plan.objective,
        "--executions": plan.executions,
        "--only": ",".join(plan.space),
        "--corpus": split_digest,
    }
    return json.loads(json.dumps(told))


def begin(folder: Path, told: Mapping[str, Any]) -> None:
    """Make a search's folder, or check that the search that lies in it is this one. Raises RunError when not."""
    if (folder / "search.json").exists():
        return check_same(folder, told)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}): give another --search-dir") from error
    write_text(folder / "search.json", json.dumps(told, indent=2) + "\n")


def check_same(folder: Path, told: Mapping[str, Any]) -> None:
    """Raise RunError unless the search that lies in a folder is the one that is told of. A setting that is younger than
    the search is not compared."""
    earlier = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    for key in told.keys() & earlier.keys():
        if earlier[key] != told[key]:
            what = "on other clips" if key == "--corpus" else f"with {key} {earlier[key]}, not {told[key]}"
            raise RunError(
                f"{folder} holds a search {what}: give another --search-dir, or the command it was begun with"
            )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.search", __doc__)
    parser.add_argument("recipe", help="a name that `python -m emokeras.train --list` shows")
    parser.add_argument("--tuner", choices=("random", "bayesian", "hyperband"), default="bayesian")
    parser.add_argument("--max-trials", type=int, default=20, metavar="N", help="trials in all (default: 20)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of a trial at most (default: the recipe's)")
    parser.add_argument("--corpus", help="ravdess, emodb, demo, or a folder, zip or manifest.csv")
    parser.add_argument("--protocol", choices=get_args(MeasuredProtocol), help="how clips are split (default: speaker)")
    parser.add_argument("--fold", type=int, metavar="K", help="which fold of the protocol, from 0")
    parser.add_argument("--seed", type=int, metavar="S", help="draws trials, weights and augmentation (default: 0)")
    parser.add_argument("--objective", choices=OBJECTIVES, default=OBJECTIVES[0], help=f"default: {OBJECTIVES[0]}")
    parser.add_argument(
        "--executions", type=int, default=1, metavar="N", help="seeds whose mean is a trial's score (default: 1)"
    )
    parser.add_argument("--only", metavar="PATH,PATH", help="search these settings alone (default: the recipe's space)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="fix any setting that is not searched"
    )
    parser.add_argument("--search-dir", type=Path, metavar="D", help="where the search lies (default: runs/search/…)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="a chief and N workers on this machine")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads of each worker")
    parser.add_argument("--chief", metavar="HOST:PORT", help="where the chief listens, for workers on other machines")
    parser.add_argument("--worker-id", metavar="ID", help="join the search of --chief as this worker (or as `chief`)")
    parser.add_argument("--after-death", action="store_true", help=argparse.SUPPRESS)  # What workers.py says.
    given = sys.argv[1:] if argv is None else list(argv)
    return commandline.run_command(lambda arguments: _work(arguments, given), parser.parse_args(given))


def _work(arguments: argparse.Namespace, given: list[str]) -> int | None:
    from tuning import workers

    for option, number in (("--max-trials", arguments.max_trials), ("--executions", arguments.executions)):
        if number < 1:
            raise UsageError(f"{option} {number}: give 1 or more")
    if arguments.workers:
        if arguments.worker_id:
            raise UsageError("give --workers, or --chief and --worker-id, not all three")
        return workers.supervise(given, arguments.workers, arguments.chief, arguments.threads)
    if arguments.worker_id:
        os.environ |= workers.environment(arguments.chief, arguments.worker_id)
    elif arguments.chief:
        raise UsageError(f"--chief {arguments.chief}: give --worker-id too, to join it, or --workers, to start it")
    commandline.import_tensorflow()
    plan = plan_search(arguments)
    try:
        search(plan, after_death=arguments.after_death)
    except KeyboardInterrupt:
        print(f"\nto go on with this search, give the same command again: {plan.folder}")
        raise
    return None


if __name__ == "__main__":
    raise SystemExit(main())
