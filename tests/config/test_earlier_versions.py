"""Configurations of earlier versions are read; one that needs a setting that was removed is not trained."""

import json
from pathlib import Path

import pytest
from examples import ENSEMBLE, ONE_BRANCH, refusal

from emokeras.config import (
    AudioConfig,
    ExperimentConfig,
    SpeechConfig,
    from_json,
    override,
    read_config,
    read_config_to_train,
    to_json,
    upgrade,
)

ROOT = Path(__file__).parents[2]
# As the versions before wrote them, with the settings that these had at their defaults.
OLD = {
    "recipe": "old",
    "encoders": {
        "spectrogram": {"kind": "cnn", "batch_normalization": True, "squeeze_excitation": False, "leveled": False},
        "tokens": {"kind": "recurrent", "batch_normalization": False, "leveled": False},
    },
    "augment": {
        "equalisation_decibels": 3.0,
        "mixup_labels": "drawn",
        "variants": [],
        "variant_semitones": 2.0,
        "variant_stretch": 0.15,
        "variant_snr_decibels": 20.0,
        "variant_codec_kilobits": 16,
        "variant_formant_share": 0.12,
        "babble_probability": 0.0,
        "babble_snr_decibels": [5.0, 25.0],
        "style_mixing_probability": 0.0,
        "style_mixing_alpha": 0.3,
        "crop_share": 0.0,
    },
    "training": {
        "epochs": 7,
        "auxiliaries": {},
        "teacher": "",
        "teacher_share": 0.5,
        "teacher_temperature": 2.0,
        "crossfit_parts": 0,
        "crossfit_epochs": 30,
        "crossfit_share": 0.5,
        "crossfit_by": [],
    },
}


def with_value(tree: dict, path: str, value) -> dict:
    """Return a copy of a configuration's JSON with one setting changed."""
    tree = json.loads(json.dumps(tree))
    *sections, key = path.split(".")
    place = tree
    for section in sections:
        place = place[section]
    place[key] = value
    return tree


def test_configurations_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OLD))
    config = read_config(path)
    assert config == read_config_to_train(path)
    assert (config.training.epochs, config.augment.equalization_decibels) == (7, 3.0)
    assert upgrade(OLD)[1] == {}
    written = json.loads(to_json(config))
    assert not {"teacher", "crossfit_parts"} & written["training"].keys()
    assert not {"mixup_labels", "babble_probability", "style_mixing_alpha", "crop_share"} & written["augment"].keys()
    assert not any("leveled" in encoder for encoder in written["encoders"].values())


@pytest.mark.parametrize(
    ("corpus", "corpora"), [("demo", ("demo",)), ("/data/clips, mine", ("/data/clips, mine",)), ("", ())]
)
def test_there_used_to_be_one_corpus(corpus, corpora):
    one = OLD | {"experiment": {"corpus": corpus, "protocol": "luna", "fold": 3}}
    both = {"recipe": "e", "method": "vote", "members": {"m": one}, "experiment": one["experiment"]}
    for tree in (one, both):
        config = from_json(json.dumps(tree))
        for network in (config, *config.networks.values()):
            assert network.experiment == ExperimentConfig(corpora, protocol="luna", fold=3)
        assert upgrade(tree)[1] == {}


@pytest.mark.parametrize("key", ["centered", "batch_normalization"])
def test_what_had_no_effect_or_is_gone_on_tokens_is_read_and_not_trained(key, tmp_path):
    tree = with_value(with_value(OLD, f"encoders.tokens.{key}", True), "encoders.tokens.embedding_units", 8)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    assert read_config(path).encoders["tokens"].embedding_units == 8
    assert f"encoders.tokens.{key}=True" in refusal(lambda: read_config_to_train(path))


