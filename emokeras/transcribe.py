"""Transcribe a corpus with Whisper, and print the word error rate against its scripts.

    python -m emokeras.transcribe --corpus ravdess

Training and evaluation then use these transcripts, which are kept under EMOKERAS_HOME. A stopped run continues where it
was. It needs torch: pip install 'emokeras[asr]'.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emokeras import commandline
from emokeras.config import DEFAULT_WHISPER
from emokeras.errors import UsageError

if TYPE_CHECKING:
    from emokeras.data.corpora import Corpus


def transcribe(
    corpus: str, *, model: str = DEFAULT_WHISPER, batch_size: int = 8, language: str = "en", say=print
) -> Path:
    """Transcribe a corpus with Whisper; return the path of its transcripts.csv.

    The file has the columns clip, content, script, transcript, model and language, and one row per recording.

    Parameters
    ----------
    corpus: "ravdess", "emodb" or "demo" as prepared, or the path of a folder, a zip or a manifest.csv.
    model: the folder of a Whisper model of transformers, or its name on huggingface.co, which is downloaded once.
    batch_size: the number of clips that are transcribed together; a kill loses at most these.
    language: of the recordings, its code or English name; "en" for English-only models.
    say: called with each line to print.

    Raises
    ------
    UsageError: torch is missing, or an argument is wrong, such as several corpora.
    CorpusError: the corpus or an earlier transcripts.csv cannot be used.
    EmokerasError: the model cannot be downloaded or is not Whisper.
    """
    from emokeras.data import transcripts, whisper
    from emokeras.data.corpora import load_corpus, split_source

    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: give 1 or more")
    if len(split_source(corpus)) > 1:
        raise UsageError(f"--corpus {corpus}: transcribe one corpus after another")
    whisper.check_packages("torch", "jiwer")
    whisper.language_code(language)  # Refused before the corpus is read.
    loaded = load_corpus(corpus)
    for note in loaded.notes:
        say(f"  {note}")
    path = transcripts.transcribe_clips(loaded.clips, model, batch_size, language, say)
    say(describe(loaded))
    say(str(path))
    return path


def describe(corpus: "Corpus") -> str:
    """Return lines with the number of clips, the model, the word error rate, and the clips without script or words."""
    from emokeras.data import transcripts
    from emokeras.data.corpora import count_and_name

    texts = transcripts.read_transcripts(corpus.clips)
    num_recordings = len({clip.content for clip in corpus.clips})
    recordings = f" ({num_recordings} recordings)" if num_recordings < len(corpus.clips) else ""
    lines = [f"{len(corpus.clips)} clips of {corpus.name}{recordings}, {transcripts.transcript_kind(corpus.clips)}"]
    pairs = [(clip.transcript, text) for clip, text in zip(corpus.clips, texts, strict=True)]
    scripted = [(script, text) for script, text in pairs if transcripts.plain_words(script)]
    if scripted:
        rate = transcripts.word_error_rate(*zip(*scripted, strict=True))
        lines.append(f"word error rate {100 * rate:.2f} % against the script of {len(scripted)} clips")
    unscripted = [clip.name for clip in corpus.clips if not transcripts.plain_words(clip.transcript)]
    if unscripted:
        lines.append(count_and_name("clip", " without a script and so without a word error rate", unscripted))
    empty = [clip.name for clip, text in zip(corpus.clips, texts, strict=True) if not text]
    lines.append(count_and_name("clip", " with an empty transcript", empty) if empty else "no transcript is empty")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.transcribe", __doc__)
    parser.add_argument("--corpus", default="ravdess", help="ravdess, emodb, demo, or a folder, zip or manifest.csv")
    parser.add_argument(
        "--model", default=DEFAULT_WHISPER, metavar="NAME|DIR", help=f"a Whisper model (default: {DEFAULT_WHISPER})"
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="clips per batch (default: 8)")
    parser.add_argument("--language", default="en", help="of the recordings: a code or an English name (default: en)")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    transcribe(arguments.corpus, model=arguments.model, batch_size=arguments.batch_size, language=arguments.language)


if __name__ == "__main__":
    raise SystemExit(main())
