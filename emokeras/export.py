"""Export a run as one SavedModel that takes raw waveforms, checked against the model in memory.

    python -m emokeras.export runs/mel-resnet/ravdess-random-split-0-seed-0 saved_models/mel-resnet

It is written to saved_models/NAME/VERSION/, as TensorFlow Serving expects, each export with the next version. Its
signature serving_default(waveform: float32 [batch, samples]) -> {probabilities, emotion, speech_seconds, snr_decibels,
bandwidth_hz, clipped_share} takes up to ten minutes at the model's sample rate. Without speech the emotion is "" and
probabilities are NaN. A model with a text branch takes transcript: string [batch], or tokens: int [batch, words] of a
pretrained tokenizer.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from emokeras import commandline
from emokeras.errors import RunError


def export(
    run: Path, target: Path | None = None, *, license: str = "", calibrate_on: Sequence[Path] = (), say=print
) -> Path:
    """Export a run; return the folder of the new version.

    Parameters
    ----------
    target: the folder of the model's versions, by default saved_models/RECIPE.
    license: of the weights, which `predict` names; by default that of the run's configuration.
    calibrate_on: runs of the same recipe and emotions, rows of results/, or what `evaluate --output` wrote, whose
        predictions fit the temperature of the export: each has the same weight. Best are those of left-out.
    say: called with each line to print.

    Raises
    ------
    RunError: `run` is not the folder of a run that has ended, or one to calibrate on has no test predictions or other
        emotions.
    ExportError: the written model does not compute what the one in memory computes; the new version is removed.
    """
    commandline.import_tensorflow()
    from emokeras.recognizer import load_recognizer
    from emokeras.recognizer.export import export_recognizer

    recognizer = load_recognizer(run)
    if not recognizer.members:
        raise RunError(f"{run} is an exported model already: give the folder of a run")
    target = Path(target or Path("saved_models") / recognizer.config.recipe)
    calibration = _calibration(recognizer, calibrate_on) if calibrate_on else None
    return export_recognizer(recognizer, Path(run), target, calibration=calibration, license=license, say=say)


def _calibration(recognizer, calibrate_on: Sequence[Path]) -> dict:
    """Return the temperature that fits the test predictions of these runs, and where their rows are."""
    from emokeras import runs
    from emokeras.models.late import fit_temperature

    predictions = [runs.read_predictions(Path(path) / runs.PREDICTION_FILES["test"]) for path in calibrate_on]
    for path, own in zip(calibrate_on, predictions, strict=True):
        if own.emotions != recognizer.emotions:
            raise RunError(f"{path} has other emotions than the model: calibrate on runs with the same ones")
    temperature = fit_temperature([own.probabilities for own in predictions], [own.labels for own in predictions])
    return {"temperature": temperature, "runs": [_row_of(Path(path)) for path in calibrate_on]}


def _row_of(folder: Path) -> str:
    """Return where under results/ the row of a run is; for other predictions the name of their folder."""
    from emokeras import runs

    try:
        return runs.results_folder(runs.read_metrics(folder), Path(), folder).as_posix()
    except RunError:
        return folder.name


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
        help="runs, rows of results/, or what evaluate --output wrote: their predictions fit the temperature",
    )
    parser.add_argument("--license", default="", help="of the weights, which predict names: CC BY-NC-SA 4.0")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    export(arguments.run, arguments.target, license=arguments.license, calibrate_on=arguments.calibrate_on)


if __name__ == "__main__":
    raise SystemExit(main())
