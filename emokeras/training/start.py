"""A network that goes on from a trained one, all of it: from a run, or from an exported model, on another corpus."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emokeras.config import Config, ExperimentConfig, changed, read_config
from emokeras.data.corpus import Corpus
from emokeras.errors import RunError, UsageError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.recognizer import newest_version
from emokeras.reporting import runs
from emokeras.training.callbacks import settle_normalization

TAKEN = ("audio", "spectrogram", "mfcc", "prosody", "speech", "tokens")


def start_folder(path: Path) -> Path:
    """Return the folder of a model to start from: the run's, or an export's assets.extra. Raises UsageError when there
    is no single network in it."""
    exported = newest_version(path)
    folder = exported / "assets.extra" if exported else path
    if not (folder / "model.keras").is_file():
        raise UsageError(f"model.start_from: {path} is no run of one network that has ended, and no export of one")
    return folder


def config_of_start(path: Path) -> Config:
    """Return the configuration that a model to start from was trained by, less what it had started and learned from
    itself."""
    own = read_config(start_folder(path) / "config.json")
    return replace(
        own,
        experiment=ExperimentConfig(),
        model=replace(own.model, start_from="", branches=(), weights=""),
        training=replace(own.training, teacher=""),
    )


def with_start(config: Config) -> Config:
    """Return the configuration with the network and the features of the model that it starts from; what happens in
    training stays its own, dropout and L2 among it. Raises UsageError where the two do not go together."""
    folder = start_folder(Path(config.model.start_from))
    own = read_config(folder / "config.json")
    model = replace(
        own.model, start_from=config.model.start_from, branches=(), weights="", dropout=config.model.dropout
    )
    encoders = {
        name: replace(body, dropout=config.encoders[name].dropout, l2=config.encoders[name].l2)
        if name in config.encoders
        else body
        for name, body in own.encoders.items()
    }
    taken = {name: getattr(own, name) for name in TAKEN}
    return changed(config, "model.start_from", model=model, encoders=encoders, **taken)


def check_unheard(config: Config, corpus: Corpus, subsets: np.ndarray) -> None:
    """Raise RunError when the model that a configuration starts from was trained on a clip that is to validate or test
    here, by content, or chosen by one that is to test; `subsets` [clips] says what each clip of the corpus is for."""
    then = {row["content"]: row["subset"] for row in runs.made_with(start_folder(Path(config.model.start_from)))}
    spoiling = {"train": (), "validation": ("train",), "test": ("train", "validation")}
    pairs = zip(corpus.clips, subsets, strict=True)
    if spoiled := sum(then.get(clip.content) in spoiling[subset] for clip, subset in pairs):
        raise RunError(
            f"model.start_from: {config.model.start_from} was made with {spoiled} of the clips that this run would be "
            "validated or tested on: start from a run of the same split, or train on another corpus"
        )


def load_start(model: keras.Model, config: Config) -> None:
    """Give a network the weights of the model that it starts from; where that knows other emotions, its logits are
    learned anew. Raises RunError when they do not fit."""
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
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise RunError(f"{folder} cannot be started from ({first_line(error)}): train it again") from error


def started_layers(model: keras.Model, config: Config) -> list[keras.layers.Layer]:
    """Return the layers that were learned elsewhere: all but the logits, where the network starts from another."""
    return [layer for layer in model.layers if not _gives_logits(layer)] if config.model.start_from else []


def _gives_logits(layer: keras.layers.Layer) -> bool:
    return layer.name.endswith("emotion")
