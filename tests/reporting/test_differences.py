import json
from dataclasses import replace

from emokeras.config import CrnnConfig, override, to_json
from emokeras.recipes import RECIPES
from emokeras.reporting.differences import differing_settings


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
