"""Transcripts become the same tokens in Python, in a graph and in an export; damaged files are one-line errors."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from emokeras.config import BertConfig, Config, ModelConfig, RecurrentConfig, TokensConfig
from emokeras.data import text
from emokeras.errors import CorpusError, RunError, UsageError

SENTENCES = ("Kids are talking by the door.", "Dogs are sitting by the door!", "Don't they know?")


def normalized(sentence: str | bytes) -> str:
    return text.normalize(tf.constant([sentence])).numpy()[0].decode()


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# Normalization


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Kids are talking by the door.", "kids are talking by the door"),
        ("", ""),
        (" \t\n ", ""),
        ('...,;:-–—«»"“”()[]{}/\\_*#@&%$€+=<>~^|`', ""),
        ("Stop!", "stop !"),
        ("What?! No!!", "what ? ! no ! !"),
        ("a!b?c", "a ! b ? c"),
        ("Don't", "dont"),
        ("don’t DON‘T donʼt don＇t", "dont dont dont dont"),
        ("rock'n'roll, the dogs' 'tis", "rocknroll the dogs tis"),
        ("“It’s  fine,”  she said…", "its fine she said"),
        ("well-known snake_case 3.5 24/7", "well known snake case 3 5 24 7"),
        ("a\u00a0b\u2003c\u200bd\r\ne\x00f", "a b c d e f"),
        ("ÄÖÜ ÉTÉ Straße ŁÓDŹ", "äöü été straße łódź"),
        ("ΣΟΦΟΣ ПРИВЕТ", "σοφος привет"),
        ("e\u0301te\u0301 हिन्दी", "e\u0301te\u0301 हिन्दी"),
        ("你好，世界 こんにちは", "你好 世界 こんにちは"),
        ("مرحبا ١٢٣ １２", "مرحبا ١٢٣ １２"),
        ("❤️ yes 😀!", "yes !"),
        ("!\u0301 \u0301a", "! a"),
        (b"caf\xe9 \xff\xfe na\xc3\xafve", "caf naïve"),
    ],
)
def test_normalize(sentence, expected):
    assert normalized(sentence) == expected
    assert normalized(expected) == expected


def test_normalize_takes_any_shape_and_runs_in_a_graph():
    texts = tf.constant([["A!", "b"], ["", "Ç?"]])
    expected = [[b"a !", b"b"], [b"", "ç ?".encode()]]
    assert text.normalize(texts).numpy().tolist() == expected
    assert tf.function(text.normalize)(texts).numpy().tolist() == expected
    assert text.normalize(tf.constant("Hi")).numpy() == b"hi"
    assert text.normalize(tf.constant([], tf.string)).shape == (0,)


# Vocabulary


def test_a_vocabulary_is_ordered_by_frequency_then_alphabetically():
    words = text.fit_vocabulary(["the door the", "A door!", "the? Zoo é"], TokensConfig())
    assert words == ["the", "door", "!", "?", "a", "zoo", "é"]
    reverse = text.fit_vocabulary(["the? Zoo é", "A door!", "the door the"], TokensConfig())
    assert reverse == words


@pytest.mark.parametrize(
    ("size", "expected"), [(3, ["c"]), (4, ["c", "a"]), (5, ["c", "a", "b"]), (9, ["c", "a", "b"])]
)
def test_a_vocabulary_leaves_room_for_padding_and_the_unknown_word(size, expected):
    words = text.fit_vocabulary(["c c b a"], TokensConfig(vocabulary_size=size))
    assert words == expected
    tokens = text.word_tokenizer(words, TokensConfig())(["a b c d"]).numpy()
    assert tokens.max() < size


@pytest.mark.parametrize("transcripts", [[], ["", " "], ["...", "–"]])
def test_transcripts_without_a_word_are_refused(transcripts):
    with pytest.raises(CorpusError, match="have no word") as caught:
        text.fit_vocabulary(transcripts, TokensConfig())
    one_line(caught)


# Words to tokens


def test_padding_is_0_an_unknown_word_1_and_words_count_from_2():
    words = text.word_tokenizer(["the", "door", "!"], TokensConfig(max_words=4))
    texts = ["The door!", "the cat", "", "door door door door door the", "The dOOr’"]
    expected = [[2, 3, 4, 0], [2, 1, 0, 0], [0, 0, 0, 0], [3, 3, 3, 3], [2, 3, 0, 0]]
    assert words(tf.constant(texts)).numpy().tolist() == expected
    assert words(texts).numpy().tolist() == expected
    assert words(tf.constant([], tf.string)).shape == (0, 4)


def test_a_fitted_vocabulary_has_its_own_words():
    config = TokensConfig(max_words=8)
    words = text.word_tokenizer(text.fit_vocabulary(SENTENCES, config), config)
    tokens = words(tf.constant(SENTENCES)).numpy()
    assert not (tokens == 1).any()
    assert (tokens > 0).sum(axis=1).tolist() == [6, 7, 4]


def test_the_tokenizer_runs_in_graphs_and_datasets():
    words = text.word_tokenizer(["a", "b"], TokensConfig(max_words=3))
    texts = tf.constant(["B a", "b, c!"])
    expected = [[3, 2, 0], [3, 1, 1]]
    graph = tf.function(words, input_signature=[tf.TensorSpec([None], tf.string)])
    assert graph(texts).numpy().tolist() == expected
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(words)
    assert next(batches.as_numpy_iterator()).tolist() == expected


def test_an_export_has_the_tokenizer(tmp_path):
    words = text.word_tokenizer(["a", "ü"], TokensConfig(max_words=3))
    archive = keras.export.ExportArchive()
    archive.track(words)
    signature = [tf.TensorSpec([None], tf.string, "transcript")]
    archive.add_endpoint("serve", lambda transcript: words(transcript), input_signature=signature)
    archive.write_out(str(tmp_path / "export"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "export")).serve(tf.constant(["Ü!", "", "a a a a"]))
    assert served.numpy().tolist() == [[3, 1, 0], [0, 0, 0], [2, 2, 2]]


# File of the vocabulary


def test_a_vocabulary_is_the_same_after_writing_and_reading(tmp_path):
    words = ["the", "!", "?", "été", "हिन्दी", "7"]
    text.write_vocabulary(tmp_path / "vocabulary.txt", words)
    assert (tmp_path / "vocabulary.txt").read_bytes() == "the\n!\n?\nété\nहिन्दी\n7\n".encode()
    assert text.read_vocabulary(tmp_path / "vocabulary.txt") == words
    text.write_vocabulary(str(tmp_path / "vocabulary.txt"), ["other"])
    assert text.read_vocabulary(str(tmp_path / "vocabulary.txt")) == ["other"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"caf\xe9\n", "not UTF-8"),
        (b"", "an empty line"),
        (b"the\n\ndoor\n", "an empty line"),
        (b"the\ndoor\nthe\n", "a repeated word"),
    ],
)
def test_a_missing_or_damaged_vocabulary_is_a_one_line_error(tmp_path, content, reason):
    path = tmp_path / "vocabulary.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=reason) as caught:
        text.read_vocabulary(path)
    assert one_line(caught).startswith(str(path))
    assert "train again" in str(caught.value)


# Pretrained tokenizer


@pytest.fixture(scope="module")
def word_pieces(tmp_path_factory):
    """Return the folder of a small BERT tokenizer, trained on SENTENCES."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(SENTENCES, vocab_size=100, min_frequency=1, show_progress=False)
    trained.save(str(folder / "tokenizer.json"))
    BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)
    return folder


