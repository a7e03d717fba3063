"""Search for settings of a recipe: L2, dropout, learning rate, and what else its space in tuning/spaces.py has.

    python -m tuning.search mfcc-tcn --tuner bayesian --max-trials 30 --protocol luna --fold 0

Trials are judged on validation clips; the test subset is not read. A search that was stopped or killed goes on by the
same command. It leaves trials.csv, scores.png, TensorBoard's HParams page, and best.json, which trains what was found:

    python -m emokeras.train --config runs/search/mfcc-tcn/ravdess-luna-fold-0-seed-0-bayesian/best.json
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from emokeras import commandline
from emokeras.config import MeasuredProtocol
from emokeras.errors import RunError, UsageError

if TYPE_CHECKING:
    from tuning.plan import Plan

RESERVED = ("tuner0", "tuner", "oracle")  # of KerasTuner's own process and files
OBJECTIVES = ("val_balanced_accuracy", "val_accuracy", "val_loss")


def search(plan: "Plan", say: Callable = print, supervised: str = "") -> None:
    """Run a search, or the part in it that KERASTUNER_TUNER_ID gives this process: the chief's, or a worker's.

    `supervised` says what `workers.supervise` does with this process: it is begun, or it died and is begun again.
    Raises RunError when another search lies in its folder; what the corpus cannot be split for, as `train` does.
    """
    from emokeras.data.corpora import load_corpus
    from emokeras.training.subsets import corpus_digest
    from tuning import workers
    from tuning.plan import begin, check_same, held, told_of
    from tuning.tuner import Tuner

    role = os.environ.get("KERASTUNER_TUNER_ID", "")
    corpus = load_corpus(plan.config.experiment.corpus)
    told = told_of(plan, corpus_digest(corpus, plan.config.experiment))
    if role not in ("", workers.CHIEF):
        tuner = Tuner(plan, corpus, after_death=supervised == workers.AGAIN)
        say(f"waiting for the chief at {workers.chief_address()}")
        tuner.wait_for_chief()  # It has made the folder by then.
        check_same(plan.folder, told)
        tuner.run()
        return
    begin(plan.folder, told)
    with held(plan.folder):
        _lead(plan, corpus, role, supervised, say)
        _say_the_best(plan, say)


def _lead(plan: "Plan", corpus, role: str, supervised: str, say: Callable) -> None:
    from tuning import workers
    from tuning.plan import PROJECT
    from tuning.report import ENDED, read_trials
    from tuning.tuner import Tuner
    from tuning.watch import Watch

    ended = [trial for trial in read_trials(plan.folder / PROJECT) if trial.status in ENDED]
    say(f"search folder: {plan.folder}")
    say(f"{len(plan.space)} settings are searched; {len(ended)} of {plan.max_trials} trials are done already")

    def is_gone(worker: str) -> bool:
        """A search without a chief has no workers left; one that is begun with workers begins those of this machine."""
        return not role or (supervised == workers.BEGUN and workers.is_ours(worker))

    watch = Watch(plan, say)
    tuner = Tuner(plan, corpus, watch.look, is_gone=is_gone)
    if len(ended) >= plan.max_trials:
        say("this search is finished; a larger --max-trials goes on with it")
    elif role == workers.CHIEF:
        with watch.every_second():
            tuner.lead()
    else:
        tuner.run()


def _say_the_best(plan: "Plan", say: Callable) -> None:
    from tuning.plan import PROJECT
    from tuning.report import best_of, read_trials, write_report

    trials = read_trials(plan.folder / PROJECT)
    write_report(plan, trials)  # What was killed between the last trial's end and its report has an older one.
    best = best_of(trials, plan.objective)
    if not best:
        why = next((trial.reason for trial in trials if trial.reason), "none says why" if trials else "none has begun")
        raise RunError(f"{plan.folder}: no trial was completed ({why}): mend it, and give another --search-dir")
    say(f"best: trial {best.name}, {plan.objective} {best.score:.4f}")
    unseen = plan.seed + plan.executions
    say(f"to train it: python -m emokeras.train --config {plan.folder / 'best.json'} --seed {unseen}")


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
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="fix any setting: it is not searched then",
    )
    parser.add_argument("--search-dir", type=Path, metavar="D", help="where the search lies (default: runs/search/…)")
    parser.add_argument("--workers", type=int, metavar="N", help="a chief and N workers on this machine")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads of this process, or of each worker")
    parser.add_argument("--chief", metavar="HOST:PORT", help="where the chief listens, for workers on other machines")
    parser.add_argument("--worker-id", metavar="ID", help="join the search of --chief as this worker (or as `chief`)")
    parser.add_argument("--supervised", default="", help=argparse.SUPPRESS)  # What workers.supervise says.
    given = sys.argv[1:] if argv is None else list(argv)
    return commandline.run_command(lambda arguments: _work(arguments, given), parser.parse_args(given))


def _work(arguments: argparse.Namespace, given: list[str]) -> int | None:
    from emokeras.data.corpora import load_corpus
    from emokeras.data.splits import split
    from tuning import workers
    from tuning.plan import PROJECT, plan_search

    for option in ("max_trials", "executions", "workers", "threads"):
        number = getattr(arguments, option)
        if number is not None and number < 1:
            raise UsageError(f"--{option.replace('_', '-')} {number}: give 1 or more")
    if arguments.threads:
        threads = str(arguments.threads)
        os.environ |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    plan = plan_search(arguments)
    if arguments.workers:
        if arguments.worker_id:
            raise UsageError("give --workers, or --chief and --worker-id, not all three")
        experiment = plan.config.experiment  # What is wrong with the corpus or the split is said once.
        split(load_corpus(experiment.corpus), experiment.protocol, experiment.fold, experiment.split_seed)
        return workers.supervise(given, arguments.workers, arguments.chief, plan.folder / PROJECT)
    if arguments.worker_id:
        _check_worker_id(arguments)
        os.environ |= workers.environment(arguments.chief, arguments.worker_id)
    elif arguments.chief:
        raise UsageError(f"--chief {arguments.chief}: give --worker-id too, to join it, or --workers, to start it")
    commandline.import_tensorflow()
    try:
        search(plan, supervised=arguments.supervised)
    except KeyboardInterrupt:
        print(f"\nto go on with this search, give the same command again: {plan.folder}")
        raise
    return None


def _check_worker_id(arguments: argparse.Namespace) -> None:
    """Raise UsageError for the id of a worker that a chief would take for another, or KerasTuner for the chief."""
    from tuning import workers

    name = arguments.worker_id
    if name == workers.CHIEF or arguments.supervised:
        return
    if not re.fullmatch(r"[\w.-]+", name) or name in RESERVED:
        raise UsageError(f"--worker-id {name}: give another, of letters, digits, dots and hyphens")
    if workers.is_ours(name) or workers.CHIEF in name:
        raise UsageError(f"--worker-id {name}: workers that --workers starts are named like that; give another")


if __name__ == "__main__":
    raise SystemExit(main())
