"""The figures of a run that has ended are kept under results/."""

import json
import os

import pytest

from emokeras import runs
from emokeras.config import override, read_config, to_json
from emokeras.errors import RunError
from emokeras.recipes import RECIPES
from emokeras.runs.differences import removed_settings


def finished_run(folder, protocol="luna", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"recipe": "mel-cnn3", "corpus": "ravdess", "protocol": protocol, "fold": 2, "seed": 7, "split_seed": 3}
    runs.write_json(folder / "metrics.json", metrics | changes)
    config = override(RECIPES["mel-cnn3"].config, {"experiment.corpora": ["/home/somebody/ravdess"]})
    (folder / "config.json").write_text(to_json(config))
    for name in ("predictions.csv", "validation_predictions.csv", "model.keras"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("luna", "fold-2-seed-7"),
        ("emobox", "fold-2-seed-7"),
        ("random-10fold", "fold-2-seed-7"),
        ("random", "split-3-seed-7"),
        ("speaker", "split-3-seed-7"),
    ],
)
def test_figures_are_kept_in_a_folder_named_by_the_run(tmp_path, protocol, name):
    run = finished_run(tmp_path / "run", protocol)
    kept = runs.keep_results(run, tmp_path / "results")
    assert kept == tmp_path / "results" / "ravdess" / protocol / "mel-cnn3" / name
    names = ["config.json", "metrics.json", "predictions.csv", "validation_predictions.csv"]
    assert sorted(os.listdir(kept)) == names
    assert all((kept / name).read_bytes() == (run / name).read_bytes() for name in names[1:])
    # The path of the corpus is left out; nothing else changes.
    config = read_config(run / "config.json")
    assert read_config(kept / "config.json") == override(config, {"experiment.corpora": ["ravdess"]})


def test_settings_of_an_earlier_version_stay_in_the_kept_configuration(tmp_path):
    run = finished_run(tmp_path / "run")
    tree = runs.read_json(run / "config.json")
    tree["training"]["teacher"] = "runs/flagship"
    runs.write_json(run / "config.json", tree)
    kept = runs.keep_results(run, tmp_path / "results")
    assert removed_settings(runs.read_json(kept / "config.json")) == {"training.teacher": "runs/flagship"}


def test_figures_of_a_run_replace_the_earlier_ones(tmp_path):
    run = finished_run(tmp_path / "run")
    runs.keep_results(run, tmp_path / "results")
    finished_run(run, num_test=5)
    kept = runs.keep_results(run, tmp_path / "results")
    assert json.loads((kept / "metrics.json").read_text())["num_test"] == 5


def test_figures_of_an_unfinished_run_are_not_kept(tmp_path):
    run = finished_run(tmp_path / "run")
    (run / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"lacks predictions.csv.*--resume"):
        runs.keep_results(run, tmp_path / "results")
    finished_run(run, protocol="luna")
    runs.write_json(run / "metrics.json", {"recipe": "mel-cnn3"})
    with pytest.raises(RunError, match="lacks 'protocol'"):
        runs.keep_results(run, tmp_path / "results")
    assert not (tmp_path / "results").exists()
