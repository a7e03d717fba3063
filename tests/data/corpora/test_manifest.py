"""manifest.csv: the clips it describes, and one line with the line number for what does not fit."""

import zipfile

import pytest
from corpus_files import error_of, write_clip, write_manifest, write_zip

from emokeras.data.corpora import load_corpus

FULL_MANIFEST = 'path,Emotion,speaker,transcript,sex,age\na.wav,joy,anna,"Äh, nein!",F,30\nclips/b.wav,sad,bert,,,\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("form", ["folder", "file", "zip", "wrapped zip"])
def test_a_manifest_in_a_folder_an_archive_or_alone(tmp_path, form, encoding):
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
    assert corpus.notes == ("1 column of the manifest ignored: age",)


def test_a_ravdess_name_fills_in_sex_intensity_and_statement_only(tmp_path):
    write_clip(tmp_path / "03-01-06-02-02-01-12.wav", 1)
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker\n03-01-06-02-02-01-12.wav,happy,x\n")
    (clip,) = load_corpus(tmp_path).clips
    assert (clip.emotion, clip.speaker, clip.transcript) == ("happy", "x", "")
    assert (clip.sex, clip.intensity, clip.statement) == ("female", "strong", "02")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,speaker\na.wav,x\n", ["no column 'emotion'", "it has path, speaker"]),
        ("", ["no column 'path'", "it has nothing"]),
        ("path,emotion,speaker\n", ["has no rows"]),
        ("path,emotion,speaker\na.wav,sad,x\nnone.wav,sad,x\n", ["a file is missing, 'none.wav' on line 3"]),
        (
            "path,emotion,speaker\na.wav,sad,x\n" + "".join(f"{name}.wav,sad,x\n" for name in "bcdef"),
            ["5 of 6 files are missing, 'b.wav' on line 3, 'c.wav' on line 4, 'd.wav' on line 5 and 2 more"],
        ),
        ("path,emotion,speaker,start,end\na.wav,sad,x,0,1\n", ["column 'start' are parts of files"]),
        ("path,emotion,speaker\na.wav,hapy,x\n", ["line 2", "unknown emotion 'hapy'", "did you mean 'happy'?"]),
        ("path,emotion,speaker\na.wav,,x\n", ["line 2", "unknown emotion ''", "known are neutral, calm"]),
        ("path,emotion,speaker\na.wav,sad,x\n./a.wav,sad,x\n", ["line 3", "'./a.wav' is on line 2 already"]),
        ("path,emotion,speaker,transcript\na.wav,sad,x,no, never\n", ["line 2", "more cells than columns"]),
        ("path,emotion,speaker\n,sad,x\n", ["line 2", "has no path"]),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_in_one_line(tmp_path, text, expected):
    message = error_of(write_manifest(tmp_path, text))
    assert str(tmp_path / "manifest.csv") in message
    for words in expected:
        assert words in message


def test_a_manifest_in_another_encoding_is_refused(tmp_path):
    assert "not UTF-8" in error_of(write_manifest(tmp_path, FULL_MANIFEST, "latin-1"))


def test_a_manifest_in_an_encrypted_archive_is_refused(tmp_path):
    archive = tmp_path / "corpus.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("manifest.csv", "path,emotion,speaker\na.wav,sad,01\n")
        file.writestr("a.wav", b"")
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag of encryption, in the member's header and in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    message = error_of(archive)
    assert "manifest.csv cannot be read (" in message
    assert "encrypted" in message
    assert ": unpack the archive" in message


@pytest.mark.parametrize(
    "text",
    [
        ",path,emotion,speaker\n0,clips/a.wav,sad,x\n1,clips/b.wav,happy,y\n",  # as pandas writes it
        "path;emotion;speaker;transcript\nclips/a.wav;sad;x;no, never\nclips/b.wav;happy;y;\n",
        "path\temotion\tspeaker\nclips/a.wav\tsad\tx\nclips/b.wav\thappy\ty\n",
        "file_name,label,speaker_id\nclips/a.wav,sad,x\nclips/b.wav,happy,y\n",
        "path,emotion,speaker\nclips\\a.wav,sad,x\nclips\\b.wav,happy,y\n",
    ],
    ids=["a column without a name", "semicolons", "tabs", "other names", "backslashes"],
)
def test_tables_as_other_programs_write_them(tmp_path, text):
    write_clip(tmp_path / "clips" / "a.wav", 1)
    write_clip(tmp_path / "clips" / "b.wav", 2)
    (tmp_path / "manifest.csv").write_text(text)
    corpus = load_corpus(tmp_path)
    found = [(clip.name, clip.emotion, clip.speaker) for clip in corpus.clips]
    assert found == [("clips/a", "sad", "x"), ("clips/b", "happy", "y")]
    assert corpus.notes == ()


def test_a_name_in_another_unicode_form_is_the_same_file(tmp_path):
    apart, together = "u\u0308.wav", "\u00fc.wav"
    write_clip(tmp_path / apart, 1)
    (tmp_path / "manifest.csv").write_text(f"path,emotion,speaker\n{together},sad,x\n", encoding="utf-8")
    (clip,) = load_corpus(tmp_path).clips
    assert clip.path.name == apart


def test_a_column_has_the_split_of_the_corpus(tmp_path):
    for number, name in enumerate("abcd"):
        write_clip(tmp_path / f"{name}.wav", number + 1)
    rows = "a.wav,sad,x,Train\nb.wav,sad,x,dev\nc.wav,sad,x,test\nd.wav,sad,x,\n"
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker,subset\n" + rows)
    assert [clip.split for clip in load_corpus(tmp_path).clips] == ["train", "validation", "test", ""]
    (tmp_path / "manifest.csv").write_text("path,emotion,speaker,split\n" + rows.replace("dev", "third"))
    assert "line 3: unknown split 'third': known are train, training, val" in error_of(tmp_path)
