"""Write networks as one SavedModel, and check that it computes what they do."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emokeras import runs
from emokeras.data.text import copy_tokenizer
from emokeras.errors import ExportError
from emokeras.files import write_text
from emokeras.models.late import with_temperature
from emokeras.recognizer.model import CALIBRATION_FILE, Recognizer, input_signature, load_recognizer, serving_function
from emokeras.recognizer.speech import BLOCKS, ENCODE_BLOCKS

CHECKED_SECONDS = (0.05, 1.0, 3.7, 10.0)
BURSTS_HZ = 2.0  # Each has two bursts.
CHECKED_TRANSCRIPTS = ("Kids are talking by the door.", "", "What?!", "I never said that, and you know it very well")
TOLERANCE = 1e-5


def export_recognizer(
    recognizer: Recognizer,
    run: Path,
    target: Path,
    *,
    calibration: Mapping[str, Any] | None = None,
    license: str = "",
    say: Callable[[str], None] = print,
) -> Path:
    """Write a recognizer's networks as a new version in the folder `target`; return its folder.

    Parameters
    ----------
    run: the folder of the run that the networks are of; its configuration, split and tokenizer are kept beside them.
    calibration: {"temperature": float} and where it is from, for assets.extra/calibration.json; its temperature
        divides the logits of the answers.
    license: of the weights; by default that of the run's configuration.
    say: called with each line to print.

    Raises
    ------
    ExportError: the written model does not compute what the one in memory computes; the new version is removed.
    """
    temperature = calibration["temperature"] if calibration else 1.0
    versions = [int(folder.name) for folder in target.glob("*") if folder.name.isdigit()]
    folder = target / str(max(versions, default=0) + 1)
    temporary = target / f".{folder.name}.{os.getpid()}"
    try:
        write(recognizer, run, temporary, temperature, license)
        if calibration:
            runs.write_json(temporary / "assets.extra" / CALIBRATION_FILE, dict(calibration))
        difference = check(recognizer, temporary, temperature)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"{folder}: the reloaded model agrees with the one in memory to {difference:.0e}")
    return folder


def write(recognizer: Recognizer, run: Path, folder: Path, temperature: float = 1.0, license: str = "") -> None:
    """Write the SavedModel, and to its assets.extra/ the run's configuration, split and tokenizer, and model.keras of a
    single network, for `model.start_from`. Answers have a temperature, model.keras has none."""
    archive = keras.export.ExportArchive()
    for member in recognizer.members:
        if isinstance(member.tokenizer, keras.Layer):
            archive.track(member.tokenizer)  # for its lookup table
    networks = recognizer.members, recognizer.combination, recognizer.encoder
    serve = serving_function(recognizer.config, *networks, temperature)
    archive.add_endpoint("serving_default", serve, input_signature=input_signature(recognizer.config))
    if isinstance(recognizer.encoder, tf.Module):  # For the networks of an export that is adapted.
        archive.track(recognizer.encoder)

        def encode_blocks(blocks, samples):
            return {"states": recognizer.encoder(blocks, samples)}

        archive.add_endpoint(ENCODE_BLOCKS, encode_blocks, input_signature=BLOCKS)
    archive.write_out(str(folder), verbose=False)
    extra = folder / "assets.extra"
    extra.mkdir()
    write_text(extra / "config.json", runs.shareable_json(run, license))
    shutil.copyfile(run / "split.csv", extra / "split.csv")
    own = {row["content"] for row in runs.read_split(run)}
    if earlier := [row for row in recognizer.clips_used if row["content"] not in own]:
        runs.write_earlier_splits(extra, earlier)
    if recognizer.combination is None:
        shutil.copyfile(run / "model.keras", extra / "model.keras")
    with_text = [member for member in recognizer.members if member.config.takes_transcripts]
    if with_text:  # A pretrained tokenizer is not part of the graph: callers need it.
        needed = next((member for member in with_text if member.config.has_pretrained_tokenizer), with_text[0])
        copy_tokenizer(needed.folder, extra)


def check(recognizer: Recognizer, folder: Path, temperature: float = 1.0) -> float:
    """Return the largest difference of probabilities between the written model and the one in memory, for several
    lengths of bursts of noise, which pass for speech, and transcripts, one by one and as a batch. Raises ExportError
    above TOLERANCE, and where only one of them has an answer."""
    generator = np.random.default_rng(0)
    lengths = [round(seconds * recognizer.sample_rate_hz) for seconds in CHECKED_SECONDS]
    waveforms = []
    for length in lengths:
        bursts = 0.1 * np.sin(2 * np.pi * BURSTS_HZ * np.arange(length) / recognizer.sample_rate_hz) ** 4
        waveforms.append((generator.normal(size=length) * bursts).astype(np.float32))
    written = load_recognizer(folder)
    pairs = list(zip(waveforms, CHECKED_TRANSCRIPTS, strict=True))
    alone = np.concatenate([written.predict([waveform], [transcript]) for waveform, transcript in pairs])
    in_memory = with_temperature(recognizer.predict(waveforms, CHECKED_TRANSCRIPTS), temperature)
    batched = [in_memory, written.predict(waveforms, CHECKED_TRANSCRIPTS)]
    difference = max(np.where(np.isnan(alone) & np.isnan(one), 0.0, np.abs(alone - one)).max() for one in batched)
    if not difference <= TOLERANCE:  # also true for NaN
        raise ExportError(f"the exported model differs by {difference:.1e} from the one in memory: nothing was written")
    return float(difference)