def test_a_pretrained_tokenizer_truncates_and_pads(word_pieces):
    tokenizer = text.load_pretrained_tokenizer(str(word_pieces))
    known = tokenizer.get_vocab()
    tokens = text.tokenize(tokenizer, ["the door", "", "Kids are talking by the door", "☃"], TokensConfig(max_words=5))
    assert tokens.dtype == np.int32
    begin, end = known["[CLS]"], known["[SEP]"]
    assert tokens.tolist() == [
        [begin, known["the"], known["door"], end, 0],
        [begin, end, 0, 0, 0],
        [begin, known["kids"], known["are"], known["talking"], end],
        [begin, known["[UNK]"], end, 0, 0],
    ]
    longer = text.tokenize(tokenizer, ["the doors"], TokensConfig(max_words=8))
    assert tokenizer.convert_ids_to_tokens(longer[0][1:4]) == ["the", "door", "##s"]


def test_tokens_do_not_depend_on_the_other_texts(word_pieces):
    tokenizer = text.load_pretrained_tokenizer(str(word_pieces))
    together = text.tokenize(tokenizer, SENTENCES, TokensConfig())
    alone = [text.tokenize(tokenizer, [sentence], TokensConfig())[0] for sentence in SENTENCES]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(text.tokenize(tokenizer, np.array(SENTENCES), TokensConfig()), together)
    assert text.tokenize(tokenizer, [], TokensConfig(max_words=5)).shape == (0, 5)


