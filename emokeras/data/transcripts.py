"""Transcripts of a corpus: those that Whisper has made, cached as transcripts.csv, or else the corpus's own scripts.

The file has one row per recording and is written batch by batch. It is under EMOKERAS_HOME/transcripts, in a folder
named by a hash of the corpus's contents, so every layout of a corpus finds it. Corpora that are joined have one each.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import Clip, count_and_name, for_each_corpus
from emokeras.data.whisper import SAMPLE_RATE_HZ, language_code, load_whisper, model_name
from emokeras.errors import CorpusError
from emokeras.files import csv_text, home, parse_csv, write_csv

COLUMNS = ("clip", "content", "script", "transcript", "model", "language")


def transcripts_path(clips: Sequence[Clip]) -> Path:
    """Return the path of a corpus's transcripts.csv, which need not exist.

    Parameters
    ----------
    clips: all clips of the corpus, in any order. A part of them is another corpus.
    """
    key = hashlib.sha256("".join(sorted({clip.content for clip in clips})).encode()).hexdigest()[:24]
    return home() / "transcripts" / key / "transcripts.csv"


# Reading


def read_transcripts(clips: Sequence[Clip]) -> list[str]:
    """Return the transcript of each clip of a corpus: Whisper's if there is a transcripts.csv, else the scripts.

    Whisper's may be empty. Of corpora that were joined, each has its own kind.

    Raises
    ------
    CorpusError: transcripts.csv is damaged or lacks clips; or there is none, and there are clips without a script.
    """
    return for_each_corpus(clips, _transcripts_of_corpus)


def _transcripts_of_corpus(clips: Sequence[Clip]) -> list[str]:
    path = transcripts_path(clips)
    if path.exists():
        return _whisper_transcripts(path, clips)[0]
    missing = [clip.name for clip in clips if not clip.transcript]
    if missing:
        raise CorpusError(
            f"{count_and_name('clip', ' without a transcript', missing)}: run `python -m emokeras.transcribe "
            "--corpus …` with this corpus, or fill the column transcript of its manifest.csv"
        )
    return [clip.transcript for clip in clips]


def transcript_kind(clips: Sequence[Clip]) -> str:
    """Return the kind of transcripts of a corpus: "script", or "whisper transcripts by openai/whisper-tiny".

    Of a model's folder it has the name. Of corpora that were joined it is each kind once. Raises CorpusError when
    transcripts.csv is damaged or lacks clips.
    """
    kinds = for_each_corpus(clips, lambda own: [_kind_of_corpus(own)] * len(own))
    return " and ".join(sorted(set(kinds)))


def _kind_of_corpus(clips: Sequence[Clip]) -> str:
    path = transcripts_path(clips)
    if not path.exists():
        return "script"
    model = _whisper_transcripts(path, clips)[1]
    return f"whisper transcripts by {Path(model).name if Path(model).is_absolute() else model}"


def _whisper_transcripts(path: Path, clips: Sequence[Clip]) -> tuple[list[str], str]:
    """Return the transcripts of the model and language of the last row, [clips], and that model."""
    rows, _ = _read_rows(path)
    last = rows[-1] if rows else dict.fromkeys(COLUMNS, "")
    text_of = {row["content"]: row["transcript"] for row in _rows_by(rows, last["model"], last["language"])}
    missing = [clip.name for clip in clips if clip.content not in text_of]
    if missing:
        options = f" --model {last['model']} --language {last['language']}" if rows else ""
        raise CorpusError(
            f"{path} lacks {count_and_name('clip', f' of {len(clips)}', missing)}: run `python -m emokeras.transcribe "
            f"--corpus …{options}` again to finish, or delete the file to do without it"
        )
    return [text_of[clip.content] for clip in clips], last["model"]


def _rows_by(rows: Sequence[dict[str, str]], model: str, language: str) -> list[dict[str, str]]:
    return [row for row in rows if (row["model"], row["language"]) == (model, language)]


def _read_rows(path: Path) -> tuple[list[dict[str, str]], bool]:
    """Return the rows, and whether an incomplete last line was dropped, which a kill leaves."""
    mend = "delete it, and run `python -m emokeras.transcribe --corpus …` again"
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        text = whole.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 ({error}): {mend}") from error
    header, rows = parse_csv(text, path, mend, CorpusError, drop_torn_line=True)
    if header and tuple(header) != COLUMNS:
        raise CorpusError(f"{path} has the columns {', '.join(header)}, not {', '.join(COLUMNS)}: {mend}")
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows], len(whole) < len(data)


# Writing


def transcribe_clips(
    clips: Sequence[Clip], model: str, batch_size: int = 8, language: str = "en", say: Callable[[str], None] = print
) -> Path:
    """Transcribe a corpus with Whisper; return the path of transcripts.csv.

    Each batch is written when it is done. After a kill the same call continues with the first recording that is
    missing. Rows of another model or language are replaced. Clips of the same content are transcribed once.

    Parameters
    ----------
    clips: all clips of the corpus.
    model, language: as for `load_whisper`.

    Raises
    ------
    UsageError, EmokerasError: as `load_whisper`.
    CorpusError: the transcripts.csv is damaged.
    """
    from tqdm import tqdm

    path, model, language = transcripts_path(clips), model_name(model), language_code(language)
    rows, torn = _read_rows(path) if path.exists() else ([], False)
    kept = _rows_by(rows, model, language)
    done = {row["content"] for row in kept}
    first_of = {clip.content: clip for clip in reversed(clips)}
    waiting = [clip for clip in clips if clip is first_of[clip.content] and clip.content not in done]
    if not waiting:
        say(f"already transcribed by {model}, language {language}: nothing to do")
        return path
    transcribe_batch = load_whisper(model, language, batch_size, say)
    # Of the whole corpus, as in training, so that both use one cache.
    waveform_of = dict(zip(clips, load_waveforms(clips, SAMPLE_RATE_HZ), strict=True))
    if torn:
        say("the last line is incomplete: its recording is transcribed again")
    for (other, its_language), count in Counter((row["model"], row["language"]) for row in rows).items():
        if (other, its_language) != (model, language):
            say(f"{count} rows by {other}, language {its_language}, are replaced")
    if kept:
        say(f"{len(done)} recordings are transcribed, {len(waiting)} are left")
    if torn or len(kept) < len(rows) or not rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, COLUMNS, [row.values() for row in kept])
    with tqdm(desc="transcribing", total=len(waiting), unit="clip", leave=False, disable=None) as bar:
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            texts = transcribe_batch([waveform_of[clip] for clip in batch])
            new = csv_text(
                (clip.name, clip.content, clip.transcript, text, model, language)
                for clip, text in zip(batch, texts, strict=True)
            )
            with open(path, "ab") as file:  # Opened for each batch: closing it writes the rows.
                file.write(new.encode(errors="backslashreplace"))  # A file's name need not be Unicode.
            bar.update(len(batch))
    return path


# Evaluation


def word_error_rate(scripts: Sequence[str], transcripts: Sequence[str]) -> float:
    """Return the word error rate over all clips: substitutions, deletions and insertions per word of the scripts.

    Words are compared in lower case without punctuation. The rate exceeds 1 when there are many insertions.

    Parameters
    ----------
    scripts, transcripts: str [clips]; each script has a word.
    """
    import jiwer

    return jiwer.wer([plain_words(text) for text in scripts], [plain_words(text) for text in transcripts])


def plain_words(text: str) -> str:
    """Return the words of a text in lower case without punctuation, separated by one blank: "Don't!" -> "dont"."""
    return " ".join(re.sub(r"[^\w\s]|_", " ", re.sub(r"['’]", "", text.lower())).split())
