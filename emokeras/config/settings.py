"""Configurations as settings by dotted path: `override`, `settings`, JSON in and out, and keys of earlier versions."""

import copy
import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from emokeras.config.encoders import ENCODER_CONFIGS, WITHOUT_EFFECT, ConvolutionalConfig
from emokeras.config.experiment import AnyConfig, Config, EnsembleConfig
from emokeras.config.types import EnsembleMethod
from emokeras.errors import UsageError

_NETWORK, _ENSEMBLE, _ANY = TypeAdapter(Config), TypeAdapter(EnsembleConfig), TypeAdapter(AnyConfig)

# Keys of earlier versions, by section: the new name, or the default of a key that was removed.
RENAMED = {
    ("augment", "equalisation_decibels"): "equalization_decibels",
    ("audio", "trim_decibels"): "speech_decibels",
}
RETIRED: dict[tuple[str, str], Any] = {
    ("audio", "num_windows"): 3,
    ("augment", "mixup_labels"): "drawn",
    ("augment", "variants"): [],
    ("augment", "variant_semitones"): 2.0,
    ("augment", "variant_stretch"): 0.15,
    ("augment", "variant_snr_decibels"): 20.0,
    ("augment", "variant_codec_kilobits"): 16,
    ("augment", "variant_formant_share"): 0.12,
    ("augment", "babble_probability"): 0.0,
    ("augment", "babble_snr_decibels"): [5.0, 25.0],
    ("augment", "style_mixing_probability"): 0.0,
    ("augment", "style_mixing_alpha"): 0.3,
    ("augment", "crop_share"): 0.0,
    ("speech", "hop_seconds"): 0.02,
    ("speech", "layer"): -1,
    ("speech", "max_seconds"): 5.0,
    ("training", "auxiliaries"): {},
    ("training", "teacher"): "",
    ("training", "teacher_share"): 0.5,
    ("training", "teacher_temperature"): 2.0,
    ("training", "crossfit_parts"): 0,
    ("training", "crossfit_epochs"): 30,
    ("training", "crossfit_share"): 0.5,
    ("training", "crossfit_by"): [],
}
RETIRED_OF_ENCODERS = {("cnn", "squeeze_excitation"): False, ("", "leveled"): False}  # by kind; "": of all
RETIRED_ENCODERS = ("conformer",)


# JSON


def to_json(config: AnyConfig) -> str:
    """Return the whole configuration as indented JSON, which `from_json` reads back."""
    return _ANY.dump_json(config, indent=2).decode() + "\n"


def from_json(text: str, where: str = "the configuration") -> AnyConfig:
    """Read a configuration from JSON; an ensemble's has `members`. Settings of earlier versions that were removed are
    dropped. Raises UsageError, naming the key that is wrong."""
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON ({error}): give a config.json of a run") from error
    return _validate(upgrade(tree)[0], where)


def read_config(path: Path) -> AnyConfig:
    """Read a configuration file, such as a run's config.json, for reading or serving. Raises UsageError."""
    return from_json(_read(path), str(path))


def read_config_to_train(path: Path) -> AnyConfig:
    """Read a configuration file that is to be trained. Raises UsageError where it needs a setting that was removed."""
    text = _read(path)
    config = from_json(text, str(path))
    removed = upgrade(json.loads(text))[1]
    if removed:
        key, value = next(iter(removed.items()))
        raise UsageError(f"{path}: {key}={value!r} is a setting of an earlier version that was removed: take it out")
    return config


def upgrade(tree: Any) -> tuple[Any, dict[str, Any]]:
    """Return what a config.json holds with the keys of this version, and the removed settings that were in use,
    {dotted path: value}. What is no configuration is returned as it is."""
    if not isinstance(tree, Mapping):
        return tree, {}
    tree, removed = copy.deepcopy(dict(tree)), {}
    experiment = tree.get("experiment")
    if isinstance(experiment, dict) and "corpus" in experiment:  # There used to be one.
        corpus = experiment.pop("corpus")
        experiment.setdefault("corpora", [corpus] if corpus else [])
    if isinstance(tree.get("members"), Mapping):
        for name, member in tree["members"].items():
            tree["members"][name], own = upgrade(member)
            removed |= {f"members.{name}.{path}": value for path, value in own.items()}
        return tree, removed
    _upgrade_trimming(tree, removed)
    _upgrade_speech(tree, removed)
    for (section, key), new_key in RENAMED.items():
        if isinstance(tree.get(section), dict) and key in tree[section]:
            tree[section][new_key] = tree[section].pop(key)
    for (section, key), default in RETIRED.items():
        if isinstance(tree.get(section), dict) and key in tree[section]:
            value = tree[section].pop(key)
            if value != default:
                removed[f"{section}.{key}"] = value
    encoders = tree.get("encoders")
    if isinstance(encoders, dict) and all(isinstance(encoder, dict) for encoder in encoders.values()):
        _upgrade_batch_normalization(tree, encoders, removed)
        for name, encoder in encoders.items():
            for (kind, key), default in RETIRED_OF_ENCODERS.items():
                if kind in ("", encoder.get("kind")) and key in encoder and (value := encoder.pop(key)) != default:
                    removed[f"encoders.{name}.{key}"] = value
            for key in WITHOUT_EFFECT.get(name, ()):
                if value := encoder.pop(key, False):
                    removed[f"encoders.{name}.{key}"] = value
    return tree, removed


