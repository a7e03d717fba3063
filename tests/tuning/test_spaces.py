"""Search spaces: every path is a setting of its recipe, every range makes a configuration."""

import json

import keras_tuner
import pytest

from emokeras.config import Config, override, settings
from emokeras.recipes import RECIPES
from tuning.spaces import ALWAYS, OF_EVERY_BODY, Between, OneOf, applies, declare, space_of, to_config

NETWORKS = {name: recipe.config for name, recipe in RECIPES.items() if isinstance(recipe.config, Config)}
SPACES = {name: space_of(config) for name, config in NETWORKS.items()}


@pytest.mark.parametrize("recipe", NETWORKS)
def test_every_end_of_every_range_is_a_configuration(recipe):
    config, space = NETWORKS[recipe], SPACES[recipe]
    bodies = ["encoder"] if len(config.encoders) == 1 else [f"encoders.{name}" for name in config.encoders]
    of_bodies = set() if config.model.branches else {f"{body}.{key}" for body in bodies for key in OF_EVERY_BODY}
    assert set(ALWAYS) | of_bodies <= set(space)
    for path, own in space.items():
        ends = own.values if isinstance(own, OneOf) else (own.low, own.high)
        for value in ends:
            value = int(value) if isinstance(own, Between) and own.step else value
            changed = to_config(config, {path: value}, space)
            is_list = isinstance(value, str) and value.startswith("[")
            assert settings(changed)[path] == (tuple(json.loads(value)) if is_list else value)


@pytest.mark.parametrize("recipe", ["mel-resnet", "mfcc-tcn", "text-gru", "attention-mel-text"])
def test_what_the_tuner_draws_becomes_the_configuration(recipe):
    space = SPACES[recipe]
    hyperparameters = keras_tuner.HyperParameters()
    declare(hyperparameters, space, NETWORKS[recipe])
    assert [own.name for own in hyperparameters.space] == list(space)
    values = {own.name: own.random_sample(seed) for seed, own in enumerate(hyperparameters.space)}
    config = to_config(NETWORKS[recipe], values | {"tuner/epochs": 3}, space)
    assert config.training.learning_rate == values["training.learning_rate"]
    assert config.training.batch_size == values["training.batch_size"]
    for path, own in space.items():
        if isinstance(own, Between):
            assert own.low <= values[path] <= own.high
    assert config.training.epochs == NETWORKS[recipe].training.epochs


@pytest.mark.parametrize("recipe", NETWORKS)
def test_what_a_search_begins_with_is_the_recipe(recipe):
    """But for what is 0 where it is searched by equal ratios."""
    config, hyperparameters = NETWORKS[recipe], keras_tuner.HyperParameters()
    declare(hyperparameters, SPACES[recipe], config)
    begun = to_config(config, {own.name: own.default for own in hyperparameters.space}, SPACES[recipe])
    was, becomes = settings(config), settings(begun)
    differing = {path: (was[path], becomes[path]) for path in was if was[path] != becomes[path]}
    assert set(differing.values()) <= {(0.0, 1e-7)}


def test_what_a_recipe_does_not_use_is_not_searched():
    assert not [path for path in SPACES["mel-cnn2"] if path.startswith("augment.")]
    assert "augment.band_shift_bands" in SPACES["mel-resnet"]
    assert "augment.variants" in SPACES["mel-resnet"]
    assert "augment.band_shift_bands" not in SPACES["mfcc-tcn"]
    assert "training.weight_decay" not in SPACES["text-gru"]  # trained by plain Adam
    assert {"encoder.dilations", "encoder.deltas", "mfcc.num_coefficients"} <= SPACES["mfcc-tcn"].keys()
    assert "spectrogram.num_bands" not in SPACES["mfcc-tcn"]
    # Branches that start from runs are as they were trained.
    parts = ("encoder.", "encoders.", "mfcc.", "spectrogram.")
    assert not [path for path in SPACES["early-mel-mfcc"] if path.startswith(parts)]
    assert "model.attention_blocks" in SPACES["attention-mel-mfcc"]
    assert "model.attention_blocks" not in SPACES["early-mel-mfcc"]
    goes_on = override(NETWORKS["attention-mel-text"], {"model.start_from": "somewhere"})
    assert not [path for path in space_of(goes_on) if path.startswith("model.attention")]
    scratch = override(NETWORKS["early-mel-mfcc"], {"model.branches": []})
    assert "encoders.mfcc.dilations" in space_of(scratch)


def test_what_the_tuner_keeps_for_itself_is_no_setting():
    """Hyperband names the trial that it goes on with, "02" of twenty."""
    values = {"model.dropout": 0.25, "tuner/trial_id": "02", "tuner/epochs": 15, "encoder.filters": 96}
    config = to_config(NETWORKS["mfcc-tcn"], values, {"model.dropout": ALWAYS["model.dropout"]})
    assert config == override(NETWORKS["mfcc-tcn"], {"model.dropout": 0.25})


def test_what_a_network_starts_from_says_what_applies():
    joined, text, mel = (NETWORKS[name] for name in ("early-mel-mfcc", "attention-mel-text", "mel-resnet"))
    for path in ("encoder.centered", "encoder.l2", "spectrogram.hop_seconds", "audio.window_seconds", "model.pooling"):
        assert not applies(path, joined)
    assert applies("augment.speed_change", joined)
    assert applies("model.dropout", joined)
    goes_on = override(mel, {"model.start_from": "somewhere"})
    told = {
        path: applies(path, goes_on) for path in ("encoder.l2", "encoder.filters", "model.dropout", "model.pooling")
    }
    assert told == {"encoder.l2": True, "encoder.filters": False, "model.dropout": True, "model.pooling": False}
    # Of several bodies one has it; each pools in a way of its own.
    assert applies("encoder.filters", text)
    assert not applies("encoder.squeeze_excitation", text)
    assert not applies("model.pooling", text)
    assert applies("model.pooling", mel)
