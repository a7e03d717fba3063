"""Where a run comes from: the clips that made it, and its configuration without paths of this machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from emokeras import runs
from emokeras.config import EnsembleConfig, override, to_json
from emokeras.data.corpora import Clip
from emokeras.files import write_text
from emokeras.recipes import RECIPES

CONFIG = RECIPES["mel-cnn3"].config
CLIPS = [Clip(name, Path(), "sad", "01", name.upper()) for name in "abc"]


def row(clip: str, subset: str) -> dict[str, str]:
    return {"clip": clip, "content": clip.upper(), "speaker": "01", "emotion": "sad", "subset": subset}


def run_of(folder: Path, config, subsets=("train", "validation", "test")) -> Path:
    """Leave a configuration and a split in a folder."""
    folder.mkdir(parents=True)
    write_text(folder / "config.json", to_json(config))
    runs.write_split(folder, CLIPS, subsets)
    return folder


def uses(folder: Path) -> dict[str, str]:
    return {row["clip"]: row["subset"] for row in runs.clips_used(folder)}


def test_clips_used_are_those_of_the_split_and_of_what_the_run_started_from(tmp_path):
    run = run_of(tmp_path / "run", CONFIG)
    assert uses(run) == {"a": "train", "b": "validation", "c": "test"}
    runs.write_earlier_splits(run, [row("c", "train"), row("d", "train"), row("d", "test")])
    # The run's own split is the valid one of its clips; of a clip that one model trained on, that counts.
    assert uses(run) == {"a": "train", "b": "validation", "c": "test", "d": "train"}


def test_a_clip_that_a_run_did_not_use_counts_as_what_it_started_from_used_it(tmp_path):
    run = run_of(tmp_path / "run", CONFIG, ("train", "unused", "test"))
    assert uses(run) == {"a": "train", "b": "unused", "c": "test"}
    runs.write_earlier_splits(run, [row("d", "train"), row("d", "unused"), row("b", "train"), row("a", "unused")])
    assert uses(run) == {"a": "train", "b": "train", "c": "test", "d": "train"}


@pytest.mark.parametrize("file", runs.EARLIER_FILES)
def test_the_clips_of_what_members_started_from_count_too(tmp_path, file):
    members = dict.fromkeys(("one", "two"), CONFIG)
    run = run_of(tmp_path / "run", EnsembleConfig("both", members))
    member = run_of(run / "members" / "two", CONFIG)
    runs.write_earlier_splits(member, [row("d", "train")])
    (member / runs.EARLIER_FILE).rename(member / file)  # The second is the name of earlier versions.
    assert uses(run)["d"] == "train"


def test_validation_clips_of_a_refit_count_as_training_clips(tmp_path):
    refit = override(CONFIG, {"training.refit_epochs": 2})
    run = run_of(tmp_path / "run", refit)
    assert runs.was_refit(run)
    assert uses(run) == {"a": "train", "b": "train", "c": "test"}
    ensemble = run_of(tmp_path / "ensemble", EnsembleConfig("both", {"one": CONFIG, "two": refit}))
    assert runs.was_refit(ensemble)
    assert not runs.was_refit(run_of(tmp_path / "alone", CONFIG))


def test_names_are_without_paths_of_this_machine(tmp_path):
    run = run_of(tmp_path / "runs" / "mine", replace(CONFIG, recipe="found"))
    (tmp_path / "exports" / "mel" / "3").mkdir(parents=True)
    assert runs.shareable_name(str(run)) == "found"
    assert runs.shareable_name(str(tmp_path / "exports" / "mel" / "3")) == "mel/3"
    assert runs.shareable_name("/gone/weights.h5") == "weights.h5"
    for name in ("", "imagenet", "google-bert/bert-base-uncased"):
        assert runs.shareable_name(name) == name


def test_a_configuration_to_share_has_names_in_place_of_paths(tmp_path):
    start = run_of(tmp_path / "start", CONFIG)
    given = {"model.start_from": str(start), "experiment.corpora": ["/home/somebody/clips"]}
    run = run_of(tmp_path / "run", override(CONFIG, given))
    runs.write_json(run / "metrics.json", {"corpus": "clips"})
    assert runs.shareable_config(run) == override(
        CONFIG, {"model.start_from": "mel-cnn3", "experiment.corpora": ["clips"]}
    )


@pytest.mark.parametrize(
    ("corpora", "pairs", "name", "shared"),
    [
        (["/home/me/a", "ravdess"], [], "a+ravdess", ("a", "ravdess")),
        (["/home/me/a", "b"], ["calm=neutral", "fearful=sad"], "a+b,calm=neutral,fearful=sad", ("a", "b")),
        (["/home/me/x+y, z"], [], "x+y, z", ("x+y, z",)),
        (["/home/me/x, y"], ["calm=neutral"], "x, y,calm=neutral", ("x, y",)),
        ([], [], "made", ("made",)),
    ],
)
def test_corpora_are_shared_by_their_names(tmp_path, corpora, pairs, name, shared):
    config = override(CONFIG, {"experiment.corpora": corpora, "experiment.emotion_map": pairs})
    run = run_of(tmp_path / "run", config)
    runs.write_json(run / "metrics.json", {"corpus": name})
    experiment = runs.shareable_config(run).experiment
    assert (experiment.corpora, experiment.emotion_map) == (shared, tuple(pairs))
