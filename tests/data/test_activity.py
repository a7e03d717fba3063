"""Speech is found in noise, and none where there is none; a clip alone is as in a batch; quality is as it was made."""

import functools

import librosa
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf
from sounds import RATE, needs_real_clips, noise, real_clips, room_noise, syllables, tone, vowel

from emokeras.config import AudioConfig
from emokeras.data.activity import find_speech, lengths, recording_quality, without_offset

HOP = 160  # samples
SIGNATURE = [tf.TensorSpec([None, None], tf.float32)]
# Sixty clips: every actor, every emotion but neutral with both statements and intensities.
SIXTY = tuple(
    f"{2 + number % 7:02d}-{1 + number // 7 % 2:02d}-{1 + number // 14 % 2:02d}-01-{1 + number % 24:02d}"
    for number in range(60)
)
FIVE = SIXTY[3::12]


@functools.cache
def graph(speech_decibels: float, rate: int):
    """Return `find_speech` of waveforms with a constant offset, in graph: 100 clips one by one take a second."""
    config = AudioConfig(sample_rate_hz=rate, speech_decibels=speech_decibels)
    return tf.function(lambda waveforms: find_speech(without_offset(waveforms), config), input_signature=SIGNATURE)


quality_graph = functools.cache(
    lambda rate: tf.function(lambda waveforms: recording_quality(waveforms, rate), input_signature=SIGNATURE)
)


def speech_of(waveform: np.ndarray, decibels: float = 40.0, rate: int = RATE) -> np.ndarray:
    """Return which hops of one clip are speech, bool [hops]."""
    return graph(decibels, rate)(waveform[np.newaxis]).speech[0].numpy()


def quality_of(waveform: np.ndarray, rate: int = RATE) -> dict[str, float]:
    return {name: float(value[0]) for name, value in quality_graph(rate)(waveform[np.newaxis]).items()}


def span_of(speech: np.ndarray) -> tuple[int, int]:
    """Return the first hop of speech and the one after the last."""
    hops = np.flatnonzero(speech)
    return hops[0], hops[-1] + 1


def old_span(waveform: np.ndarray, decibels: float) -> tuple[int, int]:
    """Return what librosa keeps of a clip, in hops."""
    _, samples = librosa.effects.trim(waveform - waveform.mean(), top_db=decibels, frame_length=4 * HOP, hop_length=HOP)
    return samples[0] // HOP, -(-samples[1] // HOP)


