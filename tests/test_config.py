"""Configurations: JSON keeps every number, `override` finds every setting, what does not fit is told in one line."""

import dataclasses
import json

import pytest

from emokeras.config import (
    AudioConfig,
    AugmentConfig,
    CnnConfig,
    Config,
    EnsembleConfig,
    ExperimentConfig,
    MfccConfig,
    ModelConfig,
    ResnetConfig,
    SpectrogramConfig,
    TrainingConfig,
    ensemble_of,
    from_json,
    home,
    override,
    read_config,
    settings,
    to_json,
)
from emokeras.errors import UsageError
from emokeras.recipes import DEFAULT_RECIPE, RECIPES, find_recipe

ONE_BRANCH = Config("one", {"spectrogram": CnnConfig(l2=0.25)})
TWO_BRANCHES = Config(
    "two",
    {"spectrogram": CnnConfig(filters=(8,)), "mfcc": ResnetConfig(dropout=0.5)},
    ExperimentConfig("demo", "luna", 3, 1, 2, ("calm", "angry")),
    AudioConfig(22050, 30.0, 1.5, 5),
    SpectrogramConfig(0.025, 0.0125, 2048, 64, 20.0, 11025.0),
    MfccConfig(num_bands=40, num_coefficients=13),
    augment=AugmentConfig(speed_change=0.1, noise_snr_decibels=(1.5, 2.5)),
    model=ModelConfig("mean", (64, 32), 0.1),
    training=TrainingConfig(epochs=3, mixed_precision=True),
)
ENSEMBLE = EnsembleConfig("both", {"a": ONE_BRANCH, "b": Config("other", {"mfcc": ResnetConfig()})}, "vote")
CONFIGS = {name: recipe.config for name, recipe in RECIPES.items()} | {"one": ONE_BRANCH, "two": TWO_BRANCHES}


def refusal(work) -> str:
    """Return the one line with which something is refused."""
    with pytest.raises(UsageError) as caught:
        work()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_status == 2
    return message


# JSON


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_json_gives_the_same_configuration_back(config):
    again = from_json(to_json(config))
    assert again == config
    assert again is not config
    # A tuple that came back as a list would be equal to nothing, or would not be hashable where a cache needs it.
    assert all(isinstance(network.augment.noise_snr_decibels, tuple) for network in again.networks.values())
    assert all(hash(network.spectrogram) is not None for network in again.networks.values())


def test_json_holds_every_field_as_it_is():
    tree = json.loads(to_json(TWO_BRANCHES))
    assert tree["experiment"]["emotions"] == ["calm", "angry"]
    assert tree["audio"] == {
        "sample_rate_hz": 22050,
        "trim_decibels": 30.0,
        "window_seconds": 1.5,
        "num_windows": 5,
    }
    assert tree["encoders"]["mfcc"]["dropout"] == 0.5
    assert tree["encoders"]["spectrogram"]["filters"] == [8]
    assert tree["training"]["mixed_precision"] is True


def test_what_json_leaves_out_stays_at_its_default():
    assert from_json('{"recipe": "r", "encoders": {"spectrogram": {}}}') == Config("r", {"spectrogram": CnnConfig()})


def test_read_config_reads_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(to_json(TWO_BRANCHES), encoding="utf-8")
    assert read_config(path) == TWO_BRANCHES


def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path):
    path = tmp_path / "config.json"
    assert str(path) in refusal(lambda: read_config(path))
    path.write_text("{")
    assert f"{path} is not JSON" in refusal(lambda: read_config(path))
    path.write_bytes(b"\xff\xfe\xfa")
    assert str(path) in refusal(lambda: read_config(path))
    path.write_text('{"recipe": "r", "encoders": {"spectrogram": {"l3": 1}}}')
    assert "encoders.spectrogram.l3" in refusal(lambda: read_config(path))
    for text in ("[]", "3", "null", '"mel-cnn3"', '{"recipe": "r"}', '{"recipe": "r", "encoders": {"smell": {}}}'):
        path.write_text(text)
        assert str(path) in refusal(lambda: read_config(path))


