"""Run folders: their names, and that no run is written over another."""

from dataclasses import replace

import pytest

from emokeras import runs
from emokeras.errors import RunError
from emokeras.recipes import RECIPES


def config(protocol="random", corpora=("ravdess",), **numbers):
    named = RECIPES["mel-cnn3"].config
    return replace(named, experiment=replace(named.experiment, corpora=corpora, protocol=protocol, **numbers))


def test_a_run_folder_with_a_run_is_not_made_again(tmp_path):
    folder = runs.create_run(tmp_path / "deep" / "run")
    assert folder.is_dir()
    assert runs.create_run(folder) == folder  # still empty
    runs.write_json(folder / "config.json", {})
    with pytest.raises(RunError, match=r"holds a run already \(config.json\).*--run-dir.*--resume"):
        runs.create_run(folder)
    assert runs.create_run(folder, resume=True) == folder


def test_an_empty_folder_has_no_run_to_continue(tmp_path):
    with pytest.raises(RunError, match="holds no run to continue"):
        runs.create_run(tmp_path, resume=True)
    with pytest.raises(RunError, match="holds no run to continue"):
        runs.create_run(tmp_path / "nowhere", resume=True)


def test_a_file_cannot_be_a_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="--run-dir"):
            runs.create_run(folder)


def test_the_default_folder_is_named_by_the_run_and_holds_none_yet(tmp_path):
    first = runs.default_run_dir(config("luna", fold=2, seed=7), root=tmp_path)
    assert first == tmp_path / "mel-cnn3" / "ravdess-luna-fold-2-seed-7"
    for expected in ("ravdess-luna-fold-2-seed-7", "ravdess-luna-fold-2-seed-7-2", "ravdess-luna-fold-2-seed-7-3"):
        folder = runs.create_run(runs.default_run_dir(config("luna", fold=2, seed=7), root=tmp_path))
        assert folder.name == expected
        runs.write_json(folder / "config.json", {})
    other = runs.default_run_dir(config("random", seed=7, split_seed=3), root=tmp_path)
    assert other.name == "ravdess-random-split-3-seed-7"


def test_the_default_folder_of_a_corpus_given_by_path(tmp_path):
    of_path = runs.default_run_dir(config(corpora=["../my data/Audio Speech.zip"]), root=tmp_path)
    assert of_path.name == "Audio-Speech-random-split-0-seed-0"
    of_name = runs.default_run_dir(config(corpora=["/somewhere"]), "ravdess", root=tmp_path)
    assert of_name.name == "ravdess-random-split-0-seed-0"
