"""How two configurations differ: that of a run, as its config.json holds it, and another."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args

from emokeras.config import ENCODER_CONFIGS, AnyConfig, Config, EnsembleConfig, InputName, to_json, upgrade
from emokeras.hub import BERT_SIZES
from emokeras.runs.provenance import shareable_name

# Sizes that a configuration takes from the weights an encoder starts from, by the encoder's kind.
SIZES_OF_WEIGHTS = {"bert": {*BERT_SIZES}}
OF_SPEECH_ENCODER = ("family", "units", "sha256")  # what `speech` has of the encoder
PATHS = {"model.weights", "model.pretrained", "model.start_from", "model.branches"}


def differing_settings(settings: Mapping[str, Any], config: AnyConfig) -> dict[str, tuple[Any, Any]]:
    """Compare what a config.json holds with a configuration, except for recipe and experiment.

    Sizes that follow from `model.weights` are not compared, nor what is read from the encoder in `model.pretrained`
    where the configuration does not have it yet. Runs and files are compared by name, not by path: results keep no
    paths. A setting of an earlier version that was removed while in use is a difference from None.

    Returns
    -------
    {dotted path: (value in the file, value in the configuration)} of those that differ, sorted by path.
    """
    other = whole_settings(json.loads(to_json(config)))
    prefixed = isinstance(config, EnsembleConfig)
    for member, network in config.networks.items():
        prefix = f"members.{member}." if prefixed else ""
        for name, encoder in network.encoders.items():
            for key in SIZES_OF_WEIGHTS.get(encoder.kind, ()):
                other.pop(f"{prefix}encoders.{name}.{key}", None)
        if network.has_speech_encoder and not network.speech.sha256:  # Not read from the encoder yet.
            for key in OF_SPEECH_ENCODER:
                other.pop(f"{prefix}speech.{key}", None)
    removed = {key: (value, None) for key, value in removed_settings(settings).items()}
    return dict(sorted((differences(whole_settings(settings), other) | removed).items()))


def differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two runs' `whole_settings`: {dotted path: (one value, the other)} of those that differ, sorted by path.

    An input that only one of them has is a difference. Of a member that only one of them has, "members" is enough.
    """
    alone = tuple(f"members.{name}." for name in {*own.get("members", ())} ^ {*other.get("members", ())})
    both = own.keys() & other.keys()
    both |= {key for key in own.keys() ^ other.keys() if key.endswith(".kind") and not key.startswith(alone)}
    pairs = {key: (own.get(key), other.get(key)) for key in sorted(both)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1] and not _same_names(key, *pair)}


def _same_names(key: str, *values: str | Sequence[str]) -> bool:
    if ".".join(key.split(".")[-2:]) not in PATHS:  # Of a member, without its prefix.
        return False
    own, other = ([value] if isinstance(value, str) else value for value in values)
    names = [[shareable_name(path) for path in paths] for paths in (own, other)]
    if key.endswith("model.pretrained"):  # A folder, or the same model's name on a hub.
        names = [[name.rpartition("/")[2] for name in paths] for paths in names]
    return names[0] == names[1]


def whole_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config.json holds by dotted path, except for recipe and experiment and for inputs that its networks
    do not take; of an ensemble the method, its members in their order, and the settings of each.

    A setting that the file lacks is newer than the run, which was trained with the setting's default. Settings of
    earlier versions that were removed are in `removed_settings`.
    """
    tree, _ = upgrade(tree)
    if "members" in tree:
        members = {name: whole_settings(member) for name, member in tree["members"].items()}
        return {"method": tree.get("method"), "members": list(members)} | {
            f"members.{name}.{key}": value for name, member in members.items() for key, value in member.items()
        }
    defaults = {field.name: asdict(field.default) for field in fields(Config) if is_dataclass(field.default)}
    defaults["encoders"] = {
        name: asdict(ENCODER_CONFIGS[encoder["kind"]]())
        for name, encoder in tree.get("encoders", {}).items()
        if encoder.get("kind") in ENCODER_CONFIGS
    }
    unused = {"recipe", "experiment", *get_args(InputName)} - set(tree.get("encoders", {}))
    whole = _flat(json.loads(json.dumps(defaults))) | _flat(tree)
    return {key: value for key, value in whole.items() if key.partition(".")[0] not in unused}


def removed_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of earlier versions in a config.json that were in use and have been removed."""
    return upgrade(tree)[1]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
