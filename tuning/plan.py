"""The plan of a search: what is searched, how, and the folder that holds it. Needs no TensorFlow."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emokeras import commandline
from emokeras.config import MAX_SEED, Config, settings
from emokeras.data.corpora import absolute_source, default_source, split_source
from emokeras.errors import RunError, UsageError
from emokeras.files import write_text
from emokeras.runs import run_folder_name
from emokeras.training.resolve import with_absolute_paths
from tuning.spaces import Space, recipe_config, space_of

PROJECT = "keras-tuner"  # KerasTuner's own folder in a search's folder
PLAN_FILE = "search.json"


@dataclass(frozen=True)
class Plan:
    """A search: the recipe's configuration, the space of its settings, the folder, KerasTuner's algorithm, the column
    of history.csv to optimize, the number of trials, and the seeds per trial (`executions`)."""

    config: Config
    space: Space
    folder: Path
    algorithm: str
    objective: str
    max_trials: int
    executions: int = 1

    @property
    def project(self) -> Path:
        """KerasTuner's files."""
        return self.folder / PROJECT

    def trial_folder(self, trial: str) -> Path:
        """Return the folder of a trial's runs, which are called seed-S."""
        return self.folder / "trials" / trial

    def run_folder(self, trial: str, execution: int) -> Path:
        """Return the folder of one training of a trial; executions are counted from 0."""
        return self.trial_folder(trial) / f"seed-{self.config.experiment.seed + execution}"


def plan_search(arguments: argparse.Namespace) -> Plan:
    """Return the search that the arguments of the command describe. Raises UsageError for a recipe or a setting that
    cannot be searched."""
    flags = {
        "experiment.corpora": split_source(absolute_source(arguments.corpus or default_source())),
        "experiment.protocol": arguments.protocol,
        "experiment.fold": arguments.fold,
        "experiment.seed": arguments.seed,
        "training.epochs": arguments.epochs,
    }
    fixed = commandline.parse_settings(arguments.set)
    if "experiment.corpora" in fixed:
        raise UsageError("--set experiment.corpora: give --corpus instead")
    values = fixed | {path: value for path, value in flags.items() if value is not None}
    config = with_absolute_paths(recipe_config(arguments.recipe, values))
    if config.experiment.seed > MAX_SEED - arguments.executions:
        raise UsageError(
            f"--seed {config.experiment.seed} is out of range: take one from 0 to {MAX_SEED - arguments.executions}"
        )
    space = {path: own for path, own in space_of(config).items() if not _is_fixed(path, fixed, config)}
    if arguments.only:
        chosen = arguments.only.split(",")
        for path in chosen:
            if path not in space:
                raise UsageError(f"--only {path}: the space of {config.recipe} has {', '.join(space)}")
        space = {path: space[path] for path in chosen}
    name = f"{run_folder_name(config.experiment)}-{arguments.tuner}"
    folder = Path(arguments.search_dir or Path("runs") / "search" / config.recipe / name).absolute()
    return Plan(config, space, folder, arguments.tuner, arguments.objective, arguments.max_trials, arguments.executions)


def _is_fixed(path: str, fixed: Mapping[str, Any], config: Config) -> bool:
    """Return whether --set gave a setting of the space, under any of its names."""
    names = {path}
    if path.startswith("encoders."):  # encoder.KEY sets all encoders.
        names.add(f"encoder.{path.rpartition('.')[2]}")
    elif path.startswith("encoder."):  # A single encoder's setting is also encoders.INPUT.KEY.
        names |= {f"encoders.{name}.{path.partition('.')[2]}" for name in config.encoders}
    return not names.isdisjoint(fixed)


def describe(plan: Plan, split_digest: str) -> dict[str, Any]:
    """Return all that distinguishes a search from others, as search.json holds it. Of the corpus it is the digest of
    the split: on another machine the same clips may have another path."""
    description = {
        **{path: value for path, value in settings(plan.config).items() if path != "experiment.corpora"},
        "--tuner": plan.algorithm,
        "--objective": plan.objective,
        "--executions": plan.executions,
        "--only": ",".join(plan.space),
        "--corpus": split_digest,
    }
    return json.loads(json.dumps(description))


def open_folder(folder: Path, description: Mapping[str, Any]) -> None:
    """Make the folder of a search, or check that it holds this search. Raises RunError where it holds another."""
    if (folder / PLAN_FILE).exists():
        return check_same_search(folder, description)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}): give another --search-dir") from error
    write_text(folder / PLAN_FILE, json.dumps(description, indent=2) + "\n")


def check_same_search(folder: Path, description: Mapping[str, Any]) -> None:
    """Raise RunError unless a folder holds the search of this description. Settings that only one of the two has, such
    as those of a later version, are not compared."""
    try:
        earlier = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{folder / PLAN_FILE} cannot be read ({error.strerror}): share the chief's search folder with this "
            "machine, and give it by --search-dir"
        ) from error
    for key in description.keys() & earlier.keys():
        if earlier[key] != description[key]:
            what = "on other clips" if key == "--corpus" else f"with {key} {earlier[key]}, not {description[key]}"
            raise RunError(f"{folder} holds a search {what}: give another --search-dir, or the command that began it")
