"""Every layout of a corpus gives the same corpus; every file left out is in a note that counts and names."""

import os
import shutil

import pytest
from conftest import REAL_CLIPS
from corpus_files import NAMES, error_of, only_note, write_clip, write_layout, write_tree, write_zip

from emokeras.config import ExperimentConfig
from emokeras.data.corpora import EMOTIONS, canonical_emotion, load_corpus
from emokeras.data.splits import draw_split

needs_real_clips = pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason=f"{REAL_CLIPS} is not there")


# RAVDESS


@pytest.mark.parametrize("kind", ["kaggle", "flat", "flac", "zip", "kaggle zip", "macos"])
def test_every_layout_gives_the_same_corpus_and_the_same_split(kind, tmp_path):
    expected = load_corpus(write_layout("tree", tmp_path / "expected"))
    corpus = load_corpus(write_layout(kind, tmp_path / "layout"))
    assert corpus.name == "ravdess"
    assert corpus.emotions == expected.emotions == EMOTIONS[:8]
    assert corpus.speakers == ("01", "02", "03", "04")
    for field in ("name", "content", "emotion", "speaker", "sex", "intensity", "statement", "transcript"):
        assert [getattr(clip, field) for clip in corpus.clips] == [getattr(clip, field) for clip in expected.clips]
    for protocol in ("random", "speaker"):
        experiment = ExperimentConfig(protocol=protocol, split_seed=3)
        assert draw_split(corpus, experiment).digest == draw_split(expected, experiment).digest


