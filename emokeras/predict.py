"""Say which emotion a recording expresses. Takes any file that libsndfile reads: WAV, FLAC, OGG, MP3, AIFF ...

python -m emokeras.predict clip.wav --model runs/mel-resnet/ravdess-random-split-0-seed-0
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from emokeras import commandline
from emokeras.errors import AudioError, UsageError


def predict(files: Sequence[Path], model: Path) -> tuple[list[dict], list[str]]:
    """Recognise audio files with a run or an exported model.

    Returns
    -------
    For each readable file {"file", "emotion", "probabilities": {emotion: float}}, and one line for each that is not.
    """
    commandline.import_tensorflow()
    from emokeras.data.audio import load_waveform
    from emokeras.recognizer import load_recognizer

    recognizer = load_recognizer(model)
    read, waveforms, problems = [], [], []
    for file in files:
        try:
            waveforms.append(load_waveform(file, recognizer.sample_rate_hz))
            read.append(file)
        except AudioError as error:
            problems.append(str(error))
    if not read:
        return [], problems
    answers = []
    for file, row in zip(read, recognizer.predict(waveforms), strict=True):
        probabilities = {emotion: float(value) for emotion, value in zip(recognizer.emotions, row, strict=True)}
        emotion = max(probabilities, key=probabilities.get)
        answers.append({"file": str(file), "emotion": emotion, "probabilities": probabilities})
    return answers, problems


def newest_run(root: Path = Path("runs")) -> Path:
    """Return the run under `root` that ended last. Raises UsageError when there is none."""
    ended = sorted(root.glob("**/metrics.json"), key=lambda path: path.stat().st_mtime)
    if not ended:
        raise UsageError(
            f"no --model was given and no run has ended under {root}/: train one, python -m emokeras.train"
        )
    return ended[-1].parent


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.predict", __doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio files")
    parser.add_argument("--model", type=Path, help="a run folder or an exported model (default: the newest run)")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a file")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> int:
    model = arguments.model
    if model is None:
        model = newest_run()
        print(f"model: {model}", file=sys.stderr)
    answers, problems = predict(arguments.files, model)
    if arguments.json:
        for answer in answers:
            print(json.dumps(answer))
    elif answers:
        from emokeras.reporting import tables

        tables.print_predictions(answers)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
