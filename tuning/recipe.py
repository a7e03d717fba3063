"""What a search and an ablation begin with: the configuration of a recipe that validation clips can judge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emokeras.config import Config, with_lasting_paths
from emokeras.errors import UsageError
from emokeras.recipes import configure, find_recipe


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
