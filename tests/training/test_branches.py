"""A network that starts from trained branches starts as the mean of their logits, where its head can."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from emokeras.config import (
    CnnConfig,
    Config,
    ExperimentConfig,
    ModelConfig,
    RecurrentConfig,
    TcnConfig,
    override,
    read_config,
    to_json,
)
from emokeras.files import write_text
from emokeras.models.build import build_model
from emokeras.models.normalization import settle_normalization
from emokeras.training.resolve import with_branches
from emokeras.training.warm_start import keep_vocabulary, load_branches

ENCODERS = {
    "spectrogram": CnnConfig(filters=(4, 6)),
    "mfcc": TcnConfig(filters=8, dilations=(1, 2)),
    "tokens": RecurrentConfig(units=(5,), pooling="mean"),
}
SMALL = {"audio.window_seconds": 0.32, "spectrogram.num_bands": 16, "mfcc.num_bands": 16, "mfcc.num_coefficients": 10}


def config(*names: str, **model) -> Config:
    encoders = {name: ENCODERS[name] for name in names}
    experiment = ExperimentConfig(emotions=("neutral", "calm", "angry"))
    base = Config("+".join(names), encoders, experiment, model=ModelConfig(**{"hidden_units": ()} | model))
    return override(base, {path: own for path, own in SMALL.items() if path.split(".")[0] in ("audio", *names)})


def keep(own: Config, folder):
    """Leave what a run has of a network with random weights and random statistics in its normalization."""
    model, random = build_model(own), np.random.default_rng(len(own.recipe))
    for layer in model.layers:
        layer.set_weights([random.uniform(0.2, 0.8, size=weight.shape) for weight in layer.get_weights()])
    settle_normalization(model)
    folder.mkdir()
    write_text(folder / "config.json", to_json(own))
    model.save(folder / "model.keras")
    return model


def configs_of(branches) -> dict:
    return {str(run): read_config(run / "config.json") for run in branches}


def logits(model, given) -> np.ndarray:
    return keras.ops.convert_to_numpy(model({name.name: given[name.name] for name in model.inputs})["emotion"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return networks of one branch each, by the folders of their runs."""
    folder = tmp_path_factory.mktemp("branches")
    return {folder / name: keep(config(name), folder / name) for name in ENCODERS}


@pytest.fixture(scope="module")
def given():
    """Return inputs of two clips for all branches."""
    random, mask = np.random.default_rng(0), np.ones((2, 32), "float32")
    return {
        "spectrogram": random.normal(size=(2, 32, 16)).astype("float32"),
        "spectrogram_mask": mask,
        "mfcc": random.normal(size=(2, 32, 10)).astype("float32"),
        "mfcc_mask": mask,
        "tokens": np.array([[2, 3, 4, 0, 0, 0], [5, 0, 0, 0, 0, 0]], "int32"),
    }


@pytest.mark.parametrize("fusion", ["early", "hybrid"])
def test_a_linear_head_starts_as_the_mean_of_the_branches_logits(fusion, alone, given):
    branches = list(reversed(alone))  # in any order
    own = with_branches(config(*ENCODERS, fusion=fusion), configs_of(branches))
    model = build_model(own)
    load_branches(model, own, branches)
    expected = np.mean([logits(branch, given) for branch in alone.values()], axis=0)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits(model, given), expected, rtol=1e-5)


def test_a_head_that_cannot_be_their_mean_starts_from_random_weights(alone):
    mel, mfcc, _ = alone
    two = config("spectrogram", "mfcc")
    for own, branches in (
        (config("spectrogram", "mfcc", hidden_units=(7,)), [mel, mfcc]),
        (config("spectrogram", "mfcc", fusion="attention"), [mel, mfcc]),
        (two, [mel]),
        (replace(two, experiment=ExperimentConfig(emotions=("calm", "neutral", "angry"))), [mel, mfcc]),
    ):
        own = with_branches(own, configs_of(branches))
        keras.utils.set_random_seed(0)
        model = build_model(own)
        random_kernel = model.get_layer("emotion").get_weights()[0]
        load_branches(model, own, branches)
        np.testing.assert_array_equal(model.get_layer("emotion").get_weights()[0], random_kernel)


def test_the_vocabulary_of_a_branch_is_kept(alone, tmp_path):
    *_, text = alone
    write_text(text / "vocabulary.txt", "dogs\nkids\n")
    keep_vocabulary(list(alone), tmp_path)
    assert (tmp_path / "vocabulary.txt").read_text() == "dogs\nkids\n"
    write_text(tmp_path / "vocabulary.txt", "doors\n")  # of a run that continues
    keep_vocabulary(list(alone), tmp_path)
    assert (tmp_path / "vocabulary.txt").read_text() == "doors\n"
