"""Configurations: JSON round trip, `override` by dotted path, and what does not fit is refused in one line."""

import dataclasses
import json

import pytest
from examples import ENSEMBLE, ONE_BRANCH, TWO_BRANCHES, refusal

from emokeras.config import (
    CnnConfig,
    Config,
    ResnetConfig,
    ensemble_of,
    from_json,
    override,
    read_config,
    settings,
    to_json,
)
from emokeras.errors import UsageError
from emokeras.recipes import DEFAULT_RECIPE, RECIPES, find_recipe

CONFIGS = {name: recipe.config for name, recipe in RECIPES.items()} | {"one": ONE_BRANCH, "two": TWO_BRANCHES}


# JSON


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_json_round_trip(config):
    again = from_json(to_json(config))
    assert again == config
    assert again is not config


def test_json_has_every_setting():
    tree = json.loads(to_json(TWO_BRANCHES))
    assert tree["experiment"]["emotions"] == ["calm", "angry"]
    assert tree["audio"] == {
        "sample_rate_hz": 22050,
        "speech_decibels": 30.0,
        "window_seconds": 1.5,
        "window_step_seconds": 5.0,
    }
    assert tree["encoders"]["mfcc"]["dropout"] == 0.5
    assert tree["encoders"]["spectrogram"]["filters"] == [8]
    assert tree["training"]["mixed_precision"] is True


def test_settings_that_json_lacks_have_their_defaults():
    assert from_json('{"recipe": "r", "encoders": {"spectrogram": {}}}') == Config("r", {"spectrogram": CnnConfig()})


def test_read_config_reads_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(to_json(TWO_BRANCHES), encoding="utf-8")
    assert read_config(path) == TWO_BRANCHES


def test_a_file_that_is_no_configuration_is_refused_by_its_path(tmp_path):
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


def test_settings_have_every_field_once():
    sections = [field.name for field in dataclasses.fields(Config) if field.name not in ("recipe", "encoders")]
    fields = sum(len(dataclasses.fields(getattr(ONE_BRANCH, section))) for section in sections)
    cnn_fields, resnet_fields = len(dataclasses.fields(CnnConfig)), len(dataclasses.fields(ResnetConfig))
    assert len(settings(ONE_BRANCH)) == fields + cnn_fields
    assert len(settings(TWO_BRANCHES)) == fields + cnn_fields + resnet_fields
    assert settings(ONE_BRANCH)["encoder.l2"] == 0.25
    assert settings(TWO_BRANCHES)["encoders.mfcc.dropout"] == 0.5
    assert settings(TWO_BRANCHES)["training.epochs"] == 3


@pytest.mark.parametrize("config", [ONE_BRANCH, TWO_BRANCHES], ids=["one branch", "two branches"])
def test_override_accepts_every_path_of_settings(config):
    flat = settings(config)
    assert override(config, flat) == config
    as_text = {path: value if isinstance(value, str) else json.dumps(value) for path, value in flat.items()}
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
        ("augment.num_variants", "2", 2),
        ("encoder.batch_normalization", "false", False),
        ("model.hidden_units", "64", (64,)),
        ("model.hidden_units", 64, (64,)),
        ("model.hidden_units", "64,32", (64, 32)),
        ("model.hidden_units", "[]", ()),
        ("model.hidden_units", "", ()),
        ("augment.noise_snr_decibels", "[5, 10.5]", (5.0, 10.5)),
        ("experiment.corpora", "demo", ("demo",)),
        ("experiment.corpora", "demo,/data/clips of mine", ("demo", "/data/clips of mine")),
        ("experiment.emotion_map", "calm=neutral", ("calm=neutral",)),
        ("experiment.emotion_map", "calm=neutral,boredom=sad", ("calm=neutral", "boredom=sad")),
        ("experiment.split_seed", "3", 3),
    ],
)
def test_override_changes_one_setting_and_keeps_its_type(path, given, expected):
    before = settings(ONE_BRANCH)
    after = settings(override(ONE_BRANCH, {path: given}))
    assert after[path] == expected
    assert type(after[path]) is type(expected)
    assert {key for key in before if before[key] != after[key]} == {path}
    assert settings(ONE_BRANCH) == before


