import json
from dataclasses import replace

from emokeras.config import CrnnConfig, TcnConfig, ensemble_of, override, to_json
from emokeras.recipes import RECIPES
from emokeras.runs.differences import differing_settings


def test_settings_are_compared_with_those_a_file_lacks_at_their_defaults():
    config = RECIPES["mel-cnn3"].config
    tree = json.loads(to_json(config))
    tree["recipe"] = "other"
    tree["experiment"]["seed"] = 5
    tree["encoders"]["spectrogram"]["gone"] = True  # no setting any more
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


def test_sizes_that_follow_from_the_weights_are_no_difference():
    config = RECIPES["text-bert"].config
    tree = json.loads(to_json(override(config, {"encoder.units": 128, "encoder.num_blocks": 2})))
    assert differing_settings(tree, config) == {}


def test_one_more_branch_is_a_difference():
    one = RECIPES["mfcc-tcn"].config
    two = replace(one, encoders=one.encoders | {"prosody": TcnConfig()})
    assert differing_settings(json.loads(to_json(one)), two) == {"encoders.prosody.kind": (None, "tcn")}
    assert differing_settings(json.loads(to_json(two)), one) == {"encoders.prosody.kind": ("tcn", None)}


def test_of_an_ensemble_method_members_and_their_settings_are_compared():
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


def test_what_lies_elsewhere_is_the_same_where_it_has_the_same_name(tmp_path):
    own = override(RECIPES["mfcc-tcn"].config, {"training.teacher": "/one/place/teacher"})
    tree = json.loads(to_json(ensemble_of("x", {"m": own}, "vote")))
    other = override(own, {"training.teacher": "/another/teacher"})
    assert differing_settings(tree, ensemble_of("x", {"m": other}, "vote")) == {}
    other = override(own, {"training.teacher": "/another/one"})
    differing = differing_settings(tree, ensemble_of("x", {"m": other}, "vote"))
    assert differing == {"members.m.training.teacher": ("/one/place/teacher", "/another/one")}
