"""Many trainings, one after another: recipe × fold × seed.

Each is a child process: its memory is freed with it, and a failure does not end the others. The state of a job is read
from the disk alone, so that the same jobs continue after a kill:

    done    its figures are under results/
    ended   its run folder has figures that are not kept there yet
    begun   its run folder has a run to continue
    new     there is nothing of it
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from emokeras import recipes, runs
from emokeras.config import MAX_SEED, AnyConfig, EnsembleConfig, override, read_config_to_train
from emokeras.data.corpora import absolute_source, load_corpus
from emokeras.data.splits import PROTOCOLS, check_fold, draw_split, num_folds
from emokeras.errors import RunError, UsageError
from emokeras.processes import how_ended, python, run_to_end
from emokeras.runs.differences import differing_settings
from emokeras.training.resolve import with_start

State = Literal["done", "ended", "begun", "new"]
# Settings that have an option of their own here.
SET_BY_JOBS = {"corpora": "--corpus", "protocol": "--protocol", "fold": "--folds", "seed": "--seeds"}


@dataclass(frozen=True)
class Job:
    """One training: its configuration, the recipe or file it is from (`what`) and the settings given beside that
    (`values`); what `--corpus` takes, and the digest of the split; the run's folder, and the folder (`row`) where its
    figures are kept under `results_root`."""

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
    folds = None if folds is None else tuple(dict.fromkeys(folds))
    for fold in folds or ():  # As far as that is known before the corpus is loaded, or even made.
        check_fold(protocol, fold)
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed {seed} is out of range: take one from 0 to {MAX_SEED}")
    if folds == () or not seeds:
        raise UsageError(f"no {'fold' if folds == () else 'seed'} is given: name one or more")
    corpus = absolute_source(corpus)
    first = next(iter(configs.values()))
    loaded = load_corpus(corpus, first.decode_rate_hz, first.experiment.emotion_map)
    folds = range(num_folds(protocol, loaded)) if folds is None else folds
    for fold in folds:
        check_fold(protocol, fold, loaded)
    digests: dict[tuple[int, int], str] = {}

    def digest_of(config: AnyConfig) -> str:
        key = config.experiment.fold, config.experiment.split_seed
        if key not in digests:
            digests[key] = draw_split(loaded, config.experiment).digest
        return digests[key]

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
        jobs.append(Job(name, config, values, corpus, digest_of(config), run_folder, Path(results_root), row))
    return jobs


def _named(name: str) -> AnyConfig:
    """Return a recipe's configuration, or a file's, such as the best.json of a search."""
    return read_config_to_train(Path(name)) if name.endswith(".json") else recipes.find_recipe(name).config


def job_state(job: Job, again: bool = False) -> State:
    """Return the state of a job on the disk.

    Raises RunError where its folder holds a run of other settings; with `again` such a run is ignored.
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
    reason = ""
    if differing:
        (key, (there, here)), *others = differing.items()
        more = f", and {len(others)} more" if others else ""
        reason = f"with other settings ({key} is {json.dumps(there)}, here {json.dumps(here)}{more})"
    elif (folder / "metrics.json").is_file() and runs.read_metrics(folder).get("split_sha256") != job.split_sha256:
        reason = f"on other clips than those of {job.corpus}"
    if reason and not again:
        raise RunError(
            f"{folder} was trained {reason}: "
            "give --again to train it again, or other --results and --runs-dir to keep both"
        )
    return not reason


def _as_begun(config: AnyConfig) -> AnyConfig:
    """Return a configuration as its run has it: with the network of the model that it starts from."""
    if isinstance(config, EnsembleConfig):
        return replace(config, members={name: _as_begun(member) for name, member in config.members.items()})
    return with_start(config) if config.model.start_from else config


def train_command(job: Job, state: State) -> list[str]:
    """Return the arguments that train a new job, continue one that was begun, or keep the figures of an ended one."""
    words = python("emokeras.train")
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
    """Run the jobs that are not done, one after another; the failure of one does not stop the others.

    Parameters
    ----------
    again: train again what was trained with other settings; its run folder is renamed.
    say: gets lines for the reader. The children's output goes where this process's output goes.
    ended: called with each job that has just ended.
    command: the arguments that run a job in a given state.

    Returns
    -------
    The names of the jobs that failed, and why.

    Raises
    ------
    RunError: there are runs of other settings; nothing has been trained then.
    KeyboardInterrupt: Ctrl-C or SIGTERM, after the child has ended too.
    """
    states = [job_state(job, again) for job in jobs]
    say(_plan_line(jobs, states))
    failed = {}
    num_done = states.count("done")
    try:
        for number, job in enumerate(jobs, start=1):
            where = f"[{number}/{len(jobs)}] {job.name}"
            state = job_state(job, again)  # Another benchmark may have done it meanwhile.
            if state == "done":
                say(f"{where}: done already, {job.row}")
                continue
            purpose = {"ended": "keeps the figures of the ended run", "begun": "continues", "new": "begins"}[state]
            say(f"{where}: {purpose} in {job.run_folder}")
            if state == "new":
                _set_aside(job.run_folder, say)
            status = run_to_end(command(job, state))
            if status:
                failed[job.name] = how_ended(status)
                say(f"{where}: failed, {failed[job.name]}; its messages are above")
            else:
                num_done += 1
                ended(job)
    except KeyboardInterrupt:
        say(f"\n{num_done} of {len(jobs)} jobs are done; give the same command again to continue")
        raise
    return failed


def _plan_line(jobs: Sequence[Job], states: Sequence[State]) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number} {noun}{'s' * (number != 1)}"

    experiments = [job.config.experiment for job in jobs]
    factors = [count(len({job.config.recipe for job in jobs}), "recipe")]
    if PROTOCOLS[experiments[0].protocol].has_folds:
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
    """Make room for a new run: the folder of another one is renamed, not lost."""
    if not folder.exists():
        return
    names = (folder.with_name(f"{folder.name}-aside-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    say(f"{folder} was renamed to {aside.name}")
