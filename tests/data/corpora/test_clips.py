"""Corpora that are joined, emotions that count as others, and work that is done corpus by corpus."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_files import error_of, write_clip

from emokeras.data import audio
from emokeras.data.corpora import (
    Clip,
    Corpus,
    absolute_source,
    for_each_corpus,
    join_corpora,
    load_corpus,
    map_emotions,
    split_source,
)
from emokeras.errors import CorpusError, UsageError

RATE = 8000


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def corpus_of(name: str, clips: dict[str, tuple[str, str]], notes=()) -> Corpus:
    """Return a corpus of clips {name: (emotion, speaker)}."""
    made = tuple(Clip(one, Path(one), emotion, speaker, f"{name} {one}") for one, (emotion, speaker) in clips.items())
    return Corpus(name, made, tuple({clip.emotion: None for clip in made}), notes)


def write_corpus(folder: Path, emotions: list[str], first: int) -> Path:
    """Write a clip of noise of each emotion, by two speakers in turn. Their numbers begin at `first`."""
    lines = ["path,emotion,speaker"]
    for number, emotion in enumerate(emotions):
        write_clip(folder / f"{number}.wav", first + number)
        lines.append(f"{number}.wav,{emotion},{number % 2}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folders(tmp_path):
    """Return two corpora of four clips each, whose folders are b and a."""
    return [
        write_corpus(tmp_path / "b", ["sad", "neutral", "sad", "boredom"], 0),
        write_corpus(tmp_path / "a", ["angry", "calm", "calm", "sad"], 10),
    ]


# Joining


def test_joined_corpora_have_all_clips_with_the_name_of_their_corpus():
    b = corpus_of("b", {"1": ("sad", "x"), "2": ("boredom", "")}, ("left out 1 file",))
    a = corpus_of("a", {"1": ("happy", "x"), "3": ("sad", "y")}, ("part of it", "merged"))
    joined = join_corpora([b, a])
    assert joined.name == "b+a"
    assert [(clip.name, clip.corpus) for clip in joined.clips] == [
        ("a/1", "a"),
        ("a/3", "a"),
        ("b/1", "b"),
        ("b/2", "b"),
    ]
    assert [clip.speaker for clip in joined.clips] == ["a/x", "a/y", "b/x", ""]  # An unknown speaker stays unknown.
    assert joined.speakers == ("a/x", "a/y", "b/x")
    assert joined.emotions == ("happy", "sad", "boredom")  # all of them, in the order of EMOTIONS
    assert joined.notes == ("b: left out 1 file", "a: part of it", "a: merged")
    assert joined.parts == {"a": {"happy", "sad"}, "b": {"sad", "boredom"}}
    assert b.parts == {"": {"sad", "boredom"}}
    unchanged = {field: [getattr(clip, field) for clip in joined.clips] for field in ("path", "emotion", "content")}
    assert unchanged == {
        "path": [Path("1"), Path("3"), Path("1"), Path("2")],
        "emotion": ["happy", "sad", "sad", "boredom"],
        "content": ["a 1", "a 3", "b 1", "b 2"],
    }


def test_two_corpora_of_one_name_are_refused(tmp_path):
    own, other = (corpus_of("same", {"1": ("sad", "x")}) for _ in range(2))
    with pytest.raises(CorpusError, match="two corpora are called same: rename the folder of one"):
        join_corpora([own, corpus_of("b", {"1": ("sad", "x")}), other])
    one, two = (write_corpus(tmp_path / parent / "mine", ["sad"], 0) for parent in ("here", "there"))
    assert error_of(f"{one},{two}") == "two corpora are called mine: rename the folder of one"


def test_corpora_are_loaded_and_joined_by_commas(folders):
    joined = load_corpus(",".join(map(str, folders)))
    assert joined == join_corpora([load_corpus(folder) for folder in folders])
    assert (joined.name, len(joined.clips)) == ("b+a", 8)
    assert f"'{folders[0]}2'" in error_of(f"{folders[1]},{folders[0]}2")


def test_a_path_with_a_comma_is_one_corpus(tmp_path, folders):
    folder = write_corpus(tmp_path / "a,b", ["sad", "happy"], 20)
    assert split_source(folder) == [str(folder)]
    corpus = load_corpus(folder)
    assert (corpus.name, len(corpus.clips), corpus.parts) == ("a,b", 2, {"": {"sad", "happy"}})
    assert load_corpus(str(folder)) == corpus


def test_names_stay_and_paths_become_absolute(folders, monkeypatch):
    monkeypatch.chdir(folders[0].parent)
    assert absolute_source("ravdess,b,~/c") == f"ravdess,{folders[0]},{Path('~/c').expanduser()}"
    write_corpus(Path("x,y"), ["sad"], 0)
    assert absolute_source("x,y") == str(folders[0].parent / "x,y")


# Emotions that count as others


def test_clips_of_one_emotion_count_as_another():
    corpus = corpus_of("own", {"1": ("calm", "x"), "2": ("neutral", "x"), "3": ("sad", "y"), "4": ("boredom", "y")})
    mapped = map_emotions(corpus, ["calm=neutral", " boredom = calm "])
    assert [clip.emotion for clip in mapped.clips] == ["neutral", "neutral", "sad", "calm"]  # each clip once
    assert mapped.emotions == ("neutral", "calm", "sad")
    assert map_emotions(corpus, ["calm=neutral", "sad=happy"]).name == "own,calm=neutral,sad=happy"
    assert [replace(clip, emotion="") for clip in mapped.clips] == [replace(clip, emotion="") for clip in corpus.clips]
    assert map_emotions(corpus, []) is corpus
    joined = map_emotions(join_corpora([corpus, corpus_of("b", {"1": ("neutral", "x")})]), ["calm=neutral"])
    assert joined.parts == {"own": {"neutral", "sad", "boredom"}, "b": {"neutral"}}


@pytest.mark.parametrize("pair", ["calm", "calm=", "=neutral", "calm=quiet", "kalm=neutral", "calm=neutral=sad", ""])
def test_a_pair_that_names_no_two_emotions_is_refused_in_one_line(pair):
    with pytest.raises(UsageError) as caught:
        map_emotions(corpus_of("own", {"1": ("calm", "x")}), ["sad=happy", pair])
    message = str(caught.value)
    assert message.startswith(f"--map {pair}: give two emotions, such as calm=neutral; there are neutral, calm, happy")
    assert "\n" not in message


# Corpus by corpus


def test_work_is_done_once_for_each_corpus_and_keeps_the_order():
    names = ["b", "a", "b", "", "a", "b"]
    clips = [Clip(str(number), Path(), "sad", "", corpus=name) for number, name in enumerate(names)]
    calls = []

    def work(own):
        calls.append([clip.name for clip in own])
        return [f"{clip.corpus}{clip.name}" for clip in own]

    assert for_each_corpus(clips, work) == ["b0", "a1", "b2", "3", "a4", "b5"]
    assert calls == [["0", "2", "5"], ["1", "4"], ["3"]]
    assert for_each_corpus([], work) == []
    with pytest.raises(ValueError, match="zip"):
        for_each_corpus(clips, lambda own: [1])


def test_the_waveform_caches_of_joined_corpora_are_those_of_each(folders, home, monkeypatch):
    waveforms = {}
    for folder in folders:  # Loading a corpus decodes it once, for hashes and cache.
        for clip in (corpus := load_corpus(folder, RATE)).clips:
            waveforms[f"{folder.name}/{clip.name}"] = audio.load_waveforms(corpus.clips, RATE)[int(clip.name)]
    caches = {path: path.stat().st_mtime_ns for path in (home / "waveforms").iterdir()}
    assert len(caches) == 2

    monkeypatch.setattr(audio, "decode", lambda *_: pytest.fail("a clip is decoded again"))
    for order in (folders, folders[::-1]):
        joined = load_corpus(",".join(map(str, order)), RATE)
        loaded = for_each_corpus(joined.clips, lambda clips: audio.load_waveforms(clips, RATE))
        for clip, waveform in zip(joined.clips, loaded, strict=True):
            np.testing.assert_array_equal(waveform, waveforms[clip.name])
    assert {path: path.stat().st_mtime_ns for path in (home / "waveforms").iterdir()} == caches
