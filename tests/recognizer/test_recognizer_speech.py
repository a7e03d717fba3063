"""A speech encoder computes what its network does, in half the memory where nothing is lost, and is the trained one."""

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sounds import syllables

from emokeras.config import Config, ModelConfig, SpeechConfig, TcnConfig
from emokeras.data.speech import equalized, whisper_log_mel
from emokeras.errors import RunError, UsageError
from emokeras.hub import speech_settings
from emokeras.models.whisper import load_whisper_encoder
from emokeras.recognizer.speech import WhisperEncoder, load_speech_encoder

CONFIG = Config("tiny", {"speech": TcnConfig()})
LAYERS = (3, 1)


def config_of(folder, layers=LAYERS, **changes) -> Config:
    speech = SpeechConfig(layers=layers, **speech_settings(str(folder)) | changes)
    return replace(CONFIG, speech=speech, model=ModelConfig(pretrained=str(folder)))


def blocks() -> tuple[tf.Tensor, tf.Tensor]:
    """Return two blocks of which one is shorter, and their samples."""
    waveforms = np.stack([syllables(2.0), np.pad(syllables(1.0, seed=1), (0, 16000))])
    return tf.constant(waveforms), tf.constant([32000, 16000])


def states_of(network: keras.Model, equalization: float = 0.5) -> np.ndarray:
    return network(equalized(whisper_log_mel(*blocks(), 80), equalization)).numpy()


@pytest.fixture
def network(whisper_model):
    return load_whisper_encoder(str(whisper_model), LAYERS)


@pytest.fixture
def other_whisper(whisper_model, tmp_path):
    """Return a copy of the Whisper with one bit of its weights changed."""
    folder = Path(shutil.copytree(whisper_model, tmp_path / "other"))
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return folder


# Whisper


def test_weights_that_float16_holds_are_stored_in_it_and_nothing_changes(network, whisper_model):
    encoder = load_speech_encoder(config_of(whisper_model))
    assert len(encoder.values) == len(network.weights) > 40
    for value, weights in zip(encoder.values, network.weights, strict=True):
        assert value.dtype == tf.float16
        np.testing.assert_array_equal(value.numpy(), weights.numpy())
    np.testing.assert_allclose(encoder(*blocks()), states_of(network), atol=1e-5)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_weights_that_float16_would_round_keep_float32(network):
    """Each for itself; also those that are too large for it, here of a position that is not reached."""
    for name, factor in {"layers.1.fc1": 1.0 + 1e-5, "conv2": 1.1}.items():
        layer = network.get_layer(name)
        layer.set_weights([weights * np.float32(factor) for weights in layer.get_weights()])
    (positions,) = network.get_layer("embed_positions").get_weights()
    positions[-1] = 1e6
    network.get_layer("embed_positions").set_weights([positions])
    encoder = WhisperEncoder(network, 80, 0.5)
    dtypes = {}
    for value, weights in zip(encoder.values, network.weights, strict=True):
        np.testing.assert_array_equal(value.numpy(), weights.numpy())
        dtypes.setdefault(weights.path.split("/")[0], set()).add(value.dtype)
    assert {name for name, own in dtypes.items() if tf.float32 in own} == {"layers.1.fc1", "conv2", "embed_positions"}
    np.testing.assert_allclose(encoder(*blocks()), states_of(network), rtol=1e-5, atol=1e-5)


def test_the_states_are_those_of_the_layers_of_the_configuration(whisper_model, network):
    states = states_of(network)
    for number, layer in enumerate(LAYERS):
        alone = load_speech_encoder(config_of(whisper_model, (layer,)))(*blocks())
        assert alone.shape == (2, 100, 12)
        np.testing.assert_allclose(alone, states[..., 12 * number : 12 * (number + 1)], atol=1e-5)


def test_what_whisper_takes_is_equalized_as_the_configuration_says(whisper_model, network):
    config = config_of(whisper_model)
    assert config.speech.equalization == 0.5
    plain = replace(config, speech=replace(config.speech, equalization=0.0))
    np.testing.assert_allclose(load_speech_encoder(plain)(*blocks()), states_of(network, 0.0), atol=1e-5)
    assert np.abs(states_of(network, 0.0) - states_of(network)).max() > 0.1


# The one that the network was trained with


def test_another_encoder_than_the_one_trained_with_is_refused(whisper_model, other_whisper):
    config = config_of(whisper_model)
    moved = replace(config, model=ModelConfig(pretrained=str(other_whisper)))
    with pytest.raises(RunError) as caught:
        load_speech_encoder(moved)
    found = speech_settings(str(other_whisper))["sha256"]
    assert str(caught.value) == (
        f"{other_whisper} has other weights (SHA-256 {found[:12]}...) than the speech encoder that this network was "
        f"trained with ({config.speech.sha256[:12]}...): put that one back"
    )


def test_the_same_encoder_in_another_place_is_taken(whisper_model, tmp_path):
    moved = shutil.copytree(whisper_model, tmp_path / "moved")
    config = replace(config_of(whisper_model), model=ModelConfig(pretrained=str(moved)))
    expected = load_speech_encoder(config_of(whisper_model))(*blocks())
    np.testing.assert_array_equal(load_speech_encoder(config)(*blocks()), expected)


def test_an_encoder_that_is_gone_is_refused(whisper_model, tmp_path):
    config = replace(config_of(whisper_model), model=ModelConfig(pretrained=str(tmp_path)))
    with pytest.raises(UsageError, match=r"has no config\.json: give a speech model of transformers") as caught:
        load_speech_encoder(config)
    assert "\n" not in str(caught.value)


def test_a_network_of_an_earlier_version_is_refused(whisper_model):
    """It took other frames, and its configuration does not have the weights of its encoder."""
    with pytest.raises(RunError, match=r"was trained by an earlier version.*: train it again") as caught:
        load_speech_encoder(config_of(whisper_model, sha256=""))
    assert "\n" not in str(caught.value)


def test_on_another_backend_whisper_is_refused_and_a_hubert_is_not(whisper_model, speech_model, monkeypatch):
    """A training there takes frames that are cached."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="Whisper runs on TensorFlow, and KERAS_BACKEND is jax: train for") as caught:
        load_speech_encoder(config_of(whisper_model))
    assert "\n" not in str(caught.value)
    assert load_speech_encoder(config_of(speech_model, (1,)))(*blocks()).shape == (2, 100, 12)


def test_the_encoder_of_a_hubert_gives_its_states(speech_model):
    config = config_of(speech_model, (0, -1))
    assert config.speech.family == "wav2vec2"
    states = load_speech_encoder(config)(*blocks()).numpy()
    assert states.shape == (2, 100, 24)
    assert not states[1, 50:].any()
    assert np.abs(states[:, :50]).min() > 0
