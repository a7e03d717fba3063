"""RAVDESS's file names."""

import pytest

from emokeras.data.corpora import ravdess


def test_the_fields_of_a_name():
    name = ravdess.parse("03-01-06-02-02-01-12")
    assert (name.emotion, name.intensity, name.statement) == ("fearful", "strong", "02")
    assert (name.speaker, name.sex, name.left_out) == ("12", "female", "")
    assert name.transcript == "Dogs are sitting by the door"


def test_emotions_are_numbered_in_order():
    names = [ravdess.parse(f"03-01-{number:02d}-01-01-01-01") for number in range(1, 9)]
    assert tuple(name.emotion for name in names) == ravdess.EMOTIONS
    assert {name.sex for name in names} == {"male"}
    assert {name.intensity for name in names} == {"normal"}


@pytest.mark.parametrize(
    ("stem", "left_out"),
    [
        ("03-01-01-01-01-01-01", ""),
        ("03-02-01-01-01-01-01", "song"),
        ("01-01-01-01-01-01-01", "video"),
        ("02-02-01-01-01-01-01", "song"),
    ],
)
def test_only_audio_of_speech_is_part_of_the_corpus(stem, left_out):
    assert ravdess.parse(stem).left_out == left_out


@pytest.mark.parametrize(
    "stem",
    [
        "",
        "03-01-01-01-01-01",
        "03-01-01-01-01-01-25",
        "03-01-01-01-01-01-00",
        "03-01-09-01-01-01-01",
        "03-01-00-01-01-01-01",
        "04-01-01-01-01-01-01",
        "03-01-01-03-01-01-01",
        "03-01-01-01-01-01-01 (1)",
        "3-1-1-1-1-1-1",
    ],
)
def test_other_names_are_none(stem):
    assert ravdess.parse(stem) is None


def test_the_archive_is_the_published_one():
    assert ravdess.ARCHIVE.size_bytes == 208_468_073
    assert ravdess.ARCHIVE.md5 == "bc696df654c87fed845eb13823edef8a"
    assert "1188976" in ravdess.ARCHIVE.url
