"""In what two configurations differ: that of a run, as its config.json holds it, and one that is asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, get_args

from emokeras.config import AnyConfig, EnsembleConfig, InputName, to_json
from emokeras.reporting import runs

# What training takes from the weights that a body starts from, by the body's kind.
SIZES_OF_WEIGHTS = {
    "bert": {"vocabulary_size", "num_positions", "units", "num_heads", "num_blocks", "hidden_units"},
}
NAMED_BY_PATH = {"model.weights", "model.pretrained", "model.start_from", "model.branches", "training.teacher"}


def differing_settings(settings: Mapping[str, Any], config: AnyConfig) -> dict[str, tuple[Any, Any]]:
    """Compare what a config.json holds with a configuration, but for which run it is (recipe and experiment).

    Of an ensemble the method, and each member as it would be alone.

    A setting that the file lacks is younger than the run, which was trained as the setting's default says; one that
    the configuration lacks is gone, and is not compared. Neither are sizes that follow from `model.weights`. Of a run
    or a file counts what it is, not where it lies: results keep no more.

    Returns {dotted path: (value in the file, value in the configuration)} of those that differ, by their names.
    """
    if isinstance(config, EnsembleConfig):
        own, other = settings.get("members", {}), config.members
        differing = {"members": (list(own), list(other))} if list(own) != list(other) else {}
        if settings.get("method") != config.method:
            differing["method"] = (settings.get("method"), config.method)
        for name in own.keys() & other.keys():
            of_member = differing_settings(own[name], other[name]).items()
            differing |= {f"members.{name}.{key}": values for key, values in of_member}
        return dict(sorted(differing.items()))
    own, other = flat_settings(settings), flat_settings(json.loads(to_json(config)))
    for name, encoder in config.encoders.items():
        for key in SIZES_OF_WEIGHTS.get(encoder.kind, ()):
            other.pop(f"encoders.{name}.{key}", None)
    if config.hears_pretrained:
        other.pop("speech.units", None)
    defaults = {section: asdict(type(value)()) for section, value in vars(config).items() if is_dataclass(value)}
    encoders = settings.get("encoders", {})
    defaults["encoders"] = {
        name: asdict(type(encoder)())
        for name, encoder in config.encoders.items()
        if encoders.get(name, {}).get("kind") == encoder.kind  # Another kind has other settings.
    }
    own = flat_settings(json.loads(json.dumps(defaults))) | own
    both = {key: (own[key], other[key]) for key in sorted(own.keys() & other.keys())}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1] and not _same_names(key, *pair)}


def _same_names(key: str, *values: str | Sequence[str]) -> bool:
    if key not in NAMED_BY_PATH:
        return False
    own, other = ([value] if isinstance(value, str) else value for value in values)
    return [*map(runs.shareable_name, own)] == [*map(runs.shareable_name, other)]


def flat_settings(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings by dotted path, without those that say which run it is and those of inputs it has not."""
    flat = {}
    if not prefix and "members" in tree:
        members = {name: flat_settings(member) for name, member in tree["members"].items()}
        return {"method": tree.get("method")} | {
            f"members.{name}.{key}": value for name, member in members.items() for key, value in member.items()
        }
    unused = set(get_args(InputName)) - set(tree.get("encoders", {}))
    for key, value in tree.items():
        if not prefix and key in {"recipe", "experiment", *unused}:
            continue
        if isinstance(value, Mapping) and key != "auxiliaries":  # Those are one setting, whichever there are.
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