def test_clips_are_sorted_by_name_and_have_absolute_paths(tmp_path, monkeypatch):
    write_tree(tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    corpus = load_corpus("tree")
    assert [clip.name for clip in corpus.clips] == sorted(NAMES)
    assert all(clip.path.is_absolute() and clip.path.is_file() for clip in corpus.clips)


def test_part_of_the_corpus_is_noted(tmp_path):
    corpus = load_corpus(write_layout("tree", tmp_path))
    assert only_note(corpus, "part of") == "part of RAVDESS: 64 of 1440 clips, 4 of 24 speakers"


def test_song_video_and_other_files_are_left_out_each_kind_in_a_note(tmp_path):
    write_clip(tmp_path / "03-01-01-01-01-01-01.wav", 1)
    write_clip(tmp_path / "03-02-01-01-01-01-01.wav", 2)
    write_clip(tmp_path / "notes.wav", 3)
    write_clip(tmp_path / "03-01-09-01-01-01-01.wav", 4)
    (tmp_path / "01-01-01-01-01-01-01.mp4").write_bytes(b"film")
    (tmp_path / "02-01-01-01-01-01-01.mp4").write_bytes(b"film")
    (tmp_path / "README.txt").write_text("no clip")
    corpus = load_corpus(tmp_path)
    assert [clip.name for clip in corpus.clips] == ["03-01-01-01-01-01-01"]
    assert only_note(corpus, "song") == "left out 1 file, song: 03-02-01-01-01-01-01.wav"
    assert only_note(corpus, "video").startswith("left out 2 files, video: 01-01-01-01-01-01-01.mp4, ")
    assert only_note(corpus, "not named").endswith(": 03-01-09-01-01-01-01.wav, notes.wav")
    assert not any("README" in note for note in corpus.notes)


@needs_real_clips
def test_ravdess_has_1440_clips_and_1439_recordings():
    corpus = load_corpus(REAL_CLIPS)
    assert len(corpus.clips) == 1440
    assert len({clip.content for clip in corpus.clips}) == 1439
    assert "03-01-03-01-02-01-07 = 03-01-03-01-02-02-07" in only_note(corpus, "1 recording under several names")
    counts = {emotion: sum(clip.emotion == emotion for clip in corpus.clips) for emotion in corpus.emotions}
    assert counts == {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS[:8]}


@needs_real_clips
@pytest.mark.slow
def test_ravdess_in_kaggles_and_in_a_flat_layout_is_one_corpus_with_one_split(tmp_path):
    for clip in REAL_CLIPS.glob("Actor_*/*.flac"):
        for place in (f"kaggle/{clip.parent.name}", f"kaggle/audio_speech_actors_01-24/{clip.parent.name}", "flat"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / place / clip.name).symlink_to(clip)
    kaggle, flat = load_corpus(tmp_path / "kaggle"), load_corpus(tmp_path / "flat")
    assert [(clip.name, clip.content) for clip in kaggle.clips] == [(clip.name, clip.content) for clip in flat.clips]
    assert len(kaggle.clips) == 1440
    experiment = ExperimentConfig(protocol="random")
    assert draw_split(kaggle, experiment).digest == draw_split(flat, experiment).digest
    assert only_note(kaggle, "more than once").startswith("1440 clips")


# EMO-DB and folders named by emotion


def test_emodb_is_read_by_its_file_names(tmp_path):
    for number, name in enumerate(["03a01Fa", "08b10Wb", "16a05Tc", "09a02Nd"]):
        write_clip(tmp_path / "wav" / f"{name}.wav", number)
    corpus = load_corpus(tmp_path)
    assert corpus.name == "emodb"
    assert corpus.emotions == ("neutral", "happy", "sad", "angry")
    clip = corpus.clips[1]
    assert (clip.name, clip.speaker, clip.sex) == ("08b10Wb", "08", "female")
    assert (clip.emotion, clip.statement) == ("angry", "b10")
    assert clip.transcript == "Die wird auf dem Platz sein, wo wir sie immer hinlegen."
    assert only_note(corpus, "part of") == "part of EMO-DB: 4 of 535 clips, 4 of 10 speakers"


def test_folders_give_the_emotion_and_the_nearest_other_folder_the_speaker(tmp_path):
    write_clip(tmp_path / "anna" / "Happiness" / "x.wav", 1)
    write_clip(tmp_path / "anger" / "bert" / "y.flac", 2)
    write_clip(tmp_path / "bored" / "z.ogg.wav", 3)
    write_clip(tmp_path / "session1" / "carl" / "fear" / "x.wav", 4)
    write_clip(tmp_path / "noise" / "w.wav", 5)
    corpus = load_corpus(tmp_path)
    assert corpus.name == tmp_path.name
    assert [(clip.name, clip.emotion, clip.speaker) for clip in corpus.clips] == [
        ("anger/bert/y", "angry", "bert"),
        ("anna/Happiness/x", "happy", "anna"),
        ("bored/z.ogg", "boredom", ""),
        ("session1/carl/fear/x", "fearful", "carl"),
    ]
    assert corpus.emotions == ("happy", "angry", "fearful", "boredom")
    assert corpus.speakers == ("anna", "bert", "carl")
    assert only_note(corpus, "left out") == "left out 1 file, in no folder named by an emotion: noise/w.wav"


@pytest.mark.parametrize("litter", [".Trash-1000", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", "__MACOSX"])
def test_what_systems_leave_in_folders_is_no_clip_and_no_speaker(litter, tmp_path):
    write_clip(tmp_path / "anna" / "happy" / "x.wav", 1)
    write_clip(tmp_path / "anna" / "sad" / "y.wav", 2)
    write_clip(tmp_path / litter / "happy" / "x.wav", 3)
    corpus = load_corpus(tmp_path)
    assert [clip.name for clip in corpus.clips] == ["anna/happy/x", "anna/sad/y"]
    assert corpus.speakers == ("anna",)


def test_folders_of_a_split_are_no_speakers(tmp_path):
    for number, folder in enumerate(("train/happy", "train/sad", "test/sad/anna")):
        write_clip(tmp_path / folder / f"{number}.wav", number + 1)
    corpus = load_corpus(tmp_path)
    assert [clip.speaker for clip in corpus.clips] == ["anna", "", ""]
    assert [clip.split for clip in corpus.clips] == ["test", "train", "train"]
    assert only_note(corpus, "split") == "the folders test, train are a split, which --protocol given uses"


def test_recordings_that_are_not_read_are_counted_by_kind(tmp_path):
    write_clip(tmp_path / "happy" / "x.wav", 1)
    for name in ("sad/1.m4a", "sad/2.M4A", "angry/3.webm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    corpus = load_corpus(tmp_path)
    assert only_note(corpus, ".m4a").startswith("left out 2 files, audio that is not read (.m4a): convert it to WAV")
    assert only_note(corpus, ".webm").endswith("(.webm): convert it to WAV or FLAC: angry/3.webm")
    shutil.rmtree(tmp_path / "happy")
    assert "left out 2 files, audio that is not read (.m4a)" in error_of(tmp_path)


def test_names_that_contradict_their_folder_are_counted(tmp_path):
    write_clip(tmp_path / "sad" / "03-01-03-01-01-01-01.wav", 1)
    write_clip(tmp_path / "sad" / "03-01-04-01-01-01-01.wav", 2)
    corpus = load_corpus(tmp_path)
    assert [clip.emotion for clip in corpus.clips] == ["happy", "sad"]
    note = only_note(corpus, "folder")
    assert note == "1 file in a folder of another emotion than its name's, which counts: sad/03-01-03-01-01-01-01.wav"


def test_speakers_whose_names_are_alike_are_named(tmp_path):
    for number, speaker in enumerate(("1", "01", "s1", "f1", "2", "Anna", "anna")):
        write_clip(tmp_path / speaker / "happy" / f"{number}.wav", number + 1)
    note = only_note(load_corpus(tmp_path), "alike")
    assert note == "counted as different speakers, though their names are alike: 01/1/s1, Anna/anna"


def test_the_one_folder_that_contains_everything_in_an_archive_is_no_speaker(tmp_path):
    write_clip(tmp_path / "tree" / "happy" / "x.wav", 1)
    write_clip(tmp_path / "tree" / "sad" / "x.wav", 2)
    corpus = load_corpus(write_zip(tmp_path / "mine.zip", tmp_path / "tree", top="mine/"))
    assert corpus.name == "mine"
    assert [(clip.name, clip.speaker) for clip in corpus.clips] == [("happy/x", ""), ("sad/x", "")]


def test_folders_without_an_emotion_are_refused(tmp_path):
    write_clip(tmp_path / "corpus" / "noise" / "w.wav", 1)
    message = error_of(tmp_path / "corpus")
    assert "has 1 audio file with no emotion in the name or a folder's name: noise/w.wav" in message
    assert "neutral, calm, happy" in message


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("Happiness", "happy"),
        ("joy", "happy"),
        (" ANGER", "angry"),
        ("fear", "fearful"),
        ("sadness", "sad"),
        ("disgusted", "disgust"),
        ("surprise", "surprised"),
        ("bored", "boredom"),
        ("calm", "calm"),
        ("hungry", None),
    ],
)
def test_canonical_emotion(word, emotion):
    assert canonical_emotion(word) == emotion


# Other files


def test_a_file_that_is_not_a_corpus_is_refused(tmp_path):
    message = error_of(write_clip(tmp_path / "x.wav", 1))
    assert "x.wav is not a folder, a complete zip archive or a manifest.csv: give a folder" in message


def test_a_name_that_is_not_utf_8_has_backslash_escapes(tmp_path):
    clip = write_clip(tmp_path / "happy" / "a.wav", 0)
    os.rename(clip, os.fsencode(clip.parent) + b"/\xffa.wav")
    (corpus_clip,) = load_corpus(tmp_path).clips
    assert corpus_clip.name == r"happy/\udcffa"
    assert corpus_clip.path.is_file()
