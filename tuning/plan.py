"""What a search is: a recipe, its space, and how it is searched; and the folder that holds it, which is for this search
alone. Needs no TensorFlow."""

import argparse
import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emokeras import commandline
from emokeras.config import MAX_SEED, Config, settings
from emokeras.data.corpora import default_source, lasting_source
from emokeras.errors import RunError, UsageError
from emokeras.files import write_text
from emokeras.runs import run_folder_name
from tuning.recipe import configuration_of
from tuning.spaces import Space, space_of

PROJECT = "keras-tuner"  # KerasTuner's own folder in a search's
TOLD = "search.json"


@dataclass(frozen=True)
class Plan:
    """What is searched: the recipe's configuration and what of it, what for, how often and for how long."""

    config: Config
    space: Space
    folder: Path
    algorithm: str
    objective: str
    max_trials: int
    executions: int = 1

    @property
    def seed(self) -> int:
        return self.config.experiment.seed

    @property
    def epochs(self) -> int:
        return self.config.training.epochs


def plan_search(arguments: argparse.Namespace) -> Plan:
    """Return what the arguments ask for. Raises UsageError for a recipe or a setting that cannot be searched."""
    flags = {
        "experiment.corpus": lasting_source(arguments.corpus or default_source()),
        "experiment.protocol": arguments.protocol,
        "experiment.fold": arguments.fold,
        "experiment.seed": arguments.seed,
        "training.epochs": arguments.epochs,
    }
    fixed = commandline.parse_settings(arguments.set)
    if "experiment.corpus" in fixed:
        raise UsageError("--set experiment.corpus: give --corpus instead")
    config = configuration_of(arguments.recipe, fixed | {key: own for key, own in flags.items() if own is not None})
    if not 0 <= config.experiment.seed <= MAX_SEED - arguments.executions:
        raise UsageError(
            f"--seed {config.experiment.seed} is out of range: take one from 0 to some less than {MAX_SEED}"
        )
    space = {path: own for path, own in space_of(config).items() if not _is_fixed(path, fixed, config)}
    if arguments.only:
        unknown = [path for path in arguments.only.split(",") if path not in space]
        if unknown:
            raise UsageError(f"--only {unknown[0]}: the space of {config.recipe} has {', '.join(space)}")
        space = {path: space[path] for path in arguments.only.split(",")}
    name = f"{run_folder_name(config.experiment)}-{arguments.tuner}"
    folder = arguments.search_dir or Path("runs") / "search" / config.recipe / name
    return Plan(
        config,
        space,
        Path(folder).absolute(),
        arguments.tuner,
        arguments.objective,
        arguments.max_trials,
        arguments.executions,
    )


def _is_fixed(path: str, fixed: Mapping[str, Any], config: Config) -> bool:
    names = {path}
    if path.startswith("encoders."):  # A body's setting, which all bodies may have been given together, ...
        names.add(f"encoder.{path.rpartition('.')[2]}")
    elif path.startswith("encoder."):  # ... or the only body's, which goes by its input's name too.
        names |= {f"encoders.{name}.{path.partition('.')[2]}" for name in config.encoders}
    return not names.isdisjoint(fixed)


def told_of(plan: Plan, split_digest: str) -> dict[str, Any]:
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
    if (folder / TOLD).exists():
        return check_same(folder, told)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}): give another --search-dir") from error
    write_text(folder / TOLD, json.dumps(told, indent=2) + "\n")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a search's folder to the one process that leads the search. Raises RunError when another does."""
    with open(folder / "lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{folder} is being searched already: wait for that search's end, or end it") from error
        yield


def check_same(folder: Path, told: Mapping[str, Any]) -> None:
    """Raise RunError unless the search that lies in a folder is the one that is told of. A setting that is younger than
    the search is not compared."""
    try:
        earlier = json.loads((folder / TOLD).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{folder / TOLD} cannot be read ({error.strerror}): share the chief's search folder with this machine, "
            "and give it by --search-dir"
        ) from error
    for key in told.keys() & earlier.keys():
        if earlier[key] != told[key]:
            what = "on other clips" if key == "--corpus" else f"with {key} {earlier[key]}, not {told[key]}"
            raise RunError(
                f"{folder} holds a search {what}: give another --search-dir, or the command it was begun with"
            )
