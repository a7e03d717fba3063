"""Many trainings, one after another: recipe × fold × seed.

Each is a child process of its own: TensorFlow gives back its memory with it, and what ends one does not end the others.
What is done is read from the disk alone, so that the same jobs, given again after a kill, go on where they were:

    done    its figures lie under results/
    ended   its run folder holds figures that are not kept there yet
    begun   its run folder holds a run to go on with
    new     nothing of it is there
"""

import ctypes
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from emokeras import recipes
from emokeras.config import MAX_SEED, AnyConfig, EnsembleConfig, override, read_config
from emokeras.data.corpus import lasting_source, load_corpus
from emokeras.data.splits import PROTOCOLS, check_fold, split
from emokeras.errors import RunError, UsageError
from emokeras.reporting import runs
from emokeras.reporting.differences import differing_settings

State = Literal["done", "ended", "begun", "new"]
# What a job itself says; a setting that says otherwise would be lost without a word.
SET_BY_JOBS = {"corpus": "--corpus", "protocol": "--protocol", "fold": "--folds", "seed": "--seeds"}
CTRL_C_SECONDS, TERMINATE_SECONDS = 5, 10  # how long a child has to end
SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


@dataclass(frozen=True)
class Job:
    """One training. `config` says what is trained, `what` the recipe or file it is from, `values` what in it was asked
    for beside that.

    `corpus` is what `--corpus` takes, `split_sha256` tells its split by content. The run lies in `run_folder`; `row` is
    where its figures are kept under `results_root`.
    """

    what: str
    config: AnyConfig
    values: Mapping[str, Any]
    corpus: str
    split_sha256: str
    run_folder: Path
    results_root: Path
    row: Path

    @property
    def name(self) -> str:
        return f"{self.config.recipe} {self.row.name}"


def plan_jobs(
    recipe_names: Sequence[str],
    corpus: str,
    protocol: str,
    folds: Sequence[int] | None,
    seeds: Sequence[int],
    values: Mapping[str, Any],
    runs_root: Path,
    results_root: Path,
) -> list[Job]:
    """Return a job for each recipe, fold and seed, in this order; what is named twice is done once.

    Parameters
    ----------
    recipe_names: recipes, or configuration files, whose names end in .json.
    corpus: a name or a path, as `load_corpus` takes them.
    folds: of the protocol, from 0; None for all of them.
    values: settings by dotted path, as `recipes.configure` takes them, for every recipe.

    Raises
    ------
    UsageError: a recipe, protocol, fold, seed or setting that there is not.
    CorpusError: no such corpus, or one that the protocol cannot split.
    """
    for key, option in SET_BY_JOBS.items():
        if f"experiment.{key}" in values:
            raise UsageError(f"--set experiment.{key}: give {option} instead")
    values = dict(values)
    configs = {
        name: recipes.configure(_named(name), values | {"experiment.protocol": protocol}) for name in recipe_names
    }
    if not configs:
        raise UsageError("no recipe is given: name one or more; `python -m emokeras.train --list` shows them")
    folds = range(PROTOCOLS[protocol].num_folds) if folds is None else dict.fromkeys(folds)
    for fold in folds:
        check_fold(protocol, fold)
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed {seed} is out of range: take one from 0 to {MAX_SEED}")
    if not folds or not seeds:
        raise UsageError(f"no {'seed' if folds else 'fold'} is given: name one or more")

    corpus = lasting_source(corpus)
    loaded = load_corpus(corpus)
    split_seeds = dict.fromkeys(config.experiment.split_seed for config in configs.values())
    digests = {
        (fold, split_seed): runs.split_digest(loaded.clips, split(loaded, protocol, fold, split_seed))
        for fold, split_seed in itertools.product(folds, split_seeds)
    }

    jobs = []
    rows: dict[Path, str] = {}
    for name, fold, seed in itertools.product(configs, folds, dict.fromkeys(seeds)):
        config = override(configs[name], {"experiment.fold": fold, "experiment.seed": seed})
        run = {"corpus": loaded.name, "protocol": protocol, "recipe": config.recipe}
        run |= {"fold": fold, "seed": seed, "split_seed": config.experiment.split_seed}
        row = runs.results_folder(run, results_root, where=Path("the job"))
        if rows.setdefault(row, name) != name:
            both = f"{rows[row]} and {name}"
            raise UsageError(f"{both} are both called {config.recipe}: give one of them another `recipe`")
        run_folder = Path(runs_root) / config.recipe / runs.run_folder_name(config.experiment, loaded.name)
        digest = digests[fold, config.experiment.split_seed]
        jobs.append(Job(name, config, values, corpus, digest, run_folder, Path(results_root), row))
    return jobs


def _named(name: str) -> AnyConfig:
    """Return what is trained: a recipe's configuration, or a file's, such as the best.json of a search."""
    return read_config(Path(name)) if name.endswith(".json") else recipes.find_recipe(name).config


def job_state(job: Job, again: bool = False) -> State:
    """Return how far a job is, as it lies on the disk.

    Raises RunError where its place holds a run of other settings; with `again` that run counts as nothing.
    """
    if all((job.row / name).is_file() for name in runs.RESULT_FILES) and _is_of(job, job.row, again):
        return "done"
    if (job.run_folder / "config.json").is_file() and _is_of(job, job.run_folder, again):
        return "ended" if (job.run_folder / "metrics.json").is_file() else "begun"
    return "new"


