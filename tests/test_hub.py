"""Models of transformers by their folder: sizes and files, or one line about what is missing."""

import json
import logging

import pytest

from emokeras import hub
from emokeras.errors import UsageError

pytest.importorskip("transformers")

BERT = {"model_type": "bert", "type_vocab_size": 2, "hidden_act": "gelu", "vocab_size": 50}
BERT |= {"max_position_embeddings": 24, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
BERT |= {"intermediate_size": 12}


def settings_in(folder, text: str) -> str:
    (folder / "config.json").write_text(text)
    return str(folder)


def test_the_sizes_of_a_bert_by_our_settings(tmp_path):
    sizes = {"vocabulary_size": 50, "num_positions": 24, "units": 8, "num_heads": 2, "num_blocks": 1}
    assert hub.bert_sizes(settings_in(tmp_path, json.dumps(BERT))) == sizes | {"hidden_units": 12}


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "roberta"}, {"hidden_act": "relu"}, {"type_vocab_size": 1}, {"hidden_size": None}],
    ids=lambda changes: next(iter(changes)),
)
def test_another_model_is_no_bert(changes, tmp_path):
    tree = {key: value for key, value in (BERT | changes).items() if value is not None}
    with pytest.raises(UsageError, match="is no BERT as Google published it: give a folder"):
        hub.bert_sizes(settings_in(tmp_path, json.dumps(tree)))


@pytest.mark.parametrize("key", ["hidden_size", "d_model"])
def test_the_units_of_a_speech_encoder(key, tmp_path):
    """wav2vec 2.0 and its relatives have one name for it, Whisper another."""
    assert hub.speech_encoder_units(settings_in(tmp_path, json.dumps({key: 12}))) == 12
    with pytest.raises(UsageError, match="is no speech model: give a speech model of transformers"):
        hub.speech_encoder_units(settings_in(tmp_path, json.dumps({key: "many"})))


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_damaged_settings_are_refused_in_one_line(text, tmp_path):
    with pytest.raises(UsageError, match=r"config\.json cannot be read \(.*\): mend it") as caught:
        hub.model_settings(settings_in(tmp_path, text), "mend it")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    for name in (str(tmp_path), ""):
        with pytest.raises(UsageError, match=r"config\.json.*: mend it$") as caught:
            hub.model_file(name, "config.json", "mend it")
        assert "\n" not in str(caught.value)
    settings_in(tmp_path, "{}")
    assert hub.model_file(str(tmp_path), "config.json", "") == str(tmp_path / "config.json")


def test_messages_of_transformers_are_suppressed_in_the_block_only():
    with hub.quiet_transformers():
        assert not logging.getLogger("transformers").isEnabledFor(logging.WARNING)
    assert logging.getLogger("emokeras").isEnabledFor(logging.WARNING)
