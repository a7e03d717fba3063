"""Export a run as one SavedModel that takes raw waveforms, checked against the model in memory.

    python -m emokeras.export runs/mel-resnet/ravdess-random-split-0-seed-0 saved_models/mel-resnet

It is laid out as TensorFlow Serving wants it, saved_models/NAME/VERSION/, each export one version up. Its signature
serving_default(waveform: float32 [batch, samples]) -> {probabilities, emotion} takes any length at the model's rate.
A model with a text branch takes transcript: string [batch], or a pretrained tokenizer's tokens: int [batch, words].
"""

import argparse
import os
import shutil
from pathlib import Path

from emokeras import commandline
from emokeras.errors import ExportError, RunError

CHECKED_SECONDS = (0.05, 1.0, 3.7, 10.0)
CHECKED_SENTENCES = ("Kids are talking by the door.", "", "What?!", "I never said that, and you know it very well")
TOLERANCE = 1e-5


def export(run: Path, target: Path | None = None, say=print) -> Path:
    """Export a run; return the folder of the new version.

    Raises RunError for what is no run, ExportError when the written model does not give what the one in memory gives
    (nothing is left behind then).
    """
    commandline.import_tensorflow()
    from emokeras.recognizer import load_recognizer

    recognizer = load_recognizer(run)
    if not recognizer.members:
        raise RunError(f"{run} is an exported model already: give the folder of a run")
    target = Path(target or Path("saved_models") / recognizer.config.recipe)
    versions = [int(folder.name) for folder in target.glob("*") if folder.name.isdigit()]
    folder = target / str(max(versions, default=0) + 1)
    temporary = target / f".{folder.name}.{os.getpid()}"
    try:
        write(recognizer, Path(run), temporary)
        difference = check(recognizer, temporary)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"{folder}: the reloaded model agrees with the one in memory to {difference:.0e}")
    return folder


def write(recognizer, run: Path, folder: Path) -> None:
    """Write the SavedModel, and in assets.extra/ beside it the run's configuration, split and tokenizer, and a single
    network itself, for `model.start_from`."""
    import keras

    from emokeras import runs
    from emokeras.config import to_json
    from emokeras.data.text import copy_tokenizer
    from emokeras.files import write_text
    from emokeras.recognizer import serving_function, signature

    archive = keras.export.ExportArchive()
    for member in recognizer.members:
        if isinstance(member.tokenize, keras.Layer):
            archive.track(member.tokenize)  # It holds the vocabulary's table.
    serve = serving_function(recognizer.config, recognizer.members, recognizer.combination)
    archive.add_endpoint("serving_default", serve, input_signature=signature(recognizer.config))
    archive.write_out(str(folder), verbose=False)
    (folder / "assets.extra").mkdir()
    write_text(folder / "assets.extra" / "config.json", to_json(runs.shareable_config(run)))
    shutil.copyfile(run / "split.csv", folder / "assets.extra" / "split.csv")
    own = {row["content"] for row in runs.read_split(run)}
    if before := [row for row in recognizer.split if row["content"] not in own]:
        runs.write_earlier_splits(folder / "assets.extra", before)
    if recognizer.combination is None:
        shutil.copyfile(run / "model.keras", folder / "assets.extra" / "model.keras")
    reading = [member for member in recognizer.members if member.config.takes_transcripts]
    if reading:  # Words are looked up within the graph; a pretrained tokenizer is needed beside it.
        needed = next((member for member in reading if member.config.has_pretrained_tokenizer), reading[0])
        copy_tokenizer(needed.folder, folder / "assets.extra")


def check(recognizer, folder: Path) -> float:
    """Return the largest difference of probabilities between the written and the living model, on noise of several
    lengths and on sentences, alone and as a batch. Raises ExportError above TOLERANCE."""
    import numpy as np

    from emokeras.recognizer import load_recognizer

    generator = np.random.default_rng(0)
    rate = recognizer.sample_rate_hz
    sounds = [generator.normal(scale=0.1, size=round(seconds * rate)).astype(np.float32) for seconds in CHECKED_SECONDS]
    written = load_recognizer(folder)
    examples = list(zip(sounds, CHECKED_SENTENCES, strict=True))
    alone = np.concatenate([written.predict([sound], [sentence]) for sound, sentence in examples])
    together = [model.predict(sounds, CHECKED_SENTENCES) for model in (recognizer, written)]
    difference = max(np.abs(alone - probabilities).max() for probabilities in together)
    if not difference <= TOLERANCE:  # NaN is no agreement either.
        raise ExportError(f"the exported model differs by {difference:.1e} from the one in memory: nothing was written")
    return float(difference)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.export", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("target", type=Path, nargs="?", metavar="saved_models/NAME", help="default: the recipe's name")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    export(arguments.run, arguments.target)


if __name__ == "__main__":
    raise SystemExit(main())
