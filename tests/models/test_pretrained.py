"""Bodies with weights of others: these arrive unchanged and can be frozen; what cannot be had is one line."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emokeras.config import ExperimentConfig, override
from emokeras.errors import UsageError
from emokeras.models.build import build_model
from emokeras.models.pretrained import BACKBONE, load_pretrained, pretrained_layers, with_pretrained_sizes
from emokeras.recipes import RECIPES

EXPERIMENT = ExperimentConfig(emotions=("calm", "angry"))
SMALL = {"audio.window_seconds": 0.32, "spectrogram.num_bands": 32}
BERT_SIZES = {
    "vocab_size": 40,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}


def pictures(weights: str):
    config = replace(RECIPES["mel-resnet-imagenet"].config, experiment=EXPERIMENT)
    return override(config, SMALL | {"model.weights": weights})


def reading(weights: str):
    config = replace(RECIPES["text-bert"].config, experiment=EXPERIMENT)
    return override(config, {"model.weights": str(weights), "tokens.max_words": 7})


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """Return a ResNet50 with weights of chance and the file that holds them."""
    keras.utils.set_random_seed(5)
    network = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    path = tmp_path_factory.mktemp("weights") / "resnet.weights.h5"
    network.save_weights(path)
    return network, path


def test_the_weights_of_a_file_are_those_of_the_body(resnet):
    network, path = resnet
    config = pictures(str(path))
    model = build_model(config)
    load_pretrained(model, config)
    body = model.get_layer(BACKBONE)
    for mine, theirs in zip(body.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert pretrained_layers(model) == [body]


def test_weights_of_another_network_and_no_weights_are_one_line(resnet, tmp_path):
    _, path = resnet
    cases = [pictures(str(tmp_path / "none.weights.h5")), pictures("")]
    cases.append(override(pictures(str(path)), {"encoder.backbone": "ResNet101"}))
    model = build_model(cases[0])
    other = build_model(cases[-1])
    for config, network in ((cases[0], model), (cases[1], model), (cases[2], other)):
        with pytest.raises(UsageError) as caught:
            load_pretrained(network, config)
        assert "model.weights" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched_are_one_line_that_says_how_to_give_them(monkeypatch):
    def unreachable(*arguments, **options):
        raise Exception("URL fetch failure on https://storage.googleapis.com/resnet50.h5: None -- no route")

    model = build_model(pictures("imagenet"))
    monkeypatch.setattr(keras.utils, "get_file", unreachable)
    import keras.src.applications.resnet as module

    monkeypatch.setattr(module.file_utils, "get_file", unreachable)
    with pytest.raises(UsageError) as caught:
        load_pretrained(model, pictures("imagenet"))
    assert "cannot be fetched" in str(caught.value)
    assert "--set model.weights=" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("with_head", [False, True])
def test_a_bert_computes_what_transformers_computes(tmp_path, with_head):
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(0)
    theirs = (BertForSequenceClassification if with_head else BertModel)(BertConfig(**BERT_SIZES))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.eval().save_pretrained(tmp_path)
    config = with_pretrained_sizes(reading(tmp_path))
    encoder = config.encoders["tokens"]
    sizes = (encoder.units, encoder.num_blocks, encoder.num_heads, encoder.hidden_units, encoder.vocabulary_size)
    assert sizes == (12, 2, 3, 20, 40)

    model = build_model(config)
    load_pretrained(model, config)
    ids = np.array([[2, 9, 30, 11, 3, 0, 0], [2, 39, 7, 8, 21, 6, 3]], np.int32)
    mine = keras.Model(model.inputs, model.get_layer(f"{BACKBONE}_1_output_norm").output)({"tokens": ids})
    mask = torch.tensor((ids > 0).astype(np.int64))
    expected = (theirs.bert if with_head else theirs)(torch.tensor(ids.astype(np.int64)), mask).last_hidden_state
    valid = ids > 0
    np.testing.assert_allclose(np.array(mine)[valid], expected.detach().numpy()[valid], rtol=1e-4, atol=2e-5)


def test_what_is_no_bert_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "type_vocab_size": 2}')
    for weights in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError) as caught:
            with_pretrained_sizes(reading(weights))
        assert "--set model.weights=" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", ["{", "[1]", '{"model_type": "bert", "type_vocab_size": 2, "hidden_act": "gelu"}'])
def test_damaged_settings_of_a_bert_are_one_line(tmp_path, settings):
    (tmp_path / "config.json").write_text(settings)
    with pytest.raises(UsageError, match=r"--set model.weights=") as caught:
        with_pretrained_sizes(reading(tmp_path))
    assert "\n" not in str(caught.value)


def test_damaged_weights_of_a_bert_are_one_line(tmp_path):
    config = override(reading(tmp_path), {"encoder.num_positions": 9, "encoder.num_blocks": 1, "encoder.units": 12})
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UsageError, match=r"model.safetensors cannot be read .*--set model.weights=") as caught:
        load_pretrained(build_model(config), config)
    assert "\n" not in str(caught.value)


def test_more_words_than_positions_are_refused():
    config = override(reading("x"), {"encoder.num_positions": 5, "encoder.num_blocks": 1, "encoder.units": 12})
    with pytest.raises(UsageError, match=r"max_words=7 is more than the 5 positions"):
        build_model(config)