@pytest.mark.parametrize(("switches", "expected"), [((True, False), True), ((False, False), False)])
def test_batch_normalization_of_any_encoder_used_to_be_that_of_the_head(switches, expected):
    tree = OLD
    for name, switch in zip(OLD["encoders"], switches, strict=True):
        tree = with_value(tree, f"encoders.{name}.batch_normalization", switch)
    config = from_json(json.dumps(tree))
    assert config.model.normalize_embedding == expected
    assert config.encoders["spectrogram"].batch_normalization == switches[0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.teacher", "runs/flagship"),
        ("training.auxiliaries", {"sex": 0.2}),
        ("training.crossfit_parts", 4),
        ("augment.mixup_labels", "heard"),
        ("augment.variants", ["pitch-up", "codec"]),
        ("augment.variant_stretch", 0.2),
        ("augment.babble_probability", 0.3),
        ("augment.style_mixing_probability", 0.5),
        ("augment.crop_share", 0.2),
        ("encoders.spectrogram.squeeze_excitation", True),
        ("encoders.spectrogram.leveled", True),
        ("encoders.tokens.leveled", True),
    ],
)
def test_a_removed_setting_that_was_in_use_is_dropped_for_reading_and_refused_for_training(path, value, tmp_path):
    file = tmp_path / "config.json"
    for tree, prefix in ((OLD, ""), ({"recipe": "e", "method": "vote", "members": {"m": OLD}}, "members.m.")):
        file.write_text(json.dumps(tree))
        config = read_config(file)
        file.write_text(json.dumps(with_value(tree, f"{prefix}{path}", value)))
        assert read_config(file) == config
        message = refusal(lambda: read_config_to_train(file))
        assert message.startswith(f"{file}: {prefix}{path}={value!r} is a setting of an earlier version")


# How speech was found


def trimmed(**audio) -> dict:
    return OLD | {"audio": {"trim_decibels": 55.0, "window_seconds": 3.0, "num_windows": 3} | audio}


def test_a_network_with_the_earlier_trimming_is_read_and_not_trained(tmp_path):
    """Its range of decibels is now that of the speech, and windows cover it."""
    file = tmp_path / "config.json"
    for tree, prefix in (
        (trimmed(), ""),
        ({"recipe": "e", "method": "vote", "members": {"m": trimmed()}}, "members.m."),
    ):
        file.write_text(json.dumps(tree))
        for network in read_config(file).networks.values():
            assert network.audio == AudioConfig(speech_decibels=55.0, window_seconds=3.0, window_step_seconds=2.0)
        message = refusal(lambda: read_config_to_train(file))
        assert message.startswith(f"{file}: {prefix}audio.trim_decibels=55.0 is a setting of an earlier version")
    tree = trimmed()
    del tree["audio"]["trim_decibels"]  # as the message says
    file.write_text(json.dumps(tree))
    assert read_config_to_train(file).audio == AudioConfig(window_seconds=3.0)


@pytest.mark.parametrize("encoders", [{"tokens": {"kind": "recurrent"}}, {"speech": {"kind": "tcn"}}])
def test_what_was_never_trimmed_is_not_marked(encoders):
    assert upgrade(trimmed() | {"encoders": encoders})[1] == {}
    assert upgrade(trimmed(trim_decibels=0.0, num_windows=1))[1] == {}
    assert upgrade(trimmed())[1] == {"audio.trim_decibels": 55.0}


def test_the_mark_stays_beside_the_present_settings():
    """As in the configuration of an export or a row that this version made of an earlier run."""
    tree = json.loads(to_json(from_json(json.dumps(trimmed()))))
    assert upgrade(tree)[1] == {}
    tree["audio"]["trim_decibels"] = 55.0
    upgraded, removed = upgrade(tree)
    assert removed == {"audio.trim_decibels": 55.0}
    assert upgraded["audio"]["speech_decibels"] == 55.0
    assert "trim_decibels" not in upgraded["audio"]


