"""Encoders with pretrained weights: loaded unchanged, equal to transformers; what cannot be loaded is one line."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emokeras.config import Config, ExperimentConfig, override
from emokeras.errors import UsageError
from emokeras.hub import bert_sizes
from emokeras.models.build import build_model
from emokeras.models.pretrained import BACKBONE, load_pretrained, pretrained_layers
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


def imagenet_config(weights: str) -> Config:
    config = replace(RECIPES["mel-resnet-imagenet"].config, experiment=EXPERIMENT)
    return override(config, SMALL | {"model.weights": weights})


def bert_config(weights, **sizes) -> Config:
    config = replace(RECIPES["text-bert"].config, experiment=EXPERIMENT)
    sizes = {f"encoder.{key}": value for key, value in sizes.items()}
    return override(config, {"model.weights": str(weights), "tokens.max_words": 7} | sizes)


def refusal(function, *arguments) -> str:
    """Return the one line of a UsageError."""
    with pytest.raises(UsageError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """Return a ResNet50 with random weights, and the file of these weights."""
    keras.utils.set_random_seed(5)
    network = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    path = tmp_path_factory.mktemp("weights") / "resnet.weights.h5"
    network.save_weights(path)
    return network, path


@pytest.fixture(scope="module")
def model():
    """Return a network with a ResNet50 of its own weights."""
    return build_model(imagenet_config(""))


def test_the_weights_of_a_file_are_loaded_into_the_backbone(resnet, model):
    network, path = resnet
    load_pretrained(model, imagenet_config(str(path)))
    backbone = model.get_layer(BACKBONE)
    for loaded, expected in zip(backbone.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, expected)
    assert pretrained_layers(model) == [backbone]


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_missing_weights_and_those_of_another_network_are_refused_in_one_line(resnet, model, tmp_path):
    assert "model.weights" in refusal(load_pretrained, model, imagenet_config(str(tmp_path / "none.weights.h5")))
    assert "model.weights" in refusal(load_pretrained, model, imagenet_config(""))
    deeper = override(imagenet_config(str(resnet[1])), {"encoder.backbone": "ResNet101"})
    assert "model.weights" in refusal(load_pretrained, build_model(deeper), deeper)


def test_weights_that_cannot_be_fetched_are_refused_in_one_line_with_advice(model, monkeypatch):
    def unreachable(*arguments, **options):
        raise Exception("URL fetch failure on https://storage.googleapis.com/resnet50.h5: None -- no route")

    import keras.src.applications.resnet as module

    monkeypatch.setattr(module.file_utils, "get_file", unreachable)
    message = refusal(load_pretrained, model, imagenet_config("imagenet"))
    assert "cannot be fetched" in message
    assert "--set model.weights=" in message


@pytest.mark.parametrize("with_head", [False, True])
def test_a_bert_computes_what_transformers_computes(tmp_path, with_head):
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(0)
    reference = (BertForSequenceClassification if with_head else BertModel)(BertConfig(**BERT_SIZES))
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    reference.eval().save_pretrained(tmp_path)
    sizes = bert_sizes(str(tmp_path))
    assert sizes == {
        "units": 12,
        "num_blocks": 2,
        "num_heads": 3,
        "hidden_units": 20,
        "vocabulary_size": 40,
        "num_positions": 16,
    }

    config = bert_config(tmp_path, **sizes)
    model = build_model(config)
    load_pretrained(model, config)
    tokens = np.array([[2, 9, 30, 11, 3, 0, 0], [2, 39, 7, 8, 21, 6, 3]], np.int32)
    frames = keras.Model(model.inputs, model.get_layer(f"{BACKBONE}_1_output_norm").output)({"tokens": tokens})
    bert = reference.bert if with_head else reference
    valid = tokens > 0
    expected = bert(torch.tensor(tokens.astype(np.int64)), torch.tensor(valid.astype(np.int64))).last_hidden_state
    np.testing.assert_allclose(np.array(frames)[valid], expected.detach().numpy()[valid], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [
        None,
        "{",
        "[1]",
        '{"model_type": "gpt2", "type_vocab_size": 2}',
        '{"model_type": "bert", "type_vocab_size": 2, "hidden_act": "gelu"}',
    ],
)
def test_the_settings_of_another_model_and_damaged_ones_are_refused_in_one_line(tmp_path, settings):
    if settings:
        (tmp_path / "config.json").write_text(settings)
    assert "--set model.weights=" in refusal(bert_sizes, str(tmp_path))


def test_damaged_weights_of_a_bert_are_refused_in_one_line(tmp_path):
    config = bert_config(tmp_path, num_positions=9, num_blocks=1, units=12)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    message = refusal(load_pretrained, build_model(config), config)
    assert "model.safetensors cannot be read" in message
    assert "--set model.weights=" in message


def test_more_words_than_positions_are_refused():
    message = refusal(build_model, bert_config("x", num_positions=5, num_blocks=1, units=12))
    assert "max_words=7 is more than the 5 positions" in message
