"""Whole networks of transcripts: padding does not count, words and their order do, networks can be saved."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from test_build import EMOTIONS, SMALL_ENCODERS

from emokeras.config import Config, ExperimentConfig, override
from emokeras.models.build import build_model
from emokeras.recipes import RECIPES

TEXT_RECIPES = ("text-lstm", "text-gru", "text-bigru", "text-bilstm2", "text-bert")
TOKENS = np.array([[5, 3, 9, 4, 7, 2], [8, 3, 6, 0, 0, 0], [4, 0, 0, 0, 0, 0]], np.int32)


def small(recipe: str) -> Config:
    config = replace(RECIPES[recipe].config, experiment=ExperimentConfig(emotions=EMOTIONS))
    (encoder,) = config.encoders.values()
    settings = {f"encoder.{key}": value for key, value in SMALL_ENCODERS[encoder.kind].items()}
    return override(config, settings | {"tokens.max_words": 6, "tokens.vocabulary_size": 20})


@pytest.fixture(scope="module", params=TEXT_RECIPES)
def model(request) -> keras.Model:
    """Return the network of each recipe, with all weights away from their start."""
    keras.utils.set_random_seed(0)
    model = build_model(small(request.param))
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + random.normal(scale=0.2, size=weight.shape))
    return model


def logits(model: keras.Model, tokens: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model({"tokens": tokens})["emotion"])


def test_a_transcript_has_the_same_logits_alone_and_in_a_batch(model):
    together = logits(model, TOKENS)
    assert together.shape == (3, 3)
    for number in range(3):
        np.testing.assert_allclose(logits(model, TOKENS[number : number + 1])[0], together[number], atol=1e-5)


def test_words_and_their_order_change_the_logits(model):
    other_word, other_order = TOKENS.copy(), TOKENS[:, ::-1].copy()
    other_word[:, 0] += 1
    for changed in (other_word, other_order[:1]):
        difference = np.abs(logits(model, changed) - logits(model, TOKENS)[: len(changed)]).max(axis=1)
        assert (difference > 1e-4).all()


def test_more_padding_changes_no_logit(model):
    longer = build_model(override(small(model.name.replace("_", "-")), {"tokens.max_words": 9}))
    longer.set_weights(model.get_weights())
    padded = np.pad(TOKENS, ((0, 0), (0, 3)))
    np.testing.assert_allclose(logits(longer, padded), logits(model, TOKENS), atol=1e-5)


def test_a_transcript_without_words_has_finite_logits(model):
    assert np.isfinite(logits(model, np.zeros((1, 6), np.int32))).all()


def test_a_saved_network_computes_the_same_logits(model, tmp_path):
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        logits(keras.saving.load_model(tmp_path / "model.keras"), TOKENS), logits(model, TOKENS)
    )


def test_the_text_networks_have_the_layers_that_the_reports_state():
    """C: embedding 128, bidirectional GRU. D: embedding 64, two bidirectional LSTMs of 128, dense 256 → 128 → 8."""
    emotions = ExperimentConfig(emotions=tuple("abcdefgh"))
    bigru = build_model(replace(RECIPES["text-bigru"].config, experiment=emotions))
    (embedding,) = [layer for layer in bigru.layers if isinstance(layer, keras.layers.Embedding)]
    (recurrent,) = [layer for layer in bigru.layers if isinstance(layer, keras.layers.Bidirectional)]
    assert embedding.output_dim == 128
    assert isinstance(recurrent.forward_layer, keras.layers.GRU)

    bilstm = build_model(replace(RECIPES["text-bilstm2"].config, experiment=emotions))
    (embedding,) = [layer for layer in bilstm.layers if isinstance(layer, keras.layers.Embedding)]
    recurrent = [layer for layer in bilstm.layers if isinstance(layer, keras.layers.Bidirectional)]
    dense = [layer for layer in bilstm.layers if isinstance(layer, keras.layers.Dense)]
    assert (embedding.input_dim, embedding.output_dim, bilstm.input["tokens"].shape[1]) == (200, 64, 6)
    assert [(type(layer.forward_layer), layer.forward_layer.units) for layer in recurrent] == [
        (keras.layers.LSTM, 128)
    ] * 2
    assert [layer.kernel.shape for layer in dense] == [(256, 128), (128, 8)]
