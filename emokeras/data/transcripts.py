"""Speech to text with Whisper, kept as transcripts.csv: one row a recording, written batch by batch.

The file lies under EMOKERAS_HOME/transcripts, in a folder named by a hash of the corpus's contents, so that any layout
of the same corpus finds it. Where there is none, a clip's transcript is its script: what the corpus says was spoken.
"""

import csv
import errno
import hashlib
import importlib.util
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import Clip, count_and_name
from emokeras.errors import CorpusError, EmokerasError, UsageError, first_line
from emokeras.files import home, replacing
from emokeras.hub import quiet_transformers

SAMPLE_RATE_HZ = 16000  # What every Whisper hears.
COLUMNS = ("clip", "content", "script", "transcript", "model", "language")


# Reading


def transcripts_path(clips: Sequence[Clip]) -> Path:
    """Return where the Whisper transcripts of a corpus lie, whether they are there or not.

    Parameters
    ----------
    clips: all clips of the corpus, in any order: a part of them is another corpus.
    """
    key = hashlib.sha256("".join(sorted({clip.content for clip in clips})).encode()).hexdigest()[:24]
    return home() / "transcripts" / key / "transcripts.csv"


def read_transcripts(clips: Sequence[Clip]) -> list[str]:
    """Return what is said in each clip, [clips]: the Whisper transcripts where the corpus has them, else the scripts.

    A Whisper transcript may be empty: the recogniser heard no words.

    Parameters
    ----------
    clips: all clips of the corpus.

    Raises
    ------
    CorpusError: the Whisper transcripts do not hold every clip or are damaged; or there are none, and clips without a
    script.
    """
    path = transcripts_path(clips)
    if path.exists():
        return _whisper_transcripts(path, clips)[0]
    silent = [clip.name for clip in clips if not clip.transcript]
    if silent:
        raise CorpusError(
            f"{count_and_name('clip', ' without a transcript', silent)}: run `python -m emokeras.transcribe --corpus …`"
            " with this corpus, or fill the column transcript of its manifest.csv"
        )
    return [clip.transcript for clip in clips]


def transcript_kind(clips: Sequence[Clip]) -> str:
    """Return which transcripts `read_transcripts` gives: "script", or "whisper transcripts by openai/whisper-tiny".

    Of a model's folder the last part of the path is told. Raises CorpusError as `read_transcripts` does of the file.
    """
    path = transcripts_path(clips)
    if not path.exists():
        return "script"
    model = _whisper_transcripts(path, clips)[1]
    return f"whisper transcripts by {Path(model).name if Path(model).is_absolute() else model}"


def _whisper_transcripts(path: Path, clips: Sequence[Clip]) -> tuple[list[str], str]:
    """Return the transcripts [clips] of the file, and the model that made them."""
    rows, _ = _read_rows(path)
    last = rows[-1] if rows else dict.fromkeys(COLUMNS, "")
    text_of = _texts(rows, last["model"], last["language"])
    missing = [clip.name for clip in clips if clip.content not in text_of]
    if missing:
        options = f" --model {last['model']} --language {last['language']}" if rows else ""
        raise CorpusError(
            f"{path} lacks {count_and_name('clip', f' of {len(clips)}', missing)}: run `python -m emokeras.transcribe "
            f"--corpus …{options}` again to finish, or delete the file to do without it"
        )
    return [text_of[clip.content] for clip in clips], last["model"]


def _texts(rows: Sequence[dict[str, str]], model: str, language: str) -> dict[str, str]:
    """Return content -> transcript of what one model has made."""
    return {row["content"]: row["transcript"] for row in rows if (row["model"], row["language"]) == (model, language)}


