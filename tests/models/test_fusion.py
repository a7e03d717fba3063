"""Fusion of several branches in one network: every branch counts, padding does not, networks can be saved."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emokeras.config import CnnConfig, Config, ExperimentConfig, ModelConfig, RecurrentConfig, TcnConfig, override
from emokeras.errors import UsageError
from emokeras.models.build import build_model
from emokeras.models.fusion import attention_layer_name
from emokeras.models.layers import CrossAttention, WeightedAverage
from emokeras.recipes import RECIPES

FRAMES, WORDS, EMOTIONS = 32, 6, ("neutral", "calm", "angry")
FUSIONS = ("early", "attention", "hybrid")


def config(fusion: str) -> Config:
    """Return a small network with two inputs of audio and one of text."""
    base = Config(
        "fused",
        {
            "spectrogram": CnnConfig(filters=(4, 6)),
            "mfcc": TcnConfig(filters=8, dilations=(1, 2)),
            "tokens": RecurrentConfig(units=(5,), pooling="mean"),
        },
        ExperimentConfig(emotions=EMOTIONS),
        model=ModelConfig(hidden_units=(7,), fusion=fusion, attention_units=8, attention_heads=2),
    )
    small = {"audio.window_seconds": 0.32, "spectrogram.num_bands": 16, "mfcc.num_bands": 16}
    return override(base, small | {"mfcc.num_coefficients": 10})


def inputs(seed: int = 0, valid: int = 20) -> dict:
    random = np.random.default_rng(seed)
    mask = np.repeat(np.arange(FRAMES)[np.newaxis] < valid, 2, axis=0).astype("float32")
    return {
        "spectrogram": random.normal(size=(2, FRAMES, 16)).astype("float32") * mask[..., np.newaxis],
        "spectrogram_mask": mask,
        "mfcc": random.normal(size=(2, FRAMES, 10)).astype("float32") * mask[..., np.newaxis],
        "mfcc_mask": mask,
        "tokens": np.array([[2, 3, 4, 0, 0, 0], [5, 0, 0, 0, 0, 0]], "int32"),
    }


def logits(model, given) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(given, training=False)["emotion"])


@pytest.fixture(scope="module", params=FUSIONS)
def model(request):
    keras.utils.set_random_seed(0)
    return build_model(config(request.param))


def test_the_logits_depend_on_every_branch(model):
    before = logits(model, inputs())
    assert before.shape == (2, len(EMOTIONS))
    for name in ("spectrogram", "mfcc", "tokens"):
        changed = inputs()
        changed[name] = inputs(1)[name] if name != "tokens" else changed[name][::-1].copy()
        assert np.abs(logits(model, changed) - before).max() > 1e-6, name


def test_the_content_of_padding_changes_no_logit(model):
    changed = inputs()
    for name in ("spectrogram", "mfcc"):
        changed[name] = np.where(changed[f"{name}_mask"][..., np.newaxis] > 0, changed[name], 99.0).astype("float32")
    np.testing.assert_allclose(logits(model, changed), logits(model, inputs()), atol=1e-5)


def test_a_saved_network_computes_the_same_logits(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(logits(again, inputs()), logits(model, inputs()), atol=1e-6)


def test_the_hybrid_head_averages_all_heads_with_weights_that_start_equal():
    model = build_model(config("hybrid"))
    heads = ["all_emotion", "spectrogram_emotion", "mfcc_emotion", "tokens_emotion"]
    parts = keras.Model(model.inputs, [model.get_layer(name).output for name in heads])(inputs())
    parts = [keras.ops.convert_to_numpy(part) for part in parts]
    np.testing.assert_allclose(logits(model, inputs()), np.mean(parts, axis=0), atol=1e-6)
    (average,) = [layer for layer in model.layers if isinstance(layer, WeightedAverage)]
    average.scores.assign([0.0, np.log(2.0), -50.0, -50.0])
    np.testing.assert_allclose(logits(model, inputs()), parts[0] / 3 + 2 * parts[1] / 3, atol=1e-6)


def test_attention_weights_are_on_valid_steps_only_and_sum_to_1():
    model = build_model(config("attention"))
    layer = model.get_layer(attention_layer_name("mfcc", 0))
    weights = keras.ops.convert_to_numpy(layer.attention_map(keras.Model(model.inputs, layer.input)(inputs())))
    assert weights.shape == (2, 16, 8 + WORDS)  # from 32 frames, halved, to 8 steps of the spectrogram and 6 words
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)
    assert weights[0, :, 8 + 3 :].max() < 1e-6  # three words
    assert weights[1, :, 8 + 1 :].max() < 1e-6  # one word
    assert weights[:, :, :5].min() > 0  # 20 valid frames, quartered
    assert weights[:, :, 5:8].max() < 1e-6


def test_cross_attention_to_one_valid_step_ignores_the_others():
    layer = CrossAttention(1)
    frames, others = np.zeros((1, 3, 4), "float32"), np.random.default_rng(0).normal(size=(1, 2, 4)).astype("float32")
    one_valid = np.array([[[1.0], [0.0]]], "float32")
    masked = keras.ops.convert_to_numpy(layer([frames, others, one_valid]))
    alone = keras.ops.convert_to_numpy(
        layer([frames, np.repeat(others[:, :1], 2, axis=1), np.ones((1, 2, 1), "float32")])
    )
    np.testing.assert_allclose(masked, alone, atol=1e-6)
    np.testing.assert_allclose(layer.attention_map([frames, others, one_valid]), [[[1, 0]] * 3], atol=1e-6)


def test_early_mel_text_has_the_layers_that_report_d_states():
    """256 units of audio and 128 of text make 384, then 256, 128 and 8, with batch norm."""
    recipe = replace(RECIPES["early-mel-text"].config, experiment=ExperimentConfig(emotions=tuple("abcdefgh")))
    model = build_model(recipe)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [256, 128, 256, 128, 8]
    assert dense[2].input.shape == (None, 384)
    assert model.get_layer("spectrogram_frames").output.shape[1:] == (280 // 64, 128 // 64 * 512)
    assert model.get_layer("tokens_frames").output.shape[1:] == (6, 256)
    after = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {256, 128, 384} <= {layer.gamma.shape[0] for layer in after}


def test_heads_that_do_not_divide_the_units_are_refused():
    with pytest.raises(UsageError, match=r"attention_heads=3 does not divide model\.attention_units=8"):
        override(config("attention"), {"model.attention_heads": 3})
