"""Variants of a clip are what their names say, are made once, and are always the same."""

import errno
import os
from dataclasses import dataclass, replace

import numpy as np
import pytest

from emokeras.config import AugmentConfig
from emokeras.data import variants
from emokeras.errors import EmokerasError

RATE = 16000
ALL = ("pitch-up", "pitch-down", "slow", "fast", "noise")
KNOWN_NOISE = [2.7538834, 1.987997, 0.8104893]  # of ("content", 0 dB) on ones


@dataclass
class Clip:
    """What the cache needs of a `data.corpus.Clip`."""

    content: str


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "waveforms"


def tone(hertz: float = 440.0, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def peak_hertz(waveform: np.ndarray, rate: int = RATE) -> float:
    """Return where the spectrum is largest, to a fraction of a hertz."""
    size = 2**19
    return np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), size)).argmax() * rate / size


def sounds(*seconds: float) -> tuple[list[Clip], list[np.ndarray]]:
    """Return clips and their waveforms, tones of different pitch."""
    waveforms = [tone(300.0 + 50.0 * number, length) for number, length in enumerate(seconds)]
    return [Clip(f"content {number}") for number in range(len(seconds))], waveforms


def vary(*kinds: str, waveform: np.ndarray, rate: int = RATE, **settings: float) -> list[np.ndarray]:
    """Return the variants of one clip."""
    return variants.make_variants([Clip("content")], [waveform], AugmentConfig(kinds, **settings), rate)[0]


def assert_same(made, others):
    assert [len(few) for few in made] == [len(few) for few in others]
    for few, other_few in zip(made, others, strict=True):
        for one, other in zip(few, other_few, strict=True):
            assert one.dtype == other.dtype == np.float32
            np.testing.assert_array_equal(one, other)