def _read_rows(path: Path) -> tuple[list[dict[str, str]], bool]:
    """Return the rows, and whether a last line without its end was dropped: what a kill leaves of a batch."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        header, *rows = list(csv.reader(io.StringIO(whole.decode(), newline=""), strict=True)) or [COLUMNS]
        if tuple(header) != COLUMNS:
            raise ValueError(f"its columns are {', '.join(header)}, not {', '.join(COLUMNS)}")
        uneven = [number for number, row in enumerate(rows, 1) if len(row) != len(COLUMNS)]
        if uneven:
            raise ValueError(f"row {uneven[0]} has not {len(COLUMNS)} cells")
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows], len(whole) < len(data)
    except (ValueError, csv.Error) as error:
        raise CorpusError(
            f"{path} is damaged ({error}): delete it, and run `python -m emokeras.transcribe --corpus …` again"
        ) from error


# Writing


def transcribe_clips(
    clips: Sequence[Clip], model: str, batch_size: int = 8, language: str = "en", say: Callable[[str], None] = print
) -> Path:
    """Write what Whisper hears in every clip to `transcripts_path(clips)`, and return that path.

    Each batch is written as it is done, and what `model` has made in `language` before is kept: after a kill the call
    goes on with the batch that was lost. Rows of another model or language are replaced. Clips of the same content are
    heard once.

    Parameters
    ----------
    clips: all clips of the corpus.
    model: as for `load_whisper`, and so `language`.
    batch_size: clips that are heard together, and the most that a kill loses.

    Raises what `load_whisper` raises, and CorpusError when the file there is damaged.
    """
    from tqdm import tqdm

    path, model, language = transcripts_path(clips), _model_name(model), language_code(language)
    rows, torn = _read_rows(path) if path.exists() else ([], False)
    done = _texts(rows, model, language)
    first_of = {clip.content: clip for clip in reversed(clips)}
    waiting = [clip for clip in clips if clip is first_of[clip.content] and clip.content not in done]
    if not waiting:
        say(f"transcribed already by {model}, language {language}: nothing is changed")
        return path
    recognise = load_whisper(model, language, batch_size, say)
    # Of the whole corpus, as training reads it: one cache serves both.
    waveform_of = dict(zip(clips, load_waveforms(clips, SAMPLE_RATE_HZ), strict=True))
    if torn:
        say("the last line was torn by a kill: its clip is transcribed again")
    kept = [row for row in rows if (row["model"], row["language"]) == (model, language)]
    others = Counter((row["model"], row["language"]) for row in rows) - Counter({(model, language): len(kept)})
    for (other, its_language), count in others.items():
        say(f"{count} rows by {other}, language {its_language}, are replaced: their clips are transcribed again")
    if kept:
        say(f"{len(done)} recordings are transcribed already, {len(waiting)} are left")
    if torn or len(kept) < len(rows) or not rows:
        _replace_rows(path, kept)
    with tqdm(desc="transcribing", total=len(waiting), unit="clip", leave=False, disable=None) as bar:
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            texts = recognise([waveform_of[clip] for clip in batch])
            new = [
                (clip.name, clip.content, clip.transcript, text, model, language)
                for clip, text in zip(batch, texts, strict=True)
            ]
            with open(path, "ab") as file:  # Opened anew for each batch: closing it is what writes it.
                file.write(_csv_bytes(new))
            bar.update(len(batch))
    return path


def _replace_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write header and rows in one step, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(_csv_bytes([COLUMNS, *(row.values() for row in rows)]))


def _csv_bytes(rows) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")  # A file's name need not be Unicode.


# Whisper


def check_packages(*names: str) -> None:
    """Raise UsageError in one line when one of these packages is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"transcribing needs {' and '.join(missing)}: run `pip install 'emokeras[asr]'`")