@pytest.mark.parametrize("max_words", [1, 2])
def test_tokens_need_room_next_to_the_special_ones(word_pieces, max_words):
    tokenizer = text.load_pretrained_tokenizer(str(word_pieces))
    with pytest.raises(UsageError, match=f"max_words={max_words} leaves no room for words next to 2") as caught:
        text.tokenize(tokenizer, ["the"], TokensConfig(max_words=max_words))
    one_line(caught)


def test_a_tokenizer_that_does_not_pad_with_0_is_refused(word_pieces, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(word_pieces)
    tokenizer.pad_token = "[SEP]"
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match=f"pads with {tokenizer.sep_token_id}, not with 0") as caught:
        text.load_pretrained_tokenizer(str(tmp_path / "other"))
    one_line(caught)


@pytest.mark.parametrize("files", [{}, {"tokenizer.json": "{"}, {"tokenizer.json": "{}"}, {"config.json": "[]"}])
def test_a_folder_without_a_tokenizer_is_a_one_line_error(tmp_path, files, capfd):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=r"give a folder .* by --set model\.weights=DIR") as caught:
        text.load_pretrained_tokenizer(str(tmp_path))
    assert str(tmp_path) in one_line(caught)
    assert capfd.readouterr() == ("", "")


def test_a_model_without_its_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="has no tokenizer: give a folder") as caught:
        text.load_pretrained_tokenizer(str(tmp_path))
    one_line(caught)


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "no such/name"])
def test_an_unknown_name_is_a_one_line_error(name):
    with pytest.raises(UsageError, match=r"cannot be loaded .* by --set model\.weights=DIR") as caught:
        text.load_pretrained_tokenizer(name)
    one_line(caught)


def test_an_unreachable_hub_is_a_one_line_error(monkeypatch):
    from transformers import AutoTokenizer

    def unreachable(*_):
        raise OSError("We couldn't connect to 'https://huggingface.co'.\nCheck your internet connection.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", unreachable)
    with pytest.raises(
        UsageError, match=r"tokenizer of a/b cannot be loaded \(We couldn't connect .*co'\): give"
    ) as caught:
        text.load_pretrained_tokenizer("a/b")
    one_line(caught)


# Files of a run

WORDS = Config("words", {"tokens": RecurrentConfig()}, tokens=TokensConfig(max_words=4))


def bert_config(folder) -> Config:
    tokens = TokensConfig(tokenizer="pretrained", max_words=5)
    return Config("bert", {"tokens": BertConfig()}, tokens=tokens, model=ModelConfig(weights=str(folder)))


def test_a_run_has_its_vocabulary(tmp_path):
    text.fit_tokenizer(["the door the"], WORDS, tmp_path)
    words = text.load_tokenizer(tmp_path, WORDS)
    assert isinstance(words, keras.Layer)  # An export has to track it.
    assert words(["The door closes"]).numpy().tolist() == [[2, 3, 1, 0]]
    (tmp_path / "vocabulary.txt").unlink()
    with pytest.raises(RunError, match=r"vocabulary\.txt cannot be read") as caught:
        text.load_tokenizer(tmp_path, WORDS)
    one_line(caught)


def test_a_run_has_a_copy_of_the_pretrained_tokenizer(word_pieces, tmp_path):
    source = shutil.copytree(word_pieces, tmp_path / "source")
    config = bert_config(source)
    text.fit_tokenizer(SENTENCES, config, tmp_path / "run")
    expected = text.tokenize(text.load_pretrained_tokenizer(str(source)), SENTENCES, config.tokens)
    shutil.rmtree(source)
    np.testing.assert_array_equal(text.load_tokenizer(tmp_path / "run", config)(SENTENCES), expected)
    shutil.rmtree(tmp_path / "run" / "tokenizer")
    with pytest.raises(RunError, match="tokenizer has no tokenizer: copy") as caught:
        text.load_tokenizer(tmp_path / "run", replace(config, model=ModelConfig()))
    one_line(caught)
