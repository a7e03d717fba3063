"""One configuration to one run folder: what is refused is refused before a file of the run changes."""

import csv
import os
import shutil

import pytest

from emokeras import runs, train
from emokeras.config import ensemble_of, read_config, to_json
from emokeras.files import write_csv, write_text


@pytest.fixture
def begun(trained_run, tmp_path):
    """Return a run whose training has ended and which was killed before its results were written."""
    folder = tmp_path / "begun"
    shutil.copytree(trained_run, folder)
    for name in ("metrics.json", "predictions.csv", "validation_predictions.csv", "model.keras"):
        (folder / name).unlink()
    return folder


@pytest.fixture
def other_corpus(demo_folder, tmp_path):
    """Return the demo corpus without its last clip."""
    return write_corpus(tmp_path / "other", demo_folder, rows_of(demo_folder)[:-1])


def rows_of(corpus):
    with (corpus / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_corpus(folder, audio, rows):
    absolute = [row | {"path": os.path.join(audio, row["path"])} for row in rows]
    folder.mkdir()
    write_csv(folder / "manifest.csv", list(rows[0]), [list(row.values()) for row in absolute])
    return folder


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_not_continued_on_another_corpus_and_keeps_its_files(
    begun, other_corpus, demo_folder, trained_run, tmp_path, capsys
):
    before = files_of(begun)
    assert train.main(["--resume", str(begun), "--corpus", str(other_corpus)]) == 1
    assert f"{begun} was begun on other clips or another split" in capsys.readouterr().err
    assert files_of(begun) == before
    # The right corpus, which has moved.
    moved = shutil.copytree(demo_folder, tmp_path / "moved")
    assert train.main(["--resume", str(begun), "--corpus", str(moved)]) == 0
    assert read_config(begun / "config.json").experiment.corpora == (str(moved),)
    assert (begun / "predictions.csv").read_bytes() == (trained_run / "predictions.csv").read_bytes()


def test_an_ensemble_is_not_continued_on_another_corpus_and_keeps_its_files(begun, other_corpus, tmp_path, capsys):
    ensemble = tmp_path / "ensemble"
    shutil.copytree(begun, ensemble / "members" / "mel-cnn3")
    config = ensemble_of("alone", {"mel-cnn3": read_config(begun / "config.json")}, "vote")
    write_text(ensemble / "config.json", to_json(config))
    shutil.copy(begun / "split.csv", ensemble)
    before = files_of(ensemble)
    assert train.main(["--resume", str(ensemble), "--corpus", str(other_corpus)]) == 1
    assert "was begun on other clips or another split" in capsys.readouterr().err
    assert files_of(ensemble) == before


def test_a_run_is_not_continued_with_other_labels(begun, demo_folder, tmp_path, capsys):
    corpus = shutil.copytree(demo_folder, tmp_path / "labels")
    text = (corpus / "manifest.csv").read_text()
    (corpus / "manifest.csv").write_text(
        text.replace(",happy,", ",x,").replace(",angry,", ",happy,").replace(",x,", ",angry,")
    )
    before = files_of(begun)
    assert train.main(["--resume", str(begun), "--corpus", str(corpus)]) == 1
    assert "was begun on other clips or another split" in capsys.readouterr().err
    assert files_of(begun) == before


def test_an_ensemble_without_a_split_of_its_own_is_checked_by_its_members(begun, other_corpus, tmp_path, capsys):
    """As an earlier version began it."""
    ensemble = tmp_path / "ensemble"
    shutil.copytree(begun, ensemble / "members" / "mel-cnn3")
    config = ensemble_of("alone", {"mel-cnn3": read_config(begun / "config.json")}, "vote")
    write_text(ensemble / "config.json", to_json(config))
    before = files_of(ensemble)
    assert train.main(["--resume", str(ensemble), "--corpus", str(other_corpus)]) == 1
    assert f"{ensemble / 'members' / 'mel-cnn3'} was begun on other clips" in capsys.readouterr().err
    assert files_of(ensemble) == before


def test_a_corpus_without_transcripts_leaves_no_folder_of_a_text_recipe(demo_folder, tmp_path, capsys):
    corpus = shutil.copytree(demo_folder, tmp_path / "mute")
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = [row | {"transcript": ""} for row in csv.DictReader(file)]
    write_csv(corpus / "manifest.csv", list(rows[0]), [list(row.values()) for row in rows])
    assert train.main(["text-gru", "--corpus", str(corpus), "--run-dir", str(tmp_path / "run")]) == 1
    assert "40 clips without a transcript" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_member_that_cannot_be_built_leaves_no_folder_of_its_ensemble(demo_folder, tmp_path, capsys):
    arguments = ["weighted-mel-mfcc", "--corpus", str(demo_folder), "--run-dir", str(tmp_path / "run")]
    assert train.main([*arguments, "--set", "members.mel-resnet.encoder.filters=[4]"]) == 2
    assert "encoder.filters=[4]: give the stem's" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_removed_setting_is_neither_continued_nor_trained(begun, demo_folder, tmp_path, capsys):
    tree = runs.read_json(begun / "config.json")
    tree["training"]["teacher"] = "runs/flagship"
    runs.write_json(begun / "config.json", tree)
    before = files_of(begun)
    new = tmp_path / "new"
    for arguments in (
        ["--resume", str(begun)],
        ["--config", str(begun / "config.json"), "--corpus", str(demo_folder), "--run-dir", str(new)],
    ):
        assert train.main(arguments) == 2
        assert "training.teacher='runs/flagship' is a setting of an earlier version" in capsys.readouterr().err
    assert files_of(begun) == before
    assert not new.exists()