def test_override_names_how_speech_is_found_now():
    message = refusal(lambda: override(ONE_BRANCH, {"audio.trim_decibels": "1"}))
    assert message == "the setting 'audio.trim_decibels' is called 'audio.speech_decibels' now"
    assert refusal(lambda: override(ONE_BRANCH, {"audio.num_windows": "1"})).endswith("'audio.num_windows' was removed")


# How speech was encoded


def with_speech(encoders: dict, **speech) -> dict:
    return OLD | {"encoders": encoders, "speech": {"layer": -1, "max_seconds": 5.0, "units": 768} | speech}


@pytest.mark.parametrize("layer", [-1, 9])
def test_a_network_on_the_earlier_frames_of_a_speech_encoder_is_read_and_not_trained(layer, tmp_path):
    """It took the middle of a clip; no setting of today gives these frames."""
    file = tmp_path / "config.json"
    tree = with_speech({"speech": {"kind": "tcn"}, "tokens": {"kind": "recurrent"}}, layer=layer)
    for own, prefix in ((tree, ""), ({"recipe": "e", "method": "vote", "members": {"m": tree}}, "members.m.")):
        file.write_text(json.dumps(own))
        for network in read_config(file).networks.values():
            assert network.speech == SpeechConfig(units=768)
        message = refusal(lambda: read_config_to_train(file))
        assert message.startswith(f"{file}: {prefix}speech.layer={layer} is a setting of an earlier version")
        assert upgrade(own)[1] == {f"{prefix}speech.layer": layer, f"{prefix}speech.max_seconds": 5.0}
    del tree["speech"]["layer"], tree["speech"]["max_seconds"]  # as the message says
    file.write_text(json.dumps(tree))
    assert read_config_to_train(file).speech == SpeechConfig(units=768)


def test_a_network_without_a_speech_encoder_is_trained_whatever_speech_it_has(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(with_speech(OLD["encoders"])))
    assert "layer" not in json.loads(to_json(read_config_to_train(file)))["speech"]
    assert upgrade(json.loads(file.read_text()))[1] == {}


def test_override_names_how_speech_is_encoded_no_more():
    for path in ("speech.layer", "speech.max_seconds"):
        assert refusal(lambda path=path: override(ONE_BRANCH, {path: "1"})) == f"the setting '{path}' was removed"


def test_a_removed_encoder_is_refused_by_name(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(with_value(OLD, "encoders.spectrogram", {"kind": "conformer", "units": 8})))
    for read in (read_config, read_config_to_train):
        message = refusal(lambda read=read: read(file))
        assert message == f"{file}: encoders.spectrogram: the encoder 'conformer' was removed"
    assert "no encoder 'conformer'" in refusal(lambda: override(ONE_BRANCH, {"encoder.kind": "conformer"}))


@pytest.mark.parametrize(("config", "prefix"), [(ONE_BRANCH, ""), (ENSEMBLE, ""), (ENSEMBLE, "members.a.")])
def test_override_names_removed_and_renamed_settings(config, prefix):
    for path in (
        "training.teacher",
        "augment.crop_share",
        "augment.variants",
        "encoder.leveled",
        "encoders.spectrogram.leveled",
    ):
        message = refusal(lambda path=path: override(config, {f"{prefix}{path}": "1"}))
        assert message == f"the setting '{prefix}{path}' was removed"
    old, new = f"{prefix}augment.equalisation_decibels", f"{prefix}augment.equalization_decibels"
    assert refusal(lambda: override(config, {old: "1"})) == f"the setting '{old}' is called '{new}' now"


FILES = sorted(ROOT.glob("results/**/config.json")) + sorted(ROOT.glob("saved_models/*/*/assets.extra/config.json"))


def test_every_configuration_under_results_and_saved_models_is_read():
    assert any("saved_models" in path.parts for path in FILES)
    assert any("results" in path.parts for path in FILES)
    for path in FILES:
        config = read_config(path)
        assert config.networks
        assert from_json(to_json(config)) == config