def language_code(language: str) -> str:
    """Return the code that Whisper has for a language: "German" -> "de". Raises UsageError for one it does not know."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if code not in LANGUAGES:
        raise UsageError(f"--language {language}: Whisper knows no such language; give a code such as en or de")
    return code


def load_whisper(
    model: str, language: str = "en", batch_size: int = 8, say: Callable[[str], None] = print
) -> Callable[[Sequence[np.ndarray]], list[str]]:
    """Load a Whisper model as a function: waveforms, each [samples] at 16 kHz -> transcripts, runs of blanks made one.

    It decodes greedily, on a GPU where torch sees one. What is longer than the 30 s that Whisper hears at once is heard
    in overlapping pieces.

    Parameters
    ----------
    model: a folder, or a name on huggingface.co, which is fetched once.
    language: its code or English name, for multilingual models; others have no choice.
    batch_size: waveforms that are heard together.

    Raises
    ------
    UsageError: no torch, or a language that the model does not know. EmokerasError: the model cannot be fetched, is
    damaged or no Whisper.
    """
    check_packages("torch")
    import torch
    from transformers import pipeline

    model, language = _model_name(model), language_code(language)
    with quiet_transformers():
        network, processor = _load_model(model, say)
        # Half of its positions is what OpenAI's own decoder gives a piece, too; the pipeline's default are 5 beams.
        settings = {"num_beams": 1, "max_new_tokens": network.config.max_target_positions // 2}
        settings |= _language_settings(model, network.generation_config, language)
        tokenizer, features = processor.tokenizer, processor.feature_extractor
        if tokenizer.pad_token is None:  # A batch of several cannot be collated without.
            tokenizer.pad_token = tokenizer.eos_token
        recogniser = pipeline(
            "automatic-speech-recognition",
            model=network,
            tokenizer=tokenizer,
            feature_extractor=features,
            device="cuda" if torch.cuda.is_available() else "cpu",
            chunk_length_s=features.chunk_length,
            ignore_warning=True,
            generate_kwargs=settings,
        )

    def recognise(waveforms: Sequence[np.ndarray]) -> list[str]:
        # As arrays: of a path the pipeline would want the ffmpeg program.
        inputs = [{"raw": waveform, "sampling_rate": SAMPLE_RATE_HZ} for waveform in waveforms]
        with quiet_transformers():
            return [" ".join(output["text"].split()) for output in recogniser(inputs, batch_size=batch_size)]

    return recognise


def _model_name(model: str) -> str:
    """A folder by its absolute path, so that it is the same from wherever it is named; any other as it is."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def _language_settings(model: str, generation_config, language: str) -> dict[str, str]:
    """Only multilingual models take a language and a task: others fail when they are told one."""
    known = getattr(generation_config, "lang_to_id", None) or {}
    if not known or not getattr(generation_config, "is_multilingual", True):
        if language != "en":
            raise UsageError(f"{model} has no choice of languages, as English-only models: leave out --language")
        return {}
    if f"<|{language}|>" not in known:
        raise UsageError(f"{model} does not know the language {language}: give another --language or --model")
    return {"language": language, "task": "transcribe"}


def _load_model(model: str, say: Callable[[str], None]):
    """Return the network and its processor, from a folder or the cache of fetched models, else from huggingface.co."""
    is_folder = Path(model).is_dir()
    try:
        try:
            return _read_model(model, local_files_only=True)
        except OSError:
            if is_folder:
                raise
        say(f"fetching {model} from huggingface.co")
        return _read_model(model, local_files_only=False)
    except EmokerasError:
        raise
    except Exception as error:  # Whatever transformers, safetensors and json make of a folder that is no model.
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise  # A full disk is no fault of the model's.
        what = "holds no whole Whisper model" if is_folder else "is no folder here and cannot be fetched"
        raise EmokerasError(
            f"{model} {what} ({first_line(error)}): "
            "give a folder that holds a Whisper model of transformers with --model DIR"
        ) from error


def _read_model(model: str, local_files_only: bool):
    import torch
    from transformers import AutoConfig, WhisperForConditionalGeneration, WhisperProcessor

    options = {"local_files_only": local_files_only}
    kind = AutoConfig.from_pretrained(model, **options).model_type
    if kind != "whisper":
        raise EmokerasError(f"{model} is no Whisper but a model of the kind {kind}: give another with --model NAME|DIR")
    network, report = WhisperForConditionalGeneration.from_pretrained(
        model, dtype=torch.float32, output_loading_info=True, **options
    )
    if report["missing_keys"]:  # transformers would draw them at random and go on.
        names = sorted(report["missing_keys"])
        raise EmokerasError(
            f"{model} lacks {count_and_name('weight', ' of a Whisper that transcribes', names)}: give another with "
            "--model NAME|DIR"
        )
    processor = WhisperProcessor.from_pretrained(model, **options)
    # The end's number comes after those of all pieces of words. Without its file a tokenizer is empty, and goes on.
    if len(processor.tokenizer) <= network.config.eos_token_id:
        raise EmokerasError(
            f"{model} has no tokenizer that spells what it hears (it lacks tokenizer.json?): give another with "
            "--model NAME|DIR"
        )
    return network, processor


# Measuring


def word_error_rate(scripts: Sequence[str], transcripts: Sequence[str]) -> float:
    """Return the share of the scripts' words that are wrong, missing or followed by one too many.

    Counted over all clips together, in lower case and without punctuation; it exceeds 1 when more is heard than said.

    Parameters
    ----------
    scripts: what was said, [clips]; none without a word.
    transcripts: what was heard, [clips].
    """
    import jiwer

    return jiwer.wer([plain_words(text) for text in scripts], [plain_words(text) for text in transcripts])


def plain_words(text: str) -> str:
    """Return the words of a text in lower case, one blank between them, without punctuation: "Don't!" -> "dont"."""
    return " ".join(re.sub(r"[^\w\s]|_", " ", re.sub(r"['’]", "", text.lower())).split())
