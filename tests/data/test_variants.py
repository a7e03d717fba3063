"""Variants have the stated pitch, length and noise; they are computed once and are the same on every machine."""

import errno
import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import sounds
from sounds import RATE

from emokeras.config import AugmentConfig
from emokeras.data import variants
from emokeras.errors import EmokerasError

ALL = ("pitch-up", "pitch-down", "slow", "fast", "noise")
KNOWN_NOISE = [2.7538834, 1.987997, 0.8104893]  # of ("content", 0 dB) on ones


@dataclass
class Clip:
    """What the cache needs of a `corpora.Clip`."""

    content: str


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "waveforms"


def tone(hertz: float = 440.0, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * sounds.tone(hertz, round(rate * seconds), rate)


def peak_hertz(waveform: np.ndarray, rate: int = RATE) -> float:
    """Return the frequency of the largest value of the spectrum, to a fraction of a hertz."""
    size = 2**19
    return np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), size)).argmax() * rate / size


def clips_of(*seconds: float) -> tuple[list[Clip], list[np.ndarray]]:
    """Return clips and their waveforms, tones of different pitch."""
    waveforms = [tone(300.0 + 50.0 * number, length) for number, length in enumerate(seconds)]
    return [Clip(f"content {number}") for number in range(len(seconds))], waveforms


def vary(*kinds: str, waveform: np.ndarray, rate: int = RATE, **settings: float) -> list[np.ndarray]:
    """Return the variants of one clip."""
    return variants.make_variants([Clip("content")], [waveform], AugmentConfig(kinds, **settings), rate)[0]


def assert_same(variants_of_clips, expected):
    assert [len(few) for few in variants_of_clips] == [len(few) for few in expected]
    for few, expected_few in zip(variants_of_clips, expected, strict=True):
        for one, other in zip(few, expected_few, strict=True):
            assert one.dtype == other.dtype == np.float32
            np.testing.assert_array_equal(one, other)


