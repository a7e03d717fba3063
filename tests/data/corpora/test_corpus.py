"""Every layout of a corpus gives the same corpus; nothing is dropped without a line that counts and names it."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emokeras.data import audio, demo
from emokeras.data.corpora import EMOTIONS, canonical_emotion, load_corpus, pointer_path, prepared_path
from emokeras.data.splits import split
from emokeras.errors import CorpusError

REAL_CLIPS = Path(__file__).parents[2].parent / "shared" / "ravdess"
needs_real_clips = pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason=f"{REAL_CLIPS} is not there")
SPEAKERS = ("01", "02", "03", "04")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_clip(path: Path, number: int) -> Path:
    """Write a short clip of noise; the number says which, so that equal numbers are equal recordings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(number).integers(-9999, 9999, 400, dtype=np.int16)
    soundfile.write(path, samples, 8000, subtype="PCM_16")
    return path


def ravdess_names(speakers=SPEAKERS) -> list[str]:
    return [
        f"03-01-{emotion:02d}-01-{take}-01-{actor}"
        for actor in speakers
        for emotion in range(1, 9)
        for take in ("01", "02")
    ]


def write_tree(root: Path, suffix: str = ".wav", flat: bool = False) -> Path:
    for number, name in enumerate(ravdess_names()):
        write_clip(root / ("" if flat else f"Actor_{name[-2:]}") / f"{name}{suffix}", number)
    return root


