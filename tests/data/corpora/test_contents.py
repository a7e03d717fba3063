"""Each file is decoded once, for its hash and its waveform; copies are merged; unusable files are noted."""

import os
from collections import Counter

import numpy as np
import pytest
import soundfile
from corpus_files import NAMES, error_of, only_note, write_clip, write_layout, write_zip

from emokeras.data import audio
from emokeras.data.corpora import load_corpus

RATE = 16000


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def decoded(monkeypatch):
    """Return a counter of how often each file is decoded."""
    counter = Counter()
    decode = audio.decode

    def count_and_decode(path, member=""):
        counter[path, member] += 1
        return decode(path, member)

    monkeypatch.setattr(audio, "decode", count_and_decode)
    return counter


# Decoding once


@pytest.mark.parametrize(("kind", "num_files"), [("tree", 64), ("kaggle", 128), ("zip", 64), ("kaggle zip", 128)])
def test_the_hash_and_the_waveform_come_from_one_decode(kind, num_files, tmp_path, decoded):
    source = write_layout(kind, tmp_path)
    corpus = load_corpus(source, RATE)
    waveforms = audio.load_waveforms(corpus.clips, RATE)
    assert len(decoded) == decoded.total() == num_files
    assert load_corpus(source, RATE) == corpus
    again = audio.load_waveforms(corpus.clips, RATE)
    assert decoded.total() == num_files
    for clip, *made in zip(corpus.clips, waveforms, again, strict=True):
        expected = audio.load_waveform(clip.path, RATE, clip.member)
        assert all(np.array_equal(waveform, expected) for waveform in made)
        samples, rate_hz = soundfile.read(tmp_path / "tree" / f"Actor_{clip.speaker}" / f"{clip.name}.wav")
        assert clip.content == audio.content_hash(samples[:, np.newaxis].astype(np.float32), rate_hz)


def test_what_is_left_out_merged_or_twice_does_not_shift_the_waveforms(tmp_path, decoded):
    write_bad_files(tmp_path / "tree")
    write_clip(tmp_path / "tree" / "a" / "03-01-07-01-01-01-02.wav", 2)
    write_clip(tmp_path / "tree" / "b" / "03-01-07-01-01-01-02.wav", 3)  # The same name, another recording.
    write_clip(tmp_path / "tree" / "03-01-08-01-01-01-02.wav", 1)  # Another name, the same recording.
    corpus = load_corpus(tmp_path / "tree", RATE)
    waveforms = audio.load_waveforms(corpus.clips, RATE)
    assert [clip.name[6:8] for clip in corpus.clips] == ["01", "07", "08"]
    assert len(decoded) == decoded.total() == 9
    for clip, waveform in zip(corpus.clips, waveforms, strict=True):
        np.testing.assert_array_equal(waveform, audio.load_waveform(clip.path, RATE))


def test_without_a_rate_no_waveform_is_cached_and_with_cached_hashes_nothing_is_decoded(tmp_path, decoded, home):
    tree = write_layout("tree", tmp_path)
    corpus = load_corpus(tree)
    assert not (home / "waveforms").exists()
    assert load_corpus(tree, RATE) == corpus
    assert decoded.total() == 64
    audio.load_waveforms(corpus.clips, RATE)
    assert decoded.total() == 128


def test_a_changed_file_is_decoded_again(tmp_path):
    tree = write_layout("tree", tmp_path)
    first = load_corpus(tree, RATE)
    changed = write_clip(tree / "Actor_01" / f"{NAMES[0]}.wav", 1000)
    os.utime(changed, ns=(0, 0))
    second = load_corpus(tree, RATE)
    assert second.clips[0].content != first.clips[0].content
    assert second.clips[1:] == first.clips[1:]
    expected = audio.load_waveform(changed, RATE)
    np.testing.assert_array_equal(audio.load_waveforms(second.clips, RATE)[0], expected)


def test_a_damaged_cache_is_made_again(tmp_path, home):
    tree = write_layout("tree", tmp_path)
    first = load_corpus(tree)
    for cache in (home / "contents").iterdir():
        cache.write_text("[[")
    assert load_corpus(tree) == first


# Copies


def test_copies_count_once_and_are_noted(tmp_path):
    note = only_note(load_corpus(write_layout("kaggle", tmp_path)), "more than once")
    assert note.startswith("64 clips found more than once, counted once: 03-01-01-01-01-01-01, ")
    assert note.endswith(" and 61 more")


def test_of_one_name_with_two_contents_the_file_nearest_the_root_is_kept(tmp_path):
    write_clip(tmp_path / "b" / "Actor_01" / "03-01-01-01-01-01-01.wav", 1)
    near = write_clip(tmp_path / "z" / "03-01-01-01-01-01-01.wav", 2)
    write_clip(tmp_path / "b" / "03-01-01-01-02-01-01.wav", 3)
    first = write_clip(tmp_path / "a" / "03-01-01-01-02-01-01.wav", 4)
    corpus = load_corpus(tmp_path)
    assert [clip.path for clip in corpus.clips] == [near, first]
    note = only_note(corpus, "2 clips found more than once with different content")
    assert "the file nearest the root is kept" in note
    assert "03-01-01-01-01-01-01" in note


