"""Whisper's encoder gives the hidden states of transformers, also of a padded input; what is no Whisper is one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_WHISPER

from emokeras.errors import UsageError
from emokeras.models.whisper import load_whisper_encoder

torch = pytest.importorskip("torch", reason="this Whisper is made with torch, of the extra asr")
import transformers  # noqa: E402

ROOT = Path(__file__).parents[2]
LAST = TINY_WHISPER["encoder_layers"]
ADVICE = "give a Whisper of transformers with model.safetensors, by its folder or name, by --set model.pretrained"


def log_mel(frames: int, batch: int = 1) -> np.ndarray:
    """Return what stands for a log-mel spectrogram in Whisper's scale, float32 [batch, frames, bands]."""
    bands = TINY_WHISPER["num_mel_bins"]
    return np.random.default_rng(frames).normal(scale=0.5, size=(batch, frames, bands)).astype(np.float32)


def states_of(folder: Path, chosen: tuple[int, ...], frames: np.ndarray, valid: int | None = None) -> np.ndarray:
    mask = np.zeros(frames.shape[:2], np.float32)
    mask[:, :valid] = 1.0
    return load_whisper_encoder(str(folder), chosen)({"log_mel": frames, "mask": mask}).numpy()


def refusal(name, chosen=(1,)) -> str:
    """Return the one line with which a model is refused."""
    with pytest.raises(UsageError) as caught:
        load_whisper_encoder(str(name), chosen)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def damaged(whisper_model, tmp_path):
    """Return a copy of the Whisper, to be damaged."""
    return Path(shutil.copytree(whisper_model, tmp_path / "damaged"))


# The states of its layers


@pytest.fixture(scope="module")
def expected(whisper_model):
    """Return the hidden states of transformers for 30 s, the only length that it takes; the last is normalized."""
    encoder = transformers.WhisperModel.from_pretrained(whisper_model).encoder.eval()
    with torch.inference_mode():
        given = encoder(torch.tensor(log_mel(3000).transpose(0, 2, 1)), output_hidden_states=True)
    states = [*given.hidden_states[:LAST], given.last_hidden_state]
    return [state.numpy() for state in states]


@pytest.mark.parametrize("layer", [*range(LAST + 1), -1])
def test_the_states_of_a_layer_are_those_of_transformers(layer, whisper_model, expected):
    found = states_of(whisper_model, (layer,), log_mel(3000))
    assert found.shape == (1, 1500, 12)
    assert np.abs(expected[layer]).max() > 1
    np.testing.assert_allclose(found, expected[layer], atol=1e-4)


def test_the_states_of_several_layers_are_concatenated_in_the_order_given(whisper_model, expected):
    found = states_of(whisper_model, (2, -1, 0), log_mel(3000))
    np.testing.assert_allclose(found, np.concatenate([expected[2], expected[LAST], expected[0]], axis=2), atol=1e-4)


def test_a_whole_whisper_has_the_encoder_too(whisper_model, tmp_path, expected):
    """OpenAI's have a head, under which the weights have other names."""
    whole = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**TINY_WHISPER))
    whole.model.load_state_dict(transformers.WhisperModel.from_pretrained(whisper_model).state_dict())
    whole.save_pretrained(tmp_path)
    np.testing.assert_allclose(states_of(tmp_path, (2,), log_mel(3000)), expected[2], atol=1e-4)


@pytest.mark.parametrize("valid", [1, 2, 37, 100, 101])
def test_padding_changes_nothing(valid, whisper_model):
    """Whatever is in it, for an even and an odd number of frames. A step is two frames."""
    frames = log_mel(140, batch=2)
    padded = states_of(whisper_model, (0, 2, LAST), frames, valid)
    alone = states_of(whisper_model, (0, 2, LAST), frames[:, :valid])
    assert alone.shape == (2, (valid + 1) // 2, 36)
    np.testing.assert_allclose(padded[:, : alone.shape[1]], alone, atol=1e-4)


def test_each_input_of_a_batch_has_its_own_padding(whisper_model):
    frames, encoder = log_mel(60, batch=3), load_whisper_encoder(str(whisper_model), (LAST,))
    lengths = np.array([60, 14, 31])
    mask = (np.arange(60) < lengths[:, np.newaxis]).astype(np.float32)
    together = encoder({"log_mel": frames, "mask": mask}).numpy()
    for row, length in enumerate(lengths):
        alone = states_of(whisper_model, (LAST,), frames[row : row + 1, :length])[0]
        np.testing.assert_allclose(together[row, : len(alone)], alone, atol=1e-4)


def test_blocks_after_the_last_layer_that_is_taken_are_not_computed(whisper_model):
    names = {layer.name for layer in load_whisper_encoder(str(whisper_model), (1, 0)).layers}
    assert "layers.0.fc2" in names
    assert not names & {"layers.1.fc2", "layer_norm"}


def test_the_encoder_is_frozen_and_computes_in_float32(whisper_model):
    """A training in mixed precision sets the policy of the layers that are made after it."""
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        encoder = load_whisper_encoder(str(whisper_model), (LAST, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert not encoder.trainable_variables
    frames = log_mel(50)
    found = encoder({"log_mel": frames, "mask": np.ones((1, 50), np.float32)})
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, states_of(whisper_model, (LAST, 1), frames))


# What is refused


@pytest.mark.parametrize("layer", [LAST + 1, -2])
def test_a_layer_that_it_lacks_is_refused(layer, whisper_model):
    message = refusal(whisper_model, (1, layer))
    assert message == f"speech.layers={layer}: this Whisper has layers 0 to {LAST}"


def test_a_folder_without_a_whisper_is_refused(speech_model, tmp_path):
    assert "has no config.json" in refusal(tmp_path)
    assert refusal(speech_model).startswith(f"{speech_model} is no Whisper: give a speech model of transformers")
    assert "cannot be loaded" in refusal(tmp_path / "none")


def test_a_whisper_without_its_weights_is_refused(damaged):
    (damaged / "model.safetensors").unlink()
    message = refusal(damaged)
    assert "model.safetensors" in message
    assert message.endswith(ADVICE)


@pytest.mark.parametrize("kept_bytes", [0, 5, 2000, -1])
def test_a_file_of_weights_that_was_cut_short_is_refused(kept_bytes, damaged):
    file = damaged / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    message = refusal(damaged)
    assert message.startswith(f"{file} has not the weights of {damaged} (")
    assert message.endswith(ADVICE)


@pytest.mark.parametrize(
    "changes", [{"d_model": 14}, {"encoder_ffn_dim": 20}, {"encoder_layers": 4}, {"num_mel_bins": 40}]
)
def test_weights_of_other_sizes_than_the_configuration_has_are_refused(changes, damaged):
    settings = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(settings | changes))
    message = refusal(damaged, (-1,))
    assert message.startswith(f"{damaged / 'model.safetensors'} has not the weights of {damaged} (")


def test_it_is_loaded_without_torch(whisper_model):
    code = f"""
import sys
from emokeras.models.whisper import load_whisper_encoder
assert load_whisper_encoder({str(whisper_model)!r}, [1]).count_params() > 0
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