# Settings and override


def without_recipe(config: Config) -> dict:
    # The recipe's name says where a configuration comes from: it is shown among the settings, but not set.
    return {path: value for path, value in settings(config).items() if path != "recipe"}


def test_settings_name_every_field_once():
    sections = [field.name for field in dataclasses.fields(Config) if field.name not in ("recipe", "encoders")]
    fields = sum(len(dataclasses.fields(getattr(ONE_BRANCH, section))) for section in sections)
    cnn_fields, resnet_fields = len(dataclasses.fields(CnnConfig)), len(dataclasses.fields(ResnetConfig))
    assert len(without_recipe(ONE_BRANCH)) == fields + cnn_fields
    assert len(without_recipe(TWO_BRANCHES)) == fields + cnn_fields + resnet_fields
    assert settings(ONE_BRANCH)["encoder.l2"] == 0.25
    assert settings(TWO_BRANCHES)["encoders.mfcc.dropout"] == 0.5
    assert settings(TWO_BRANCHES)["training.epochs"] == 3


@pytest.mark.parametrize("config", [ONE_BRANCH, TWO_BRANCHES], ids=["one branch", "two branches"])
def test_override_accepts_every_path_of_settings(config):
    assert override(config, without_recipe(config)) == config
    as_text = {
        path: value if isinstance(value, str) else json.dumps(value) for path, value in without_recipe(config).items()
    }
    assert override(config, as_text) == config


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("training.epochs", "7", 7),
        ("training.epochs", 7, 7),
        ("training.learning_rate", "1e-4", 1e-4),
        ("training.warmup_epochs", "2", 2.0),
        ("training.mixed_precision", "true", True),
        ("training.class_weights", False, False),
        ("training.optimizer", "sgd", "sgd"),
        ("encoder.filters", "[8, 16]", (8, 16)),
        ("encoder.filters", [8, 16], (8, 16)),
        ("encoder.filters", "8,16", (8, 16)),
        ("model.branches", "runs/a,runs/b", ("runs/a", "runs/b")),
        ("augment.variants", "noise", ("noise",)),
        ("encoder.batch_normalization", "false", False),
        ("model.hidden_units", "[]", ()),
        ("model.hidden_units", "", ()),
        ("augment.noise_snr_decibels", "[5, 10.5]", (5.0, 10.5)),
        ("experiment.corpus", "demo", "demo"),
        ("experiment.corpus", "/data/clips of mine", "/data/clips of mine"),
        ("experiment.split_seed", "3", 3),
    ],
)
def test_override_sets_one_thing_with_its_type(path, given, expected):
    before = settings(ONE_BRANCH)
    after = settings(override(ONE_BRANCH, {path: given}))
    assert after[path] == expected
    assert type(after[path]) is type(expected)
    assert {key for key in before if before[key] != after[key]} == {path}
    assert settings(ONE_BRANCH) == before


@pytest.mark.parametrize("name", ["2024", "true", "null"])
def test_override_takes_a_text_setting_as_text_whatever_it_looks_like(name):
    assert override(ONE_BRANCH, {"experiment.corpus": name}).experiment.corpus == name


