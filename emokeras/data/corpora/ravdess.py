"""RAVDESS: parse its file names; where its archive is published.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 13(5): e0196391, 2018;
Zenodo record 1188976, CC BY-NC-SA 4.0. A name such as 03-01-06-01-02-01-12.wav has seven numbers of two digits:
modality, vocal channel, emotion, intensity, statement, repetition, actor (an odd number is a man).
"""

import re
from dataclasses import dataclass

from emokeras.data.corpora.download import Archive

TITLE = "RAVDESS"
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
NUM_CLIPS = 1440
NUM_SPEAKERS = 24
EXAMPLE_NAME = "03-01-06-01-02-01-12.wav"
ARCHIVE = Archive(
    url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
    size_bytes=208_468_073,
    md5="bc696df654c87fed845eb13823edef8a",
)

_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1[0-9]|2[0-4])")


@dataclass(frozen=True)
class FileName:
    """The fields of a file name. `left_out` is why the clip is not part of the corpus, "" where it is."""

    emotion: str
    speaker: str
    sex: str
    statement: str
    transcript: str
    intensity: str = ""
    left_out: str = ""


def parse(stem: str) -> FileName | None:
    """Parse a file name without its suffix; return None for any other than RAVDESS's."""
    match = _NAME.fullmatch(stem)
    if not match:
        return None
    modality, channel, emotion, intensity, statement, _, actor = match.groups()
    return FileName(
        emotion=EMOTIONS[int(emotion) - 1],
        speaker=actor,
        sex="male" if int(actor) % 2 else "female",
        statement=statement,
        transcript=STATEMENTS[statement],
        intensity="strong" if intensity == "02" else "normal",
        left_out="song" if channel == "02" else "video" if modality != "03" else "",
    )