def _upgrade_trimming(tree: dict[str, Any], removed: dict[str, Any]) -> None:
    """Speech used to be what is between the first and the last frame less than `audio.trim_decibels` below the loudest,
    in noise too, and `audio.num_windows` covered it, however long. A network with this trimming is marked."""
    audio, encoders = tree.get("audio"), tree.get("encoders")
    if not isinstance(audio, dict) or "trim_decibels" not in audio:
        return
    audio.pop("num_windows", None)
    decibels = audio.pop("trim_decibels")
    audio.setdefault("speech_decibels", decibels)
    of_waveform = isinstance(encoders, dict) and set(encoders) - {"tokens", "speech"}
    if of_waveform and decibels:
        removed["audio.trim_decibels"] = decibels


def _upgrade_speech(tree: dict[str, Any], removed: dict[str, Any]) -> None:
    """A speech encoder used to take the middle `speech.max_seconds` of a clip, silence included, and give the states of
    one `speech.layer`. A network on these frames is marked, whatever the values."""
    speech, encoders = tree.get("speech"), tree.get("encoders")
    if isinstance(speech, dict) and isinstance(encoders, dict) and "speech" in encoders:
        for key in ("layer", "max_seconds"):
            if key in speech:
                removed[f"speech.{key}"] = speech.pop(key)


def _upgrade_batch_normalization(tree: dict[str, Any], encoders: dict[str, dict], removed: dict[str, Any]) -> None:
    """`encoder.batch_normalization` of any encoder used to switch that of the embedding too, and all kinds had it.

    Where an encoder without convolutions has `embedding_units`, it normalized that layer, which is gone.
    """
    switches = [encoder.get("batch_normalization", True) for encoder in encoders.values()]
    model = tree.setdefault("model", {})
    if isinstance(model, dict):
        model.setdefault("normalize_embedding", any(switches))
    for name, encoder in encoders.items():
        kind = encoder.get("kind", "cnn")
        known = ENCODER_CONFIGS.get(kind) if isinstance(kind, str) else None
        if not known or issubclass(known, ConvolutionalConfig):
            continue
        if encoder.pop("batch_normalization", False) and encoder.get("embedding_units"):
            removed[f"encoders.{name}.batch_normalization"] = True


def _read(path: Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({reason}): give a config.json of a run") from error


# Changes


def with_experiment(config: AnyConfig, **values: Any) -> AnyConfig:
    """Return the configuration with these values in its experiment, and in that of each member. Raises UsageError for
    a value that does not fit."""
    try:
        config = dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, **values))
    except ValidationError as error:
        raise UsageError(f"experiment.{_first_fault(error)}") from error
    if isinstance(config, EnsembleConfig):
        members = {name: with_experiment(member, **values) for name, member in config.members.items()}
        config = dataclasses.replace(config, members=members)
    return config


def changed(config: Config, where: str, **changes: Any) -> Config:
    """Return the configuration with these sections replaced. Raises UsageError, which begins with `where`, when the
    result is not valid."""
    try:
        return dataclasses.replace(config, **changes)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_fault(error)}") from error


def ensemble_of(
    recipe: str, members: Mapping[str, Config], method: EnsembleMethod, weights: Sequence[float] = ()
) -> EnsembleConfig:
    """Return the configuration of an ensemble; its experiment is that of the first member. Raises UsageError when the
    members cannot be combined."""
    try:
        experiment = next(iter(members.values())).experiment
        named = {"method": method, "experiment": experiment, "weights": tuple(weights)}
        return EnsembleConfig(recipe=recipe, members=dict(members), **named)
    except ValidationError as error:
        raise UsageError(_first_fault(error)) from error


def settings(config: AnyConfig) -> dict[str, Any]:
    """Return every setting by its dotted path: {"encoder.l2": 0.0001, "training.epochs": 60, ...}.

    With one branch its encoder's settings are `encoder.KEY`, with more `encoders.INPUT.KEY`; a member's have
    `members.NAME.` before that.
    """
    if isinstance(config, EnsembleConfig):
        own = {"method": config.method, "weights": config.weights}
        members = config.members.items()
        return own | {f"members.{name}.{path}": value for name, one in members for path, value in settings(one).items()}
    flat = {}
    for section, value in dataclasses.asdict(config).items():
        if section == "encoders":
            for name, encoder in value.items():
                prefix = "encoder" if len(value) == 1 else f"encoders.{name}"
                flat.update({f"{prefix}.{key}": setting for key, setting in encoder.items()})
        elif isinstance(value, dict):
            flat.update({f"{section}.{key}": setting for key, setting in value.items()})
    return flat


