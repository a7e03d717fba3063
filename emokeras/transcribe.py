"""python -m emokeras.transcribe --corpus ravdess

Write down what Whisper hears in every clip of a corpus, and say how far that is from the script where one is known.
The transcripts are kept under EMOKERAS_HOME and belong to the corpus from then on. A stopped run goes on where it was.
It needs torch: pip install 'emokeras[asr]'.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emokeras import commandline
from emokeras.config import DEFAULT_WHISPER
from emokeras.errors import UsageError

if TYPE_CHECKING:
    from emokeras.data.corpora import Corpus


def transcribe(corpus: str, model: str = DEFAULT_WHISPER, batch_size: int = 8, language: str = "en", say=print) -> Path:
    """Transcribe a corpus with Whisper, and say what came of it.

    Parameters
    ----------
    corpus: "ravdess", "emodb" or "demo" as prepared, or a folder, a zip or a manifest.csv.
    model: a folder that holds a Whisper model of transformers, or a name on huggingface.co, fetched once.
    batch_size: clips that are heard together, and the most that a kill loses.
    language: what is spoken, its code or English name; English-only models take no other than "en".

    Returns
    -------
    The path of transcripts.csv (columns clip, content, script, transcript, model, language), one row a recording.

    Raises
    ------
    UsageError: torch is missing, or arguments are wrong. CorpusError: the corpus or an earlier transcripts.csv cannot
    be used. EmokerasError: the model cannot be fetched or is no Whisper.
    """
    from emokeras.data import transcripts
    from emokeras.data.corpora import load_corpus

    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: a batch is of 1 clip or more")
    transcripts.check_packages("torch", "jiwer")
    transcripts.language_code(language)  # Refused before the corpus is read.
    loaded = load_corpus(corpus)
    for note in loaded.notes:
        say(f"  {note}")
    path = transcripts.transcribe_clips(loaded.clips, model, batch_size, language, say)
    say(describe(loaded))
    say(str(path))
    return path


def describe(corpus: "Corpus") -> str:
    """Return lines: clips and model, the word error rate against the scripts, and which transcripts are empty."""
    from emokeras.data import transcripts
    from emokeras.data.corpora import count_and_name

    texts = transcripts.read_transcripts(corpus.clips)
    num_recordings = len({clip.content for clip in corpus.clips})
    recordings = f" ({num_recordings} recordings)" if num_recordings < len(corpus.clips) else ""
    lines = [f"{len(corpus.clips)} clips of {corpus.name}{recordings}, {transcripts.transcript_kind(corpus.clips)}"]
    scripted = [
        (clip.transcript, text)
        for clip, text in zip(corpus.clips, texts, strict=True)
        if transcripts.plain_words(clip.transcript)
    ]
    if scripted:
        rate = transcripts.word_error_rate(*zip(*scripted, strict=True))
        lines.append(f"word error rate {100 * rate:.2f} % against the script of {len(scripted)} clips")
    mute = [clip.name for clip in corpus.clips if not transcripts.plain_words(clip.transcript)]
    if mute:
        lines.append(count_and_name("clip", " without a script, so without a word error rate", mute))
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
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="clips heard together (default: 8)")
    parser.add_argument("--language", default="en", help="what is spoken: its code or English name (default: en)")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    transcribe(arguments.corpus, arguments.model, arguments.batch_size, arguments.language)


if __name__ == "__main__":
    raise SystemExit(main())
