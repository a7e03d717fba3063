"""Recordings of any length to blocks, the answers for blocks to one for each recording, and what to say beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

CLIPS_PER_BATCH, SECONDS_PER_BATCH = 16, 60.0  # at most, padded to the longest; a longer block is a batch of one
BLOCK_SECONDS = 60.0  # A recording is answered in blocks of this length; its last one is up to twice as long.
QUALITY = ("speech_seconds", "snr_decibels", "bandwidth_hz", "clipped_share")

# When to doubt an answer.
SHORT_SECONDS = 0.5  # of speech
CLIPPED_SHARE = 0.01
NOISY_DECIBELS = 10.0
NARROW_HZ = 3800.0  # A telephone has 3400.


class Block(NamedTuple):
    """A part of a recording: the recording's number, its waveform [samples] (none where no network takes audio) and its
    transcript (none where no network takes any)."""

    recording: int
    waveform: np.ndarray | None
    transcript: str | None = None

    @property
    def samples(self) -> int:
        return 0 if self.waveform is None else len(self.waveform)


class Answer(NamedTuple):
    """An answer: probabilities, float32 [emotions], NaN where there is none, and QUALITY by name, as in
    `data.activity.recording_quality`; {} from a model that does not measure it."""

    probabilities: np.ndarray
    quality: dict[str, float]

    @property
    def is_given(self) -> bool:
        return bool(np.isfinite(self.probabilities).all())


def blocks_of(parts: Iterable[np.ndarray], sample_rate_hz: int) -> Iterator[np.ndarray]:
    """Yield the blocks of a recording, float32 [samples] each; `parts` are its samples in order, in parts of any
    length. A recording of less than two blocks is one block."""
    block = round(BLOCK_SECONDS * sample_rate_hz)
    waiting = np.zeros(0, np.float32)
    for part in parts:
        waiting = np.concatenate([waiting, part])
        while len(waiting) >= 2 * block:
            yield waiting[:block]
            waiting = waiting[block:]
    if len(waiting):
        yield waiting


def batches_of(blocks: Iterable[Block], sample_rate_hz: int) -> Iterator[list[Block]]:
    """Yield blocks in batches, in their order: at most CLIPS_PER_BATCH, and at most SECONDS_PER_BATCH when padded to
    the longest."""
    batch: list[Block] = []
    for block in blocks:
        longest = max(one.samples for one in (*batch, block))
        padded = longest * (len(batch) + 1)
        if batch and (len(batch) == CLIPS_PER_BATCH or padded > SECONDS_PER_BATCH * sample_rate_hz):
            yield batch
            batch = []
        batch.append(block)
    if batch:
        yield batch


def pool(answers: Sequence[Answer], seconds: Sequence[float]) -> Answer:
    """Return one answer for a recording from those for its blocks, each in proportion to the speech in it.

    The logarithms of the probabilities are averaged. For one network this is the mean logit of all windows. Blocks
    without an answer are left out; a recording without any has none.

    Parameters
    ----------
    seconds: the length of each block, which weighs it where the model does not measure its speech.
    """
    if len(answers) == 1:
        return answers[0]
    speech = [answer.quality.get("speech_seconds", own) for answer, own in zip(answers, seconds, strict=True)]
    given = np.array([answer.is_given for answer in answers])
    quality = _pooled_quality([answer.quality for answer in answers], speech)
    if not given.any():
        return Answer(answers[0].probabilities, quality)
    weights = np.array(speech)[given] + 1e-9  # so that they never sum to 0
    tiny = np.finfo(np.float32).tiny
    logarithms = np.log(np.maximum([answer.probabilities for answer in answers if answer.is_given], tiny))
    mean = weights @ logarithms.astype(np.float64) / weights.sum()
    probabilities = np.exp(mean - mean.max())
    return Answer((probabilities / probabilities.sum()).astype(np.float32), quality)


def _pooled_quality(blocks: Sequence[Mapping[str, float]], speech: Sequence[float]) -> dict[str, float]:
    if not all(blocks):
        return {}
    total = sum(speech)
    pooled = {"speech_seconds": float(total)}
    for name in QUALITY[1:]:
        values = [block[name] for block in blocks]
        pooled[name] = float(np.average(values, weights=speech)) if total else 0.0
    return pooled


def remark_on(answer: Answer) -> str:
    """Return why not to trust an answer, in a few words; "" where nothing speaks against it."""
    quality = answer.quality
    if not quality:
        return ""
    if not answer.is_given:
        return "no speech found" if quality["speech_seconds"] == 0 else "too little speech to judge"
    if quality["speech_seconds"] < SHORT_SECONDS:
        return f"only {quality['speech_seconds']:.1f} s of speech: do not rely on it"
    if quality["clipped_share"] > CLIPPED_SHARE:
        return f"clipped: {quality['clipped_share']:.0%} of the samples are at the limit; record at a lower level"
    if quality["snr_decibels"] < NOISY_DECIBELS:
        return f"noisy: the speech is {quality['snr_decibels']:.0f} dB above the noise"
    if quality["bandwidth_hz"] < NARROW_HZ:
        return f"band-limited: nothing above {quality['bandwidth_hz'] / 1000:.1f} kHz, as on a telephone"
    return ""
