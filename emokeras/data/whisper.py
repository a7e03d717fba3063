"""Speech recognition with a Whisper model of transformers, in PyTorch."""

import errno
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emokeras.data.corpora import count_and_name
from emokeras.errors import EmokerasError, UsageError, first_line
from emokeras.hub import quiet_transformers

SAMPLE_RATE_HZ = 16000  # of every Whisper
OTHER_MODEL = "give another with --model NAME|DIR"


def check_packages(*names: str) -> None:
    """Raise UsageError when one of these packages is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"transcribing needs {' and '.join(missing)}: run `pip install 'emokeras[asr]'`")


def language_code(language: str) -> str:
    """Return Whisper's code of a language: "German" -> "de". Raises UsageError for an unknown one."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if code not in LANGUAGES:
        raise UsageError(f"--language {language}: Whisper has no such language; give a code such as en or de")
    return code


def model_name(model: str) -> str:
    """Return the absolute path of a model's folder; the name of any other model."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def load_whisper(
    model: str, language: str = "en", batch_size: int = 8, say: Callable[[str], None] = print
) -> Callable[[Sequence[np.ndarray]], list[str]]:
    """Return a function from waveforms [samples] at 16 kHz to transcripts, whose words are separated by one blank.

    It decodes greedily, on a GPU if torch has one. A waveform longer than Whisper's 30 s is decoded in overlapping
    pieces.

    Parameters
    ----------
    model: a folder, or a name on huggingface.co, which is downloaded once.
    language: its code or English name, for a multilingual model; "en" for another.
    batch_size: the number of waveforms that are decoded together.
    say: called with each line to print.

    Raises
    ------
    UsageError: torch is missing, or the model does not know the language.
    EmokerasError: the model cannot be downloaded, is damaged or is not Whisper.
    """
    check_packages("torch")
    import torch
    from transformers import pipeline

    model, language = model_name(model), language_code(language)
    with quiet_transformers():
        network, processor = _load_model(model, say)
        # The pipeline's default is 5 beams. Half of the positions is the limit of OpenAI's decoder, too.
        settings = {"num_beams": 1, "max_new_tokens": network.config.max_target_positions // 2}
        settings |= _language_settings(model, network.generation_config, language)
        tokenizer, features = processor.tokenizer, processor.feature_extractor
        if tokenizer.pad_token is None:  # needed for a batch
            tokenizer.pad_token = tokenizer.eos_token
        recognizer = pipeline(
            "automatic-speech-recognition",
            model=network,
            tokenizer=tokenizer,
            feature_extractor=features,
            device="cuda" if torch.cuda.is_available() else "cpu",
            chunk_length_s=features.chunk_length,
            ignore_warning=True,
            generate_kwargs=settings,
        )

    def transcribe_batch(waveforms: Sequence[np.ndarray]) -> list[str]:
        # Arrays, because the pipeline reads paths with the ffmpeg program.
        inputs = [{"raw": waveform, "sampling_rate": SAMPLE_RATE_HZ} for waveform in waveforms]
        with quiet_transformers():
            return [" ".join(output["text"].split()) for output in recognizer(inputs, batch_size=batch_size)]

    return transcribe_batch


def _language_settings(model: str, generation_config, language: str) -> dict[str, str]:
    """Return language and task for a multilingual model, {} for another, which would fail with them."""
    known = getattr(generation_config, "lang_to_id", None) or {}
    if not known or not getattr(generation_config, "is_multilingual", True):
        if language != "en":
            raise UsageError(f"{model} is English-only: leave out --language, or {OTHER_MODEL}")
        return {}
    if f"<|{language}|>" not in known:
        raise UsageError(f"{model} does not know the language {language}: give another --language or --model")
    return {"language": language, "task": "transcribe"}


def _load_model(model: str, say: Callable[[str], None]):
    """Return the network and its processor, from a folder, the cache of downloaded models, or huggingface.co."""
    is_folder = Path(model).is_dir()
    try:
        try:
            return _read_model(model, local_files_only=True)
        except OSError:
            if is_folder:
                raise
        say(f"downloading {model} from huggingface.co")
        return _read_model(model, local_files_only=False)
    except EmokerasError:
        raise
    except Exception as error:  # transformers, safetensors and json raise many kinds for a damaged folder.
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        what = "is not a complete Whisper model" if is_folder else "is not a folder and cannot be downloaded"
        raise EmokerasError(
            f"{model} {what} ({first_line(error)}): give a folder with a Whisper model of transformers by --model DIR"
        ) from error


def _read_model(model: str, local_files_only: bool):
    import torch
    from transformers import AutoConfig, WhisperForConditionalGeneration, WhisperProcessor

    options = {"local_files_only": local_files_only}
    kind = AutoConfig.from_pretrained(model, **options).model_type
    if kind != "whisper":
        raise EmokerasError(f"{model} is a model of the kind {kind}, not Whisper: {OTHER_MODEL}")
    network, report = WhisperForConditionalGeneration.from_pretrained(
        model, dtype=torch.float32, output_loading_info=True, **options
    )
    if names := sorted(report["missing_keys"]):  # transformers initializes them at random.
        raise EmokerasError(f"{model} lacks {count_and_name('weight', ' of Whisper', names)}: {OTHER_MODEL}")
    processor = WhisperProcessor.from_pretrained(model, **options)
    # Without its file a tokenizer is empty, without an error. The end token follows those of all word pieces.
    if len(processor.tokenizer) <= network.config.eos_token_id:
        raise EmokerasError(f"{model} has no complete tokenizer (is tokenizer.json missing?): {OTHER_MODEL}")
    return network, processor
