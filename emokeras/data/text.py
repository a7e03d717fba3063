"""Transcripts to tokens, by a vocabulary of the training clips' words or by a pretrained tokenizer. 0 is padding.

The tokenizer of words runs in graph, so an export takes transcripts; a pretrained one does not.
"""

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from emokeras.config import GIVE_BERT, Config, TokensConfig
from emokeras.errors import CorpusError, RunError, UsageError, first_line
from emokeras.files import replacing, write_text
from emokeras.hub import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARY_FILE, TOKENIZER_FOLDER = "vocabulary.txt", "tokenizer"
RESERVED = 2  # tokens that are not words: padding (0) and the unknown word (1)
AGAIN = "copy the run folder again, or train again"


def normalize(texts: tf.Tensor) -> tf.Tensor:
    """Return texts in lower case, string [any shape]: words of letters and digits; each ! and ? is a word of its own.

    Apostrophes are removed; everything else, also bytes that are not UTF-8, separates words: "Don't stop!" becomes
    "dont stop !".
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", replacement_char=ord(" "))
    texts = tf.strings.regex_replace(texts, "['’‘ʼ＇]", "")
    # Marks are the vowels of many scripts and the accents of decomposed letters; a mark without a letter is removed.
    texts = tf.strings.regex_replace(texts, r"[^\p{L}\p{M}\p{Nd}!?]", " ")
    texts = tf.strings.regex_replace(texts, r"(^|[ !?])\p{M}+", r"\1 ")
    texts = tf.strings.regex_replace(texts, "[!?]", r" \0 ")
    texts = tf.strings.regex_replace(texts, " +", " ")
    return tf.strings.lower(tf.strings.strip(texts), encoding="utf-8")


# Vocabulary of words


def fit_vocabulary(transcripts: Sequence[str], config: TokensConfig) -> list[str]:
    """Return the most frequent words of the training clips' transcripts, at most `vocabulary_size` - RESERVED.

    Words of the same frequency are in alphabetical order. Raises CorpusError when there is no word.
    """
    texts = normalize(tf.constant(list(transcripts), tf.string)).numpy()
    counts = Counter(word for text in texts for word in text.decode().split())
    if not counts:
        raise CorpusError(
            "the transcripts of the training clips have no word: give the corpus transcripts, "
            "or train a recipe without them"
        )
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return words[: config.vocabulary_size - RESERVED]


def word_tokenizer(vocabulary: Sequence[str], config: TokensConfig) -> keras.layers.TextVectorization:
    """Return a layer from texts, string [batch], to tokens, int64 [batch, max_words].

    Padding is 0, an unknown word 1, the first word of the vocabulary 2. The layer runs in a graph and is saved with a
    SavedModel that tracks it.
    """
    layer = keras.layers.TextVectorization(
        standardize=normalize, output_sequence_length=config.max_words, vocabulary=list(vocabulary), name="words"
    )
    layer.build((None,))  # An export tracks built layers only.
    return layer


def write_vocabulary(path: Path, words: Sequence[str]) -> None:
    """Write one word per line."""
    write_text(path, "".join(f"{word}\n" for word in words))


def read_vocabulary(path: Path) -> list[str]:
    """Return the words in the file. Raises RunError when it is missing or damaged."""
    try:
        words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise RunError(f"{path} cannot be read ({reason}): {AGAIN}") from error
    if not all(words) or len(set(words)) < len(words):
        raise RunError(f"{path} has an empty line or a repeated word: {AGAIN}")
    return words


# Pretrained tokenizer


def load_pretrained_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a transformers model, by its folder or its name on the Hugging Face hub.

    Raises UsageError when it cannot be loaded or does not pad with 0, the token that the networks mask.
    """
    with quiet_transformers():
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # tokenizers raises Exception itself.
            raise UsageError(
                f"the tokenizer of {name or repr(name)} cannot be loaded ({first_line(error)}): {GIVE_BERT}"
            ) from error
    # For a folder without a tokenizer transformers returns one that has special tokens only.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(f"{name} has no tokenizer: {GIVE_BERT}")
    if tokenizer.pad_token_id != 0:
        raise UsageError(f"the tokenizer of {name} pads with {tokenizer.pad_token_id}, not with 0: {GIVE_BERT}")
    return tokenizer


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], config: TokensConfig) -> np.ndarray:
    """Return the tokens of texts, int32 [texts, max_words], with the special tokens at beginning and end.

    Raises UsageError when these leave no room for a word.
    """
    special = tokenizer.num_special_tokens_to_add()
    if config.max_words <= special:
        raise UsageError(
            f"tokens.max_words={config.max_words} leaves no room for words next to {special} special tokens: raise it"
        )
    if not len(texts):
        return np.zeros((0, config.max_words), np.int32)
    encoded = tokenizer(
        [str(text) for text in texts],
        max_length=config.max_words,
        truncation=True,
        padding="max_length",
        padding_side="right",
        return_tensors="np",
    )
    return encoded["input_ids"].astype(np.int32)


# Files of a run


def fit_tokenizer(transcripts: Sequence[str], config: Config, folder: Path) -> None:
    """Write the tokenizer into a run folder: the vocabulary of the training clips, or a copy of the pretrained one.

    Raises as `fit_vocabulary` and `load_pretrained_tokenizer`.
    """
    if config.tokens.tokenizer == "pretrained":
        tokenizer = load_pretrained_tokenizer(config.model.weights)
        with replacing(Path(folder) / TOKENIZER_FOLDER) as temporary:
            tokenizer.save_pretrained(temporary)
    else:
        write_vocabulary(Path(folder) / VOCABULARY_FILE, fit_vocabulary(transcripts, config.tokens))


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a tokenizer, which `fit_tokenizer` writes in one step."""
    return (Path(folder) / VOCABULARY_FILE).is_file() or (Path(folder) / TOKENIZER_FOLDER).is_dir()


def load_tokenizer(folder: Path, config: Config) -> Callable:
    """Return the tokenizer of a run folder: from texts, string [batch], to tokens, int [batch, max_words].

    It is the layer of `word_tokenizer`, or a function of a sequence of str for a pretrained tokenizer, which does not
    run in graph. Raises RunError when the folder has none.
    """
    folder = Path(folder)
    if config.tokens.tokenizer == "words":
        return word_tokenizer(read_vocabulary(folder / VOCABULARY_FILE), config.tokens)
    try:
        tokenizer = load_pretrained_tokenizer(str(folder / TOKENIZER_FOLDER))
    except UsageError as error:
        raise RunError(f"{folder / TOKENIZER_FOLDER} has no tokenizer: {AGAIN}") from error
    return functools.partial(tokenize, tokenizer, config=config.tokens)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer from one folder to another."""
    if (Path(source) / VOCABULARY_FILE).is_file():
        shutil.copyfile(Path(source) / VOCABULARY_FILE, Path(target) / VOCABULARY_FILE)
    else:
        shutil.copytree(Path(source) / TOKENIZER_FOLDER, Path(target) / TOKENIZER_FOLDER)
