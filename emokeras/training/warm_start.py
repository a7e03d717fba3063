"""Weights from earlier trainings: those of a whole network (`model.start_from`), or of single branches
(`model.branches`). `resolve` has taken over their settings before."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from emokeras import runs
from emokeras.config import Config, InputName, read_config
from emokeras.data.corpora import Corpus
from emokeras.data.splits import UNUSED, Split
from emokeras.data.text import copy_tokenizer, has_tokenizer
from emokeras.errors import RunError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.models.normalization import settle_normalization
from emokeras.training.resolve import start_folder

EPSILON = 1e-3  # of keras.layers.BatchNormalization
UNFIT = (ValueError, OSError, TypeError, KeyError)  # what loading weights raises that do not fit

# A whole network


def check_start(config: Config, corpus: Corpus, split: Split) -> None:
    """Raise RunError when the model to start from was trained on a clip that validates or tests here, by content, or
    was selected by one that tests here."""
    then = {row["content"]: row["subset"] for row in runs.clips_used(start_folder(Path(config.model.start_from)))}
    leaking = {UNUSED: (), "train": (), "validation": ("train",), "test": ("train", "validation")}
    pairs = zip(corpus.clips, split.subsets, strict=True)
    if leaked := sum(then.get(clip.content) in leaking[subset] for clip, subset in pairs):
        raise RunError(
            f"model.start_from: {config.model.start_from} was made with {leaked} of the clips that this run would be "
            "validated or tested on: start from a run of the same split, or train on another corpus"
        )


def load_start(model: keras.Model, config: Config) -> None:
    """Give a network the weights of the model that it starts from; with other emotions, its logits stay random. Raises
    RunError when they do not fit."""
    folder = start_folder(Path(config.model.start_from))
    same_emotions = read_config(folder / "config.json").experiment.emotions == config.experiment.emotions
    try:
        trained = keras.saving.load_model(folder / "model.keras", compile=False)
        # Weight by weight: how they are divided into layers may have changed since.
        own, theirs = (
            [weight for layer in one.layers if same_emotions or not _gives_logits(layer) for weight in layer.weights]
            for one in (model, trained)
        )
        for weight, other in zip(own, theirs, strict=True):
            weight.assign(other)
        settle_normalization(model)
    except UNFIT as error:
        raise RunError(f"{folder} cannot be started from ({first_line(error)}): train it again") from error


def started_layers(model: keras.Model, config: Config) -> list[keras.layers.Layer]:
    """Return the layers that were trained before: all but the logits, where the network starts from another."""
    return [layer for layer in model.layers if not _gives_logits(layer)] if config.model.start_from else []


def _gives_logits(layer: keras.layers.Layer) -> bool:
    return layer.name.endswith("emotion")


# Branches


def check_branches(branches: Sequence[Path], digest: str) -> None:
    """Raise RunError unless all these runs were trained on the split of this digest, and on its training clips only: a
    branch that was trained on a validation or test clip would leak it."""
    for run in branches:
        metrics = runs.read_metrics(run)
        if metrics.get("split_sha256") != digest:
            raise RunError(f"model.branches: {run} was trained on another split: train it on this one")
        if runs.was_refit(run) and metrics["num_validation"]:
            raise RunError(
                f"model.branches: {run} was refitted on the validation clips: train it with training.refit_epochs=0"
            )


def load_branches(model: keras.Model, config: Config, branches: Sequence[Path]) -> None:
    """Give a network's branches the weights of the runs they start from, and its head, where it can, the mean of their
    heads. Raises RunError when they do not fit."""
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
        except UNFIT as error:
            raise RunError(f"{run} cannot be started from ({first_line(error)}): train it again") from error
    settle_normalization(model)
    if heads.keys() == config.encoders.keys() and _has_linear_head(config):
        _set_heads(model, config, [heads[name] for name in config.encoders])


def inputs_of(branches: Sequence[Path]) -> list[InputName]:
    """Return the inputs whose branches start from these runs."""
    return [name for run in branches for name in read_config(run / "config.json").encoders]


def branch_layers(model: keras.Model, config: Config, branches: Sequence[Path]) -> list[keras.layers.Layer]:
    """Return the layers that start from these runs."""
    return [layer for name in inputs_of(branches) for layer in branch_of(model, name, config).layers]


def branch_of(model: keras.Model, name: InputName, config: Config) -> keras.Model:
    """Return the part of a network that can start from another: a branch up to its pooled frames; with attention
    fusion, where the branches meet before pooling, up to its frames."""
    end = f"{name}_frames" if config.model.fusion == "attention" else f"{name}_pooled"
    return keras.Model(model.inputs, model.get_layer(end).output)


def keep_vocabulary(sources: Sequence[Path], folder: Path) -> None:
    """Copy the tokenizer of the first of these that has one into a run's folder: its weights belong to these words."""
    for source in sources:
        if read_config(source / "config.json").takes_transcripts and not has_tokenizer(folder):
            copy_tokenizer(source, folder)


# Linear heads


class Head(NamedTuple):
    """A linear head over one branch's pooled frames: batch normalization [channels] each, then a kernel [channels,
    emotions] and a bias [emotions]."""

    scale: np.ndarray
    offset: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


def _has_linear_head(config: Config) -> bool:
    """Return whether there is at most a batch normalization between pooled frames and logits."""
    embeds = any(encoder.embedding_units for encoder in config.encoders.values())
    attends = config.model.fusion == "attention" and len(config.encoders) > 1
    return not (config.model.hidden_units or embeds or attends)


def _normalization_of(model: keras.Model) -> keras.layers.BatchNormalization | None:
    """Return the batch normalization of a linear head: the last of a network, if there is any."""
    return next((layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.BatchNormalization)), None)


def _head_of(model: keras.Model) -> Head:
    """Return the linear head of a network of one branch; one without normalization gets an identity."""
    kernel, bias = model.get_layer("emotion").get_weights()
    normalization = _normalization_of(model)
    if normalization is None:
        ones, zeros = np.ones(len(kernel)), np.zeros(len(kernel))
        return Head(ones, zeros, zeros, ones - EPSILON, kernel, bias)
    return Head(*normalization.get_weights(), kernel, bias)


def _set_heads(model: keras.Model, config: Config, heads: Sequence[Head]) -> None:
    """Start a network as the late fusion of its branches, whose heads are in the order of its encoders: its logits are
    the mean of theirs. A random head learns less in the few epochs there are."""
    is_hybrid = config.model.fusion == "hybrid" and len(heads) > 1
    *normalization, kernel = (np.concatenate([head[index] for head in heads]) for index in range(5))
    if own := _normalization_of(model):
        own.set_weights(normalization)
    bias = np.mean([head.bias for head in heads], axis=0)
    model.get_layer("all_emotion" if is_hybrid else "emotion").set_weights([kernel / len(heads), bias])
    if is_hybrid:
        for name, head in zip(config.encoders, heads, strict=True):  # The heads of single branches do not normalize.
            scale = head.scale / np.sqrt(head.variance + EPSILON)
            bias = head.bias + (head.offset - head.mean * scale) @ head.kernel
            model.get_layer(f"{name}_emotion").set_weights([head.kernel * scale[:, np.newaxis], bias])
