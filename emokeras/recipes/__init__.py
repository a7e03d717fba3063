"""The named experiments. `python -m emokeras.train --list` prints them.

reports     the networks of five student reports (A to E)
ours        our own networks
ensembles   recipes made of several trained networks
"""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from emokeras.config import AnyConfig, EnsembleConfig, changed, ensemble_of, override
from emokeras.errors import UsageError
from emokeras.recipes import ensembles, ours, reports
from emokeras.recipes.ours import SPEECH
from emokeras.recipes.shared import Recipe

RECIPES: dict[str, Recipe] = reports.RECIPES | ours.RECIPES | ensembles.RECIPES
DEFAULT_RECIPE = "mel-cnn3"


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name. Raises UsageError, naming the nearest, when there is none."""
    if name not in RECIPES:
        (near,) = difflib.get_close_matches(name, RECIPES, 1, 0.0)
        raise UsageError(f"there is no recipe '{name}'; did you mean '{near}'? `--list` shows them all")
    return RECIPES[name]


def configure(config: AnyConfig, values: Mapping[str, Any]) -> AnyConfig:
    """Return a configuration with the settings at these dotted paths, as `config.override` takes them.

    `model.pretrained` for a network without a speech encoder adds the branch of speech-tcn to it, for an ensemble one
    more member.
    """
    speech_encoder = values.get("model.pretrained")
    if speech_encoder and not config.has_speech_encoder:
        speech = override(RECIPES[SPEECH].config, {"model.pretrained": speech_encoder})
        if isinstance(config, EnsembleConfig):
            member = replace(speech, experiment=config.experiment)
            config = ensemble_of(config.recipe, config.members | {SPEECH: member}, config.method)
        else:
            encoder = replace(speech.encoders["speech"], pooling=speech.pooling_of("speech"))
            branches = (*config.model.branches, SPEECH) if config.model.branches else ()
            model = replace(config.model, pretrained=speech_encoder, branches=branches)
            config = changed(config, "model.pretrained", encoders=config.encoders | {"speech": encoder}, model=model)
        values = {path: value for path, value in values.items() if path != "model.pretrained"}
    return override(config, values)