def override(config: AnyConfig, values: Mapping[str, Any]) -> AnyConfig:
    """Return the configuration with the settings at these dotted paths replaced.

    A text value is read as JSON where it is JSON (`0.1`, `true`, `[32, 64]`), as a list where the setting is one
    (`32,64`, `32`, `RUN,RUN`), else taken as it is: `--set`, the flags, JSON files and the tuner all use this.
    `encoder.KEY` sets every branch that has the key, `encoders.INPUT.KEY` one. In an ensemble a path sets every member
    that has it, `members.NAME.PATH` one.

    Raises
    ------
    UsageError: an unknown path, with its nearest neighbour, or a value that does not fit.
    """
    tree = dataclasses.asdict(config)
    # A change of kind comes first: it decides which settings there are.
    for path, value in sorted(values.items(), key=lambda item: not item[0].endswith(".kind")):
        known = _targets(tree)
        if path not in known:
            raise UsageError(_unknown_setting(path, known))
        key = path.rpartition(".")[2]
        for target in known[path]:
            if key == "kind":
                _change_kind(target, value)
            target[key] = _like(target[key], value)
    return _validate(tree, "--set")


def _unknown_setting(path: str, known: Mapping[str, Any]) -> str:
    keys = tuple(path.split(".")[-2:])
    if keys in RETIRED or ("", keys[-1]) in RETIRED_OF_ENCODERS:
        return f"the setting '{path}' was removed"
    if keys in RENAMED:
        return f"the setting '{path}' is called '{path.rpartition('.')[0]}.{RENAMED[keys]}' now"
    if any(path.endswith(f".{keys[-1]}") and keys[-1] in ineffective for ineffective in WITHOUT_EFFECT.values()):
        return f"{path} has no effect on the inputs of this network: leave it out"
    (near,) = difflib.get_close_matches(path, known, 1, 0.0)
    return f"there is no setting '{path}'; did you mean '{near}'?"


def _targets(tree: dict[str, Any]) -> dict[str, list[dict]]:
    """Return, for each dotted path that can be set, the parts of the tree that hold its last key."""
    targets: dict[str, list[dict]] = {}
    for section, value in tree.items():
        if section in ("method", "weights"):
            targets[section] = [tree]
        elif section == "members":
            for name, member in value.items():
                for path, places in _targets(member).items():
                    targets[f"members.{name}.{path}"] = places
                    targets[path] = targets.get(path, []) + places
        elif section == "encoders":
            for name, encoder in value.items():
                for key in encoder:
                    targets[f"encoders.{name}.{key}"] = [encoder]
                    if key not in WITHOUT_EFFECT.get(name, ()):
                        targets.setdefault(f"encoder.{key}", []).append(encoder)
        elif isinstance(value, dict):
            for key in value:
                targets[f"{section}.{key}"] = [*targets.get(f"{section}.{key}", []), value]
    return targets


def _change_kind(encoder: dict[str, Any], kind: str) -> None:
    """Turn the settings of one kind of encoder into those of another: shared settings stay, the rest are defaults."""
    if kind not in ENCODER_CONFIGS:
        raise UsageError(f"encoder.kind: there is no encoder '{kind}'; there are {', '.join(ENCODER_CONFIGS)}")
    defaults = dataclasses.asdict(ENCODER_CONFIGS[kind]())
    kept = {key: value for key, value in encoder.items() if key in defaults and type(value) is type(defaults[key])}
    encoder.clear()
    encoder.update(defaults | kept)


def _like(before: Any, value: Any) -> Any:
    """Return a value in the type of the one it replaces, where it is text."""
    if isinstance(before, str):  # Text stays text: a corpus may be called 2024.
        return value
    parsed = _parse(value)
    # A list, where another path has set it before.
    if not isinstance(before, (tuple, list)) or isinstance(parsed, (list, tuple)):
        return parsed
    if isinstance(parsed, str):
        return [_parse(part) for part in parsed.split(",")] if parsed else []
    return [parsed]


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _validate(tree: Any, where: str) -> AnyConfig:
    adapter = _ENSEMBLE if isinstance(tree, dict) and "members" in tree else _NETWORK
    try:
        return adapter.validate_python(tree)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    if "encoders" in parts:  # After the input's name comes the kind, by which pydantic chooses the encoder.
        kind = parts.index("encoders") + 2
        del parts[kind : kind + 1]
    path = ".".join(parts)
    given = f" (it is {first['input']!r})" if parts and not isinstance(first["input"], dict) else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "union_tag_invalid" and first.get("ctx", {}).get("tag") in RETIRED_ENCODERS:
        message, given = f"the encoder '{first['ctx']['tag']}' was removed", ""
    return f"{path + ': ' if path else ''}{message}{given}"
