"""Recognize the emotions of recordings: WAV, FLAC, OGG, MP3, AIFF, and whatever else libsndfile reads.

    python -m emokeras.predict clip.wav
    python -m emokeras.predict clip.wav --model runs/mel-resnet/ravdess-random-split-0-seed-0
    python -m emokeras.predict recordings/speaker1 recordings/speaker2 --adapt

Two models come with emokeras: `--model speech`, the default, on a pretrained speech encoder, and `--model small`.
saved_models/speech/README.md and saved_models/small/README.md describe them and their accuracy.
"""

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from emokeras import commandline
from emokeras.config import DEFAULT_WHISPER
from emokeras.errors import AudioError, EmokerasError, UsageError
from emokeras.runs import SHIPPED, find_model


def predict(
    files: Sequence[Path],
    model: Path,
    *,
    transcripts: Sequence[str] | None = None,
    whisper: str = DEFAULT_WHISPER,
    language: str = "en",
    adapt: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[dict], list[str]]:
    """Recognize the emotions of audio files.

    Parameters
    ----------
    files: the audio files; none for a model that takes transcripts only. A folder stands for those in it.
    model: a run folder or an exported model.
    transcripts: one for each file, for a model that takes them; by default Whisper transcribes the files.
    whisper: the Whisper model, a name or a folder. It needs the extra `asr`.
    language: the language spoken, its code or English name, for a multilingual Whisper.
    adapt: the model is adapted, without labels (`recognizer.adapt`), to the recordings of each folder that is given, or
        to the given files that are in one folder: the more of one speaker, room and microphone, the better. They are
        read twice. It needs a speech encoder.
    say: called with each line to print.

    Returns
    -------
    For each readable file {"file", "emotion", "probabilities": {emotion: float}, "remark", and of a model that measures
    them "speech_seconds", "snr_decibels", "bandwidth_hz", "clipped_share"}, and one line for each unreadable one. Where
    there is no speech, emotion and probabilities are None.

    Raises
    ------
    UsageError: the model needs files or transcripts that are missing, or takes no transcripts.
    RunError: `model` is no run and no exported model.
    """
    commandline.import_tensorflow()
    from emokeras.data.audio import load_waveform, read_waveform
    from emokeras.data.whisper import SAMPLE_RATE_HZ, load_whisper
    from emokeras.recognizer import load_recognizer
    from emokeras.recognizer.adapt import adapted_to
    from emokeras.recognizer.answers import blocks_of
    from emokeras.recognizer.model import load_networks

    groups = [_files_of(Path(given)) for given in files]
    if transcripts and any(Path(given).is_dir() for given in files):
        raise UsageError("a --transcript is for one file: give files instead of a folder")
    files = [file for group in groups for file in group]
    recognizer = load_networks(model) if adapt else load_recognizer(model)
    for text in dict.fromkeys(network.model.license for network in recognizer.config.networks.values()):
        if text:
            say(f"weights: {text}{', not for commercial use' if '-NC' in text else ''}")
    takes_audio, takes_transcripts = recognizer.config.takes_audio, recognizer.config.takes_transcripts
    if files and transcripts and len(files) != len(transcripts):
        raise UsageError(f"{len(files)} files and {len(transcripts)} transcripts: give one --transcript for each file")
    if transcripts and not takes_transcripts:
        raise UsageError(f"{model} takes no transcripts: leave out --transcript")
    if takes_audio and not files:
        raise UsageError(f"{model} needs audio files")
    transcribe = None
    if takes_transcripts and not transcripts:
        try:
            transcribe = load_whisper(whisper, language, say=say)
        except EmokerasError as error:
            raise UsageError(f"{model} needs transcripts: give --transcript TEXT for each file ({error})") from error
        say(f"transcripts by {whisper}")
    problems: dict[int, str] = {}

    def text_of(number: int) -> str:
        if transcripts:
            return transcripts[number]
        try:
            (text,) = transcribe([load_waveform(files[number], SAMPLE_RATE_HZ)])
            say(f"{files[number]}: {text or '(no words)'}")
            return text
        except AudioError as error:
            problems[number] = str(error)
            return ""

    def blocks(number: int) -> Iterator:
        try:
            yield from blocks_of(read_waveform(files[number], recognizer.sample_rate_hz), recognizer.sample_rate_hz)
        except AudioError as error:
            problems[number] = str(error)

    if adapt and not recognizer.config.has_speech_encoder:
        raise UsageError("only a model with a speech encoder adapts without labels: give another --model")
    numbers = range(len(files) or len(transcripts))
    rows = {}
    for group in _together(groups) if adapt else [numbers]:
        own = recognizer
        if adapt:
            own = adapted_to(recognizer, itertools.chain.from_iterable(map(blocks, group)))
        recordings = (blocks(number) for number in group) if takes_audio else None
        texts = (text_of(number) for number in group) if takes_transcripts else None
        for place, answer in own.answer(recordings, texts):
            number = group[place]
            rows[number] = _row(str(files[number] if files else transcripts[number]), answer, recognizer.emotions)
    return (
        [row for number, row in sorted(rows.items()) if number not in problems],
        [problems[number] for number in sorted(problems)],
    )


