"""Small corpora in the layouts that people have, for the tests of this folder."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emokeras.data.corpora import load_corpus
from emokeras.errors import CorpusError

NAMES = [
    f"03-01-{emotion:02d}-01-{statement}-01-{actor}"
    for actor in ("01", "02", "03", "04")
    for emotion in range(1, 9)
    for statement in ("01", "02")
]


def write_clip(path: Path, number: int) -> Path:
    """Write a short clip of noise. Clips of the same number are the same recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(number).integers(-9999, 9999, 400, dtype=np.int16)
    soundfile.write(path, samples, 8000, subtype="PCM_16")
    return path


def write_tree(root: Path, suffix: str = ".wav", flat: bool = False) -> Path:
    for number, name in enumerate(NAMES):
        write_clip(root / ("" if flat else f"Actor_{name[-2:]}") / f"{name}{suffix}", number)
    return root


def write_zip(path: Path, tree: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*.*")):
            archive.write(file, f"{top}{file.relative_to(tree).as_posix()}")
    return path


def write_layout(kind: str, root: Path) -> Path:
    """Write the 64 clips of NAMES in one of the layouts in which RAVDESS is distributed."""
    if kind == "flac":
        return write_tree(root / "flac", ".flac")
    if kind == "flat":
        return write_tree(root / "flat", flat=True)
    tree = write_tree(root / "tree")
    if kind.startswith("kaggle"):  # Its archive has everything twice.
        shutil.copytree(tree, tree / "audio_speech_actors_01-24")
    if kind == "macos":
        (tree / "Actor_01" / f"._{NAMES[0]}.wav").write_bytes(b"attributes")
        (tree / "__MACOSX").mkdir()
        write_clip(tree / "__MACOSX" / "03-01-01-01-01-01-05.wav", 1000)
    return write_zip(root / "speech.zip", tree) if kind.endswith("zip") else tree


def write_manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a manifest of this text next to a.wav and clips/b.wav."""
    write_clip(folder / "a.wav", 1)
    write_clip(folder / "clips" / "b.wav", 2)
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder


def only_note(corpus, *words: str) -> str:
    """Return the one note of a corpus with all these words."""
    (note,) = [note for note in corpus.notes if all(word in note for word in words)]
    assert "\n" not in note
    return note


def error_of(source) -> str:
    """Return the one line of the CorpusError that loading raises."""
    with pytest.raises(CorpusError) as caught:
        load_corpus(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)
