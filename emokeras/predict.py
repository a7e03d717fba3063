"""Say which emotion a recording expresses. Takes any file that libsndfile reads: WAV, FLAC, OGG, MP3, AIFF ...

    python -m emokeras.predict clip.wav
    python -m emokeras.predict clip.wav --model runs/mel-resnet/ravdess-random-split-0-seed-0

With no model named it takes the one that comes with emokeras; saved_models/ravdess/README.md says what that is worth.
"""

import argparse
import itertools
import json
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from emokeras import commandline
from emokeras.config import DEFAULT_WHISPER
from emokeras.errors import AudioError, EmokerasError, UsageError

SHIPPED = Path("saved_models") / "ravdess"


def predict(
    files: Sequence[Path],
    model: Path,
    transcripts: Sequence[str] | None = None,
    whisper: str = DEFAULT_WHISPER,
    language: str = "en",
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[dict], list[str]]:
    """Recognise audio files, with what is said in them, with a run or an exported model.

    Parameters
    ----------
    transcripts: one a file, for a model that reads them; where there are none, Whisper writes them. A model that reads
        alone needs no files.
    whisper: the Whisper model that does, a name or a folder. It needs the extra `asr`.
    language: what is spoken, its code or English name, for a Whisper that knows several.
    say: where lines for the reader go.

    Returns
    -------
    For each readable file {"file", "emotion", "probabilities": {emotion: float}}, and one line for each that is not.
    """
    commandline.import_tensorflow()
    from emokeras.data.audio import load_waveform
    from emokeras.data.transcripts import SAMPLE_RATE_HZ, load_whisper
    from emokeras.recognizer import load_recognizer

    recognizer = load_recognizer(model)
    hears, reads = recognizer.config.takes_audio, recognizer.config.takes_transcripts
    if files and transcripts and len(files) != len(transcripts):
        raise UsageError(f"{len(files)} files and {len(transcripts)} transcripts: give one --transcript a file")
    if transcripts and not reads:
        raise UsageError(f"{model} does not read what is said: leave --transcript out")
    if hears and not files:
        raise UsageError(f"{model} hears: give audio files")
    recognise = None
    if reads and not transcripts:
        try:
            recognise = load_whisper(whisper, language, say=say)
        except EmokerasError as error:
            raise UsageError(f"{model} reads what is said: give --transcript TEXT, one a file ({error})") from error
        say(f"transcripts by {whisper}")
    names, waveforms, said, problems = [], [], [], []
    for file, transcript in itertools.zip_longest(files, transcripts or []):
        try:
            waveform = load_waveform(file, recognizer.sample_rate_hz) if hears else None
            if recognise:
                (transcript,) = recognise([load_waveform(file, SAMPLE_RATE_HZ)])
                say(f"{file}: {transcript or '(no words)'}")
        except AudioError as error:
            problems.append(str(error))
            continue
        names.append(str(file or transcript))
        waveforms.append(waveform)
        said.append(transcript)
    if not names:
        return [], problems
    answers = []
    for name, row in zip(names, recognizer.predict(waveforms, said), strict=True):
        probabilities = {emotion: float(value) for emotion, value in zip(recognizer.emotions, row, strict=True)}
        emotion = max(probabilities, key=probabilities.get)
        answers.append({"file": name, "emotion": emotion, "probabilities": probabilities})
    return answers, problems


def shipped_model() -> Path:
    """Return the folder of the model that comes with emokeras: in the checkout, or where its wheel has put it. Raises
    UsageError when it is at neither place."""
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    installed = [Path(sysconfig.get_path("data", scheme)) / "share" / "emokeras" for scheme in schemes]
    for place in (Path(__file__).parents[1], *installed):
        if (place / SHIPPED).is_dir():
            return place / SHIPPED
    raise UsageError("the model that comes with emokeras is not where it was installed: give --model RUN|MODEL")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.predict", __doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="audio files")
    parser.add_argument(
        "--transcript", action="append", metavar="TEXT", help="what is said, for a model that reads it; one a file"
    )
    parser.add_argument(
        "--whisper",
        default=DEFAULT_WHISPER,
        metavar="NAME|DIR",
        help=f"what writes the transcripts that are not given (default: {DEFAULT_WHISPER})",
    )
    parser.add_argument("--language", default="en", help="what is spoken, for Whisper: its code or name (default: en)")
    parser.add_argument("--model", type=Path, help="a run folder or an exported model (default: the one shipped)")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a file")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> int:
    if not arguments.files and not arguments.transcript:
        raise UsageError("there is nothing to recognise: give audio files, or --transcript for a model that reads")
    model = arguments.model
    if model is None:
        model = shipped_model()
        print(f"model: {model}", file=sys.stderr)
    answers, problems = predict(
        arguments.files,
        model,
        arguments.transcript,
        arguments.whisper,
        arguments.language,
        lambda line: print(line, file=sys.stderr),
    )
    if arguments.json:
        for answer in answers:
            print(json.dumps(answer))
    elif answers:
        from emokeras.reporting import screen

        screen.print_predictions(answers)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
