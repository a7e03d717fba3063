"""Frames of a speech encoder equal the hidden states of transformers, are cached exactly, and cut or padded."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_SPEECH

from emokeras.config import Config, SpeechConfig, TcnConfig
from emokeras.data import speech
from emokeras.data.audio import load_waveforms
from emokeras.errors import UsageError
from emokeras.hub import speech_encoder_units

torch = pytest.importorskip("torch", reason="the extra pretrained brings torch")
import transformers  # noqa: E402

KINDS = {"Wav2Vec2": {}, "Hubert": {}, "WavLM": {"num_buckets": 8, "max_bucket_distance": 16}}
CONFIG = Config("tiny", {"speech": TcnConfig()}, speech=SpeechConfig(max_seconds=1.0, units=12))


def sound(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=round(16000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module", params=[*KINDS, "Whisper"])
def model(request, tmp_path_factory):
    """Return the folder of a tiny random speech encoder of this kind, and the network itself."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "Whisper":
        layers = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
        config = transformers.WhisperConfig(
            d_model=12, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=60000, **layers
        )
        network, extractor = transformers.WhisperModel(config), transformers.WhisperFeatureExtractor()
    else:
        config = getattr(transformers, f"{request.param}Config")(**TINY_SPEECH, **KINDS[request.param])
        network = getattr(transformers, f"{request.param}Model")(config)
        extractor = transformers.Wav2Vec2FeatureExtractor()
    network.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder, network.eval()


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_frames_equal_the_hidden_states_of_transformers(model, layer):
    folder, network = model
    waveform = sound(1.3)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        if "input_features" in inputs:
            states = network.encoder(inputs["input_features"], output_hidden_states=True).hidden_states
        else:
            states = network(inputs["input_values"], output_hidden_states=True).hidden_states
    frames = speech.load_speech_encoder(str(folder), layer)(waveform)
    assert abs(len(frames) - 1.3 * 50) <= 1  # Whisper has frames for 30 s, of which those of padding are left out.
    np.testing.assert_allclose(frames, states[layer][0, : len(frames)], atol=2e-3)


@pytest.mark.parametrize("samples", [1, 399, 800])
def test_a_clip_of_few_samples_has_a_frame(model, samples):
    assert len(speech.load_speech_encoder(str(model[0]), -1)(sound(1.0)[:samples])) >= 1


def test_units_are_read_from_the_encoder(model):
    assert speech_encoder_units(str(model[0])) == 12


def test_short_clips_are_padded_and_long_ones_cut_to_their_middle():
    short, long = np.full((20, 12), 0.5, np.float16), np.arange(71)[:, np.newaxis] * np.ones(12, np.float16)
    inputs = speech.fit_frames([short, long], CONFIG)
    assert inputs["speech"].shape == (2, 50, 12)
    np.testing.assert_array_equal(inputs["speech_mask"], [[1] * 20 + [0] * 30, [1] * 50])
    assert not inputs["speech"][0, 20:].any()
    np.testing.assert_array_equal(inputs["speech"][1, :, 0], np.arange(10, 60))


def test_frames_are_computed_once_and_cached_exactly(speech_model, demo_corpus, monkeypatch):
    config = replace(CONFIG, model=replace(CONFIG.model, pretrained=str(speech_model)))
    clips = demo_corpus.clips[:3]
    waveforms = load_waveforms(clips, 16000)
    first = speech.encode_clips(clips, waveforms, config)
    encode = speech.load_speech_encoder(str(speech_model), -1)
    np.testing.assert_array_equal(first["speech"], speech.encode_waveforms(encode, config, waveforms)["speech"])
    monkeypatch.delattr(speech, "load_speech_encoder")
    again = speech.encode_clips(clips, waveforms, config)
    np.testing.assert_array_equal(first["speech"], again["speech"])


def test_a_model_that_is_not_a_speech_encoder_is_refused(tmp_path, speech_model, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot be loaded .*model\.pretrained=NAME"):
        speech.load_speech_encoder(str(tmp_path), -1)
    with pytest.raises(UsageError, match=r"has no config\.json: .*model\.pretrained=NAME"):
        speech_encoder_units(str(tmp_path))
    with pytest.raises(UsageError, match="has layers 0 to 2"):
        speech.load_speech_encoder(str(speech_model), 3)(sound(0.1))
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"emokeras\[pretrained\]"):
        speech.load_speech_encoder(str(speech_model), -1)


def test_another_sample_rate_is_refused():
    with pytest.raises(ValueError, match="takes 16000 Hz only"):
        replace(CONFIG, audio=replace(CONFIG.audio, sample_rate_hz=22050))