@pytest.mark.parametrize("name", ["2024", "true", "null"])
def test_override_does_not_parse_text_settings(name):
    assert override(ONE_BRANCH, {"model.weights": name}).model.weights == name


def test_encoder_key_sets_every_branch_and_encoders_input_key_one():
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
def test_the_message_for_an_unknown_setting_names_the_nearest(path, near):
    message = refusal(lambda: override(ONE_BRANCH, {path: "1"}))
    assert f"no setting '{path}'" in message
    assert f"did you mean '{near}" in message


def test_the_setting_of_a_branch_that_the_network_lacks_is_unknown():
    assert "no setting 'encoders.mfcc.l2'" in refusal(lambda: override(ONE_BRANCH, {"encoders.mfcc.l2": "1"}))


# Values that do not fit


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
        ("encoder.filters", "8,wide"),
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
def test_a_value_that_does_not_fit_is_refused_by_path_and_value(path, value):
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
    ids=["low rate", "high band", "long frame", "no bands", "short hop", "short window"],
)
def test_settings_that_contradict_each_other_are_refused_by_both_names(values, names):
    message = refusal(lambda: override(ONE_BRANCH, values))
    assert all(name in message for name in names)


def test_settings_at_their_limits_are_accepted():
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


def test_a_list_may_be_set_by_two_paths():
    values = {"encoders.spectrogram.filters": "4,8", "encoder.filters": "32,64"}
    assert override(ONE_BRANCH, values).encoders["spectrogram"].filters == (32, 64)


# Settings that have no effect


def test_batch_normalization_of_an_encoder_leaves_the_head_as_it_is():
    without = override(ONE_BRANCH, {"encoder.batch_normalization": False})
    assert (without.encoders["spectrogram"].batch_normalization, without.model.normalize_embedding) == (False, True)
    without = override(ONE_BRANCH, {"model.normalize_embedding": False})
    assert (without.encoders["spectrogram"].batch_normalization, without.model.normalize_embedding) == (True, False)


@pytest.mark.parametrize("kind", ["recurrent", "transformer", "imagenet", "bert"])
def test_encoders_without_convolutions_of_their_own_have_no_batch_normalization(kind):
    message = refusal(lambda: override(ONE_BRANCH, {"encoder.kind": kind, "encoder.batch_normalization": False}))
    assert "no setting 'encoder.batch_normalization'" in message


@pytest.mark.parametrize("recipe", ["text-bigru", "text-bert"])
@pytest.mark.parametrize("key", ["centered", "deltas"])
def test_a_transformation_of_frames_is_refused_where_there_are_none(recipe, key):
    config = RECIPES[recipe].config
    (name,) = config.encoders
    value = "1" if key == "deltas" else "true"
    message = refusal(lambda: override(config, {f"encoders.{name}.{key}": value}))
    assert message == f"--set: encoders.{name}.{key} has no effect on {name}: leave it out"
    message = refusal(lambda: override(config, {f"encoder.{key}": value}))
    assert message == f"encoder.{key} has no effect on the inputs of this network: leave it out"


def test_encoder_settings_of_all_branches_leave_out_those_without_effect():
    joined = override(RECIPES["early-mel-text"].config, {"encoder.centered": True})
    assert {name: encoder.centered for name, encoder in joined.encoders.items()} == {
        "spectrogram": True,
        "tokens": False,
    }


def test_transformations_of_frames_are_accepted_where_there_are_frames():
    values = {"encoder.centered": True, "encoder.deltas": 2}
    assert override(RECIPES["speech-tcn"].config, values).encoders["speech"].deltas == 2
    assert override(ONE_BRANCH, values).encoders["spectrogram"].centered


# Recipes


