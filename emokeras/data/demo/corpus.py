"""The files of the demo corpus: clips named as RAVDESS's, and their manifest."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from emokeras.data.demo.cues import DEMO_EMOTIONS, Speaker, draw_cues, draw_speaker
from emokeras.data.demo.voice import SAMPLE_RATE_HZ, synthesize
from emokeras.data.demo.words import draw_transcript
from emokeras.errors import CorpusError, UsageError
from emokeras.files import replacing, write_csv

DEMO_VERSION = 2  # Raised with every change of the sound, words or names, so that no cache keeps an older corpus.
MAX_SPEAKERS, MAX_TAKES = 24, 4


@dataclass(frozen=True)
class _Clip:
    """A clip to make, by the codes of its name."""

    emotion: str
    intensity: int
    statement: int
    repetition: int
    actor: int

    @property
    def path(self) -> str:
        """Its path in the corpus, as RAVDESS names it: modality 03 is audio only, channel 01 is speech."""
        emotion = DEMO_EMOTIONS.index(self.emotion) + 1
        codes = (3, 1, emotion, self.intensity, self.statement, self.repetition, self.actor)
        return f"Actor_{self.actor:02d}/" + "-".join(f"{code:02d}" for code in codes) + ".wav"


def _plan_clips(num_speakers: int, takes: int) -> Iterator[_Clip]:
    """Yield the clips. The statement alternates from take to take, and half of the takes are strong, except neutral."""
    for actor in range(1, num_speakers + 1):
        for emotion in DEMO_EMOTIONS:
            for take in range(takes):
                statement, repetition = 1 + take % 2, 1 + take // 2
                strong = emotion != "neutral" and statement != repetition
                yield _Clip(emotion, 2 if strong else 1, statement, repetition, actor)


def make_clip(seed: int, clip: _Clip, speaker: Speaker) -> tuple[str, np.ndarray]:
    """Return the transcript and the waveform [samples] of a clip, drawn from the seed and the clip alone."""
    emotion = DEMO_EMOTIONS.index(clip.emotion)
    key = (seed, clip.actor, emotion, clip.intensity, clip.statement, clip.repetition)
    words, voice = (np.random.default_rng((*key, stream)) for stream in (1, 2))
    transcript = draw_transcript(words, clip.emotion)
    cues = draw_cues(voice, speaker, clip.emotion, clip.intensity)
    return transcript, synthesize(voice, transcript, cues, speaker)


def make_demo_corpus(folder: Path, num_speakers: int = 20, takes: int = 4, seed: int = 0) -> None:
    """Write the demo corpus: `Actor_XX/03-01-EE-II-SS-RR-AA.wav` (16 kHz, 16 bit, mono) and `manifest.csv`.

    The same arguments give the same bytes. The folder appears when it is complete.

    Parameters
    ----------
    folder: where to write; must be new or empty.
    num_speakers: 1 to 24; odd actors are men, even ones women.
    takes: clips of each emotion by each speaker, 1 to 4.
    seed: draws voices, words and sound.

    Raises
    ------
    UsageError: a number is out of range. CorpusError: the folder is not empty, or cannot be written.
    """
    from tqdm import tqdm

    if not (1 <= num_speakers <= MAX_SPEAKERS and 1 <= takes <= MAX_TAKES and seed >= 0):
        raise UsageError(
            f"a demo corpus of num_speakers={num_speakers}, takes={takes}, seed={seed} cannot be made: "
            f"give 1 to {MAX_SPEAKERS} speakers, 1 to {MAX_TAKES} takes and a seed of 0 or more"
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError(f"{folder} is not empty: delete it, or name another folder for the demo corpus")
    clips = list(_plan_clips(num_speakers, takes))
    speakers = {number: draw_speaker(seed, number) for number in range(1, num_speakers + 1)}
    try:
        with replacing(folder) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool:

            def write(clip: _Clip) -> tuple[str, str, str, str]:
                transcript, waveform = make_clip(seed, clip, speakers[clip.actor])
                samples = np.round(waveform * 32767).astype(np.int16)
                soundfile.write(temporary / clip.path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
                return clip.path, clip.emotion, f"{clip.actor:02d}", transcript

            for number in speakers:
                (temporary / f"Actor_{number:02d}").mkdir(parents=True)
            made = pool.map(write, clips)
            rows = list(tqdm(made, "making the demo corpus", len(clips), unit="clip", leave=False, disable=None))
            write_csv(temporary / "manifest.csv", ("path", "emotion", "speaker", "transcript"), rows)
    except OSError as error:
        if not (folder / "manifest.csv").exists():  # Otherwise another process has made the same corpus meanwhile.
            raise CorpusError(
                f"{folder} cannot be written ({error}): free some space, or name another folder"
            ) from error
