"""Search for better settings of a recipe: L2, dropout, learning rate and others, by `spaces.py`.

    python -m tuning.search mfcc-tcn --tuner bayesian --max-trials 30 --protocol luna --fold 0

Trials are scored on validation clips; the test subset is not read. A stopped or killed search continues with the same
command. It writes trials.csv, scores.png, TensorBoard's HParams page, and best.json, which trains the best trial again:

    python -m emokeras.train --config runs/search/mfcc-tcn/ravdess-luna-fold-0-seed-0-bayesian/best.json
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import get_args

from emokeras import commandline
from emokeras.config import MeasuredProtocol
from emokeras.data.corpora import Corpus, load_corpus
from emokeras.data.splits import draw_split
from emokeras.errors import RunError, UsageError
from emokeras.files import locked
from tuning import workers
from tuning.plan import Plan, check_same_search, describe, open_folder, plan_search
from tuning.trials import Progress, best_trial, read_trials, write_results

RESERVED_IDS = ("tuner0", "tuner", "oracle")  # of KerasTuner's own process and files
OBJECTIVES = ("val_balanced_accuracy", "val_accuracy", "val_loss")


def search(plan: Plan, corpus: Corpus, supervised: str = "") -> None:
    """Run a search, or the part of it that KERASTUNER_TUNER_ID gives this process: the chief's, or a worker's.

    Parameters
    ----------
    supervised: "started" or "restarted" for a process of `workers.supervise`.

    Raises
    ------
    RunError: the folder holds another search, or no trial was completed. CorpusError: the corpus cannot be split.
    """
    from tuning.tuner import Tuner

    role = os.environ.get("KERASTUNER_TUNER_ID", "")
    description = describe(plan, draw_split(corpus, plan.config.experiment).digest)
    if role not in ("", workers.CHIEF):
        tuner = Tuner(plan, corpus, restarted=supervised == workers.RESTARTED)
        print(f"waiting for the chief at {workers.chief_address()}", flush=True)
        tuner.wait_for_chief()  # It has made the folder by then.
        check_same_search(plan.folder, description)
        tuner.run()
        return
    open_folder(plan.folder, description)
    in_use = f"{plan.folder} is being searched already: wait for that search's end, or end it"
    with locked(plan.folder / "lock", in_use):
        _lead(plan, corpus, role, supervised)
        _print_best(plan)


def _lead(plan: Plan, corpus: Corpus, role: str, supervised: str) -> None:
    from tuning.tuner import Tuner

    num_ended = sum(trial.has_ended for trial in read_trials(plan.project))
    print(f"search folder: {plan.folder}")
    print(f"{len(plan.space)} settings are searched; {num_ended} of {plan.max_trials} trials are done already")

    def is_gone(worker: str) -> bool:
        """Without a chief there are no workers; those that `supervise` has just started have no trials yet."""
        return not role or (supervised == workers.STARTED and workers.is_supervised(worker))

    tuner = Tuner(plan, corpus, Progress(plan).update, is_gone=is_gone)
    if num_ended >= plan.max_trials:
        print("this search is finished; a larger --max-trials continues it")
    elif role == workers.CHIEF:
        tuner.lead()
    else:
        tuner.run()


def _print_best(plan: Plan) -> None:
    trials = read_trials(plan.project)
    write_results(plan, trials)  # After a kill at the end of the last trial they are not up to date.
    best = best_trial(trials, plan.objective)
    if not best:
        why = next((trial.reason for trial in trials if trial.reason), "no reason is known")
        raise RunError(f"{plan.folder}: no trial was completed ({why}): mend it, and give another --search-dir")
    print(f"best: trial {best.name}, {plan.objective} {best.score:.4f}")
    unused_seed = plan.config.experiment.seed + plan.executions
    print(f"to train it: python -m emokeras.train --config {plan.folder / 'best.json'} --seed {unused_seed}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.search", __doc__)
    parser.add_argument("recipe", help="a name that `python -m emokeras.train --list` shows")
    parser.add_argument("--tuner", choices=("random", "bayesian", "hyperband"), default="bayesian")
    parser.add_argument("--max-trials", type=int, default=20, metavar="N", help="trials in all (default: 20)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of a trial at most (default: the recipe's)")
    parser.add_argument("--corpus", metavar="C[,C...]", help="ravdess, emodb, demo, a folder, zip or manifest.csv")
    parser.add_argument("--protocol", choices=get_args(MeasuredProtocol), help="how clips are split (default: speaker)")
    parser.add_argument("--fold", type=int, metavar="K", help="fold of the protocol, from 0")
    parser.add_argument("--seed", type=int, metavar="S", help="of trials, weights and augmentation (default: 0)")
    parser.add_argument("--objective", choices=OBJECTIVES, default=OBJECTIVES[0], help=f"default: {OBJECTIVES[0]}")
    parser.add_argument(
        "--executions", type=int, default=1, metavar="N", help="seeds per trial; their mean is its score (default: 1)"
    )
    parser.add_argument("--only", metavar="PATH,PATH", help="search only these settings (default: the recipe's space)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="fix a setting, which is not searched then",
    )
    parser.add_argument("--search-dir", type=Path, metavar="D", help="folder of the search (default: runs/search/…)")
    parser.add_argument("--workers", type=int, metavar="N", help="run a chief and N workers on this machine")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads of this process, or of each worker")
    parser.add_argument("--chief", metavar="HOST:PORT", help="where the chief listens, for workers on other machines")
    parser.add_argument("--worker-id", metavar="ID", help="join the search of --chief as this worker (or as `chief`)")
    parser.add_argument("--supervised", default="", help=argparse.SUPPRESS)  # set by workers.supervise
    given = sys.argv[1:] if argv is None else list(argv)
    return commandline.run_command(lambda arguments: _work(arguments, given), parser.parse_args(given))


def _work(arguments: argparse.Namespace, given: list[str]) -> int | None:
    for option in ("max_trials", "executions", "workers", "threads"):
        number = getattr(arguments, option)
        if number is not None and number < 1:
            raise UsageError(f"--{option.replace('_', '-')} {number}: give 1 or more")
    if arguments.threads:
        threads = str(arguments.threads)
        os.environ |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    plan = plan_search(arguments)
    if arguments.worker_id:
        if arguments.workers and not arguments.supervised:
            raise UsageError("give --workers, or --chief and --worker-id, not all three")
        if not arguments.supervised:
            _check_worker_id(arguments.worker_id)
        os.environ |= workers.role_variables(arguments.chief, arguments.worker_id)
    elif arguments.chief and not arguments.workers:
        raise UsageError(f"--chief {arguments.chief}: give --worker-id too, to join it, or --workers, to start it")
    experiment = plan.config.experiment
    corpus = load_corpus(experiment.source, plan.config.decode_rate_hz, experiment.emotion_map)
    if arguments.workers and not arguments.worker_id:
        draw_split(corpus, plan.config.experiment)  # Refused here, once, instead of by each process.
        return workers.supervise(given, arguments.workers, arguments.chief, plan.project)
    commandline.import_tensorflow()
    try:
        search(plan, corpus, arguments.supervised)
    except KeyboardInterrupt:
        print(f"\nto continue this search, give the same command again: {plan.folder}")
        raise
    return None


def _check_worker_id(name: str) -> None:
    """Raise UsageError for an id that the chief would take for another worker's, or KerasTuner for the chief's."""
    if name == workers.CHIEF:
        return
    if not re.fullmatch(r"[\w.-]+", name) or name in RESERVED_IDS:
        raise UsageError(f"--worker-id {name}: give another, of letters, digits, dots and hyphens")
    if workers.is_supervised(name) or workers.CHIEF in name:
        raise UsageError(f"--worker-id {name}: workers that --workers starts are named like that; give another")


if __name__ == "__main__":
    raise SystemExit(main())