def _files_of(path: Path) -> list[Path]:
    """Return a file, or the audio files in a folder. Raises UsageError for a folder without any."""
    from emokeras.data.audio import SUFFIXES
    from emokeras.data.corpora.files import list_files

    if not path.is_dir():
        return [path]
    files = [file.path for file in list_files(path) if file.suffix in SUFFIXES]
    if not files:
        raise UsageError(f"{path} is a folder without an audio file: give another")
    return files


def _together(groups: Sequence[Sequence[Path]]) -> list[list[int]]:
    """Return the numbers of the files that are adapted to together: those of a folder that was given, and single files
    that are in one folder."""
    numbers, together = itertools.count(), defaultdict(list)
    for place, group in enumerate(groups):
        is_file = len(group) == 1
        for file in group:
            together[file.parent if is_file else place].append(next(numbers))
    return list(together.values())


def _row(name: str, answer, emotions: Sequence[str]) -> dict:
    from emokeras.recognizer.answers import remark_on

    emotion = probabilities = None
    if answer.is_given:
        probabilities = {emotion: float(value) for emotion, value in zip(emotions, answer.probabilities, strict=True)}
        emotion = max(probabilities, key=probabilities.get)
    return {
        "file": name,
        "emotion": emotion,
        "probabilities": probabilities,
        "remark": remark_on(answer),
    } | answer.quality


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.predict", __doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="audio files, or folders of them")
    parser.add_argument(
        "--transcript", action="append", metavar="TEXT", help="for a model that takes transcripts; once for each file"
    )
    parser.add_argument(
        "--whisper",
        default=DEFAULT_WHISPER,
        metavar="NAME|DIR",
        help=f"the Whisper model that transcribes where no --transcript is given (default: {DEFAULT_WHISPER})",
    )
    parser.add_argument("--language", default="en", help="the language spoken, for Whisper: code or name (default: en)")
    parser.add_argument(
        "--model",
        metavar="RUN|EXPORT|NAME",
        help=f"a run, an export, or {' or '.join(SHIPPED)}, which come with emokeras (default: {SHIPPED[0]})",
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="adapt to the recordings of each folder, without labels; best with a minute of one speaker or more",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object for each file")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> int:
    if not arguments.files and not arguments.transcript:
        raise UsageError("nothing to recognize: give audio files, or --transcript for a model that takes transcripts")
    model = find_model(arguments.model)
    if arguments.model is None:
        print(f"model: {model}", file=sys.stderr)
    answers, problems = predict(
        arguments.files,
        model,
        transcripts=arguments.transcript,
        whisper=arguments.whisper,
        language=arguments.language,
        adapt=arguments.adapt,
        say=lambda line: print(line, file=sys.stderr),
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
