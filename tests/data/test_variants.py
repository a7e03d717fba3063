"""Variants of clips go over the channel of the settings and a codec; they are made once, of the clip alone."""

import errno
import io
import os
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.signal
import soundfile
import sounds
from sounds import RATE

from emokeras.config import AugmentConfig
from emokeras.data import variants
from emokeras.errors import EmokerasError

CODECS = ("none", "Opus", "MP3", "mu-law")
CHANNEL = {
    "equalization_decibels": 12.0,
    "band_limit_probability": 0.5,
    "reverberation_probability": 0.5,
    "noise_probability": 0.5,
    "noise_slope_decibels": (-6.0, 0.0),
}


@dataclass
class Clip:
    """What the cache needs of a `corpora.Clip`."""

    content: str


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "waveforms"


@pytest.fixture
def coded_by(monkeypatch):
    """Return a function that leaves variants one codec only."""
    return lambda codec: monkeypatch.setattr(variants, "CODECS", (codec,))


@pytest.fixture
def uncoded(coded_by):
    coded_by("none")


def clips_of(*seconds: float) -> tuple[list[Clip], list[np.ndarray]]:
    """Return clips and their waveforms, different voices."""
    waveforms = [sounds.syllables(length, seed=number) for number, length in enumerate(seconds)]
    return [Clip(f"content {number}") for number in range(len(seconds))], waveforms


def vary(waveform: np.ndarray, number: int = 1, content: str = "content", rate: int = RATE, **settings) -> np.ndarray:
    """Return one variant of one clip."""
    return variants.make_variants(number, [Clip(content)], [waveform], AugmentConfig(**settings), rate)[0]