def test_one_recording_under_two_names_is_kept_twice_and_noted(tmp_path):
    write_clip(tmp_path / "03-01-03-01-02-01-07.wav", 1)
    write_clip(tmp_path / "03-01-03-01-02-02-07.wav", 1)
    corpus = load_corpus(tmp_path)
    assert len(corpus.clips) == 2
    assert len({clip.content for clip in corpus.clips}) == 1
    assert "03-01-03-01-02-01-07 = 03-01-03-01-02-02-07" in only_note(corpus, "1 recording under several names")
    assert not any("different emotions" in note for note in corpus.notes)


def test_one_recording_under_two_emotions_is_noted(tmp_path):
    write_clip(tmp_path / "03-01-03-01-02-01-07.wav", 1)
    write_clip(tmp_path / "03-01-04-01-02-01-07.wav", 1)
    note = only_note(load_corpus(tmp_path), "1 recording under different emotions")
    assert "03-01-03-01-02-01-07 (happy) = 03-01-04-01-02-01-07 (sad)" in note


# Unusable files


def write_bad_files(folder):
    write_clip(folder / "03-01-01-01-01-01-01.wav", 1)
    (folder / "03-01-02-01-01-01-01.wav").write_bytes(b"")
    (folder / "03-01-03-01-01-01-01.wav").write_text("this is text")
    soundfile.write(folder / "03-01-04-01-01-01-01.wav", np.zeros(0, np.float32), 8000)
    soundfile.write(folder / "03-01-05-01-01-01-01.wav", np.array([0.1, np.nan, np.inf]), 8000, subtype="FLOAT")
    soundfile.write(folder / "03-01-06-01-01-01-01.wav", np.zeros(400, np.float32), 8000)


BAD_FILES = [
    ("empty (0 bytes)", "02"),
    ("not audio that libsndfile reads", "03"),
    ("without samples", "04"),
    ("with NaN or infinite samples", "05"),
    ("silent (every sample is 0)", "06"),
]


@pytest.mark.parametrize("kind", ["folder", "zip", "manifest"])
def test_unusable_files_are_left_out_and_named(tmp_path, kind):
    source = tmp_path / "tree"
    write_bad_files(source)
    if kind == "zip":
        source = write_zip(tmp_path / "tree.zip", source)
    if kind == "manifest":
        rows = [f"03-01-{number:02d}-01-01-01-01.wav,happy,01\n" for number in range(1, 7)]
        (source / "manifest.csv").write_text("path,emotion,speaker\n" + "".join(rows))
    for _ in range(2):  # The second time from the cache.
        corpus = load_corpus(source)
        assert len(corpus.clips) == 1
        for reason, emotion in BAD_FILES:
            assert only_note(corpus, reason) == f"left out 1 file, {reason}: 03-01-{emotion}-01-01-01-01.wav"


def test_a_usable_copy_replaces_an_unusable_file(tmp_path):
    (tmp_path / "03-01-01-01-01-01-01.wav").write_bytes(b"")
    copy = write_clip(tmp_path / "copies" / "03-01-01-01-01-01-01.wav", 1)
    corpus = load_corpus(tmp_path)
    assert [clip.path for clip in corpus.clips] == [copy]
    assert only_note(corpus, "empty (0 bytes)")


def test_a_broken_link_is_noted_until_it_is_mended(tmp_path):
    tree = write_layout("tree", tmp_path)
    whole = load_corpus(tree)
    link = tree / "Actor_01" / f"{NAMES[0]}.wav"
    link.rename(tmp_path / "elsewhere.wav")
    link.symlink_to(tmp_path / "not-fetched.wav")
    corpus = load_corpus(tree)
    assert len(corpus.clips) == len(whole.clips) - 1
    assert only_note(corpus, "that cannot be opened").endswith(f": {NAMES[0]}.wav")
    (tmp_path / "elsewhere.wav").rename(tmp_path / "not-fetched.wav")
    assert load_corpus(tree).clips == whole.clips


def test_a_corpus_without_a_usable_clip_is_refused(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    assert "has no usable clip: give a folder or zip" in error_of(corpus)
    (corpus / "03-01-01-01-01-01-01.wav").write_bytes(b"")
    assert "no usable clip (left out 1 file, empty (0 bytes): 03-01-01-01-01-01-01.wav)" in error_of(corpus)
    write_zip(corpus / "speech.zip", write_layout("tree", tmp_path))
    assert "; it contains speech.zip, which can be given directly)" in error_of(corpus)
