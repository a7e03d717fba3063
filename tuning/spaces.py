"""The settings of a recipe that a search varies: dotted path -> range.

They are L2, dropout, learning rate, batch size and label smoothing for every recipe; where it has them also the
features, the width and depth of encoders, attention fusion, weight decay and the strength of augmentation. Branches
that start from trained runs keep their encoders. Weights of ensembles are fitted exactly, so they are not searched.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emokeras.config import WITHOUT_EFFECT, Config, InputName, override, settings
from emokeras.errors import UsageError
from emokeras.recipes import configure, find_recipe


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, on a logarithmic scale where `log`, in whole steps where there is a `step`."""

    low: float
    high: float
    log: bool = False
    step: int | None = None


@dataclass(frozen=True)
class OneOf:
    """One of several values; lists are written as JSON."""

    values: tuple[Any, ...]


Range = Between | OneOf
Space = dict[str, Range]

EVERY_RECIPE: Space = {
    "model.dropout": Between(0.0, 0.6),
    "training.learning_rate": Between(3e-4, 1e-2, log=True),
    "training.batch_size": OneOf((16, 32, 64)),
    "training.label_smoothing": Between(0.0, 0.2),
}
EVERY_ENCODER: Space = {"l2": Between(1e-7, 1e-3, log=True), "dropout": Between(0.0, 0.5)}
OPTIMIZERS_WITH_DECAY = ("adamw", "muon")
WEIGHT_DECAY: Space = {"training.weight_decay": Between(1e-3, 1e-1, log=True)}
# By input. A CNN of four blocks cannot halve 13 coefficients; such a trial fails.
FEATURES: dict[str, Space] = {
    "spectrogram": {"num_bands": OneOf((64, 80, 128))},
    "mfcc": {"num_coefficients": OneOf((13, 20, 30, 40))},
}
# Width and depth, by the encoder's kind.
ENCODERS: dict[str, Space] = {
    "cnn": {"filters": OneOf(("[16, 32, 64]", "[24, 48, 96]", "[32, 64, 128]", "[32, 64, 128, 256]"))},
    "crnn": {
        "filters": OneOf(("[16, 32, 64]", "[24, 48, 96]")),
        "recurrent_units": OneOf(("[64]", "[96]", "[64, 64]")),
    },
    "resnet": {
        "filters": OneOf(("[24, 96, 96, 128, 128]", "[32, 128, 128, 192, 192]", "[32, 128, 128, 128, 192, 192, 192]"))
    },
    "tcn": {
        "filters": OneOf((64, 96, 128, 160)),
        "kernel_size": OneOf((2, 3)),
        "dilations": OneOf(("[1, 2, 4, 8]", "[1, 2, 4, 8, 16]", "[1, 2, 4, 8, 16, 32]")),
        "deltas": OneOf((0, 1, 2)),
    },
    "transformer": {"units": OneOf((96, 128, 192)), "num_blocks": Between(2, 6, step=1)},
    "recurrent": {"units": OneOf(("[32]", "[64]", "[128]", "[64, 64]"))},
    "imagenet": {},
    "bert": {},
    "identity": {"l2": Between(1e-3, 10.0, log=True)},
}
ATTENTION: Space = {"model.attention_units": OneOf((64, 128, 192)), "model.attention_blocks": Between(1, 3, step=1)}
# Searched where a recipe has it switched on.
AUGMENTATION: Space = {
    "augment.speed_change": Between(0.0, 0.2),
    "augment.vocal_tract_change": Between(0.02, 0.2),
    "augment.gain_decibels": Between(0.0, 18.0),
    "augment.noise_probability": Between(0.0, 0.6),
    "augment.equalization_decibels": Between(1.0, 12.0),
    "augment.band_limit_probability": Between(0.0, 0.6),
    "augment.reverberation_probability": Between(0.0, 0.6),
    "augment.mixup_alpha": Between(0.1, 0.8),
    "augment.mixup_probability": Between(0.0, 1.0),
    "augment.num_variants": Between(0, 3, step=1),
    "augment.num_time_masks": Between(0, 3, step=1),
    "augment.num_band_masks": Between(0, 3, step=1),
    "augment.band_shift_bands": Between(0, 6, step=1),
}
# What variants of clips follow too.
CHANNEL = ("equalization_", "band_limit_", "band_low_", "band_high_", "reverberation_", "noise_")


def recipe_config(recipe: str, values: Mapping[str, Any]) -> Config:
    """Return a recipe's configuration with these settings, by dotted path.

    Raises
    ------
    UsageError: no such recipe or setting, an ensemble, branches that are not trained, or no validation clips.
    """
    config = find_recipe(recipe).config
    if not isinstance(config, Config):
        raise UsageError(
            f"{recipe} is an ensemble, whose weights are fitted exactly: give one of its members, "
            f"{', '.join(config.members)}"
        )
    config = configure(config, values)
    if config.experiment.protocol == "all":
        raise UsageError("protocol all has no validation clips: give another --protocol")
    for branch in config.model.branches:
        if not (Path(branch) / "metrics.json").is_file():
            raise UsageError(
                f"model.branches: {branch} is no run that has ended: train it, and give the runs' folders by "
                "--set model.branches=RUN,RUN"
            )
    return config


