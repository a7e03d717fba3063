"""What tests share: a cache folder of their own, a small demo corpus, tiny settings, and a few trained runs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emokeras.commandline import import_tensorflow

import_tensorflow()  # As the commands do: a run here and one in another process then give the same bits.

REAL_CLIPS = Path(__file__).parents[1].parent / "shared" / "ravdess"

TINY = {
    "audio.sample_rate_hz": 16000,
    "audio.window_seconds": 1.28,
    "audio.window_step_seconds": 0.5,
    "spectrogram.frame_seconds": 0.032,
    "spectrogram.fft_size": 1024,
    "spectrogram.num_bands": 20,
    "spectrogram.hop_seconds": 0.02,
    "spectrogram.high_hz": 8000.0,
    "model.hidden_units": [16],
    "training.epochs": 3,
    "training.warmup_epochs": 1,
    "training.batch_size": 8,
}
# A speech encoder of the wav2vec 2.0 family, with its strides: 320 samples in all, 50 frames a second.
TINY_SPEECH = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# A Whisper's encoder; its 80 bands are those of the base sizes.
TINY_WHISPER = {
    "num_mel_bins": 80,
    "d_model": 12,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
TINY_ENCODERS = {
    "identity": {},
    "cnn": {"filters": [4, 8, 16]},
    "crnn": {"filters": [4, 8], "recurrent_units": [6]},
    "resnet": {"filters": [4, 8, 8]},
    "tcn": {"filters": 8, "dilations": [1, 4]},
    "transformer": {"patch_frames": 8, "patch_bands": 10, "units": 8, "num_heads": 2, "num_blocks": 1},
    "recurrent": {"units": [6]},
    "imagenet": {},
    "bert": {},
}
# An image of 20 bands is too small for a ResNet that halves five times.
TINY_RECIPES = {"mel-resnet-imagenet": {"spectrogram.num_bands": 32}}


def tiny_settings(recipe: str = "mel-cnn3") -> dict:
    """Return settings that shrink a recipe until an epoch takes a second; branches start from random weights."""
    from emokeras.config import EnsembleConfig
    from emokeras.recipes import RECIPES

    config = RECIPES[recipe].config
    settings = TINY | TINY_RECIPES.get(recipe, {})
    for name, network in config.networks.items():
        member = f"members.{name}." if isinstance(config, EnsembleConfig) else ""
        for branch, encoder in network.encoders.items():
            tiny_encoder = TINY_ENCODERS[encoder.kind]
            settings |= {f"{member}encoders.{branch}.{key}": value for key, value in tiny_encoder.items()}
        if network.training.refit_epochs:
            settings |= {f"{member}training.refit_epochs": 1}
        if len(network.encoders) > 1:
            settings |= {"model.branches": [], "model.attention_units": 8, "model.attention_heads": 2}
    return settings


def tiny(config):
    """Return a recipe's configuration, shrunken."""
    from emokeras.config import override

    return override(config, tiny_settings(config.recipe))


