"""Corpora by name: prepared ones, the demo corpus, and the advice for names that do not exist."""

import shutil

import pytest
from corpus_files import error_of, write_layout, write_manifest

from emokeras.data import demo
from emokeras.data.corpora import load_corpus, pointer_path, prepared_path
from emokeras.errors import CorpusError

MANIFEST = "path,emotion,speaker\na.wav,sad,01\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_an_unknown_source_is_refused_with_the_nearest_name():
    message = error_of("ravdes")
    assert "'ravdes': did you mean 'ravdess'?" in message
    assert "ravdess, emodb, demo" in message
    assert "no corpus or path ''" in error_of("")


@pytest.mark.parametrize("name", ["ravdess", "emodb"])
def test_a_corpus_that_is_not_prepared_is_refused_with_the_command(name):
    assert prepared_path(name) is None
    assert f"`python -m emokeras.prepare --corpus {name}`" in error_of(name)


def test_a_prepared_corpus_is_found_in_its_folder_and_by_its_pointer(tmp_path, home):
    tree = write_layout("tree", tmp_path)
    pointer_path("ravdess").parent.mkdir(parents=True)
    pointer_path("ravdess").write_text(f"{tree}\n")
    assert prepared_path("ravdess") == tree
    assert len(load_corpus("ravdess").clips) == 64
    shutil.move(tree, home / "corpora" / "ravdess")
    assert len(load_corpus("ravdess").clips) == 64
    shutil.rmtree(home / "corpora" / "ravdess")
    assert f"({tree} no longer exists)" in error_of("ravdess")


def test_the_demo_corpus_is_made_once_and_announced_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(demo, "make_demo_corpus", lambda folder: write_manifest(folder, MANIFEST))
    corpus = load_corpus("demo")
    assert corpus.name == "demo"
    error = capsys.readouterr().err
    assert error.startswith("made the demo corpus in ")
    assert error.count("\n") == 1
    assert load_corpus("demo") == corpus
    assert capsys.readouterr().err == ""


def test_a_demo_corpus_that_another_process_made_meanwhile_is_used(monkeypatch):
    make_demo_corpus = demo.make_demo_corpus
    others = []

    def make(folder):
        write_manifest(folder, MANIFEST)
        others.append((folder / "manifest.csv").stat().st_ino)
        make_demo_corpus(folder)

    monkeypatch.setattr(demo, "make_demo_corpus", make)
    corpus = load_corpus("demo")
    assert [clip.name for clip in corpus.clips] == ["a"]
    assert [corpus.clips[0].path.with_name("manifest.csv").stat().st_ino] == others


def test_a_demo_corpus_that_cannot_be_made_is_an_error(monkeypatch):
    def fail(folder):
        raise CorpusError("the disk is full")

    monkeypatch.setattr(demo, "make_demo_corpus", fail)
    with pytest.raises(CorpusError, match="the disk is full"):
        load_corpus("demo")
