"""Models of transformers, by folder or by name on the Hugging Face hub: their files and sizes, without messages.

Here because `data` (tokenizers, speech encoders, Whisper) and `models` (BERT's weights) both use it and may not import
each other.
"""

import contextlib
import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emokeras.config import GIVE_BERT, GIVE_SPEECH_ENCODER
from emokeras.errors import UsageError, first_line

BERT_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_positions": "max_position_embeddings",
    "units": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_blocks": "num_hidden_layers",
    "hidden_units": "intermediate_size",
}


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress the hints of transformers and the hub; on a terminal a download's progress bar stays."""
    logging.disable(logging.WARNING)
    try:
        from huggingface_hub.utils import enable_progress_bars
        from transformers.utils import logging as their_logging

        had_bars = their_logging.is_progress_bar_enabled()
        their_logging.disable_progress_bar()
        if sys.stderr.isatty():
            enable_progress_bars()  # The hub's own, which transformers' switch turns off too.
        try:
            yield
        finally:
            if had_bars:
                their_logging.enable_progress_bar()
    finally:
        logging.disable(logging.NOTSET)


def model_file(name: str, file: str, advice: str) -> str:
    """Return the path of one file of a model. Raises UsageError, ending with `advice`, when it cannot be loaded."""
    from transformers.utils import cached_file

    logging.disable(logging.WARNING)  # The hub's client reports each of its retries.
    try:
        if path := cached_file(name, file):
            return path
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} of {name} cannot be loaded ({first_line(error)}): {advice}") from error
    finally:
        logging.disable(logging.NOTSET)
    raise UsageError(f"{name or repr(name)} has no {file}: {advice}")


def model_settings(name: str, advice: str) -> dict:
    """Return config.json of a model. Raises UsageError."""
    file = model_file(name, "config.json", advice)
    try:
        return dict(json.loads(Path(file).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file} cannot be read ({first_line(error)}): {advice}") from error


def bert_sizes(weights: str) -> dict[str, int]:
    """Return the sizes of the BERT that `model.weights` names, by our settings. Raises UsageError for another model."""
    settings = model_settings(weights, GIVE_BERT)
    wanted = {"model_type": "bert", "type_vocab_size": 2, "hidden_act": "gelu"}
    differs = any(settings.get(name) != value for name, value in wanted.items())
    if differs or not settings.keys() >= {*BERT_SIZES.values()}:
        raise UsageError(f"model.weights={weights} is no BERT as Google published it: {GIVE_BERT}")
    return {ours: settings[theirs] for ours, theirs in BERT_SIZES.items()}


def speech_settings(name: str) -> dict[str, str | int]:
    """Return what `SpeechConfig` has of a speech encoder, Whisper or wav2vec 2.0 and its kin: {"family", "units",
    "sha256"}. Raises UsageError."""
    settings = model_settings(name, GIVE_SPEECH_ENCODER)
    is_whisper = settings.get("model_type") == "whisper"
    units = settings.get("d_model" if is_whisper else "hidden_size")
    if not isinstance(units, int):
        raise UsageError(f"{name} is no speech model: {GIVE_SPEECH_ENCODER}")
    with open(_weights_file(name), "rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"family": "whisper" if is_whisper else "wav2vec2", "units": units, "sha256": sha256}


def _weights_file(name: str) -> str:
    try:
        return model_file(name, "model.safetensors", GIVE_SPEECH_ENCODER)
    except UsageError:
        return model_file(name, "pytorch_model.bin", GIVE_SPEECH_ENCODER)  # Older models of the hub have no other.


class WhisperSizes(NamedTuple):
    """The sizes of a Whisper's encoder. `hidden_units` are those between the two dense layers of a block."""

    num_bands: int
    units: int
    num_blocks: int
    num_heads: int
    hidden_units: int
    num_positions: int


def whisper_sizes(name: str) -> WhisperSizes:
    """Return the sizes of a Whisper's encoder. Raises UsageError for another model."""
    settings = model_settings(name, GIVE_SPEECH_ENCODER)
    wanted = (
        "num_mel_bins",
        "d_model",
        "encoder_layers",
        "encoder_attention_heads",
        "encoder_ffn_dim",
        "max_source_positions",
    )
    if settings.get("model_type") != "whisper" or not settings.keys() >= {*wanted}:
        raise UsageError(f"{name} is no Whisper: {GIVE_SPEECH_ENCODER}")
    return WhisperSizes(*(settings[key] for key in wanted))
