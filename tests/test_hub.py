"""Models of transformers by their folder: sizes and files, or one line about what is missing."""

import hashlib
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


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model_type": "whisper", "d_model": 12, "hidden_size": 5}, {"family": "whisper", "units": 12}),
        ({"model_type": "hubert", "hidden_size": 12}, {"family": "wav2vec2", "units": 12}),
        ({"hidden_size": 12}, {"family": "wav2vec2", "units": 12}),
    ],
    ids=["whisper", "hubert", "no type"],
)
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_what_a_configuration_has_of_a_speech_encoder(weights, settings, expected, tmp_path):
    """Older models have no safetensors file; where there is one it is taken, as by transformers."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"other weights")
    (tmp_path / weights).write_bytes(b"weights")
    found = hub.speech_settings(settings_in(tmp_path, json.dumps(settings)))
    assert found == expected | {"sha256": hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize("settings", [{"hidden_size": "many"}, {"d_model": 12}, {"model_type": "whisper"}])
def test_a_model_without_units_is_no_speech_model(settings, tmp_path):
    with pytest.raises(UsageError, match="is no speech model: give a speech model of transformers"):
        hub.speech_settings(settings_in(tmp_path, json.dumps(settings)))


def test_a_speech_encoder_without_weights_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="give a speech model of transformers, by its folder or its name") as caught:
        hub.speech_settings(settings_in(tmp_path, json.dumps({"hidden_size": 12})))
    assert "\n" not in str(caught.value)


WHISPER = {"model_type": "whisper", "num_mel_bins": 80, "d_model": 12, "encoder_layers": 3}
WHISPER |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 16, "max_source_positions": 1500}


def test_the_sizes_of_the_encoder_of_a_whisper(tmp_path):
    sizes = hub.whisper_sizes(settings_in(tmp_path, json.dumps(WHISPER | {"decoder_layers": 7})))
    assert sizes == hub.WhisperSizes(
        num_bands=80, units=12, num_blocks=3, num_heads=2, hidden_units=16, num_positions=1500
    )


@pytest.mark.parametrize("changes", [{"model_type": "hubert"}, {"model_type": None}, {"encoder_ffn_dim": None}])
def test_another_model_is_no_whisper(changes, tmp_path):
    tree = {key: value for key, value in (WHISPER | changes).items() if value is not None}
    with pytest.raises(UsageError, match="is no Whisper: give a speech model of transformers"):
        hub.whisper_sizes(settings_in(tmp_path, json.dumps(tree)))


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