def test_encoder_sets_every_branch_and_encoders_one():
    both = override(TWO_BRANCHES, {"encoder.l2": "0.5"})
    assert {name: encoder.l2 for name, encoder in both.encoders.items()} == {"spectrogram": 0.5, "mfcc": 0.5}
    assert both.encoders["mfcc"].kind == "resnet"
    one = override(TWO_BRANCHES, {"encoders.mfcc.l2": "0.5"})
    assert {name: encoder.l2 for name, encoder in one.encoders.items()} == {"spectrogram": 1e-4, "mfcc": 0.5}
    later_wins = override(TWO_BRANCHES, {"encoder.l2": 0.5, "encoders.mfcc.l2": 0.25})
    assert (later_wins.encoders["spectrogram"].l2, later_wins.encoders["mfcc"].l2) == (0.5, 0.25)
    assert override(ONE_BRANCH, {"encoders.spectrogram.l2": 0}) == override(ONE_BRANCH, {"encoder.l2": 0})


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("training.epoch", "training.epochs"),
        ("traning.epochs", "training.epochs"),
        ("learning_rate", "training.learning_rate"),
        ("encoder.l1", "encoder.l2"),
        ("encoder.filter", "encoder.filters"),
        ("spectrogram.bands", "spectrogram.num_bands"),
        ("encoders.spectrogram.l1", "encoders.spectrogram.l2"),
        ("encoders.spectrogram", "encoders.spectrogram."),
        ("training", "training."),
        ("", ""),
    ],
)
def test_an_unknown_setting_names_its_nearest_neighbour(path, near):
    message = refusal(lambda: override(ONE_BRANCH, {path: "1"}))
    assert f"no setting '{path}'" in message
    assert f"did you mean '{near}" in message


def test_a_branch_that_is_not_there_is_an_unknown_setting():
    assert "no setting 'encoders.mfcc.l2'" in refusal(lambda: override(ONE_BRANCH, {"encoders.mfcc.l2": "1"}))


# What does not fit


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.epochs", "0"),
        ("training.epochs", "2.5"),
        ("training.epochs", "ten"),
        ("training.epochs", "null"),
        ("training.learning_rate", "0"),
        ("training.learning_rate", "NaN"),
        ("training.learning_rate", "Infinity"),
        ("training.optimizer", "lion"),
        ("training.select_by", "test_accuracy"),
        ("training.mixed_precision", "perhaps"),
        ("training.label_smoothing", "1"),
        ("encoder.dropout", "1"),
        ("encoder.dropout", "-0.1"),
        ("encoder.filters", "[8, 0]"),
        ("encoder.filters", "8"),
        ("augment.noise_snr_decibels", "[1, 2, 3]"),
        ("augment.noise_snr_decibels", "[1, NaN]"),
        ("augment.noise_probability", "1.5"),
        ("model.pooling", "median"),
        ("experiment.protocol", "leaky"),
        ("experiment.seed", "-1"),
        ("experiment.seed", "5000000000"),
        ("audio.sample_rate_hz", "0"),
        ("spectrogram.hop_seconds", "0"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_path_and_what_was_given(path, value):
    message = refusal(lambda: override(ONE_BRANCH, {path: value}))
    key = path.rpartition(".")[2]
    assert key in message
    assert message.startswith("--set: ")
    assert "(it is " in message


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"audio.sample_rate_hz": 8000}, ("spectrogram.high_hz=8000", "audio.sample_rate_hz=8000")),
        ({"spectrogram.high_hz": 8000.5}, ("spectrogram.high_hz=8000", "audio.sample_rate_hz=16000")),
        ({"spectrogram.fft_size": 511}, ("spectrogram.fft_size=511", "0.032 s")),
        ({"spectrogram.low_hz": 8000}, ("low_hz", "high_hz")),
        ({"spectrogram.hop_seconds": 1e-5}, ("hop_seconds", "sample_rate_hz")),
        ({"audio.window_seconds": 0.004}, ("window_seconds", "hop_seconds")),
    ],
    ids=["rate below the bands", "bands above the rate", "frame above the fft", "no bands", "no hop", "no frames"],
)
def test_numbers_that_do_not_go_together_are_refused_by_both_names(values, names):
    message = refusal(lambda: override(ONE_BRANCH, values))
    assert all(name in message for name in names)


