"""A network that goes on from a trained one, all of it: from a run, or from an exported model, on another corpus."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emokeras.config import Config, changed, read_config
from emokeras.data.corpus import Corpus
from emokeras.data.text import copy_tokenizer
from emokeras.errors import RunError, UsageError, first_line
from emokeras.models import layers  # noqa: F401  registers the custom layers, so that model.keras loads
from emokeras.recognizer import newest_version
from emokeras.reporting import runs
from emokeras.training.callbacks import settle_normalization

TAKEN = ("audio", "spectrogram", "mfcc", "prosody", "speech", "tokens")


def start_folder(config: Config) -> Path:
    """Return the folder of the model that a configuration starts from: the run's, or an export's assets.extra. Raises
    UsageError when there is no single network in it."""
    path = Path(config.model.start_from)
    exported = newest_version(path)
    folder = exported / "assets.extra" if exported else path
    if not (folder / "model.keras").is_file():
        raise UsageError(f"model.start_from: {path} is no run of one network that has ended, and no export of one")
    return folder


def with_start(config: Config) -> Config:
    """Return the configuration with the network and the features of the model that it starts from; what happens in
    training stays its own, dropout and L2 among it. Raises UsageError where the two do not go together."""
    folder = start_folder(config)
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
    then = {row["content"]: row["subset"] for row in _heard_by(start_folder(config))}
    spoiling = {"train": (), "validation": ("train",), "test": ("train", "validation")}
    pairs = zip(corpus.clips, subsets, strict=True)
    if spoiled := sum(then.get(clip.content) in spoiling[subset] for clip, subset in pairs):
        raise RunError(
            f"model.start_from: {config.model.start_from} was made with {spoiled} of the clips that this run would be "
            "validated or tested on: start from a run of the same split, or train on another corpus"
        )


def keep_start(config: Config, folder: Path) -> None:
    """Keep in a run's folder what it takes over beside the weights: the words that the start knows, and which clips it
    has heard."""
    start = start_folder(config)
    if config.reads_transcripts:
        copy_tokenizer(start, folder)
    runs.write_heard(folder, [row for row in _heard_by(start) if row["subset"] != "test"])


def _heard_by(start: Path) -> list[dict[str, str]]:
    return [*runs.read_heard([start]), *runs.read_split(start)]


def load_start(model: keras.Model, config: Config) -> None:
    """Give a network the weights of the model that it starts from; where that knows other emotions, its logits are
    learned anew. Raises RunError when they do not fit."""
    folder = start_folder(config)
    same_emotions = read_config(folder / "config.json").experiment.emotions == config.experiment.emotions
    try:
        trained = keras.saving.load_model(folder / "model.keras", compile=False)
        own, theirs = ([layer for layer in one.layers if layer.weights] for one in (model, trained))
        for layer, other in zip(own, theirs, strict=True):
            if same_emotions or not _gives_logits(layer):
                layer.set_weights(other.get_weights())
        settle_normalization(model)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise RunError(f"{folder} cannot be started from ({first_line(error)}): train it again") from error


def started_layers(model: keras.Model, config: Config) -> list[keras.layers.Layer]:
    """Return the layers that were learned elsewhere: all but the logits, where the network starts from another."""
    return [layer for layer in model.layers if not _gives_logits(layer)] if config.model.start_from else []


def _gives_logits(layer: keras.layers.Layer) -> bool:
    return layer.name.endswith("emotion")
