"""The frames of a speech model are those that transformers computes, kept exactly, cut or padded."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_SPEECH

from emokeras.config import Config, SpeechConfig, TcnConfig
from emokeras.data import speech
from emokeras.data.audio import load_waveforms
from emokeras.errors import UsageError
from emokeras.models.pretrained import speech_units, with_pretrained_sizes

torch = pytest.importorskip("torch", reason="the extra pretrained brings torch")
import transformers  # noqa: E402

KINDS = {"Wav2Vec2": {}, "Hubert": {}, "WavLM": {"num_buckets": 8, "max_bucket_distance": 16}}
CONFIG = Config("tiny", {"speech": TcnConfig()}, speech=SpeechConfig(max_seconds=1.0, units=12))


def sound(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=round(16000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module", params=[*KINDS, "Whisper"])
def model(request, tmp_path_factory):
    """Return the folder of a tiny speech model of this kind, and the network itself."""
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
def test_frames_are_the_hidden_states_of_transformers(model, layer):
    folder, network = model
    waveform = sound(1.3)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        if "input_features" in given:
            states = network.encoder(given["input_features"], output_hidden_states=True).hidden_states
        else:
            states = network(given["input_values"], output_hidden_states=True).hidden_states
    frames = speech.load_speech_model(str(folder), layer)(waveform)
    assert abs(len(frames) - 1.3 * 50) <= 1  # A Whisper gives frames for 30 s; those of silence are left out.
    np.testing.assert_allclose(frames, states[layer][0, : len(frames)], atol=2e-3)


@pytest.mark.parametrize("samples", [1, 399, 800])
def test_a_clip_of_a_few_samples_has_a_frame(model, samples):
    assert len(speech.load_speech_model(str(model[0]), -1)(sound(1.0)[:samples])) >= 1


def test_the_units_are_the_models(model):
    assert speech_units(str(model[0])) == 12
    config = replace(CONFIG, speech=SpeechConfig(), model=replace(CONFIG.model, pretrained=str(model[0])))
    assert with_pretrained_sizes(config).speech.units == 12


def test_a_clip_is_padded_and_of_a_long_one_the_middle_kept():
    short, long = np.full((20, 12), 0.5, np.float16), np.arange(71)[:, np.newaxis] * np.ones(12, np.float16)
    made = speech.fit_frames([short, long], CONFIG)
    assert made["speech"].shape == (2, 50, 12)
    np.testing.assert_array_equal(made["speech_mask"], [[1] * 20 + [0] * 30, [1] * 50])
    assert not made["speech"][0, 20:].any()
    np.testing.assert_array_equal(made["speech"][1, :, 0], np.arange(10, 60))


def test_what_was_heard_once_is_kept_as_it_was(speech_model, demo_corpus, monkeypatch):
    config = replace(CONFIG, model=replace(CONFIG.model, pretrained=str(speech_model)))
    clips = demo_corpus.clips[:3]
    waveforms = load_waveforms(clips, 16000)
    first = speech.represent_clips(clips, waveforms, config)
    represent = speech.load_speech_model(str(speech_model), -1)
    np.testing.assert_array_equal(first["speech"], speech.represent_waveforms(represent, config, waveforms)["speech"])
    monkeypatch.delattr(speech, "load_speech_model")
    again = speech.represent_clips(clips, waveforms, config)
    np.testing.assert_array_equal(first["speech"], again["speech"])


def test_what_is_no_speech_model_is_refused_in_one_line(tmp_path, speech_model, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot be had .*model\.pretrained=NAME"):
        speech.load_speech_model(str(tmp_path), -1)
    with pytest.raises(UsageError, match=r"has no config\.json: .*model\.pretrained=NAME"):
        speech_units(str(tmp_path))
    with pytest.raises(UsageError, match="has layers 0 to 2"):
        speech.load_speech_model(str(speech_model), 3)(sound(0.1))
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"emokeras\[pretrained\]"):
        speech.load_speech_model(str(speech_model), -1)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="hears 16000 Hz alone"):
        replace(CONFIG, audio=replace(CONFIG.audio, sample_rate_hz=22050))