def test_numbers_on_the_edge_of_what_goes_together_are_taken():
    edge = override(
        ONE_BRANCH, {"audio.sample_rate_hz": 8000, "spectrogram.high_hz": 4000, "spectrogram.fft_size": 256}
    )
    assert edge.spectrogram.high_hz == edge.audio.sample_rate_hz / 2
    assert edge.spectrogram.fft_size == edge.spectrogram.frame_seconds * edge.audio.sample_rate_hz


@pytest.mark.parametrize("section", ["", "experiment", "audio", "spectrogram", "augment", "model", "training"])
def test_configurations_are_frozen(section):
    value = getattr(ONE_BRANCH, section) if section else ONE_BRANCH
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, getattr(value, field))


# Recipes and the home


def test_recipes_go_by_their_own_names():
    assert DEFAULT_RECIPE in RECIPES
    for name, recipe in RECIPES.items():
        assert recipe.config.recipe == name
        assert find_recipe(name) is recipe


def test_an_unknown_recipe_names_the_nearest():
    assert "no recipe 'mel-cn3'; did you mean 'mel-cnn3'" in refusal(lambda: find_recipe("mel-cn3"))
    assert "did you mean 'mel-resnet'" in refusal(lambda: find_recipe("resnet"))


def test_home_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("EMOKERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert home() == tmp_path / "me" / ".cache" / "emokeras"


# Ensembles


def test_a_path_sets_every_member_that_has_it_or_the_one_that_is_named():
    changed = override(ENSEMBLE, {"training.epochs": 7, "members.b.encoder.l2": 0.5, "experiment.seed": 3})
    assert [member.training.epochs for member in changed.members.values()] == [7, 7]
    assert (changed.members["a"].encoders["spectrogram"].l2, changed.members["b"].encoders["mfcc"].l2) == (0.25, 0.5)
    assert [one.experiment.seed for one in (changed, *changed.members.values())] == [3, 3, 3]
    assert override(ENSEMBLE, {"method": "stacking"}).method == "stacking"
    # A setting that one member alone has, by its short name.
    assert override(ENSEMBLE, {"encoders.mfcc.dropout": 0.4}).members["b"].encoders["mfcc"].dropout == 0.4


def test_the_settings_of_an_ensemble_are_those_of_its_members():
    flat = settings(ENSEMBLE)
    assert flat["method"] == "vote"
    assert flat["members.a.encoder.l2"] == 0.25
    assert override(ENSEMBLE, {key: value for key, value in flat.items() if key != "method"}) == ENSEMBLE


def test_an_ensemble_hears_at_one_rate_and_reads_what_its_members_read():
    assert ENSEMBLE.audio_inputs == ("spectrogram", "mfcc")
    assert (ENSEMBLE.sample_rate_hz, ENSEMBLE.takes_transcripts) == (16000, False)
    said = refusal(lambda: override(ENSEMBLE, {"members.a.audio.sample_rate_hz": 22050}))
    assert "one audio.sample_rate_hz" in said
    assert "a 22050" in said
    assert "b 16000" in said


def test_what_is_wrong_in_an_ensemble_is_told_with_its_path():
    assert "members.a.encoders.spectrogram.l2" in refusal(lambda: override(ENSEMBLE, {"members.a.encoder.l2": -1}))
    assert "did you mean 'members.a.encoder.l2'" in refusal(lambda: override(ENSEMBLE, {"members.a.encoder.l3": 1}))
    assert "'weighted'" in refusal(lambda: override(ENSEMBLE, {"method": "best"}))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\\b", ".a"])
def test_a_name_that_is_no_folders_is_refused(name):
    network = RECIPES["mel-cnn3"].config
    for given in ((name, {"a": network}), ("a", {name: network})):
        with pytest.raises(UsageError, match="a folder is named by it: take no slash, and no dot in front"):
            ensemble_of(*given, "vote")
    with pytest.raises(UsageError, match="the configuration: recipe: a folder is named by it"):
        from_json(to_json(network).replace('"recipe": "mel-cnn3"', f'"recipe": {json.dumps(name)}'))