def _is_of(job: Job, folder: Path, again: bool) -> bool:
    settings = runs.read_json(folder / "config.json")
    differing = differing_settings(settings, _as_begun(job.config))
    split_seeds = settings.get("experiment", {}).get("split_seed"), job.config.experiment.split_seed
    if split_seeds[0] != split_seeds[1]:
        differing["experiment.split_seed"] = split_seeds
    told = ""
    if differing:
        (key, (there, here)), *others = differing.items()
        more = f", and {len(others)} more" if others else ""
        told = f"with other settings ({key} is {json.dumps(there)}, here {json.dumps(here)}{more})"
    elif (folder / "metrics.json").is_file() and runs.read_metrics(folder).get("split_sha256") != job.split_sha256:
        told = f"on other clips than those of {job.corpus}"
    if told and not again:
        raise RunError(
            f"{folder} was trained {told}: "
            "give --again to train it anew, or other --results and --runs-dir to keep both"
        )
    return not told


def _as_begun(config: AnyConfig) -> AnyConfig:
    """Return a configuration as its run has it: with the network of the model that it starts from."""
    if isinstance(config, EnsembleConfig):
        return replace(config, members={name: _as_begun(member) for name, member in config.members.items()})
    if not config.model.start_from:
        return config
    from emokeras.training.start import with_start  # It needs TensorFlow.

    return with_start(config)


def train_command(job: Job, state: State) -> list[str]:
    """Return the arguments that train a new job, go on with one that was begun, or keep the figures of an ended one."""
    words = [sys.executable, "-m", "emokeras.train"]
    if state == "new":
        experiment = job.config.experiment
        words += ["--config", job.what] if job.what.endswith(".json") else [job.what]
        words += ["--protocol", experiment.protocol]
        words += ["--fold", str(experiment.fold), "--seed", str(experiment.seed), "--run-dir", str(job.run_folder)]
        for key, value in job.values.items():
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    else:
        words += ["--resume", str(job.run_folder)]
    return [*words, "--corpus", job.corpus, "--results", str(job.results_root)]


def run_jobs(
    jobs: Sequence[Job],
    again: bool = False,
    say: Callable = print,
    ended: Callable[[Job], None] = lambda job: None,
    command: Callable[[Job, State], list[str]] = train_command,
) -> dict[str, str]:
    """Do what is left to do, job after job; one that fails does not keep the others from their turn.

    Parameters
    ----------
    again: train anew what was trained with other settings; its run folder is set aside.
    say: where lines for the reader go. What the children write goes where this process's output goes.
    ended: called with each job that has just ended.
    command: the arguments that do a job in a given state.

    Returns the names of the jobs that failed, and why. Raises RunError, before anything is trained, for runs of other
    settings, and KeyboardInterrupt on Ctrl-C or SIGTERM, after the child has ended too.
    """
    states = [job_state(job, again) for job in jobs]
    say(_plan_line(jobs, states))
    failed = {}
    num_done = states.count("done")
    try:
        for number, job in enumerate(jobs, start=1):
            where = f"[{number}/{len(jobs)}] {job.name}"
            state = job_state(job, again)  # Another benchmark may have come to it meanwhile.
            if state == "done":
                say(f"{where}: done already, {job.row}")
                continue
            purpose = {"ended": "keeps the figures of the run that ended", "begun": "goes on", "new": "begins"}[state]
            say(f"{where}: {purpose} in {job.run_folder}")
            if state == "new":
                _set_aside(job.run_folder, say)
            status = run_child(command(job, state))
            if status:
                failed[job.name] = how_ended(status)
                say(f"{where}: failed, {failed[job.name]}; what it said stands above")
            else:
                num_done += 1
                ended(job)
    except KeyboardInterrupt:
        say(f"\n{num_done} of {len(jobs)} jobs are done; to go on, give the same command again")
        raise
    return failed


def run_child(command: Sequence[str]) -> int:
    """Run a command to its end, its output and its progress bar where ours are; return its exit status.

    It does not outlive us: Ctrl-C and SIGTERM end it, then raise KeyboardInterrupt; on Linux it ends by our kill too.
    """
    sys.stdout.flush()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=END_WITH_PARENT)

    def on_terminate(*_):
        child.terminate()
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, on_terminate)
    try:
        return child.wait()
    except KeyboardInterrupt:
        # On a terminal Ctrl-C has reached the child as well, which then ends in its own way.
        for seconds, end in ((CTRL_C_SECONDS, child.terminate), (TERMINATE_SECONDS, child.kill)):
            try:
                child.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                end()
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


# Loaded here: between fork and exec there should be no import.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    _LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


# For subprocess's `preexec_fn`: a child gets SIGTERM when its parent ends, even by a kill. None where that cannot be.
END_WITH_PARENT = _end_with_parent if _LIBC else None


def _plan_line(jobs: Sequence[Job], states: Sequence[State]) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number} {noun}{'s' * (number != 1)}"

    experiments = [job.config.experiment for job in jobs]
    factors = [count(len({job.config.recipe for job in jobs}), "recipe")]
    if PROTOCOLS[experiments[0].protocol].num_folds > 1:
        factors.append(count(len({experiment.fold for experiment in experiments}), "fold"))
    factors.append(count(len({experiment.seed for experiment in experiments}), "seed"))
    corpus = jobs[0].row.parents[2].name
    num_begun = states.count("begun") + states.count("ended")
    begun = f", {num_begun} begun" if num_begun else ""
    return (
        f"{count(len(jobs), 'job')} on {corpus}, protocol {experiments[0].protocol}: {' × '.join(factors)}; "
        f"{states.count('done')} done already{begun}"
    )


def _set_aside(folder: Path, say: Callable) -> None:
    """Make room for a new run: what lies in its folder is renamed, not lost."""
    if not folder.exists():
        return
    names = (folder.with_name(f"{folder.name}-aside-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    say(f"what lay in {folder} lies in {aside.name} now")


def how_ended(status: int) -> str:
    """Say how a child process ended that did not end well."""
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
