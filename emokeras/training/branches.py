"""A network of several branches that starts from runs in which those were trained each for itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from emokeras.config import AnyConfig, Config, InputName, changed, read_config
from emokeras.data.text import copy_tokenizer, has_tokenizer
from emokeras.errors import RunError, UsageError, first_line
from emokeras.reporting import runs
from emokeras.training.callbacks import settle_normalization

EPSILON = 1e-3  # of keras.layers.BatchNormalization


def with_branches(config: Config, branches: Sequence[tuple[Path | str, AnyConfig]]) -> Config:
    """Return the configuration with the branches of these runs, or recipes, as their configurations beside them say
    that they are trained: their features, bodies, pooling.

    Raises UsageError when one is no network, has a branch that this one has not or another has already, or hears other
    windows than the others.
    """
    taken: dict[InputName, Path | str] = {}
    for run, own in branches:
        if not isinstance(own, Config):
            raise UsageError(f"model.branches: {run} is an ensemble: give runs of single networks")
        for name, encoder in own.encoders.items():
            if name not in config.encoders or name in taken:
                why = f"{taken[name]} has one too" if name in taken else "this network has none"
                raise UsageError(f"model.branches: {run} has a {name} branch, {why}: give one run for each branch")
            body = replace(encoder, pooling=own.pooling_of(name), embedding_units=config.encoders[name].embedding_units)
            changes = {name: getattr(own, name), "encoders": config.encoders | {name: body}}
            if own.hears_pretrained:
                changes["model"] = replace(config.model, pretrained=own.model.pretrained)
            if own.audio_inputs:
                heard = [other for other in taken if other not in ("speech", "tokens")]
                if heard and own.audio != config.audio:
                    raise UsageError(
                        f"model.branches: {run} and {taken[heard[0]]} have other audio settings: one network hears "
                        "through one window"
                    )
                changes["audio"] = own.audio
            config = changed(config, "model.branches", **changes)
            taken[name] = run
    return config


def configs_of(branches: Sequence[Path]) -> list[tuple[Path, AnyConfig]]:
    """Return these runs as `with_branches` takes them, each with its configuration beside it."""
    return [(run, read_config(run / "config.json")) for run in branches]


def load_branches(model: keras.Model, config: Config, branches: Sequence[Path]) -> None:
    """Give a network's branches the weights of the runs they start from, and where it can, its head what theirs say
    together. Raises RunError when these do not fit."""
    heads = {}
    for run in branches:
        try:
            trained = keras.saving.load_model(run / "model.keras", compile=False)
            alone = read_config(run / "config.json")
            for name in alone.encoders:
                own, other = (branch_of(network, name, config) for network in (model, trained))
                own.set_weights(other.get_weights())
            same_emotions = alone.experiment.emotions == config.experiment.emotions
            if len(alone.encoders) == 1 and _has_linear_head(alone) and same_emotions:
                (name,) = alone.encoders
                heads[name] = _head_of(trained)
        except (ValueError, OSError, TypeError, KeyError) as error:
            raise RunError(f"{run} cannot be started from ({first_line(error)}): train it again") from error
    settle_normalization(model)
    if heads.keys() == config.encoders.keys() and _has_linear_head(config):
        _set_heads(model, config, [heads[name] for name in config.encoders])


class Head(NamedTuple):
    """What makes logits of one branch's pooled frames: the weights of a batch normalisation [channels], then a kernel
    [channels, emotions] and a bias [emotions]."""

    scale: np.ndarray
    offset: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


def _has_linear_head(config: Config) -> bool:
    """Tell whether nothing but a batch normalisation lies between pooled frames and logits."""
    embeds = any(encoder.embedding_units for encoder in config.encoders.values())
    attends = config.model.fusion == "attention" and len(config.encoders) > 1
    return not (config.model.hidden_units or embeds or attends)


def _normalization_of(model: keras.Model) -> keras.layers.BatchNormalization | None:
    """Return the batch normalisation of a linear head: the last one of a network, where there is any."""
    return next((layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.BatchNormalization)), None)


def _head_of(model: keras.Model) -> Head:
    """Return the linear head of a network of one branch; where it does not normalise, with what changes nothing."""
    kernel, bias = model.get_layer("emotion").get_weights()
    normalization = _normalization_of(model)
    if normalization is None:
        ones, zeros = np.ones(len(kernel)), np.zeros(len(kernel))
        return Head(ones, zeros, zeros, ones - EPSILON, kernel, bias)
    return Head(*normalization.get_weights(), kernel, bias)


def _set_heads(model: keras.Model, config: Config, heads: Sequence[Head]) -> None:
    """Let a network begin as the late fusion of its branches, whose heads are in the order of its encoders: its logits
    are the mean of theirs. What a head that is drawn anew learns in few epochs is less."""
    is_hybrid = config.model.fusion == "hybrid" and len(heads) > 1
    *normalization, kernel = (np.concatenate([head[index] for head in heads]) for index in range(5))
    if own := _normalization_of(model):
        own.set_weights(normalization)
    bias = np.mean([head.bias for head in heads], axis=0)
    model.get_layer("all_emotion" if is_hybrid else "emotion").set_weights([kernel / len(heads), bias])
    if is_hybrid:
        for name, head in zip(config.encoders, heads, strict=True):  # Those of each branch alone do not normalise.
            scale = head.scale / np.sqrt(head.variance + EPSILON)
            bias = head.bias + (head.offset - head.mean * scale) @ head.kernel
            model.get_layer(f"{name}_emotion").set_weights([head.kernel * scale[:, np.newaxis], bias])


def keep_words(branches: Sequence[Path], folder: Path) -> None:
    """Keep in a run's folder the words that one of these knows which reads, for its weights are of them."""
    for run in branches:
        if read_config(run / "config.json").reads_transcripts and not has_tokenizer(folder):
            copy_tokenizer(run, folder)


def branch_of(model: keras.Model, name: InputName, config: Config) -> keras.Model:
    """Return the part of a network that can start from another: a branch up to its pooled frames, up to the frames
    themselves where the branches meet before pooling."""
    end = f"{name}_frames" if config.model.fusion == "attention" else f"{name}_pooled"
    return keras.Model(model.inputs, model.get_layer(end).output)


def branch_layers(model: keras.Model, config: Config, branches: Sequence[Path]) -> list[keras.layers.Layer]:
    """Return the layers that start from these runs."""
    return [layer for name in inputs_of(branches) for layer in branch_of(model, name, config).layers]


def inputs_of(branches: Sequence[Path]) -> list[InputName]:
    """Return the inputs whose branches start from these runs."""
    return [name for run in branches for name in read_config(run / "config.json").encoders]


def check_splits(branches: Sequence[Path], digest: str, setting: str = "model.branches") -> None:
    """Raise RunError unless all runs that a setting names were trained on the split of this digest, and on its training
    clips alone: one that has heard a validation or test clip would tell of it."""
    for run in branches:
        if runs.read_metrics(run).get("split_sha256") != digest:
            raise RunError(f"{setting}: {run} was trained on another split: train it on this one")
        if runs.was_refit(run) and runs.read_metrics(run)["num_validation"]:
            raise RunError(
                f"{setting}: {run} has trained on the validation clips too: train it with training.refit_epochs=0"
            )