def write_zip(path: Path, tree: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*.*")):
            archive.write(file, f"{top}{file.relative_to(tree).as_posix()}")
    return path


def layout(kind: str, root: Path) -> Path:
    """Write the same 64 clips as people have them."""
    if kind == "flac":
        return write_tree(root / "flac", ".flac")
    if kind == "flat":
        return write_tree(root / "flat", flat=True)
    tree = write_tree(root / "tree")
    if kind == "kaggle":
        shutil.copytree(tree, tree / "audio_speech_actors_01-24")
    if kind == "macos":
        (tree / "Actor_01" / f"._{ravdess_names()[0]}.wav").write_bytes(b"attributes")
        (tree / "__MACOSX").mkdir()
        write_clip(tree / "__MACOSX" / "03-01-01-01-01-01-05.wav", 1000)
    if kind == "zip":
        return write_zip(root / "Audio_Speech_Actors_01-24.zip", tree)
    if kind == "kaggle zip":
        shutil.copytree(tree, tree / "audio_speech_actors_01-24")
        return write_zip(root / "archive.zip", tree)
    return tree


def only_note(corpus, *words: str) -> str:
    """Return the one note with all these words."""
    (note,) = [note for note in corpus.notes if all(word in note for word in words)]
    assert "\n" not in note
    return note


def error_of(source) -> str:
    """Return the one line of the CorpusError that loading raises."""
    with pytest.raises(CorpusError) as caught:
        load_corpus(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# RAVDESS as people have it


@pytest.mark.parametrize("kind", ["kaggle", "flat", "flac", "zip", "kaggle zip", "macos"])
def test_every_layout_gives_the_same_corpus_and_the_same_split(kind, tmp_path):
    expected = load_corpus(layout("tree", tmp_path / "expected"))
    corpus = load_corpus(layout(kind, tmp_path / "layout"))
    assert corpus.name == "ravdess"
    assert corpus.emotions == expected.emotions == EMOTIONS[:8]
    for field in ("name", "content", "emotion", "speaker", "sex", "intensity", "statement", "transcript"):
        assert [getattr(clip, field) for clip in corpus.clips] == [getattr(clip, field) for clip in expected.clips]
    for protocol in ("random", "speaker"):
        assert split(corpus, protocol, split_seed=3).tolist() == split(expected, protocol, split_seed=3).tolist()


def test_clips_are_in_the_order_of_their_names_with_absolute_paths(tmp_path, monkeypatch):
    write_tree(tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    corpus = load_corpus("tree")
    assert [clip.name for clip in corpus.clips] == sorted(ravdess_names())
    assert all(clip.path.is_absolute() and clip.path.is_file() for clip in corpus.clips)


def test_waveforms_of_a_zip_are_read_without_unpacking(tmp_path):
    corpus = load_corpus(layout("zip", tmp_path))
    assert all(clip.member.endswith(f"{clip.name}.wav") for clip in corpus.clips)
    assert len(audio.load_waveforms(corpus.clips, 8000)) == len(ravdess_names())


def test_copies_count_once_and_are_told_in_one_line(tmp_path):
    note = only_note(load_corpus(layout("kaggle", tmp_path)), "more than once")
    assert note.startswith("64 clips found more than once, counted once: 03-01-01-01-01-01-01, ")
    assert note.endswith(" and 61 more")


def test_part_of_the_corpus_is_told(tmp_path):
    assert "64 of 1440 clips, 4 of 24 speakers" in only_note(load_corpus(layout("tree", tmp_path)), "part of RAVDESS")


def test_of_one_name_and_two_contents_the_nearest_to_the_root_is_kept(tmp_path):
    write_clip(tmp_path / "b" / "Actor_01" / "03-01-01-01-01-01-01.wav", 1)
    near = write_clip(tmp_path / "z" / "03-01-01-01-01-01-01.wav", 2)
    write_clip(tmp_path / "b" / "03-01-01-01-02-01-01.wav", 3)
    first = write_clip(tmp_path / "a" / "03-01-01-01-02-01-01.wav", 4)
    corpus = load_corpus(tmp_path)
    assert [clip.path for clip in corpus.clips] == [near, first]
    note = only_note(corpus, "different content")
    assert note.startswith("2 clips")
    assert "nearest the root" in note
    assert "03-01-01-01-01-01-01" in note


def test_one_recording_under_two_names_is_kept_twice_and_told(tmp_path):
    write_clip(tmp_path / "03-01-03-01-02-01-07.wav", 1)
    write_clip(tmp_path / "03-01-03-01-02-02-07.wav", 1)
    corpus = load_corpus(tmp_path)
    assert len(corpus.clips) == 2
    assert len({clip.content for clip in corpus.clips}) == 1
    assert "03-01-03-01-02-01-07 = 03-01-03-01-02-02-07" in only_note(corpus, "1 recording under several names")
    assert not any("different emotions" in note for note in corpus.notes)


def test_one_recording_under_two_emotions_is_told(tmp_path):
    write_clip(tmp_path / "03-01-03-01-02-01-07.wav", 1)
    write_clip(tmp_path / "03-01-04-01-02-01-07.wav", 1)
    note = only_note(load_corpus(tmp_path), "1 recording under different emotions")
    assert "03-01-03-01-02-01-07 (happy) = 03-01-04-01-02-01-07 (sad)" in note


def test_song_and_video_and_other_files_are_left_out_each_in_a_line(tmp_path):
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
def test_the_real_clips_are_1440_by_name_and_1439_by_content():
    corpus = load_corpus(REAL_CLIPS)
    assert len(corpus.clips) == 1440
    assert len({clip.content for clip in corpus.clips}) == 1439
    assert "03-01-03-01-02-01-07 = 03-01-03-01-02-02-07" in only_note(corpus, "1 recording under several names")
    counts = {emotion: sum(clip.emotion == emotion for clip in corpus.clips) for emotion in corpus.emotions}
    assert counts == {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS[:8]}


@needs_real_clips
@pytest.mark.slow
def test_real_clips_in_kaggles_and_in_the_flat_layout_give_one_corpus_and_one_split(tmp_path):
    for clip in REAL_CLIPS.glob("Actor_*/*.flac"):
        for place in (f"kaggle/{clip.parent.name}", f"kaggle/audio_speech_actors_01-24/{clip.parent.name}", "flat"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / place / clip.name).symlink_to(clip)
    kaggle, flat = load_corpus(tmp_path / "kaggle"), load_corpus(tmp_path / "flat")
    assert [(clip.name, clip.content) for clip in kaggle.clips] == [(clip.name, clip.content) for clip in flat.clips]
    assert len(kaggle.clips) == 1440
    assert split(kaggle, "random").tolist() == split(flat, "random").tolist()
    assert only_note(kaggle, "more than once").startswith("1440 clips")


# EMO-DB and folders named by emotion


def test_emodb_is_read_by_its_file_names(tmp_path):
    for number, name in enumerate(["03a01Fa", "08b10Wb", "16a05Tc", "09a02Nd"]):
        write_clip(tmp_path / "wav" / f"{name}.wav", number)
    corpus = load_corpus(tmp_path)
    assert corpus.name == "emodb"
    assert corpus.emotions == ("neutral", "happy", "sad", "angry")
    clip = corpus.clips[1]
    assert (clip.name, clip.speaker, clip.sex, clip.emotion, clip.statement) == (
        "08b10Wb",
        "08",
        "female",
        "angry",
        "b10",
    )
    assert clip.transcript == "Die wird auf dem Platz sein, wo wir sie immer hinlegen."
    assert "4 of 535 clips" in only_note(corpus, "part of EMO-DB")


def test_folders_named_by_emotion_with_the_speaker_in_the_nearest_other_folder(tmp_path):
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
    assert only_note(corpus, "left out") == "left out 1 file, in no folder named by an emotion: noise/w.wav"


def test_the_folder_that_an_archive_wraps_everything_in_is_no_speaker(tmp_path):
    write_clip(tmp_path / "tree" / "happy" / "x.wav", 1)
    write_clip(tmp_path / "tree" / "sad" / "x.wav", 2)
    corpus = load_corpus(write_zip(tmp_path / "mine.zip", tmp_path / "tree", top="mine/"))
    assert corpus.name == "mine"
    assert [(clip.name, clip.speaker) for clip in corpus.clips] == [("happy/x", ""), ("sad/x", "")]


def test_no_folder_names_an_emotion(tmp_path):
    write_clip(tmp_path / "corpus" / "noise" / "w.wav", 1)
    message = error_of(tmp_path / "corpus")
    assert "1 audio file" in message
    assert "noise/w.wav" in message
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


# Files that are no sound


def write_bad_files(folder: Path) -> None:
    write_clip(folder / "03-01-01-01-01-01-01.wav", 1)
    (folder / "03-01-02-01-01-01-01.wav").write_bytes(b"")
    (folder / "03-01-03-01-01-01-01.wav").write_text("this is text")
    soundfile.write(folder / "03-01-04-01-01-01-01.wav", np.zeros(0, np.float32), 8000)
    soundfile.write(folder / "03-01-05-01-01-01-01.wav", np.array([0.1, np.nan, np.inf]), 8000, subtype="FLOAT")
    soundfile.write(folder / "03-01-06-01-01-01-01.wav", np.zeros(400, np.float32), 8000)


BAD_FILES = [
    ("empty (0 bytes)", "02"),
    ("no audio that libsndfile reads", "03"),
    ("without a single sample", "04"),
    ("with samples that are NaN or infinite", "05"),
    ("silent (every sample is 0)", "06"),
]


@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_no_sound_is_left_out_and_named(tmp_path, zipped):
    write_bad_files(tmp_path / "tree")
    source = write_zip(tmp_path / "tree.zip", tmp_path / "tree") if zipped else tmp_path / "tree"
    for _ in range(2):  # The second time from the cache.
        corpus = load_corpus(source)
        assert len(corpus.clips) == 1
        for reason, emotion in BAD_FILES:
            assert only_note(corpus, reason) == f"left out 1 file, {reason}: 03-01-{emotion}-01-01-01-01.wav"


def test_what_is_no_sound_is_left_out_of_a_manifest_and_named(tmp_path):
    write_bad_files(tmp_path)
    rows = [f"03-01-{number:02d}-01-01-01-01.wav,happy,01\n" for number in range(1, 7)]
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker\n" + "".join(rows))
    corpus = load_corpus(tmp_path)
    assert len(corpus.clips) == 1
    for reason, emotion in BAD_FILES:
        assert only_note(corpus, reason).endswith(f"03-01-{emotion}-01-01-01-01.wav")


def test_a_sound_copy_stands_in_for_one_that_is_none(tmp_path):
    (tmp_path / "03-01-01-01-01-01-01.wav").write_bytes(b"")
    copy = write_clip(tmp_path / "copies" / "03-01-01-01-01-01-01.wav", 1)
    corpus = load_corpus(tmp_path)
    assert [clip.path for clip in corpus.clips] == [copy]
    assert only_note(corpus, "empty (0 bytes)")


def test_no_usable_clip(tmp_path):
    (tmp_path / "corpus").mkdir()
    assert "has no usable clip: give a folder or zip" in error_of(tmp_path / "corpus")
    (tmp_path / "corpus" / "03-01-01-01-01-01-01.wav").write_bytes(b"")
    assert "no usable clip (left out 1 file, empty (0 bytes): 03-01-01-01-01-01-01.wav)" in error_of(
        tmp_path / "corpus"
    )


def test_a_folder_that_holds_the_archive_says_so(tmp_path):
    (tmp_path / "corpus").mkdir()
    write_zip(tmp_path / "corpus" / "speech.zip", layout("tree", tmp_path))
    assert "it holds speech.zip" in error_of(tmp_path / "corpus")


def test_a_file_that_is_no_corpus(tmp_path):
    assert "neither a folder, a whole zip archive nor a manifest.csv" in error_of(write_clip(tmp_path / "x.wav", 1))


# manifest.csv


def write_manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    write_clip(folder / "a.wav", 1)
    write_clip(folder / "clips" / "b.wav", 2)
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder


FULL_MANIFEST = 'path,Emotion,speaker,transcript,sex,age\na.wav,joy,anna,"Äh, nein!",F,30\nclips/b.wav,sad,bert,,,\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("form", ["folder", "file", "zip", "wrapped zip"])
def test_a_manifest_in_every_form(tmp_path, form, encoding):
    folder = write_manifest(tmp_path / "mine", FULL_MANIFEST, encoding)
    source = {
        "folder": lambda: folder,
        "file": lambda: folder / "manifest.csv",
        "zip": lambda: write_zip(tmp_path / "mine.zip", folder),
        "wrapped zip": lambda: write_zip(tmp_path / "mine.zip", folder, top="mine/"),
    }[form]()
    corpus = load_corpus(source)
    assert corpus.name == "mine"
    assert [(clip.name, clip.emotion, clip.speaker) for clip in corpus.clips] == [
        ("a", "happy", "anna"),
        ("clips/b", "sad", "bert"),
    ]
    assert (corpus.clips[0].transcript, corpus.clips[0].sex) == ("Äh, nein!", "female")
    assert corpus.notes == ("1 column of the manifest not read: age",)


def test_a_ravdess_name_in_a_manifest_fills_sex_intensity_and_statement_only(tmp_path):
    write_clip(tmp_path / "03-01-06-02-02-01-12.wav", 1)
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker\n03-01-06-02-02-01-12.wav,happy,x\n")
    (clip,) = load_corpus(tmp_path).clips
    assert (clip.emotion, clip.speaker, clip.transcript) == ("happy", "x", "")
    assert (clip.sex, clip.intensity, clip.statement) == ("female", "strong", "02")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,speaker\na.wav,x\n", ["no column 'emotion'", "it has path, speaker"]),
        ("", ["no column 'path'", "it has nothing"]),
        ("path,emotion,speaker\n", ["has no rows"]),
        ("path,emotion,speaker\na.wav,sad,x\nnone.wav,sad,x\n", ["line 3", "no file 'none.wav'"]),
        ("path,emotion,speaker\na.wav,hapy,x\n", ["line 2", "unknown emotion 'hapy'", "did you mean 'happy'?"]),
        ("path,emotion,speaker\na.wav,,x\n", ["line 2", "unknown emotion ''", "known are neutral, calm"]),
        ("path,emotion,speaker\na.wav,sad,x\n./a.wav,sad,x\n", ["line 3", "'./a.wav' stands on line 2 already"]),
        ("path,emotion,speaker,transcript\na.wav,sad,x,no, never\n", ["line 2", "more cells than columns"]),
        ("path,emotion,speaker\n,sad,x\n", ["line 2", "names no path"]),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_in_one_line(tmp_path, text, said):
    message = error_of(write_manifest(tmp_path, text))
    assert str(tmp_path / "manifest.csv") in message
    for words in said:
        assert words in message


def test_a_manifest_in_another_encoding_is_refused(tmp_path):
    assert "not UTF-8" in error_of(write_manifest(tmp_path, FULL_MANIFEST, "latin-1"))


# Names, prepared corpora and the cache


def test_an_unknown_source_names_the_nearest():
    message = error_of("ravdes")
    assert "'ravdes': did you mean 'ravdess'?" in message
    assert "ravdess, emodb, demo" in message
    assert "no corpus or path ''" in error_of("")


@pytest.mark.parametrize("name", ["ravdess", "emodb"])
def test_a_corpus_that_is_not_prepared_says_how_to_prepare_it(name):
    assert prepared_path(name) is None
    assert f"`python -m emokeras.prepare --corpus {name}`" in error_of(name)


def test_a_prepared_corpus_is_found_in_its_folder_and_by_its_pointer(tmp_path, home):
    tree = layout("tree", tmp_path)
    pointer_path("ravdess").parent.mkdir(parents=True)
    pointer_path("ravdess").write_text(f"{tree}\n")
    assert prepared_path("ravdess") == tree
    assert len(load_corpus("ravdess").clips) == 64
    shutil.move(tree, home / "corpora" / "ravdess")
    assert len(load_corpus("ravdess").clips) == 64
    shutil.rmtree(home / "corpora" / "ravdess")
    assert f"it was at {tree}, which is gone" in error_of("ravdess")


def test_the_demo_corpus_is_made_once_and_told_in_one_line(monkeypatch, capsys):
    def make(folder):
        write_manifest(folder, "path,emotion,speaker\na.wav,sad,01\n")

    monkeypatch.setattr(demo, "make_demo_corpus", make)
    corpus = load_corpus("demo")
    assert corpus.name == "demo"
    assert capsys.readouterr().err.startswith("made the demo corpus in ")
    assert load_corpus("demo") == corpus
    assert capsys.readouterr().err == ""


def test_a_demo_corpus_that_another_process_made_meanwhile_is_taken_as_it_is(monkeypatch):
    make_demo_corpus = demo.make_demo_corpus
    others = []

    def make(folder):
        write_manifest(folder, "path,emotion,speaker\na.wav,sad,01\n")
        others.append((folder / "manifest.csv").stat().st_ino)
        make_demo_corpus(folder)

    monkeypatch.setattr(demo, "make_demo_corpus", make)
    corpus = load_corpus("demo")
    assert [clip.name for clip in corpus.clips] == ["a"]
    assert [corpus.clips[0].path.with_name("manifest.csv").stat().st_ino] == others


def test_a_demo_corpus_that_cannot_be_made_is_told(monkeypatch, home):
    def fail(folder):
        raise CorpusError("the disk is full")

    monkeypatch.setattr(demo, "make_demo_corpus", fail)
    with pytest.raises(CorpusError, match="the disk is full"):
        load_corpus("demo")


def test_a_broken_link_is_noted(tmp_path):
    tree = layout("tree", tmp_path)
    whole = load_corpus(tree)
    link = tree / "Actor_01" / f"{ravdess_names()[0]}.wav"
    link.rename(tmp_path / "elsewhere.wav")
    link.symlink_to(tmp_path / "not-fetched.wav")
    corpus = load_corpus(tree)
    assert len(corpus.clips) == len(whole.clips) - 1
    assert any(ravdess_names()[0] in note for note in corpus.notes)
    (tmp_path / "elsewhere.wav").rename(tmp_path / "not-fetched.wav")
    assert load_corpus(tree).clips == whole.clips


def test_a_name_that_is_not_utf_8_is_written_with_backslashes(tmp_path):
    tree = tmp_path / "happy"
    tree.mkdir()
    clip = write_clip(tree / "a.wav", 0)
    os.rename(clip, os.fsencode(tree) + b"/\xffa.wav")
    (corpus_clip,) = load_corpus(tmp_path).clips
    assert corpus_clip.name == r"happy/\udcffa"
    assert corpus_clip.path.is_file()


def test_a_manifest_in_a_locked_archive_is_told(tmp_path):
    archive = tmp_path / "corpus.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("manifest.csv", "path,emotion,speaker\na.wav,sad,01\n")
        file.writestr("a.wav", b"")
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag of encryption, in the member's header and in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(CorpusError, match=r"manifest.csv cannot be read \(.*encrypted.*: unpack the archive"):
        load_corpus(archive)


def test_clips_are_decoded_once_until_a_file_changes(tmp_path, monkeypatch):
    tree = layout("tree", tmp_path)
    decoded = []
    decode = audio.decode
    monkeypatch.setattr(audio, "decode", lambda path, member="": decoded.append(path) or decode(path, member))
    first = load_corpus(tree)
    assert len(decoded) == 64
    assert load_corpus(tree) == first
    assert len(decoded) == 64
    changed = write_clip(tree / "Actor_01" / f"{ravdess_names()[0]}.wav", 1000)
    os.utime(changed, ns=(0, 0))
    assert load_corpus(tree).clips[0].content != first.clips[0].content


def test_a_damaged_cache_is_made_again(tmp_path, home):
    tree = layout("tree", tmp_path)
    first = load_corpus(tree)
    for cache in (home / "contents").iterdir():
        cache.write_text("[[")
    assert load_corpus(tree) == first