def assert_same(waveforms, expected):
    for one, other in zip(waveforms, expected, strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def octave_of(sound: np.ndarray, hertz: float, rate: int = RATE) -> float:
    """Return the power between `hertz` and twice that in decibels."""
    frequencies, power = scipy.signal.welch(sound, rate, nperseg=1024)
    return 10 * np.log10(power[(frequencies >= hertz) & (frequencies < 2 * hertz)].sum())


def octaves_of(sound: np.ndarray) -> np.ndarray:
    return np.array([octave_of(sound, hertz) for hertz in (125, 250, 500, 1000, 2000, 4000)])


# The channel


@pytest.mark.usefixtures("uncoded")
def test_without_a_channel_and_a_codec_a_variant_is_the_clip():
    """What a variant does not follow, such as speed and gain, is off."""
    sound = sounds.syllables(0.7)
    assert_same([vary(sound)], [sound])
    others = {"speed_change": 0.2, "shift_seconds": 0.1, "gain_decibels": 12.0}
    assert_same([vary(sound, content="other", mixup_alpha=0.4, **others)], [sound])


@pytest.mark.usefixtures("uncoded")
def test_variants_are_equalized_each_in_its_way():
    sound = sounds.noise(2 * RATE)
    changes = [octaves_of(vary(sound, number, equalization_decibels=12.0)) - octaves_of(sound) for number in (1, 2)]
    for change in changes:
        assert np.abs(change).max() < 12.5
        assert np.ptp(change) > 3.0
    assert np.abs(changes[0] - changes[1]).max() > 3.0


@pytest.mark.usefixtures("uncoded")
def test_variants_have_the_band_of_the_settings():
    sound = sounds.noise(2 * RATE)
    edges = {"band_low_hz": (500.0, 501.0), "band_high_hz": (2000.0, 2001.0)}
    change = octaves_of(vary(sound, band_limit_probability=1.0, **edges)) - octaves_of(sound)
    assert change[[0, 1, 5]].max() < -9.0
    np.testing.assert_allclose(change[[2, 3]], 0.0, atol=1.5)


@pytest.mark.usefixtures("uncoded")
def test_variants_have_the_noise_of_the_settings():
    sound = 0.2 * sounds.tone(440.0)
    added = vary(sound, noise_probability=1.0, noise_snr_decibels=(10.0, 10.0)) - sound
    assert 10 * np.log10(np.mean(sound**2) / np.mean(added**2)) == pytest.approx(10.0, abs=0.2)


@pytest.mark.usefixtures("uncoded")
def test_variants_have_the_room_of_the_settings():
    click = np.zeros(RATE, np.float32)
    click[1000] = 0.5
    settings = {"reverberation_seconds": (0.3, 0.3), "reverberation_ratio_decibels": (6.0, 6.0)}
    echo = vary(click, reverberation_probability=1.0, **settings)
    assert np.abs(echo[:1000]).max() < 1e-5
    assert echo[1000] == pytest.approx(0.5, abs=1e-3)
    assert 10 * np.log10(0.25 / np.sum(echo[1001:] ** 2)) == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize("codec", CODECS)
def test_a_variant_of_a_loud_clip_is_scaled_and_not_clipped(codec, coded_by):
    coded_by(codec)
    square = np.sign(sounds.tone(300.0))
    loud = vary(square, noise_probability=1.0, noise_snr_decibels=(0.0, 0.0))
    assert loud.dtype == np.float32
    assert len(loud) == len(square)
    assert 0.8 < np.abs(loud).max() <= 1.0
    assert np.mean(np.abs(loud) > 0.999) < 0.01


# The codecs


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


SHORT = sounds.vowel(0.1)


def choice_of(seed: int, monkeypatch) -> tuple[str, float]:
    """Return the codec of a seed and its kilobits per second."""
    chosen = []
    with monkeypatch.context() as patch:
        patch.setattr(variants, "encode_and_decode", lambda sound, *choice: chosen.append(choice) or sound)
        coded = variants.code_randomly(SHORT, seed, RATE)
    if chosen:
        ((codec, kilobits, rate),) = chosen
        assert rate == RATE
        return codec, kilobits
    return ("none" if np.array_equal(coded, SHORT) else "mu-law"), 0.0


def test_each_codec_is_taken_about_equally_often_at_rates_within_its_bounds(monkeypatch):
    choices = [choice_of(seed, monkeypatch) for seed in range(800)]
    counts = Counter(codec for codec, _ in choices)
    assert set(counts) == set(CODECS)
    assert all(160 <= count <= 240 for count in counts.values())  # 200 ± 3.3 standard deviations
    for codec, (least, most) in {"Opus": (16.0, 64.0), "MP3": (16.0, 48.0)}.items():
        rates = np.array([kilobits for own, kilobits in choices if own == codec])
        assert least <= rates.min() < least + 2.0
        assert most - 2.0 < rates.max() <= most


def test_codec_and_rate_depend_on_the_seed_only(monkeypatch):
    """The same on every machine and in every release with this VARIANTS_VERSION."""
    choices = [choice_of(seed, monkeypatch) for seed in range(8)]
    codecs, kilobits = zip(*choices, strict=True)
    assert codecs == ("mu-law", "Opus", "mu-law", "mu-law", "MP3", "MP3", "Opus", "mu-law")
    np.testing.assert_allclose(kilobits, [0.0, 61.622, 0.0, 0.0, 32.362, 41.854, 32.477, 0.0], atol=1e-3)
    assert [choice_of(seed, monkeypatch) for seed in reversed(range(8))] == choices[::-1]
    first, _, second = (variants.code_randomly(SHORT, seed, RATE) for seed in (1, 5, 1))
    np.testing.assert_array_equal(first, second)


def g711(waveform: np.ndarray) -> np.ndarray:
    """Return a waveform after libsndfile's ITU-T G.711, which approximates the logarithm of µ-law by segments."""
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format="WAV", subtype="ULAW")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@pytest.mark.parametrize("decibels", [0.0, -20.0, -40.0])
def test_mu_law_rounds_as_g711_does(decibels, coded_by):
    """To steps that grow with the level; both differ from the waveform by at most half of one."""
    coded_by("mu-law")
    sound = 10 ** (decibels / 20) * np.linspace(-1.0, 1.0, 20001)
    coded = variants.code_randomly(sound, 0, RATE)
    assert np.abs(coded).max() <= 1.0
    assert len(np.unique(coded)) <= 255
    assert (np.diff(coded) >= 0).all()
    error, expected = (np.sqrt(np.mean((own - sound) ** 2)) for own in (coded, g711(sound)))
    assert 20 * np.log10(error / expected) == pytest.approx(0.0, abs=2.0)
    step = np.log(256) / 127 * (np.abs(sound) + 1 / 255)
    assert (np.abs(coded - sound) <= 0.52 * step).all()


def test_levels_of_mu_law_are_those_of_the_formula(coded_by):
    coded_by("mu-law")
    levels = np.arange(-127, 128)
    expected = np.sign(levels) * (256.0 ** (np.abs(levels) / 127) - 1) / 255
    np.testing.assert_allclose(variants.code_randomly(expected, 0, RATE), expected, atol=1e-12)
    between = (expected[1:] + expected[:-1]) / 2
    found = variants.code_randomly(between, 0, RATE)
    assert set(np.searchsorted(expected, found - 1e-9)) <= set(range(255))
    np.testing.assert_allclose(expected[np.searchsorted(expected, found - 1e-9)], found, atol=1e-12)


# What variants depend on


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("codec", CODECS)
def test_variants_have_the_length_of_their_clip_and_are_between_minus_1_and_1(codec, rate, coded_by):
    coded_by(codec)
    sound = sounds.syllables(0.613, rate)
    for number in (1, 2):
        variant = vary(sound, number, rate=rate, **CHANNEL)
        assert variant.dtype == np.float32
        assert variant.shape == sound.shape
        assert np.abs(variant).max() <= 1.0
        assert np.abs(variant - sound).max() > 1e-3


