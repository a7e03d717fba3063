"""EMO-DB's file names."""

import pytest

from emokeras.data.corpora import emodb


def test_the_fields_of_a_name():
    name = emodb.parse("13b09Lc")
    assert (name.speaker, name.sex, name.emotion, name.statement) == ("13", "female", "boredom", "b09")
    assert name.transcript == "Ich will das eben wegbringen und dann mit Karl was trinken gehen."
    assert (name.intensity, name.left_out) == ("", "")


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [
        ("W", "angry"),
        ("L", "boredom"),
        ("E", "disgust"),
        ("A", "fearful"),
        ("F", "happy"),
        ("T", "sad"),
        ("N", "neutral"),
    ],
)
def test_emotions(letter, emotion):
    assert emodb.parse(f"03a01{letter}a").emotion == emotion


def test_ten_speakers_five_of_each_sex_and_ten_sentences():
    assert len(emodb.SEXES) == emodb.NUM_SPEAKERS == len(emodb.STATEMENTS) == 10
    assert sorted(emodb.SEXES.values()) == ["female"] * 5 + ["male"] * 5


@pytest.mark.parametrize("stem", ["", "03a01Xa", "04a01Fa", "03a03Fa", "03a01F", "03a01Faa", "03-01-01-01-01-01-01"])
def test_other_names_are_none(stem):
    assert emodb.parse(stem) is None
