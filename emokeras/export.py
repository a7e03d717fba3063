"""Export a run as one SavedModel that takes raw waveforms, checked against the model in memory.

    python -m emokeras.export runs/mel-resnet/ravdess-random-split-0-seed-0 saved_models/mel-resnet

It is written to saved_models/NAME/VERSION/, as TensorFlow Serving expects, each export with the next version. Its
signature serving_default(waveform: float32 [batch, samples]) -> {probabilities, emotion, speech_seconds, snr_decibels,
bandwidth_hz, clipped_share} takes up to ten minutes at the model's sample rate. Without speech the emotion is "" and
probabilities are NaN. A model with a text branch takes transcript: string [batch], or tokens: int [batch, words] of a
pretrained tokenizer.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from emokeras import commandline
from emokeras.errors import ExportError, RunError

CHECKED_SECONDS = (0.05, 1.0, 3.7, 10.0)
BURSTS_HZ = 2.0  # Each has two bursts.
CHECKED_TRANSCRIPTS = ("Kids are talking by the door.", "", "What?!", "I never said that, and you know it very well")
TOLERANCE = 1e-5


def export(run: Path, target: Path | None = None, *, calibrate_on: Sequence[Path] = (), say=print) -> Path:
    """Export a run; return the folder of the new version.

    Parameters
    ----------
    target: the folder of the model's versions, by default saved_models/RECIPE.
    calibrate_on: runs of the same recipe and emotions, or rows of results/, whose test predictions fit the temperature
        of the export: each has the same weight. Best are those of the protocol left-out.
    say: called with each line to print.

    Raises
    ------
    RunError: `run` is not the folder of a run that has ended, or one to calibrate on has no test predictions or other
        emotions.
    ExportError: the written model does not compute what the one in memory computes; the new version is removed.
    """
    commandline.import_tensorflow()
    from emokeras.recognizer import load_recognizer

    recognizer = load_recognizer(run)
    if not recognizer.members:
        raise RunError(f"{run} is an exported model already: give the folder of a run")
    return export_recognizer(recognizer, Path(run), target, calibrate_on=calibrate_on, say=say)


def export_recognizer(
    recognizer, run: Path, target: Path | None, *, calibrate_on: Sequence[Path] = (), say=print
) -> Path:
    """Export the networks of a recognizer, with the files of the run that they are of; as `export` does."""
    from emokeras import runs

    temperature = _temperature(recognizer, calibrate_on)
    target = Path(target or Path("saved_models") / recognizer.config.recipe)
    versions = [int(folder.name) for folder in target.glob("*") if folder.name.isdigit()]
    folder = target / str(max(versions, default=0) + 1)
    temporary = target / f".{folder.name}.{os.getpid()}"
    try:
        write(recognizer, run, temporary, temperature)
        if calibrate_on:
            calibration = {
                "temperature": temperature,
                "runs": [runs.shareable_name(str(path)) for path in calibrate_on],
            }
            runs.write_json(temporary / "assets.extra" / "calibration.json", calibration)
        difference = check(recognizer, temporary, temperature)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"{folder}: the reloaded model agrees with the one in memory to {difference:.0e}")
    return folder


def _temperature(recognizer, calibrate_on: Sequence[Path]) -> float:
    """Return the temperature that fits the test predictions of these runs; 1 without any."""
    from emokeras import runs
    from emokeras.models.late import fit_temperature

    predictions = [runs.read_predictions(Path(path) / runs.PREDICTION_FILES["test"]) for path in calibrate_on]
    for path, own in zip(calibrate_on, predictions, strict=True):
        if own.emotions != recognizer.emotions:
            raise RunError(f"{path} has other emotions than the model: calibrate on runs with the same ones")
    if not predictions:
        return 1.0
    return fit_temperature([own.probabilities for own in predictions], [own.labels for own in predictions])


def write(recognizer, run: Path, folder: Path, temperature: float = 1.0) -> None:
    """Write the SavedModel, and to its assets.extra/ the run's configuration, split and tokenizer, and model.keras of a
    single network, for `model.start_from`. Answers have a temperature, model.keras has none."""
    import keras
    import tensorflow as tf

    from emokeras import runs
    from emokeras.data.text import copy_tokenizer
    from emokeras.files import write_text
    from emokeras.recognizer.model import input_signature, serving_function
    from emokeras.recognizer.speech import BLOCKS, ENCODE_BLOCKS

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
    write_text(extra / "config.json", runs.shareable_json(run))
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


def check(recognizer, folder: Path, temperature: float = 1.0) -> float:
    """Return the largest difference of probabilities between the written model and the one in memory, for several
    lengths of bursts of noise, which pass for speech, and transcripts, one by one and as a batch. Raises ExportError
    above TOLERANCE, and where only one of them has an answer."""
    import numpy as np

    from emokeras.models.late import with_temperature
    from emokeras.recognizer import load_recognizer

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


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.export", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("target", type=Path, nargs="?", metavar="saved_models/NAME", help="default: the recipe's name")
    parser.add_argument(
        "--calibrate-on",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="runs, or rows of results/, whose test predictions fit the temperature of the probabilities",
    )
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    export(arguments.run, arguments.target, calibrate_on=arguments.calibrate_on)


if __name__ == "__main__":
    raise SystemExit(main())