def test_a_variant_depends_on_its_own_clip_only(cache):
    """Not on the others or their order."""
    config, (clips, waveforms) = AugmentConfig(**CHANNEL), clips_of(0.2, 0.3, 0.1)
    made = variants.make_variants(1, clips, waveforms, config, RATE)
    assert_same(variants.make_variants(1, clips[::-1], waveforms[::-1], config, RATE), made[::-1])
    assert_same(variants.make_variants(1, clips[1:2], waveforms[1:2], config, RATE), made[1:2])
    assert len(list(cache.iterdir())) == 3  # None was read from the cache of another.


def test_number_content_and_settings_make_other_variants():
    sound = sounds.syllables(0.5)
    one, two = vary(sound, 1, **CHANNEL), vary(sound, 2, **CHANNEL)
    other = vary(sound, 1, "other content", **CHANNEL)
    stronger = vary(sound, 1, **CHANNEL | {"equalization_decibels": 6.0})
    made = [sound, one, two, other, stronger]
    for number, variant in enumerate(made):
        assert all(np.abs(variant - before).max() > 1e-3 for before in made[:number])


@pytest.mark.parametrize("codec", CODECS)
def test_variants_of_silence_are_silent(codec, coded_by):
    coded_by(codec)
    always = {name: 1.0 for name in CHANNEL if name.endswith("probability")}
    variant = vary(np.zeros(RATE, np.float32), **CHANNEL | always)
    assert len(variant) == RATE
    assert np.abs(variant).max() <= 2**-15  # A codec may set the last of 16 bits.


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("codec", CODECS)
def test_a_very_short_clip_has_variants(codec, rate, coded_by):
    coded_by(codec)
    lengths = [1, 2, 7, 160, 511, 513]
    waveforms = [0.5 * sounds.tone(440.0)[1 : length + 1] for length in lengths]
    clips = [Clip(f"{length}") for length in lengths]
    made = variants.make_variants(1, clips, waveforms, AugmentConfig(**CHANNEL), rate)
    assert [len(variant) for variant in made] == lengths
    assert all(np.isfinite(variant).all() for variant in made)


# Cache


def forbid_computing(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a variant is computed although it is cached")

    monkeypatch.setattr(variants, "_variant", fail)


def test_variants_are_computed_once_with_a_file_for_each_number(cache, monkeypatch):
    (clips, waveforms), config = clips_of(0.2, 0.3), AugmentConfig(**CHANNEL)
    first = {number: variants.make_variants(number, clips, waveforms, config, RATE) for number in (1, 2)}
    times = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(times) == 2
    forbid_computing(monkeypatch)
    for number, made in first.items():
        assert_same(variants.make_variants(number, clips, waveforms, config, RATE), made)
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == times


def test_another_number_setting_rate_or_content_has_another_file(cache, monkeypatch):
    (clips, waveforms), config = clips_of(0.1, 0.1), AugmentConfig()
    given = [
        (1, clips, config, RATE),
        (2, clips, config, RATE),
        (1, clips, config, 8000),
        (1, [Clip("other"), clips[1]], config, RATE),
        (1, clips[::-1], config, RATE),
        (1, clips[:1], config, RATE),
        (1, clips, replace(config, equalization_decibels=3.0), RATE),
        (1, clips, replace(config, band_high_hz=(3000.0, 7000.0)), RATE),
        (1, clips, replace(config, noise_snr_decibels=(5.0, 40.0)), RATE),
    ]
    for number, (variant, own, settings, rate) in enumerate(given):
        variants.make_variants(variant, own, waveforms[: len(own)], settings, rate)
        assert len(list(cache.iterdir())) == number + 1
    # Settings that variants do not follow do not matter, nor how many there are.
    forbid_computing(monkeypatch)
    other = replace(config, num_variants=3, gain_decibels=6.0, speed_change=0.1)
    variants.make_variants(1, clips, waveforms, other, RATE)
    assert len(list(cache.iterdir())) == len(given)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_cache_is_computed_again(cache, damage, monkeypatch):
    (clips, waveforms), config = clips_of(0.1, 0.2), AugmentConfig(equalization_decibels=6.0)
    first = variants.make_variants(1, clips, waveforms, config, RATE)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "empty": b""}[damage])
    assert_same(variants.make_variants(1, clips, waveforms, config, RATE), first)
    forbid_computing(monkeypatch)
    assert_same(variants.make_variants(1, clips, waveforms, config, RATE), first)


def test_a_failed_write_of_the_cache_is_a_one_line_error_and_leaves_no_file(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EmokerasError, match="No space left on device") as caught:
        vary(sounds.syllables(0.1))
    assert str(cache) in str(caught.value)
    assert "EMOKERAS_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())
