"""Variants have the stated pitch, length and noise; they are computed once and are the same on every machine."""

import errno
import os
from dataclasses import dataclass, replace

import librosa
import numpy as np
import pytest
import scipy.signal
import sounds
from sounds import RATE

from emokeras.config import AugmentConfig
from emokeras.data import variants
from emokeras.errors import EmokerasError

ALL = ("pitch-up", "pitch-down", "slow", "fast", "formants-up", "formants-down", "codec", "noise")
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
    """Return a variant of each of these kinds of one clip."""
    clips, config = [Clip("content")], AugmentConfig(**settings)
    return [variants.make_variants(kind, clips, [waveform], config, rate)[0] for kind in kinds]


def assert_same(waveforms, expected):
    for one, other in zip(waveforms, expected, strict=True):
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


def voice(pitch_hz: float, formants_hz: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Return a second of a vowel with a pitch of ± 2 semitones: pulses, and a resonator for each formant."""
    cycles = np.cumsum(pitch_hz * 2 ** (np.sin(2 * np.pi * np.arange(rate) / rate) / 6)) / rate
    sound = np.diff(np.floor(cycles), prepend=0.0) + 1e-3 * sounds.noise(rate, 1.0)
    sound = scipy.signal.lfilter([1.0], [1.0, -0.95], sound)
    for hertz, bandwidth in zip(formants_hz, (80.0, 100.0, 120.0, 150.0), strict=True):
        radius = np.exp(-np.pi * bandwidth / rate)
        sound = scipy.signal.lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * hertz / rate), radius**2], sound)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def formants_of(sound: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Return the first three formants in hertz: the poles of linear prediction of the whole sound below 8 kHz."""
    sound = scipy.signal.resample_poly(librosa.effects.preemphasis(sound.astype(float), coef=0.95), RATE, rate)
    poles = np.roots(librosa.lpc(sound, order=10))
    poles = poles[(poles.imag > 0) & (np.abs(poles) > 0.9)]
    return np.sort(np.angle(poles))[:3] * RATE / (2 * np.pi)


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("pitch_hz", [100.0, 130.0, 210.0])
@pytest.mark.parametrize("formants_hz", [(500, 1500, 2500, 3500), (700, 1200, 2600, 3600)])
def test_formants_move_and_the_pitch_stays(formants_hz, pitch_hz, rate):
    sound = voice(pitch_hz, np.array(formants_hz), rate)
    up, down = vary("formants-up", "formants-down", waveform=sound, rate=rate, variant_formant_share=0.12)
    own, pitch = formants_of(sound, rate), librosa.yin(sound, fmin=60, fmax=400, sr=rate)
    np.testing.assert_allclose(own, formants_hz[:3], rtol=0.1)  # The measure finds them.
    for moved, factor in ((up, 1.12), (down, 0.88)):
        assert len(moved) == len(sound)
        np.testing.assert_allclose(formants_of(moved, rate) / own, factor, rtol=0.05)
        found = librosa.yin(moved, fmin=60, fmax=400, sr=rate)
        assert np.abs(np.median(found / pitch) - 1) < 0.01
        assert np.mean(np.abs(found / pitch - 1) < 0.03) > 0.9


def test_formants_that_stay_change_nothing():
    sound = voice(130.0, np.array([500, 1500, 2500, 3500]))
    np.testing.assert_allclose(variants.shift_formants(sound, 1.0, RATE), sound, atol=1e-5)


def octave_of(sound: np.ndarray, hertz: float, rate: int = RATE) -> float:
    """Return the power between `hertz` and twice that in decibels."""
    frequencies, power = scipy.signal.welch(sound, rate, nperseg=1024)
    return 10 * np.log10(power[(frequencies >= hertz) & (frequencies < 2 * hertz)].sum())


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize("codec", ["MP3", "Opus"])
def test_a_codec_keeps_length_time_and_level_of_a_voice(codec, rate):
    sound = np.pad(sounds.vowel(1.0, rate), (1234, 567))
    coded = variants.encode_and_decode(sound, codec, 16, rate)
    assert len(coded) == len(sound)
    correlation = scipy.signal.correlate(coded, sound, method="fft")
    assert abs(correlation.argmax() - (len(sound) - 1)) <= 1
    assert correlation.max() / (np.linalg.norm(coded) * np.linalg.norm(sound)) > 0.9
    for hertz in (250, 500):
        assert octave_of(coded, hertz, rate) == pytest.approx(octave_of(sound, hertz, rate), abs=1.5)
    better = variants.encode_and_decode(sound, codec, 64, rate)
    assert np.sum((coded - sound) ** 2) > 2 * np.sum((better - sound) ** 2) > 0


def test_the_content_chooses_between_both_codecs():
    sound = sounds.vowel(0.5)
    both = {codec: variants.encode_and_decode(sound, codec, 16, RATE) for codec in ("MP3", "Opus")}
    config = AugmentConfig()
    chosen = []
    for number in range(24):
        variant = variants.make_variant("codec", config, RATE, sound, f"content {number}")
        chosen.append([codec for codec, own in both.items() if np.array_equal(variant, own)])
    assert sorted(set(map(tuple, chosen))) == [("MP3",), ("Opus",)]
    assert 5 <= chosen.count(["MP3"]) <= 19


def test_noise_depends_on_the_content_only():
    config = AugmentConfig()
    clips, waveforms = clips_of(0.1, 0.1)
    first, second = variants.make_variants("noise", clips, waveforms, config, RATE)
    reverse = variants.make_variants("noise", clips[::-1], waveforms[::-1], config, RATE)
    assert_same(reverse, [second, first])
    assert_same(variants.make_variants("noise", clips[:1], waveforms[:1], config, RATE), [first])
    noises = first - waveforms[0], second - waveforms[1]
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.1
    # The same on every machine and in every release with this VARIANTS_VERSION.
    known = variants.add_noise(np.ones(3, np.float32), 0.0, "content")
    np.testing.assert_allclose(known, KNOWN_NOISE, atol=1e-6)


def test_variants_of_silence_are_silent():
    for variant in vary(*ALL, waveform=np.zeros(RATE, np.float32)):
        assert np.abs(variant).max() <= 2**-15  # A codec may set the last of 16 bits.


def test_variants_are_between_minus_1_and_1():
    loud = np.sign(tone(300.0))
    made = vary(*ALL, waveform=loud, variant_snr_decibels=0.0)
    assert [variant.dtype for variant in made] == [np.float32] * len(ALL)
    assert all(np.abs(variant).max() <= 1.0 for variant in made)
    assert np.abs(made[-1]).max() == 1.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [1, 2, 7, 160, 511, 512, 513])