def forbid_computing(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a variant is computed although it is cached")

    monkeypatch.setattr(variants, "make_variant", fail)


# Waveforms


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("semitones", [1.0, 2.0, 4.5])
def test_pitch_shift_keeps_the_length(semitones, rate):
    up, down = vary("pitch-up", "pitch-down", waveform=tone(440.0, rate=rate), rate=rate, variant_semitones=semitones)
    assert len(up) == len(down) == rate
    assert 12 * np.log2(peak_hertz(up, rate) / 440.0) == pytest.approx(semitones, abs=0.05)
    assert 12 * np.log2(peak_hertz(down, rate) / 440.0) == pytest.approx(-semitones, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_time_stretch_keeps_the_pitch(share):
    slow, fast = vary("slow", "fast", waveform=tone(440.0), variant_stretch=share)
    assert len(slow) == round(RATE / (1 - share))
    assert len(fast) == round(RATE / (1 + share))
    for waveform in (slow, fast):
        assert 12 * np.log2(peak_hertz(waveform) / 440.0) == pytest.approx(0.0, abs=0.05)
        middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(np.sqrt(0.125), rel=0.2)


def test_time_stretch_moves_a_click_in_proportion():
    click = np.zeros(RATE, np.float32)
    click[8000:8200] = tone(1000.0)[:200]
    slow, fast = vary("slow", "fast", waveform=click, variant_stretch=0.2)
    assert np.abs(slow).argmax() == pytest.approx(8100 / 0.8, abs=0.02 * RATE)
    assert np.abs(fast).argmax() == pytest.approx(8100 / 1.2, abs=0.02 * RATE)


@pytest.mark.parametrize("snr_decibels", [-3.0, 10.0, 30.0])
def test_noise_has_its_ratio_to_the_signal(snr_decibels):
    waveform = 0.2 * tone()
    (noisy,) = vary("noise", waveform=waveform, variant_snr_decibels=snr_decibels)
    noise = noisy - waveform
    measured = 10 * np.log10(np.mean(waveform**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_decibels, abs=0.2)
    power = np.abs(np.fft.rfft(noise)) ** 2  # white: the same in every quarter of the spectrum
    quarters = np.array([part.mean() for part in np.array_split(power, 4)])
    np.testing.assert_allclose(quarters / quarters.mean(), 1.0, atol=0.1)


def test_noise_depends_on_the_content_only():
    config = AugmentConfig(("noise",))
    clips, waveforms = clips_of(0.1, 0.1)
    first, second = variants.make_variants(clips, waveforms, config, RATE)
    reverse = variants.make_variants(clips[::-1], waveforms[::-1], config, RATE)
    assert_same(reverse, [second, first])
    assert_same(variants.make_variants(clips[:1], waveforms[:1], config, RATE), [first])
    noises = first[0] - waveforms[0], second[0] - waveforms[1]
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.1
    # The same on every machine and in every release with this VARIANTS_VERSION.
    known = variants.add_noise(np.ones(3, np.float32), 0.0, "content")
    np.testing.assert_allclose(known, KNOWN_NOISE, atol=1e-6)


def test_variants_of_silence_are_silent():
    for variant in vary(*ALL, waveform=np.zeros(RATE, np.float32)):
        assert not variant.any()


def test_variants_are_between_minus_1_and_1():
    loud = np.sign(tone(300.0))
    made = vary(*ALL, waveform=loud, variant_snr_decibels=0.0)
    assert [variant.dtype for variant in made] == [np.float32] * 5
    assert all(np.abs(variant).max() <= 1.0 for variant in made)
    assert np.abs(made[-1]).max() == 1.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [1, 2, 7, 160, 511, 512, 513])
def test_a_very_short_clip_has_variants(samples):
    made = vary(*ALL, waveform=tone()[1 : samples + 1])
    lengths = [samples, samples, round(samples / 0.85), max(1, round(samples / 1.15)), samples]
    assert [len(variant) for variant in made] == lengths
    assert all(np.isfinite(variant).all() for variant in made)


# Order


def test_variants_are_in_the_order_of_clips_and_configuration():
    clips, waveforms = clips_of(0.2, 0.3, 0.1)
    made = variants.make_variants(clips, waveforms, AugmentConfig(("noise", "slow", "pitch-up")), RATE)
    for clip, waveform, few in zip(clips, waveforms, made, strict=True):
        alone = [
            variants.make_variant(kind, AugmentConfig(), RATE, waveform, clip.content)
            for kind in ("noise", "slow", "pitch-up")
        ]
        assert_same([few], [alone])


def test_without_kinds_or_clips_there_are_no_variants(cache):
    clips, waveforms = clips_of(0.1, 0.1)
    assert variants.make_variants(clips, waveforms, AugmentConfig(), RATE) == [[], []]
    assert variants.make_variants([], [], AugmentConfig(ALL), RATE) == []
    assert not cache.exists()


# Cache


def test_variants_are_computed_once_with_a_file_for_each_kind(cache, monkeypatch):
    clips, waveforms = clips_of(0.2, 0.3)
    first = variants.make_variants(clips, waveforms, AugmentConfig(ALL), RATE)
    times = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(times) == 5
    forbid_computing(monkeypatch)
    assert_same(variants.make_variants(clips, waveforms, AugmentConfig(ALL), RATE), first)
    few = variants.make_variants(clips, waveforms, AugmentConfig(("noise", "fast")), RATE)
    assert_same(few, [[made[4], made[3]] for made in first])
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == times


def test_another_parameter_rate_or_content_has_another_file(cache):
    clips, waveforms = clips_of(0.1, 0.1)
    config = AugmentConfig(("slow",))
    variants.make_variants(clips, waveforms, config, RATE)
    for number, (other_clips, other_config, rate) in enumerate(
        [
            (clips, replace(config, variant_stretch=0.3), RATE),
            (clips, replace(config, variants=("fast",)), RATE),
            (clips, config, 8000),
            ([Clip("other"), clips[1]], config, RATE),
            (clips[::-1], config, RATE),
            (clips[:1], config, RATE),
        ]
    ):
        variants.make_variants(other_clips, waveforms[: len(other_clips)], other_config, rate)
        assert len(list(cache.iterdir())) == number + 2
    # Parameters of other kinds and of other augmentation do not matter.
    other = replace(config, variant_semitones=3.0, variant_snr_decibels=1.0, gain_decibels=6.0)
    variants.make_variants(clips, waveforms, other, RATE)
    assert len(list(cache.iterdir())) == 7


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_cache_is_computed_again(cache, damage, monkeypatch):
    clips, waveforms = clips_of(0.1, 0.2)
    config = AugmentConfig(("slow",))
    first = variants.make_variants(clips, waveforms, config, RATE)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "empty": b""}[damage])
    assert_same(variants.make_variants(clips, waveforms, config, RATE), first)
    forbid_computing(monkeypatch)
    assert_same(variants.make_variants(clips, waveforms, config, RATE), first)


def test_a_failed_write_of_the_cache_is_a_one_line_error_and_leaves_no_file(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EmokerasError, match="No space left on device") as caught:
        vary("noise", waveform=tone())
    assert str(cache) in str(caught.value)
    assert "EMOKERAS_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())