def space_of(config: Config) -> Space:
    """Return the search space of a configuration. A choice among values includes the configuration's own value."""
    space = {}
    for name in config.encoders:
        space |= {_encoder_path(name, key, config): own for key, own in EVERY_ENCODER.items()}
    space |= EVERY_RECIPE
    if config.training.optimizer in OPTIMIZERS_WITH_DECAY and config.training.weight_decay:
        space |= WEIGHT_DECAY
    for name, encoder in config.encoders.items():
        space |= {f"{name}.{key}": own for key, own in FEATURES.get(name, {}).items()}
        space |= {_encoder_path(name, key, config): own for key, own in ENCODERS[encoder.kind].items()}
    if config.model.fusion == "attention" and len(config.encoders) > 1:
        space |= ATTENTION
    values = settings(config)
    space |= {path: own for path, own in AUGMENTATION.items() if values[path]}
    if config.training.frozen_epochs:
        space["training.unfrozen_learning_rate"] = Between(1e-5, 1e-3, log=True)
    return {path: _including(own, own_value(path, config)) for path, own in space.items() if applies(path, config)}


def own_value(path: str, config: Config) -> Any:
    """Return a configuration's value at a path of its space; lists are written as JSON."""
    value = settings(config)[path]
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def _including(own: Range, value: Any) -> Range:
    return OneOf((*own.values, value)) if isinstance(own, OneOf) and value not in own.values else own


def _encoder_path(name: InputName, key: str, config: Config) -> str:
    return f"encoder.{key}" if len(config.encoders) == 1 else f"encoders.{name}.{key}"


def applies(path: str, config: Config) -> bool:
    """Return whether the setting at a dotted path can change what a configuration's validation score is."""
    section, _, name = path.partition(".")
    starts_from_runs = bool(config.model.branches or config.model.start_from)
    match section:
        case "audio":
            return config.takes_audio and not starts_from_runs
        case "spectrogram" | "mfcc" | "prosody" | "speech" | "tokens":
            return section in config.encoders and not starts_from_runs
        case "encoder":
            return _applies_to_encoders(name, list(config.encoders), config)
        case "encoders":
            input_name, _, key = name.partition(".")
            return _applies_to_encoders(key, [input_name], config)
        case "augment":
            return _applies_to_augmentation(name, config)
        case "model" if config.model.start_from:
            return name == "dropout"
    if name == "refit_epochs":  # They come after validation.
        return False
    if path == "model.pooling":
        return not all(encoder.pooling for encoder in config.encoders.values())
    return path in settings(config)


def _applies_to_encoders(key: str, inputs: Sequence[str], config: Config) -> bool:
    if config.model.branches:
        return False
    if config.model.start_from:
        return key in ("dropout", "l2")
    having = [name for name in inputs if name in config.encoders and hasattr(config.encoders[name], key)]
    return bool(having) and not any(key in WITHOUT_EFFECT.get(name, ()) for name in having)


def _applies_to_augmentation(name: str, config: Config) -> bool:
    if name == "mixup_probability":
        return config.augment.mixup_alpha > 0
    if name == "band_shift_bands":
        return "spectrogram" in config.encoders
    if name == "vocal_tract_change":
        return not config.encoders.keys().isdisjoint({"spectrogram", "mfcc"})
    if config.augment.num_variants and name.startswith(CHANNEL):
        return config.takes_audio
    # A frozen speech encoder takes clips and their variants as they are; its frames are mixed and masked.
    own = ("mixup_", "num_", "time_mask_", "band_mask_")
    return config.takes_audio if name.startswith(own) else bool(config.audio_inputs)


def declare(hyperparameters, space: Space, config: Config) -> None:
    """Add a space to KerasTuner's HyperParameters, in order. The default of each is the configuration's own value, or
    the nearest in its range."""
    for path, own in space.items():
        value = own_value(path, config)
        match own:
            case OneOf(values):
                hyperparameters.Choice(path, list(values), ordered=False, default=value)
            case Between(low, high, log, step):
                value = min(max(value, low), high)
                if step:
                    hyperparameters.Int(path, int(low), int(high), step=step, default=value)
                else:
                    hyperparameters.Float(path, low, high, sampling="log" if log else "linear", default=value)


def to_config(config: Config, values: Mapping[str, Any], space: Space) -> Config:
    """Return a configuration with the tuner's values for the paths of a space; others are KerasTuner's own.

    Raises UsageError when the values do not fit together; such a trial fails.
    """
    return override(config, {path: values[path] for path in space if path in values})