def test_a_very_short_clip_has_variants(samples):
    made = vary(*ALL, waveform=tone()[1 : samples + 1])
    lengths = [samples, samples, round(samples / 0.85), max(1, round(samples / 1.15)), *[samples] * 4]
    assert [len(variant) for variant in made] == lengths
    assert all(np.isfinite(variant).all() for variant in made)


@pytest.mark.parametrize("kind", ["noise", "slow", "pitch-up"])
def test_variants_are_in_the_order_of_the_clips(kind):
    clips, waveforms = clips_of(0.2, 0.3, 0.1)
    made = variants.make_variants(kind, clips, waveforms, AugmentConfig(), RATE)
    assert_same(
        made,
        [
            variants.make_variant(kind, AugmentConfig(), RATE, waveform, clip.content)
            for clip, waveform in zip(clips, waveforms, strict=True)
        ],
    )


# Cache


def test_variants_are_computed_once_with_a_file_for_each_kind(cache, monkeypatch):
    clips, waveforms = clips_of(0.2, 0.3)
    first = {kind: variants.make_variants(kind, clips, waveforms, AugmentConfig(), RATE) for kind in ALL}
    times = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(times) == len(ALL)
    forbid_computing(monkeypatch)
    for kind, made in first.items():
        assert_same(variants.make_variants(kind, clips, waveforms, AugmentConfig(), RATE), made)
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == times


def test_another_parameter_rate_or_content_has_another_file(cache):
    clips, waveforms = clips_of(0.1, 0.1)
    config = AugmentConfig()
    variants.make_variants("slow", clips, waveforms, config, RATE)
    for number, (kind, other_clips, other_config, rate) in enumerate(
        [
            ("slow", clips, replace(config, variant_stretch=0.3), RATE),
            ("fast", clips, config, RATE),
            ("slow", clips, config, 8000),
            ("slow", [Clip("other"), clips[1]], config, RATE),
            ("slow", clips[::-1], config, RATE),
            ("slow", clips[:1], config, RATE),
        ]
    ):
        variants.make_variants(kind, other_clips, waveforms[: len(other_clips)], other_config, rate)
        assert len(list(cache.iterdir())) == number + 2
    # Parameters of other kinds and of other augmentation do not matter, nor which other kinds are taken.
    other = replace(config, variants=("fast",), variant_semitones=3.0, variant_snr_decibels=1.0, gain_decibels=6.0)
    variants.make_variants("slow", clips, waveforms, other, RATE)
    assert len(list(cache.iterdir())) == 7


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_cache_is_computed_again(cache, damage, monkeypatch):
    clips, waveforms = clips_of(0.1, 0.2)
    config = AugmentConfig()
    first = variants.make_variants("slow", clips, waveforms, config, RATE)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "empty": b""}[damage])
    assert_same(variants.make_variants("slow", clips, waveforms, config, RATE), first)
    forbid_computing(monkeypatch)
    assert_same(variants.make_variants("slow", clips, waveforms, config, RATE), first)


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
