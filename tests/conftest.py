"""What tests share: a home of their own, a small demo corpus, one trained run. TensorFlow stays quiet."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emokeras.commandline import import_tensorflow

import_tensorflow()  # as the commands do: a run here and one in a process of its own then give the same bits

REAL_CLIPS = Path(__file__).parents[1].parent / "shared" / "ravdess"

TINY = {
    "audio.sample_rate_hz": 16000,
    "audio.window_seconds": 1.28,
    "audio.num_windows": 2,
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
# Of wav2vec 2.0 and its kin: the strides are theirs, 320 samples in all, so that there are 50 frames a second.
TINY_SPEECH = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
TINY_BODIES = {
    "cnn": {"filters": [4, 8, 16]},
    "crnn": {"filters": [4, 8], "recurrent_units": [6]},
    "resnet": {"filters": [4, 8, 8]},
    "tcn": {"filters": 8, "dilations": [1, 4]},
    "transformer": {"patch_frames": 8, "patch_bands": 10, "units": 8, "num_heads": 2, "num_blocks": 1},
    "conformer": {"units": 8, "num_heads": 2, "num_blocks": 1, "kernel_size": 3},
    "recurrent": {"units": [6]},
    "imagenet": {},
    "bert": {},
}
# A picture of 20 bands is too low for a ResNet that halves five times.
TINY_RECIPES = {"mel-resnet-imagenet": {"spectrogram.num_bands": 32}}


def tiny_settings(recipe: str = "mel-cnn3") -> dict:
    """Return the settings that shrink a recipe until it trains in a second an epoch; branches start from scratch."""
    from emokeras.config import EnsembleConfig
    from emokeras.recipes import RECIPES

    config = RECIPES[recipe].config
    settings = TINY | TINY_RECIPES.get(recipe, {})
    for name, network in config.networks.items():
        member = f"members.{name}." if isinstance(config, EnsembleConfig) else ""
        for branch, encoder in network.encoders.items():
            body = TINY_BODIES[encoder.kind]
            settings |= {f"{member}encoders.{branch}.{key}": value for key, value in body.items()}
        if network.training.refit_epochs:
            settings |= {f"{member}training.refit_epochs": 1}
        if network.training.crossfit_parts:
            settings |= {f"{member}training.crossfit_epochs": 1, f"{member}training.crossfit_by": []}
        if len(network.encoders) > 1:
            settings |= {"model.branches": [], "model.attention_units": 8, "model.attention_heads": 2}
    return settings


def tiny(config):
    """Shrink a recipe's configuration."""
    from emokeras.config import override

    return override(config, tiny_settings(config.recipe))


def tiny_arguments(recipe: str = "mel-cnn3") -> list[str]:
    """Return the same as arguments of a command."""
    return [part for path, value in tiny_settings(recipe).items() for part in ("--set", f"{path}={json.dumps(value)}")]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """Keep every cache of the tests out of the reader's own."""
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
def speech_model(tmp_path_factory):
    """Return the folder of a tiny HuBERT of chance, with what prepares its input."""
    torch = pytest.importorskip("torch", reason="the extra pretrained brings torch, with which this HuBERT is made")
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("speech") / "hubert"
    HubertModel(HubertConfig(**TINY_SPEECH)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_corpus(demo_folder):
    """Return it loaded."""
    from emokeras.data.corpora import load_corpus

    return load_corpus(demo_folder)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, demo_folder):
    """Return the folder of one shrunken run of mel-cnn3, made by the command itself."""
    from emokeras import train

    folder = tmp_path_factory.mktemp("runs") / "mel-cnn3"
    status = train.main(["mel-cnn3", "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments()])
    assert status == 0
    return folder


@pytest.fixture(scope="session")
def mfcc_run(tmp_path_factory, demo_folder):
    """Return the same of mfcc-cnn2, for one epoch: on the very clips of `trained_run`."""
    return short_run("mfcc-cnn2", tmp_path_factory, demo_folder)


@pytest.fixture(scope="session")
def text_run(tmp_path_factory, demo_folder):
    """Return the same of text-gru."""
    return short_run("text-gru", tmp_path_factory, demo_folder)


def short_run(recipe: str, tmp_path_factory, demo_folder) -> Path:
    from emokeras import train

    folder = tmp_path_factory.mktemp("runs") / recipe
    arguments = [recipe, "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments(recipe)]
    assert train.main([*arguments, "--epochs", "1"]) == 0
    return folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Return WAV files of 1 s, 3.7 s and 10 s at 48 kHz: noise that swells and fades."""
    folder = tmp_path_factory.mktemp("recordings")
    files = []
    for number, seconds in enumerate((1.0, 3.7, 10.0)):
        samples = round(48000 * seconds)
        swell = np.sin(np.linspace(0, (3 + number) * np.pi, samples)) ** 2
        noise = np.random.default_rng(number).normal(scale=0.2, size=samples) * swell
        files.append(folder / f"{seconds}.wav")
        soundfile.write(files[-1], np.clip(noise, -1, 1), 48000, subtype="PCM_16")
    return files