def in_noise(clip: np.ndarray, kind: str, snr_decibels: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a clip with noise under it and for a second around it, and that noise alone."""
    padded = np.pad(clip, RATE)
    hiss = noise(len(padded), 1.0, seed) if kind == "white" else room_noise(len(padded), seed)
    hiss *= np.sqrt(np.mean(clip**2) * 10 ** (-snr_decibels / 10))
    return (padded + hiss).astype(np.float32), hiss


def trimmed(clip: np.ndarray) -> np.ndarray:
    first, stop = old_span(clip, 40.0)
    return clip[first * HOP : stop * HOP]


# Speech in noise


@pytest.mark.parametrize("snr_decibels", [20.0, 10.0, 5.0])
@pytest.mark.parametrize("kind", ["white", "room"])
def test_speech_is_found_in_noise(kind, snr_decibels):
    for seed in range(4):
        clip = syllables(2.5, seed=seed)
        speech = speech_of(in_noise(clip, kind, snr_decibels, seed)[0])
        first, stop = span_of(speech)
        assert abs(first - 100) <= 5
        assert abs(stop - 350) <= 5
        assert speech[first:stop].all()


@needs_real_clips
@pytest.mark.parametrize(("snr_decibels", "least"), [(20.0, 0.85), (10.0, 0.75), (5.0, 0.7)])
@pytest.mark.parametrize("kind", ["white", "room"])
def test_real_speech_is_found_in_noise(kind, snr_decibels, least):
    """Its loud parts: what is below the noise cannot be."""
    shares = []
    for number, clip in enumerate(real_clips(SIXTY[::4])):
        own = trimmed(clip)
        noisy, hiss = in_noise(own, kind, snr_decibels, number)
        speech = speech_of(noisy)
        assert speech.any()
        around = np.r_[speech[:90], speech[-90:]]
        assert not around.any()
        level = librosa.feature.rms(y=own, frame_length=4 * HOP, hop_length=HOP, pad_mode="constant")[0]
        loud = level**2 > 2 * np.mean(hiss**2)
        assert speech[100 : 100 + len(loud)][loud].mean() > 0.9
        shares.append(speech[100 : 100 + len(loud)].mean())
    assert np.mean(shares) > least


@pytest.mark.parametrize("decibels", [-20.0, -40.0])
def test_activity_does_not_depend_on_the_level(decibels):
    clips = [syllables(2.0, silence_seconds=0.4), in_noise(syllables(1.5), "room", 10.0)[0], *real_clips(FIVE)]
    for clip in clips:
        whole, quiet = speech_of(clip), speech_of((clip * 10 ** (decibels / 20)).astype(np.float32))
        assert (whole != quiet).sum() <= 1  # A level may round to the other side.


def test_a_constant_offset_changes_nothing():
    clip = syllables(1.5, silence_seconds=0.5)
    np.testing.assert_array_equal(speech_of(clip + np.float32(0.2)), speech_of(clip))


@pytest.mark.parametrize(("seconds", "least"), [(0.4, 0.8), (1.0, 0.95), (2.5, 0.95)])
def test_a_clip_that_is_speech_from_end_to_end_is_kept(seconds, least):
    """Where no quiet part shows the noise, the quietest syllables are taken for it."""
    for seed in range(4):
        assert speech_of(syllables(seconds, seed=seed)).mean() > least


@needs_real_clips
def test_real_clips_cut_to_their_speech_lose_little():
    lost = []
    for clip in real_clips(SIXTY[::2]):
        whole = speech_of(clip)
        first, stop = span_of(whole)
        cut = speech_of(clip[first * HOP : stop * HOP])[: stop - first]
        lost.append((whole[first:stop] & ~cut).sum() / whole.sum())
    assert np.median(lost) < 0.03
    assert max(lost) < 0.2


@needs_real_clips
@pytest.mark.parametrize("decibels", [40.0, 55.0])
def test_on_clean_clips_the_span_is_that_of_the_old_trimming(decibels):
    """To 50 ms on 95 % of the clips."""
    clips = real_clips(SIXTY)
    ends = np.array([[span_of(speech_of(clip, decibels)), old_span(clip, decibels)] for clip in clips])
    close = (np.abs(ends[:, 0] - ends[:, 1]) <= 5).all(axis=1)
    assert len(close) == 60
    assert close.mean() >= 0.95


# What is no speech


WITHOUT_SPEECH = {
    "silence": np.zeros(RATE),
    "offset": np.full(RATE, 0.3),
    "10 ms": vowel(0.01),
    "1 sample": np.ones(1),
    "last bit": np.random.default_rng(0).integers(-1, 2, 2 * RATE) / 32768,
    "white noise": noise(2 * RATE),
    "long white noise": noise(30 * RATE),
    "short white noise": noise(RATE // 5),
    "room noise": 0.05 * room_noise(2 * RATE),
    "noise between silence": np.pad(noise(RATE), RATE),
    "silence within noise": noise(2 * RATE) * (np.arange(2 * RATE) // 8000 != 2),
}


@pytest.mark.parametrize("name", WITHOUT_SPEECH)
def test_there_is_no_speech(name):
    waveform = WITHOUT_SPEECH[name].astype(np.float32)
    assert not speech_of(waveform).any()
    assert set(quality_of(waveform).values()) == {0.0}


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 3000.0])
def test_a_steady_tone_is_no_speech(hertz):
    """But for its ends, where a cut tone clicks."""
    for seconds in (1, 5):
        assert speech_of(0.3 * tone(hertz, seconds * RATE)).sum() < 10


def test_a_click_is_less_than_a_tenth_of_a_second():
    for place in (100, 8000, 15999):
        click = 1e-4 * noise(RATE, 1.0)
        click[place] = 1.0
        assert quality_of(click)["speech_seconds"] < 0.1
        click[:] = np.arange(RATE) == place
        assert quality_of(click)["speech_seconds"] < 0.1


def test_samples_that_are_not_finite_are_no_speech():
    assert quality_of(np.full(RATE, np.nan, np.float32))["speech_seconds"] == 0
    broken = syllables(1.0)
    broken[5000] = np.nan
    assert not speech_of(broken).any()


def test_speech_decibels_of_0_takes_all():
    for clip in (syllables(1.0, silence_seconds=0.5), noise(5000), np.ones(1, np.float32)):
        together = graph(0.0, RATE)(np.pad(clip, (0, 3000))[np.newaxis])
        np.testing.assert_array_equal(together.speech, together.recorded)
        assert together.speech.numpy().sum() == len(clip) // HOP + 1


def test_speech_decibels_is_the_range_below_the_loudest_part():
    """In a quiet recording a faint beginning is speech only if the range is wide enough."""
    faint = 10 ** (-30 / 20) * syllables(0.4, seed=1)
    clip = np.r_[noise(RATE, 1e-6), faint, syllables(1.0), noise(RATE, 1e-6, 1)].astype(np.float32)
    wide, narrow = speech_of(clip, 45.0), speech_of(clip, 20.0)
    assert span_of(wide)[0] == pytest.approx(100, abs=4)
    assert span_of(narrow)[0] == pytest.approx(140, abs=4)
    assert span_of(wide)[1] == pytest.approx(span_of(narrow)[1], abs=6)


# Pauses


@pytest.mark.parametrize("kind", ["digital", "quiet", "noisy"])
@pytest.mark.parametrize(("pause_seconds", "is_speech"), [(0.4, True), (1.0, False)])
def test_a_short_pause_belongs_to_speech_and_a_long_one_does_not(pause_seconds, is_speech, kind):
    samples = round(pause_seconds * RATE)
    clip = np.r_[syllables(1.2), np.zeros(samples), syllables(1.2, seed=1)]
    clip = np.pad(clip, RATE // 2) + {"digital": 0.0, "quiet": 1e-5, "noisy": 0.01}[kind] * noise(len(clip) + RATE, 1.0)
    speech = speech_of(clip.astype(np.float32))
    first, stop = span_of(speech)
    assert (first, stop) == pytest.approx((50, 290 + 100 * pause_seconds), abs=8)
    middle = speech[180 : 160 + round(100 * pause_seconds)]
    assert middle.all() if is_speech else not middle.any()
    assert speech[first:160].all()
    assert speech[180 + round(100 * pause_seconds) : stop].all()


def test_digital_silence_beside_noise_is_not_taken_for_the_noise():
    """Then all of the noise would be speech."""
    noisy, _ = in_noise(syllables(2.0), "room", 10.0)
    clip = np.r_[np.zeros(RATE), noisy, np.zeros(RATE // 2), noisy, np.zeros(RATE)].astype(np.float32)
    speech = speech_of(clip)
    alone = speech_of(noisy)
    assert speech.sum() == pytest.approx(2 * alone.sum(), rel=0.05)
    assert not speech[:190].any()


# Batches


def test_a_clip_gives_the_same_alone_and_in_a_batch_of_longer_ones():
    clips = [syllables(0.7), in_noise(syllables(1.3), "white", 10.0)[0], noise(3000), np.ones(1, np.float32)]
    clips += [np.zeros(700, np.float32), vowel(0.1), *real_clips(FIVE)]
    longest = max(map(len, clips)) + 12345
    batch = np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips])
    together, quality = graph(40.0, RATE)(batch), quality_graph(RATE)(batch)
    for number, clip in enumerate(clips):
        alone = graph(40.0, RATE)(clip[np.newaxis])
        hops = alone.speech.shape[1]
        np.testing.assert_array_equal(together.speech[number, :hops], alone.speech[0])
        assert not together.speech[number, hops:].numpy().any()
        recorded = together.recorded[number].numpy()
        assert recorded[: recorded.sum()].all()
        assert recorded.sum() == (len(clip) if clip.any() else 0) // HOP + 1
        for name, value in quality_of(clip).items():
            assert float(quality[name][number]) == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_the_offset_is_that_of_the_recording_without_its_padding():
    clip = noise(1000) + np.float32(0.5)
    found = without_offset(np.pad(clip, (0, 500))[np.newaxis])[0].numpy()
    np.testing.assert_allclose(found[:1000], clip - clip.mean(), atol=1e-6)
    assert not found[1000:].any()
    assert lengths(np.array([[0, 1, 0, 2, 0, 0], [0] * 6], np.float32)).numpy().tolist() == [4, 0]


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_sample_rates_find_the_same_parts(rate):
    clip = syllables(1.5, 48000, silence_seconds=0.6) + noise(round(2.7 * 48000), 1e-3)
    expected = speech_of(librosa.resample(clip, orig_sr=48000, target_sr=RATE))
    found = speech_of(librosa.resample(clip, orig_sr=48000, target_sr=rate), rate=rate)
    assert span_of(found) == pytest.approx(span_of(expected), abs=5)


# Quality


def test_speech_seconds_is_the_length_of_the_speech():
    assert quality_of(syllables(2.0, silence_seconds=0.8))["speech_seconds"] == pytest.approx(2.0, abs=0.1)
    two = np.r_[syllables(1.0), np.zeros(2 * RATE), syllables(1.5)].astype(np.float32)
    assert quality_of(two)["speech_seconds"] == pytest.approx(2.5, abs=0.15)


@pytest.mark.parametrize("snr_decibels", [30.0, 20.0, 10.0, 5.0])
@pytest.mark.parametrize(("kind", "tolerance"), [("white", 1.5), ("room", 4.0)])
def test_the_snr_is_that_of_speech_and_noise_in_their_band(kind, tolerance, snr_decibels):
    """From the quietest frames the noise of rooms, which swells, is taken 3 dB too low."""
    band = scipy.signal.butter(8, [100, 7600], "bandpass", fs=RATE, output="sos")
    for number, clip in enumerate([syllables(2.5), syllables(1.5, seed=1), *map(trimmed, real_clips(FIVE))]):
        noisy, hiss = in_noise(clip, kind, snr_decibels, number)
        spoken = np.repeat(speech_of(noisy), HOP)[HOP // 2 :][: len(noisy)]
        within = [scipy.signal.sosfiltfilt(band, sound)[: len(spoken)] for sound in (np.pad(clip, RATE), hiss)]
        expected = 10 * np.log10(np.mean(within[0][spoken] ** 2) / np.mean(within[1] ** 2))
        assert quality_of(noisy)["snr_decibels"] == pytest.approx(expected, abs=tolerance)


def test_the_bandwidth_is_that_of_the_channel():
    clips = [syllables(2.0) + noise(2 * RATE, 1e-2) * syllables(2.0), *real_clips(FIVE)]
    telephone = scipy.signal.butter(8, [300, 3400], "bandpass", fs=RATE, output="sos")
    for clip in clips:
        assert quality_of(clip)["bandwidth_hz"] > 5000
        narrow = scipy.signal.sosfiltfilt(telephone, clip).astype(np.float32)
        assert 3000 < quality_of(narrow)["bandwidth_hz"] < 3800


def test_the_clipped_share_is_that_of_the_speech():
    for clip in [syllables(2.0, silence_seconds=0.5), *real_clips(FIVE)]:
        clip = clip / np.abs(clip).max()
        assert quality_of(clip.astype(np.float32))["clipped_share"] < 0.002
        clipped = np.clip(5 * clip, -1.0, 1.0).astype(np.float32)
        speech_samples = speech_of(clipped).sum() * HOP
        expected = (np.abs(5 * clip) >= 0.99).sum() / speech_samples
        assert expected > 0.02
        assert quality_of(clipped)["clipped_share"] == pytest.approx(expected, rel=0.1)