def test_recipes_have_their_own_names():
    assert DEFAULT_RECIPE in RECIPES
    for name, recipe in RECIPES.items():
        assert recipe.config.recipe == name
        assert find_recipe(name) is recipe


def test_the_message_for_an_unknown_recipe_names_the_nearest():
    assert "no recipe 'mel-cn3'; did you mean 'mel-cnn3'" in refusal(lambda: find_recipe("mel-cn3"))
    assert "did you mean 'mel-resnet'" in refusal(lambda: find_recipe("resnet"))


# Ensembles


def test_a_path_sets_every_member_that_has_it_and_members_name_path_one():
    changed = override(ENSEMBLE, {"training.epochs": 7, "members.b.encoder.l2": 0.5, "experiment.seed": 3})
    assert [member.training.epochs for member in changed.members.values()] == [7, 7]
    assert (changed.members["a"].encoders["spectrogram"].l2, changed.members["b"].encoders["mfcc"].l2) == (0.25, 0.5)
    assert [one.experiment.seed for one in (changed, *changed.members.values())] == [3, 3, 3]
    assert override(ENSEMBLE, {"method": "stacking"}).method == "stacking"
    # A setting that one member alone has, by its short name.
    assert override(ENSEMBLE, {"encoders.mfcc.dropout": 0.4}).members["b"].encoders["mfcc"].dropout == 0.4


def test_the_settings_of_an_ensemble_are_its_method_and_those_of_its_members():
    flat = settings(ENSEMBLE)
    assert flat["method"] == "vote"
    assert flat["members.a.encoder.l2"] == 0.25
    assert override(ENSEMBLE, {key: value for key, value in flat.items() if key != "method"}) == ENSEMBLE


def test_an_ensemble_has_one_sample_rate_and_the_inputs_of_all_members():
    assert ENSEMBLE.audio_inputs == ("spectrogram", "mfcc")
    assert (ENSEMBLE.sample_rate_hz, ENSEMBLE.takes_transcripts) == (16000, False)
    message = refusal(lambda: override(ENSEMBLE, {"members.a.audio.sample_rate_hz": 22050}))
    assert "one audio.sample_rate_hz, these are a 22050, b 16000" in message


def test_a_value_that_does_not_fit_a_member_is_refused_by_its_path():
    assert "members.a.encoders.spectrogram.l2" in refusal(lambda: override(ENSEMBLE, {"members.a.encoder.l2": -1}))
    assert "did you mean 'members.a.encoder.l2'" in refusal(lambda: override(ENSEMBLE, {"members.a.encoder.l3": 1}))
    assert "'weighted'" in refusal(lambda: override(ENSEMBLE, {"method": "best"}))


def test_two_members_cannot_start_from_one_model():
    message = refusal(lambda: override(RECIPES["flagship"].config, {"model.start_from": "somewhere"}))
    assert "two start from one model" in message


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\\b", ".a"])
def test_a_name_that_cannot_name_a_folder_is_refused(name):
    network = RECIPES["mel-cnn3"].config
    for given in ((name, {"a": network}), ("a", {name: network})):
        with pytest.raises(UsageError, match="it names a folder: leave out slashes and a leading dot"):
            ensemble_of(*given, "vote")
    with pytest.raises(UsageError, match="the configuration: recipe: it names a folder"):
        from_json(to_json(network).replace('"recipe": "mel-cnn3"', f'"recipe": {json.dumps(name)}'))


@pytest.mark.parametrize(
    ("method", "weights"),
    [("weighted", (1.0,)), ("vote", (1.0, 1.0)), ("weighted", (0.0, 0.0)), ("weighted", (1.0, -1.0))],
)
def test_weights_that_do_not_fit_the_members_are_refused(method, weights):
    members = {"a": ONE_BRANCH, "b": ONE_BRANCH}
    assert ensemble_of("x", members, "weighted", (1.0, 2.0)).weights == (1.0, 2.0)
    with pytest.raises(UsageError, match="weights"):
        ensemble_of("x", members, method, weights)