def tiny_arguments(recipe: str = "mel-cnn3") -> list[str]:
    """Return `tiny_settings` as arguments of a command."""
    return [part for path, value in tiny_settings(recipe).items() for part in ("--set", f"{path}={json.dumps(value)}")]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """Give the tests a cache folder of their own."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["EMOKERAS_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    """Return a demo corpus of 5 speakers with 8 clips each: 24 train, 8 validation, 8 test by speaker."""
    from emokeras.data.demo import make_demo_corpus

    folder = tmp_path_factory.mktemp("corpus") / "demo"
    make_demo_corpus(folder, num_speakers=5, takes=1)
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Return a demo corpus of 3 speakers with 8 clips each: 8 train, 8 validation, 8 test by speaker."""
    from emokeras.data.demo import make_demo_corpus

    folder = tmp_path_factory.mktemp("corpus") / "small"
    make_demo_corpus(folder, num_speakers=3, takes=1)
    return folder


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory):
    """Return the folder of a tiny HuBERT with random weights, and of its feature extractor's settings."""
    torch = pytest.importorskip("torch", reason="this HuBERT is made with torch, of the extra asr")
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("speech") / "hubert"
    HubertModel(HubertConfig(**TINY_SPEECH)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def whisper_model(tmp_path_factory):
    """Return the folder of a tiny Whisper with random weights, which float16 holds exactly, as those of OpenAI."""
    torch = pytest.importorskip("torch", reason="this Whisper is made with torch, of the extra asr")
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    network = WhisperModel(WhisperConfig(**TINY_WHISPER))
    with torch.no_grad():
        for weights in network.encoder.parameters():
            # Larger than at the start of a training: the states of the layers then differ.
            weights.copy_((weights + torch.randn_like(weights) * (0.3 if weights.dim() > 1 else 0.1)).half())
    folder = tmp_path_factory.mktemp("speech") / "whisper"
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_corpus(demo_folder):
    """Return the demo corpus, loaded."""
    from emokeras.data.corpora import load_corpus

    return load_corpus(demo_folder)


@pytest.fixture(scope="session")
def small_corpus(small_folder):
    """Return the small demo corpus, loaded."""
    from emokeras.data.corpora import load_corpus

    return load_corpus(small_folder)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, demo_folder):
    """Return the folder of a run of the shrunken mel-cnn3, made by the command: three epochs."""
    from emokeras import train

    folder = tmp_path_factory.mktemp("runs") / "mel-cnn3"
    status = train.main(["mel-cnn3", "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments()])
    assert status == 0
    return folder


@pytest.fixture(scope="session")
def mfcc_run(tmp_path_factory, demo_folder):
    """Return the folder of a run of the shrunken mfcc-cnn2: one epoch, the split of `trained_run`."""
    return short_run("mfcc-cnn2", tmp_path_factory, demo_folder)


@pytest.fixture(scope="session")
def text_run(tmp_path_factory, demo_folder):
    """Return the folder of a run of the shrunken text-gru: one epoch, the split of `trained_run`."""
    return short_run("text-gru", tmp_path_factory, demo_folder)


def short_run(recipe: str, tmp_path_factory, demo_folder) -> Path:
    from emokeras import train

    folder = tmp_path_factory.mktemp("runs") / recipe
    arguments = [recipe, "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments(recipe)]
    assert train.main([*arguments, "--epochs", "1"]) == 0
    return folder


@pytest.fixture
def without_pictures(monkeypatch):
    """Do not draw the pictures of a run, which takes as long as a tiny training."""
    from matplotlib.figure import Figure

    from emokeras.reporting import plots

    monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)
    monkeypatch.setattr(plots, "save", lambda figure, path: None)
    monkeypatch.setattr(plots, "to_image", lambda figure: np.zeros((1, 1, 3), np.uint8))


@pytest.fixture
def without_graphs(monkeypatch):
    """Train step by step: to trace the graph of a step takes longer than the few steps of a tiny training."""
    from emokeras.training import fit

    def compile_eagerly(model, *arguments):
        compile_model(model, *arguments)
        model.run_eagerly = True

    compile_model = fit.compile_model
    monkeypatch.setattr(fit, "compile_model", compile_eagerly)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Return WAV files of 1, 3.7 and 10 s at 48 kHz: noise whose level rises and falls."""
    folder = tmp_path_factory.mktemp("recordings")
    files = []
    for number, seconds in enumerate((1.0, 3.7, 10.0)):
        samples = round(48000 * seconds)
        swell = np.sin(np.linspace(0, (3 + number) * np.pi, samples)) ** 2
        noise = np.random.default_rng(number).normal(scale=0.2, size=samples) * swell
        files.append(folder / f"{seconds}.wav")
        soundfile.write(files[-1], np.clip(noise, -1, 1), 48000, subtype="PCM_16")
    return files
