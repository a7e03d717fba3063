"""What a search and an ablation begin with: the configuration of a recipe that validation clips can judge."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from emokeras import commandline
from emokeras.config import Config, MeasuredProtocol, with_lasting_paths
from emokeras.data.splits import check_fold
from emokeras.errors import UsageError
from emokeras.recipes import configure, find_recipe
from emokeras.training.jobs import SET_BY_JOBS


def configuration_of(recipe: str, given: Mapping[str, Any]) -> Config:
    """Return a recipe's configuration with these settings, by dotted path; what it starts from has lasting paths.

    Raises UsageError for a recipe or a setting that there is not, and where there is nothing to judge or to start from.
    """
    config = find_recipe(recipe).config
    if not isinstance(config, Config):
        raise UsageError(
            f"{recipe} is an ensemble: its weights are fitted exactly; take one of its members, "
            f"{', '.join(config.members)}"
        )
    config = configure(config, given)
    if config.experiment.protocol == "all":
        raise UsageError("protocol all measures nothing, there is nothing to judge by: give another --protocol")
    for branch in config.model.branches:
        if not (Path(branch) / "metrics.json").is_file():
            raise UsageError(
                f"model.branches: {branch} is no run that has ended: train it, and give the runs' folders by "
                "--set model.branches=RUN,RUN"
            )
    return with_lasting_paths(config)


def add_split_options(parser: argparse.ArgumentParser, what_set_does: str) -> None:
    """Let a command that measures on validation clips be told on which, with which settings, and where all lies."""
    parser.add_argument("--corpus", help="ravdess, emodb, demo, or a folder, zip or manifest.csv")
    parser.add_argument("--protocol", choices=get_args(MeasuredProtocol), help="how clips are split (default: speaker)")
    parser.add_argument("--folds", default="0", metavar="K,K", help="of the protocol, from 0 (default: 0)")
    parser.add_argument("--seeds", default="0", metavar="S,S", help="draw weights and augmentation (default: 0)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=what_set_does)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/ablation"), metavar="D", help="where the runs lie")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="D", help="where the figures are kept")


def given_settings(pairs: list[str]) -> dict[str, str]:
    """Return what --set gave such a command, by dotted path. Raises UsageError for what has an option of its own."""
    given = commandline.parse_settings(pairs)
    for key, option in SET_BY_JOBS.items():
        if f"experiment.{key}" in given:
            raise UsageError(f"--set experiment.{key}: give {option} instead")
    return given


def settings_told(pairs: list[str]) -> str:
    """Return what --set changed in a recipe, as its table tells it: the split seed has a column, and is of a row."""
    return ", ".join(pair for pair in pairs if not pair.startswith("experiment.split_seed="))


def folds_and_seeds(arguments: argparse.Namespace, protocol: str) -> tuple[list[int], list[int]]:
    """Return the numbers that such a command was given. Raises UsageError for what is none, or is no fold."""
    folds, seeds = (
        commandline.parse_numbers(option, getattr(arguments, option[2:])) for option in ("--folds", "--seeds")
    )
    for fold in folds:
        check_fold(protocol, fold)
    return folds, seeds
