"""Transcripts to tokens: one way to write them, words by the training clips' vocabulary or a pretrained tokenizer's.

0 is padding. All that a network with words of its own needs is graph, so that an exported model takes transcripts.
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
RESERVED = 2  # tokens that are no words: padding (0) and the unknown word (1)
AGAIN = "take the run's folder again, or train anew"


def normalize(texts: tf.Tensor) -> tf.Tensor:
    """Return texts [any shape, UTF-8] in lower case: letters and digits of any script, each ! and ? a word of its own.

    "Don't stop!" becomes "dont stop !"; whatever else there is parts words, even bytes that are not UTF-8.
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", replacement_char=ord(" "))
    texts = tf.strings.regex_replace(texts, "['’‘ʼ＇]", "")
    # Marks are the vowels of many scripts, and the accents of decomposed letters; without a letter they are nothing.
    texts = tf.strings.regex_replace(texts, r"[^\p{L}\p{M}\p{Nd}!?]", " ")
    texts = tf.strings.regex_replace(texts, r"(^|[ !?])\p{M}+", r"\1 ")
    texts = tf.strings.regex_replace(texts, "[!?]", r" \0 ")
    texts = tf.strings.regex_replace(texts, " +", " ")
    return tf.strings.lower(tf.strings.strip(texts), encoding="utf-8")


# A vocabulary of words


def fit_vocabulary(transcripts: Sequence[str], config: TokensConfig) -> list[str]:
    """Return the most frequent words of the training clips' transcripts, so many that with padding and the unknown word
    they are at most `vocabulary_size`; of words equally frequent the alphabet's first.

    Raises CorpusError when there is not a single word.
    """
    texts = normalize(tf.constant(list(transcripts), tf.string)).numpy()
    counts = Counter(word for text in texts for word in text.decode().split())
    if not counts:
        raise CorpusError(
            "not one word is in the training clips' transcripts: give the corpus transcripts, "
            "or train a recipe that reads none"
        )
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return words[: config.vocabulary_size - RESERVED]


def word_tokenizer(vocabulary: Sequence[str], config: TokensConfig) -> keras.layers.TextVectorization:
    """Return the layer that turns texts [batch] into tokens, int64 [batch, max_words]: the first word of the vocabulary
    is 2, an unknown one 1, and 0 stands where there is none. It works in a graph and in a SavedModel that tracks it."""
    layer = keras.layers.TextVectorization(
        standardize=normalize, output_sequence_length=config.max_words, vocabulary=list(vocabulary), name="words"
    )
    layer.build((None,))  # An export tracks only what has been built.
    return layer


def write_vocabulary(path: Path, words: Sequence[str]) -> None:
    """Write one word a line."""
    write_text(path, "".join(f"{word}\n" for word in words))


def read_vocabulary(path: Path) -> list[str]:
    """Read what `write_vocabulary` wrote. Raises RunError when that is not there, or damaged."""
    try:
        words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8"
        raise RunError(f"{path} cannot be read ({reason}): {AGAIN}") from error
    if not all(words) or len(set(words)) < len(words):
        raise RunError(f"{path} has an empty line or a word twice: {AGAIN}")
    return words


# A pretrained tokenizer


def load_pretrained_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a transformers model, by its folder or its name on the Hugging Face hub.

    Raises UsageError when it cannot be had, or when its padding is not 0, which the networks take for no word.
    """
    with quiet_transformers():
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # The library under it raises Exception itself for a file that it cannot read.
            raise UsageError(
                f"the tokenizer of {name or repr(name)} cannot be had ({first_line(error)}): {GIVE_BERT}"
            ) from error
    # Of a folder with a model alone transformers makes one that knows nothing but [PAD], [UNK] and their like.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(f"{name} holds no tokenizer: {GIVE_BERT}")
    if tokenizer.pad_token_id != 0:
        raise UsageError(f"the tokenizer of {name} pads with {tokenizer.pad_token_id}, not with 0: {GIVE_BERT}")
    return tokenizer


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], config: TokensConfig) -> np.ndarray:
    """Return the tokens of texts, int32 [texts, max_words], with those for beginning and end; 0 where there is none.

    Raises UsageError when beginning and end leave no room.
    """
    special = tokenizer.num_special_tokens_to_add()
    if config.max_words <= special:
        raise UsageError(
            f"tokens.max_words={config.max_words} leaves no room beside {special} special tokens: raise it"
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


# What a run keeps


def fit_tokenizer(transcripts: Sequence[str], config: Config, folder: Path) -> None:
    """Put what turns transcripts into tokens into a run's folder: the vocabulary of these transcripts, which are the
    training clips', or a copy of the pretrained tokenizer. Raises CorpusError or UsageError as its parts do."""
    if config.tokens.tokenizer == "pretrained":
        tokenizer = load_pretrained_tokenizer(config.model.weights)
        with replacing(Path(folder) / TOKENIZER_FOLDER) as temporary:
            tokenizer.save_pretrained(temporary)
    else:
        write_vocabulary(Path(folder) / VOCABULARY_FILE, fit_vocabulary(transcripts, config.tokens))


def has_tokenizer(folder: Path) -> bool:
    """Say whether `fit_tokenizer` has put something whole into a folder."""
    return (Path(folder) / VOCABULARY_FILE).is_file() or (Path(folder) / TOKENIZER_FOLDER).is_dir()


def load_tokenizer(folder: Path, config: Config) -> Callable:
    """Return what turns texts [batch] into tokens, int [batch, max_words], as `fit_tokenizer` put it into a folder: the
    layer of `word_tokenizer`, or a function from Sequence[str] to an array, for a pretrained one is no graph.

    Raises RunError when the folder lacks it.
    """
    folder = Path(folder)
    if config.tokens.tokenizer == "words":
        return word_tokenizer(read_vocabulary(folder / VOCABULARY_FILE), config.tokens)
    try:
        tokenizer = load_pretrained_tokenizer(str(folder / TOKENIZER_FOLDER))
    except UsageError as error:
        raise RunError(f"{folder / TOKENIZER_FOLDER} holds no tokenizer: {AGAIN}") from error
    return functools.partial(encode, tokenizer, config=config.tokens)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy what `fit_tokenizer` put into one folder to another."""
    if (Path(source) / VOCABULARY_FILE).is_file():
        shutil.copyfile(Path(source) / VOCABULARY_FILE, Path(target) / VOCABULARY_FILE)
    else:
        shutil.copytree(Path(source) / TOKENIZER_FOLDER, Path(target) / TOKENIZER_FOLDER)