def forbid_making(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a variant is made although it is cached")

    monkeypatch.setattr(variants, "make_variant", fail)


# What the variants are


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("semitones", [1.0, 2.0, 4.5])
def test_pitch_moves_by_its_semitones_and_the_length_stays(semitones, rate):
    up, down = vary("pitch-up", "pitch-down", waveform=tone(440.0, rate=rate), rate=rate, variant_semitones=semitones)
    assert len(up) == len(down) == rate
    assert 12 * np.log2(peak_hertz(up, rate) / 440.0) == pytest.approx(semitones, abs=0.05)
    assert 12 * np.log2(peak_hertz(down, rate) / 440.0) == pytest.approx(-semitones, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_a_stretch_changes_the_length_and_the_pitch_stays(share):
    slow, fast = vary("slow", "fast", waveform=tone(440.0), variant_stretch=share)
    assert len(slow) == round(RATE / (1 - share))
    assert len(fast) == round(RATE / (1 + share))
    for waveform in (slow, fast):
        assert 12 * np.log2(peak_hertz(waveform) / 440.0) == pytest.approx(0.0, abs=0.05)
        middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(np.sqrt(0.125), rel=0.2)


def test_a_stretch_moves_what_is_heard_to_its_place():
    click = np.zeros(RATE, np.float32)
    click[8000:8200] = tone(1000.0)[:200]
    slow, fast = vary("slow", "fast", waveform=click, variant_stretch=0.2)
    assert np.abs(slow).argmax() == pytest.approx(8100 / 0.8, abs=0.02 * RATE)
    assert np.abs(fast).argmax() == pytest.approx(8100 / 1.2, abs=0.02 * RATE)


@pytest.mark.parametrize("snr_decibels", [-3.0, 10.0, 30.0])
def test_noise_has_its_ratio_to_the_sound(snr_decibels):
    waveform = 0.2 * tone()
    (noisy,) = vary("noise", waveform=waveform, variant_snr_decibels=snr_decibels)
    noise = noisy - waveform
    measured = 10 * np.log10(np.mean(waveform**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_decibels, abs=0.2)
    power = np.abs(np.fft.rfft(noise)) ** 2  # White: equally much in every quarter of the spectrum.
    quarters = np.array([part.mean() for part in np.array_split(power, 4)])
    np.testing.assert_allclose(quarters / quarters.mean(), 1.0, atol=0.1)


def test_noise_is_that_of_the_content_alone():
    config = AugmentConfig(("noise",))
    clips, waveforms = sounds(0.1, 0.1)
    first, second = variants.make_variants(clips, waveforms, config, RATE)
    turned = variants.make_variants(clips[::-1], waveforms[::-1], config, RATE)
    assert_same(turned, [second, first])
    assert_same(variants.make_variants(clips[:1], waveforms[:1], config, RATE), [first])
    noises = first[0] - waveforms[0], second[0] - waveforms[1]
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.1
    # The same on every machine and in every version, until VARIANTS_VERSION says otherwise.
    known = variants.add_noise(np.ones(3, np.float32), 0.0, "content")
    np.testing.assert_allclose(known, KNOWN_NOISE, atol=1e-6)


def test_silence_stays_silence():
    for variant in vary(*ALL, waveform=np.zeros(RATE, np.float32)):
        assert not variant.any()


def test_variants_stay_between_minus_one_and_one():
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


# The order, and who has variants


def test_variants_come_in_the_order_of_clips_and_configuration():
    clips, waveforms = sounds(0.2, 0.3, 0.1)
    made = variants.make_variants(clips, waveforms, AugmentConfig(("noise", "slow", "pitch-up")), RATE)
    for clip, waveform, few in zip(clips, waveforms, made, strict=True):
        alone = [
            variants.make_variant(kind, AugmentConfig(), RATE, waveform, clip.content)
            for kind in ("noise", "slow", "pitch-up")
        ]
        assert_same([few], [alone])


def test_without_kinds_or_clips_there_is_nothing(cache):
    clips, waveforms = sounds(0.1, 0.1)
    assert variants.make_variants(clips, waveforms, AugmentConfig(), RATE) == [[], []]
    assert variants.make_variants([], [], AugmentConfig(ALL), RATE) == []
    assert not cache.exists()


# The cache


def test_variants_are_made_once_each_kind_in_its_file(cache, monkeypatch):
    clips, waveforms = sounds(0.2, 0.3)
    first = variants.make_variants(clips, waveforms, AugmentConfig(ALL), RATE)
    times = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(times) == 5
    forbid_making(monkeypatch)
    assert_same(variants.make_variants(clips, waveforms, AugmentConfig(ALL), RATE), first)
    few = variants.make_variants(clips, waveforms, AugmentConfig(("noise", "fast")), RATE)
    assert_same(few, [[made[4], made[3]] for made in first])
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == times


def test_another_parameter_rate_or_content_is_another_file(cache):
    clips, waveforms = sounds(0.1, 0.1)
    config = AugmentConfig(("slow",))
    variants.make_variants(clips, waveforms, config, RATE)
    for number, (other_clips, other_config, rate) in enumerate(
        [
            (clips, replace(config, variant_stretch=0.3), RATE),
            (clips, replace(config, variants=("fast",)), RATE),
            (clips, config, 8000),
            ([Clip("else"), clips[1]], config, RATE),
            (clips[::-1], config, RATE),
            (clips[:1], config, RATE),
        ]
    ):
        variants.make_variants(other_clips, waveforms[: len(other_clips)], other_config, rate)
        assert len(list(cache.iterdir())) == number + 2
    # A parameter of another kind, and all that is not of variants, change nothing.
    other = replace(config, variant_semitones=3.0, variant_snr_decibels=1.0, gain_decibels=6.0)
    variants.make_variants(clips, waveforms, other, RATE)
    assert len(list(cache.iterdir())) == 7


def test_a_changed_parameter_is_heard():
    waveform = tone()
    assert len(vary("slow", waveform=waveform, variant_stretch=0.1)[0]) == round(RATE / 0.9)
    assert len(vary("slow", waveform=waveform, variant_stretch=0.2)[0]) == round(RATE / 0.8)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_cache_is_made_again(cache, damage, monkeypatch):
    clips, waveforms = sounds(0.1, 0.2)
    config = AugmentConfig(("slow",))
    first = variants.make_variants(clips, waveforms, config, RATE)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "empty": b""}[damage])
    assert_same(variants.make_variants(clips, waveforms, config, RATE), first)
    forbid_making(monkeypatch)
    assert_same(variants.make_variants(clips, waveforms, config, RATE), first)


def test_a_cache_that_cannot_be_written_is_one_line_and_leaves_nothing(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EmokerasError, match="No space left on device") as caught:
        vary("noise", waveform=tone())
    assert str(cache) in str(caught.value)
    assert "EMOKERAS_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())
