"""What is searched: for each recipe a table, dotted path -> range.

L2, dropout and learning rate always; what is heard, width and depth of the body, of what joins branches, strength of
the augmentation, label smoothing and batch size where the recipe has them. (Bodies that start from trained branches
keep theirs; weights of an ensemble are fitted exactly.) A range is drawn from by KerasTuner, first of all the recipe's
own value, or the nearest; `to_config` turns what it drew into a configuration.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emokeras.config import Config, InputName, override, settings


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`: by equal ratios where `log`, in whole steps of `step` where there is one."""

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

OF_EVERY_BODY: Space = {"l2": Between(1e-7, 1e-3, log=True), "dropout": Between(0.0, 0.5)}
ALWAYS: Space = {
    "model.dropout": Between(0.0, 0.6),
    "training.learning_rate": Between(3e-4, 1e-2, log=True),
    "training.batch_size": OneOf((16, 32, 64)),
    "training.label_smoothing": Between(0.0, 0.2),
}
# Weights decay with these optimizers alone.
WITH_DECAY = ("adamw", "muon")
DECAY: Space = {"training.weight_decay": Between(1e-3, 1e-1, log=True)}
# What of a sound is heard, by the input. (A CNN of four blocks cannot halve 13 coefficients: that trial fails.)
HEARD: dict[str, Space] = {
    "spectrogram": {"num_bands": OneOf((64, 80, 128))},
    "mfcc": {"num_coefficients": OneOf((13, 20, 30, 40))},
}
# Width and depth, by the body's kind, and for one over frames the slopes that it hears beside them.
BODIES: dict[str, Space] = {
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
    "conformer": {
        "units": OneOf((96, 128, 160)),
        "num_blocks": Between(2, 6, step=1),
        "kernel_size": OneOf((7, 15, 31)),
    },
    "recurrent": {"units": OneOf(("[32]", "[64]", "[128]", "[64, 64]"))},
    "imagenet": {},
    "bert": {},
}
ATTENTION: Space = {"model.attention_units": OneOf((64, 128, 192)), "model.attention_blocks": Between(1, 3, step=1)}
# What is searched where a recipe uses it at all.
AUGMENTATION: Space = {
    "augment.speed_change": Between(0.0, 0.2),
    "augment.vocal_tract_change": Between(0.02, 0.2),
    "augment.gain_decibels": Between(0.0, 18.0),
    "augment.noise_probability": Between(0.0, 0.6),
    "augment.equalization_decibels": Between(1.0, 12.0),
    "augment.reverberation_probability": Between(0.0, 0.6),
    "augment.crop_share": Between(0.0, 0.5),
    "augment.mixup_alpha": Between(0.1, 0.8),
    "augment.mixup_probability": Between(0.0, 1.0),
    "augment.mixup_labels": OneOf(("drawn", "heard")),
    "augment.style_mixing_probability": Between(0.0, 0.8),
    "augment.num_time_masks": Between(0, 3, step=1),
    "augment.num_band_masks": Between(0, 3, step=1),
    "augment.band_shift_bands": Between(0, 6, step=1),
}
# Made once per clip, beside what is drawn anew: where a recipe changes what it hears at all.
VARIANTS: Space = {"augment.variants": OneOf(("[]", '["pitch-up", "pitch-down", "slow", "fast"]'))}


def space_of(config: Config) -> Space:
    """Return what is searched for a configuration, by dotted path. Where one of several values is taken, its own is
    among them."""
    space = {}
    for name in config.encoders:
        space |= {_body_path(name, key, config): own for key, own in OF_EVERY_BODY.items()}
    space |= ALWAYS
    if config.training.optimizer in WITH_DECAY:
        space |= DECAY
    if not config.model.branches and not config.model.start_from:  # What starts from a run is as that was trained.
        for name, encoder in config.encoders.items():
            space |= {f"{name}.{key}": own for key, own in HEARD.get(name, {}).items()}
            space |= {_body_path(name, key, config): own for key, own in BODIES[encoder.kind].items()}
    if config.model.fusion == "attention" and len(config.encoders) > 1:
        space |= ATTENTION
    own_settings = settings(config)
    space |= {path: own for path, own in AUGMENTATION.items() if own_settings[path]}
    if config.audio_inputs and config.augment.speed_change:
        space |= VARIANTS
    if config.training.frozen_epochs:
        space["training.unfrozen_learning_rate"] = Between(1e-5, 1e-3, log=True)
    return {path: _with_own(own, own_value(path, config)) for path, own in space.items() if applies(path, config)}


def own_value(path: str, config: Config) -> Any:
    """Return the value that a configuration has for a path of its space; lists are written as JSON."""
    value = settings(config)[path]
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def _with_own(values: Range, own: Any) -> Range:
    return OneOf((*values.values, own)) if isinstance(values, OneOf) and own not in values.values else values


def applies(path: str, config: Config) -> bool:
    """Tell whether a setting, by its dotted path, can change what a configuration trains."""
    section, _, name = path.partition(".")
    starts = bool(config.model.branches or config.model.start_from)
    match section:
        case "audio":
            return bool(config.audio_inputs) and not starts
        case "spectrogram" | "mfcc" | "prosody" | "speech" | "tokens":
            return section in config.encoders and not starts
        case "encoders":
            return not starts and path in settings(config)
        case "encoder":
            if starts:  # Its bodies are as they were trained, but for what a network that goes on has of its own.
                return bool(config.model.start_from) and name in ("dropout", "l2")
            has = any(hasattr(body, name) for body in config.encoders.values())
            return has and (config.takes_audio or name not in ("centered", "leveled", "deltas"))
        case "augment":
            return _augments(name, config)
        case "model" if config.model.start_from:
            return name == "dropout"
    if name == "refit_epochs":  # They come after the validation by which a trial is judged.
        return False
    if name in ("crossfit_epochs", "crossfit_share"):
        return config.training.crossfit_parts > 0
    if path == "model.pooling":
        return not all(body.pooling for body in config.encoders.values())
    return path in settings(config)


def _augments(name: str, config: Config) -> bool:
    if name in ("mixup_probability", "mixup_labels"):
        return config.augment.mixup_alpha > 0
    if name == "style_mixing_alpha":
        return config.takes_audio and config.augment.style_mixing_probability > 0
    if name == "band_shift_bands":
        return "spectrogram" in config.encoders
    if name == "vocal_tract_change":
        return not config.encoders.keys().isdisjoint({"spectrogram", "mfcc"})
    # What a speech model hears is the clip as it is: only its frames are mixed and masked.
    of_features = name.startswith(("crop_", "mixup_", "num_", "time_mask_", "band_mask_", "style_mixing_"))
    return config.takes_audio if of_features else bool(config.audio_inputs)


def _body_path(name: InputName, key: str, config: Config) -> str:
    return f"encoder.{key}" if len(config.encoders) == 1 else f"encoders.{name}.{key}"


def declare(hyperparameters, space: Space, config: Config) -> None:
    """Tell KerasTuner's HyperParameters of a space, in its order; their defaults are the configuration's own values, or
    the nearest in their ranges."""
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
    """Return a configuration with what the tuner drew for the paths of a space; its own bookkeeping is no setting.

    Raises UsageError when the values do not go together, which is a trial that failed.
    """
    return override(config, {path: values[path] for path in space if path in values})
