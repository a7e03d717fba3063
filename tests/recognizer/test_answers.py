"""Recordings become blocks and batches without loss; answers are pooled by speech; each doubt has its remark."""

import numpy as np
import pytest
from scipy.special import softmax

from emokeras.recognizer.answers import BLOCK_SECONDS, Answer, Block, batches_of, blocks_of, pool, remark_on

RATE = 100  # A block has 6000 samples.
NAN = np.full(3, np.nan, np.float32)
GOOD = {"speech_seconds": 2.0, "snr_decibels": 30.0, "bandwidth_hz": 6600.0, "clipped_share": 0.0}


def parts(samples: int, size: int) -> list[np.ndarray]:
    """Return the numbers from 0 as a recording of `samples`, in parts of `size`."""
    return np.split(np.arange(samples, dtype=np.float32), range(size, samples, size))


# Blocks


@pytest.mark.parametrize("size", [1, 7, 2000, 6000, 11999, 100_000])
@pytest.mark.parametrize(
    ("samples", "expected"),
    [(1, [1]), (5999, [5999]), (11999, [11999]), (12000, [6000, 6000]), (20001, [6000, 6000, 8001])],
)
def test_blocks_are_the_whole_recording_in_its_order(samples, expected, size):
    """All but the last are a minute; that has up to two, so that none is short."""
    assert BLOCK_SECONDS * RATE == 6000
    blocks = list(blocks_of(parts(samples, size), RATE))
    assert [len(block) for block in blocks] == expected
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(samples))


def test_a_recording_without_samples_has_no_block():
    assert not list(blocks_of([], RATE))
    assert not list(blocks_of([np.zeros(0, np.float32)], RATE))


def test_blocks_come_while_the_recording_is_read():
    read = []

    def reading():
        for number in range(10):
            read.append(number)
            yield np.zeros(6000, np.float32)

    next(blocks_of(reading(), RATE))
    assert read == [0, 1]


# Batches


def batches(*samples: int) -> list[list[int]]:
    """Return the numbers of the blocks of given lengths in each batch."""
    blocks = [Block(number, np.zeros(length)) for number, length in enumerate(samples)]
    return [[block.recording for block in batch] for batch in batches_of(blocks, RATE)]


def test_batches_are_limited_in_clips_and_in_padded_length():
    """Neighbors are batched in their order, so that a long clip does not make many short ones long."""
    assert batches(*[10] * 20) == [list(range(16)), list(range(16, 20))]
    assert batches(3000, 3000) == [[0, 1]]
    assert batches(3000, 3001) == [[0], [1]]  # Padded to the longest they are 6002 samples.
    assert batches(10, 10, 5900, 10, 10, 12000, 10) == [[0, 1], [2], [3, 4], [5], [6]]
    assert batches() == []


def test_transcripts_alone_are_batched_by_their_number():
    blocks = [Block(number, None, "text") for number in range(33)]
    assert [len(batch) for batch in batches_of(blocks, RATE)] == [16, 16, 1]


# Pooling


def answer(*logits: float, **quality: float) -> Answer:
    return Answer(softmax(np.array(logits)).astype(np.float32), quality)


def test_one_block_is_its_own_answer():
    only = answer(1.0, 2.0, 3.0, **GOOD)
    assert pool([only], [2.5]) is only


def test_answers_are_pooled_by_the_speech_in_their_blocks():
    """The mean of logits, in proportion to speech, not to length; quality likewise."""
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [2.0, 2.0, -4.0]])
    speech = np.array([10.0, 50.0, 0.5])
    noise = [10.0, 20.0, 30.0]
    answers = [
        answer(*row, **(GOOD | {"speech_seconds": seconds, "snr_decibels": snr}))
        for row, seconds, snr in zip(logits, speech, noise, strict=True)
    ]
    pooled = pool(answers, [60.0, 60.0, 90.0])
    np.testing.assert_allclose(pooled.probabilities, softmax(speech @ logits / speech.sum()), rtol=1e-5)
    assert pooled.probabilities.dtype == np.float32
    assert pooled.quality["speech_seconds"] == 60.5
    assert pooled.quality["snr_decibels"] == pytest.approx(np.average(noise, weights=speech))
    assert pooled.quality["bandwidth_hz"] == pytest.approx(6600.0)


def test_a_model_that_measures_nothing_is_pooled_by_length():
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    pooled = pool([answer(*row) for row in logits], [60.0, 90.0])
    np.testing.assert_allclose(pooled.probabilities, softmax([0.4, 0.6] @ logits), rtol=1e-5)
    assert pooled.quality == {}


def test_blocks_without_an_answer_are_left_out():
    given = answer(0.0, 1.0, 2.0, **(GOOD | {"speech_seconds": 3.0}))
    silent = Answer(NAN, dict.fromkeys(GOOD, 0.0))
    pooled = pool([silent, given, silent], [60.0] * 3)
    np.testing.assert_allclose(pooled.probabilities, given.probabilities, rtol=1e-5)
    assert pooled.quality == pytest.approx(given.quality)


def test_a_recording_without_an_answer_in_any_block_has_none():
    """Its remark may be that there is too little speech."""
    silent = Answer(NAN, dict.fromkeys(GOOD, 0.0))
    pooled = pool([silent, silent], [60.0, 60.0])
    assert not pooled.is_given
    assert pooled.quality == dict.fromkeys(GOOD, 0.0)
    click = Answer(NAN, GOOD | {"speech_seconds": 0.05})
    assert pool([silent, click], [60.0, 60.0]).quality == pytest.approx(GOOD | {"speech_seconds": 0.05})


def test_probabilities_of_0_are_pooled_to_finite_ones():
    sure = [Answer(np.array(row, np.float32), GOOD) for row in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])]
    pooled = pool(sure, [60.0, 60.0]).probabilities
    np.testing.assert_allclose(pooled, [0.5, 0.5, 0.0], atol=1e-6)


# Remarks


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, ""),
        ({"speech_seconds": 0.31}, "only 0.3 s of speech: do not rely on it"),
        ({"clipped_share": 0.034}, "clipped: 3% of the samples are at the limit; record at a lower level"),
        ({"snr_decibels": 6.4}, "noisy: the speech is 6 dB above the noise"),
        ({"bandwidth_hz": 3441.0}, "band-limited: nothing above 3.4 kHz, as on a telephone"),
        ({"speech_seconds": 0.2, "clipped_share": 0.5}, "only 0.2 s of speech: do not rely on it"),
        ({"clipped_share": 0.01, "snr_decibels": 10.0, "bandwidth_hz": 3800.0, "speech_seconds": 0.5}, ""),
    ],
)
def test_each_doubt_has_its_remark(changes, remark):
    assert remark_on(answer(0.0, 1.0, 0.0, **(GOOD | changes))) == remark


def test_without_an_answer_the_remark_says_why():
    silent = dict.fromkeys(GOOD, 0.0)
    assert remark_on(Answer(NAN, silent)) == "no speech found"
    assert remark_on(Answer(NAN, GOOD | {"speech_seconds": 0.08})) == "too little speech to judge"


def test_a_model_that_measures_nothing_makes_no_remark():
    assert remark_on(answer(0.0, 1.0, 0.0)) == ""
