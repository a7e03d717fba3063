"""Search spaces: every path is a setting of its recipe, every range makes a configuration."""

import json

import keras_tuner
import pytest

from emokeras.config import Config, override, settings
from emokeras.recipes import RECIPES
from tuning.spaces import EVERY_ENCODER, EVERY_RECIPE, Between, OneOf, applies, declare, space_of, to_config

NETWORKS = {name: recipe.config for name, recipe in RECIPES.items() if isinstance(recipe.config, Config)}
SPACES = {name: space_of(config) for name, config in NETWORKS.items()}


@pytest.mark.parametrize("recipe", NETWORKS)
def test_every_end_of_every_range_is_a_configuration(recipe):
    config, space = NETWORKS[recipe], SPACES[recipe]
    encoders = ["encoder"] if len(config.encoders) == 1 else [f"encoders.{name}" for name in config.encoders]
    own_paths = set() if config.model.branches else {f"{name}.{key}" for name in encoders for key in EVERY_ENCODER}
    assert set(EVERY_RECIPE) | own_paths <= set(space)
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
def test_the_defaults_of_a_space_are_the_recipe(recipe):
    """Except a 0 that is searched on a logarithmic scale."""
    config, hyperparameters = NETWORKS[recipe], keras_tuner.HyperParameters()
    declare(hyperparameters, SPACES[recipe], config)
    first = to_config(config, {own.name: own.default for own in hyperparameters.space}, SPACES[recipe])
    before, after = settings(config), settings(first)
    differing = {path: (before[path], after[path]) for path in before if before[path] != after[path]}
    assert set(differing.values()) <= {(0.0, 1e-7)}


def test_what_a_recipe_does_not_use_is_not_searched():
    assert not [path for path in SPACES["mel-cnn2"] if path.startswith("augment.")]
    assert "augment.band_shift_bands" in SPACES["mel-resnet"]
    assert "augment.num_variants" not in SPACES["mel-resnet"]
    assert {"augment.num_variants", "augment.equalization_decibels"} <= SPACES["speech-tcn"].keys()
    assert "augment.band_shift_bands" not in SPACES["mfcc-tcn"]
    assert "training.weight_decay" not in SPACES["text-gru"]  # trained by plain Adam
    assert {"encoder.dilations", "encoder.deltas", "mfcc.num_coefficients"} <= SPACES["mfcc-tcn"].keys()
    assert "spectrogram.num_bands" not in SPACES["mfcc-tcn"]
    # Branches that start from runs keep their encoders.
    parts = ("encoder.", "encoders.", "mfcc.", "spectrogram.")
    assert not [path for path in SPACES["early-mel-mfcc"] if path.startswith(parts)]
    assert "model.attention_blocks" in SPACES["attention-mel-mfcc"]
    assert "model.attention_blocks" not in SPACES["early-mel-mfcc"]
    scratch = override(NETWORKS["early-mel-mfcc"], {"model.branches": []})
    assert "encoders.mfcc.dilations" in space_of(scratch)


def test_a_network_that_starts_from_a_run_keeps_all_but_dropout_and_l2():
    started = space_of(override(NETWORKS["attention-mel-text"], {"model.start_from": "somewhere"}))
    of_network = {path for path in started if path.startswith(("encoder", "model.", "spectrogram.", "tokens."))}
    encoders = {f"encoders.{name}.{key}" for name in ("spectrogram", "tokens") for key in ("dropout", "l2")}
    assert of_network == {"model.dropout", *encoders}


def test_values_that_the_tuner_keeps_for_itself_are_no_settings():
    """Hyperband names the trial that it continues, "02" of twenty."""
    values = {"model.dropout": 0.25, "tuner/trial_id": "02", "tuner/epochs": 15, "encoder.filters": 96}
    config = to_config(NETWORKS["mfcc-tcn"], values, {"model.dropout": EVERY_RECIPE["model.dropout"]})
    assert config == override(NETWORKS["mfcc-tcn"], {"model.dropout": 0.25})


@pytest.mark.parametrize(
    ("recipe", "changes", "applying", "others"),
    [
        (
            "early-mel-mfcc",  # starts from runs
            {},
            ["augment.speed_change", "model.dropout"],
            ["encoder.centered", "encoder.l2", "spectrogram.hop_seconds", "audio.window_seconds", "model.pooling"],
        ),
        (
            "mel-resnet",
            {"model.start_from": "somewhere"},
            ["encoder.l2", "model.dropout"],
            ["encoder.filters", "model.pooling"],
        ),
        # Of several encoders one is enough; but what one of them refuses cannot be set for all.
        (
            "attention-mel-text",
            {},
            ["encoder.filters", "encoders.spectrogram.centered"],
            ["encoder.squeeze_excitation", "encoder.centered", "encoders.tokens.deltas", "model.pooling"],
        ),
        ("mel-resnet", {}, ["model.pooling", "encoder.squeeze_excitation"], ["training.refit_epochs"]),
        (
            "speech-tcn",
            {},
            [
                "encoder.centered",
                "encoder.deltas",
                "augment.num_variants",
                "augment.equalization_decibels",
                "augment.band_low_hz",
                "augment.reverberation_seconds",
                "augment.noise_snr_decibels",
                "audio.window_seconds",
                "speech.equalization",
            ],
            ["augment.speed_change", "augment.gain_decibels", "mfcc.hop_seconds"],
        ),
        # Without variants a speech encoder takes clips as they are.
        (
            "speech-tcn",
            {"augment.num_variants": 0},
            ["augment.num_variants", "augment.mixup_alpha"],
            ["augment.equalization_decibels", "augment.noise_snr_decibels"],
        ),
        ("text-gru", {}, ["model.pooling"], ["augment.num_variants", "audio.window_seconds", "speech.layers"]),
    ],
)
def test_settings_apply_where_they_change_the_validation_score(recipe, changes, applying, others):
    config = override(NETWORKS[recipe], changes)
    assert [path for path in [*applying, *others] if applies(path, config)] == applying
