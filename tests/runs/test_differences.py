"""How two configurations differ: by the settings that both have, not by paths or by what follows from weights."""

import json
from dataclasses import replace

from emokeras.config import CrnnConfig, TcnConfig, ensemble_of, override, to_json
from emokeras.recipes import RECIPES
from emokeras.runs.differences import differing_settings


def test_settings_that_a_file_lacks_are_compared_by_their_defaults():
    config = RECIPES["mel-cnn3"].config
    tree = json.loads(to_json(config))
    tree["recipe"] = "other"
    tree["experiment"]["seed"] = 5
    tree["encoders"]["spectrogram"]["gone"] = True  # a setting of an earlier version
    del tree["training"]["accumulated_batches"], tree["encoders"]["spectrogram"]["kernel_size"]
    assert differing_settings(tree, config) == {}
    values = {"training.accumulated_batches": 2, "encoder.kernel_size": 5, "encoder.filters": [8]}
    differing = differing_settings(tree, override(config, values))
    assert differing == {
        "encoders.spectrogram.filters": (list(config.encoders["spectrogram"].filters), [8]),
        "encoders.spectrogram.kernel_size": (3, 5),
        "training.accumulated_batches": (1, 2),
    }
    crnn = replace(config, encoders={"spectrogram": replace(CrnnConfig(), filters=(24, 48, 96), dropout=0.0, l2=1e-5)})
    assert differing_settings(tree, crnn) == {"encoders.spectrogram.kind": ("cnn", "crnn")}


def test_sizes_that_follow_from_weights_are_not_compared():
    config = RECIPES["text-bert"].config
    tree = json.loads(to_json(override(config, {"encoder.units": 128, "encoder.num_blocks": 2})))
    assert differing_settings(tree, config) == {}


def test_what_is_read_from_a_speech_encoder_is_compared_once_it_is_known():
    """A recipe does not have it; a resolved configuration has other settings with other weights of that name."""
    config = RECIPES["speech-tcn"].config
    resolved = override(config, {"speech.family": "wav2vec2", "speech.units": 768, "speech.sha256": "12ab"})
    tree = json.loads(to_json(resolved))
    assert differing_settings(tree, config) == differing_settings(tree, resolved) == {}
    assert differing_settings(tree, override(resolved, {"speech.sha256": "34cd"})) == {
        "speech.sha256": ("12ab", "34cd")
    }
    assert differing_settings(tree, override(config, {"speech.layers": [2]})) == {"speech.layers": ([2, 3], [2])}
    two = ensemble_of("x", {"a": config, "b": RECIPES["mel-cnn3"].config}, "vote")
    tree = json.loads(to_json(override(two, {"members.a.speech.sha256": "12ab", "members.a.speech.units": 768})))
    assert differing_settings(tree, two) == {}


def test_an_additional_branch_is_a_difference():
    one = RECIPES["mfcc-tcn"].config
    two = replace(one, encoders=one.encoders | {"prosody": TcnConfig()})
    assert differing_settings(json.loads(to_json(one)), two) == {"encoders.prosody.kind": (None, "tcn")}
    assert differing_settings(json.loads(to_json(two)), one) == {"encoders.prosody.kind": ("tcn", None)}


def test_ensembles_are_compared_by_method_members_and_their_settings():
    own = RECIPES["weighted-mel-mfcc"].config
    tree = json.loads(to_json(own))
    assert differing_settings(tree, own) == {}
    quicker = override(own.members["mfcc-tcn"], {"training.epochs": 9})
    other = ensemble_of("x", {"mfcc-tcn": quicker, "mel-resnet": own.members["mel-resnet"]}, "vote")
    assert differing_settings(tree, other) == {
        "members": (["mel-resnet", "mfcc-tcn"], ["mfcc-tcn", "mel-resnet"]),
        "members.mfcc-tcn.training.epochs": (own.members["mfcc-tcn"].training.epochs, 9),
        "method": ("weighted", "vote"),
    }
    one_more = ensemble_of("x", own.members | {"mel-cnn3": RECIPES["mel-cnn3"].config}, "weighted")
    members = ["mel-resnet", "mfcc-tcn"]
    assert differing_settings(tree, one_more) == {"members": (members, [*members, "mel-cnn3"])}


def test_files_and_runs_are_compared_by_name():
    own = override(RECIPES["mfcc-tcn"].config, {"model.weights": "/one/place/weights.h5"})
    tree = json.loads(to_json(ensemble_of("x", {"m": own}, "vote")))
    other = override(own, {"model.weights": "/another/weights.h5"})
    assert differing_settings(tree, ensemble_of("x", {"m": other}, "vote")) == {}
    other = override(own, {"model.weights": "/another/one.h5"})
    differing = differing_settings(tree, ensemble_of("x", {"m": other}, "vote"))
    assert differing == {"members.m.model.weights": ("/one/place/weights.h5", "/another/one.h5")}


def test_a_removed_setting_that_was_in_use_is_a_difference():
    config = RECIPES["mfcc-tcn"].config
    tree = json.loads(to_json(config))
    tree["training"] |= {"teacher": "", "crossfit_parts": 0}
    assert differing_settings(tree, config) == {}
    tree["training"]["teacher"] = "flagship"
    assert differing_settings(tree, config) == {"training.teacher": ("flagship", None)}
