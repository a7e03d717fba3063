"""Berlin EMO-DB: parse its file names; where its archive is published.

Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005: ten actors, ten sentences, seven emotions,
535 clips. A name such as 03a01Fa.wav has the speaker, the sentence, the emotion's German initial and the take.
"""

import re

from emokeras.data.corpora.download import Archive
from emokeras.data.corpora.ravdess import FileName

TITLE = "EMO-DB"
EMOTIONS = {  # Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral
    "W": "angry",
    "L": "boredom",
    "E": "disgust",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
STATEMENTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
SEXES = dict.fromkeys(("03", "10", "11", "12", "15"), "male") | dict.fromkeys(("08", "09", "13", "14", "16"), "female")
NUM_CLIPS = 535
NUM_SPEAKERS = 10
EXAMPLE_NAME = "03a01Fa.wav"
ARCHIVE = Archive(url="http://emodb.bilderbar.info/download/download.zip")

_NAME = re.compile(rf"({'|'.join(SEXES)})({'|'.join(STATEMENTS)})([{''.join(EMOTIONS)}])([a-z])")


def parse(stem: str) -> FileName | None:
    """Parse a file name without its suffix; return None for any other than EMO-DB's."""
    match = _NAME.fullmatch(stem)
    if not match:
        return None
    speaker, statement, emotion, _ = match.groups()
    return FileName(
        emotion=EMOTIONS[emotion],
        speaker=speaker,
        sex=SEXES[speaker],
        statement=statement,
        transcript=STATEMENTS[statement],
    )
