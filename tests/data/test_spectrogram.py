"""Spectrograms and MFCCs have librosa's values; a warped filterbank moves frequencies by its factor."""

import librosa
import numpy as np
import pytest
from sounds import RATE, real_clips, tone, vowel

from emokeras.config import MfccConfig, SpectrogramConfig
from emokeras.data import spectrogram

# The last two have an odd number of samples in a frame: 551 and 353.
CONFIGURATIONS = {
    "16 kHz": (16000, SpectrogramConfig()),
    "16 kHz, short transform": (16000, SpectrogramConfig(0.032, 0.010, 512, 64, 0.0, 8000.0)),
    "8 kHz": (8000, SpectrogramConfig(0.025, 0.0125, 256, 40, 20.0, 4000.0)),
    "44.1 kHz": (44100, SpectrogramConfig(0.025, 0.010, 2048, 128, 20.0, 16000.0)),
    "48 kHz": (48000, SpectrogramConfig(0.0425, 0.0107, 2048, 128, 0.0, 24000.0)),
    "22.05 kHz, odd": (22050, SpectrogramConfig(0.025, 0.010, 1024, 128, 0.0, 11025.0)),
    "11.025 kHz, odd": (11025, SpectrogramConfig(0.032, 0.010, 512, 40, 20.0, 5000.0)),
}


def speech(rate: int) -> list[np.ndarray]:
    """Return a synthetic voice, and real clips where there are any."""
    return [vowel(1.5, rate, 0.2), *real_clips(("01-01-01-01-01", "05-02-02-01-12"), rate)]


def librosa_mel(waveform: np.ndarray, config: SpectrogramConfig, rate: int) -> np.ndarray:
    """Return librosa's mel power spectrogram, [frames, bands]."""
    return librosa.feature.melspectrogram(
        y=waveform,
        sr=rate,
        n_fft=config.fft_size,
        win_length=round(config.frame_seconds * rate),
        hop_length=round(config.hop_seconds * rate),
        n_mels=config.num_bands,
        fmin=config.low_hz,
        fmax=config.high_hz,
        center=True,
        pad_mode="constant",
        power=2.0,
    ).T


# Spectrogram


@pytest.mark.parametrize(("rate", "config"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_mel_spectrogram_equals_librosa(rate, config):
    """To a relative 1e-4 within 60 dB of the clip's maximum. Below, the rounding of single precision, which grows with
    the loud bins of the same frame, may add 1e-10 (-100 dB) of the maximum."""
    for waveform in speech(rate):
        expected = librosa_mel(waveform, config, rate)
        measured = spectrogram.mel_spectrogram(waveform[np.newaxis], config, rate)[0].numpy()
        assert measured.shape == expected.shape
        peak = expected.max()
        loud = expected > 1e-6 * peak
        assert loud.mean() > 0.2
        np.testing.assert_allclose(measured[loud], expected[loud], rtol=1e-4)
        np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-10 * peak)


def test_log_mel_spectrogram_equals_librosas_decibels():
    rate, config = CONFIGURATIONS["16 kHz"]
    for waveform in [*speech(rate), 1e-3 * vowel(0.3), np.zeros(800, np.float32)]:
        expected = librosa.power_to_db(librosa_mel(waveform, config, rate), ref=1.0, amin=1e-10, top_db=None)
        measured = spectrogram.log_mel_spectrogram(waveform[np.newaxis], config, rate)[0].numpy()
        np.testing.assert_allclose(measured, expected, atol=2e-3)


def test_filterbank_is_slaneys():
    expected = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=80, fmin=50.0, fmax=8000.0)
    filters = spectrogram.mel_filterbank(SpectrogramConfig(), RATE)
    np.testing.assert_array_equal(filters, expected.T)
    assert (filters.max(axis=0) > 0).all()  # No band is empty with the default sizes.


@pytest.mark.parametrize("hertz", [200.0, 440.0, 1000.0, 3000.0, 6500.0])
def test_a_tone_has_its_maximum_in_the_nearest_band(hertz):
    config = SpectrogramConfig()
    centers = spectrogram.band_centers_hz(config)
    middle = spectrogram.log_mel_spectrogram(tone(hertz)[np.newaxis], config, RATE)[0, 10:-10].numpy()
    loudest = np.unique(middle.argmax(axis=1))
    # For a tone between two bands, the narrower, taller filter of the lower one may win by a little.
    assert np.abs(centers[loudest] - hertz).max() <= 1.1 * np.abs(centers - hertz).min()
    assert (middle.max(axis=1) - np.median(middle, axis=1) > 60).all()


def test_a_gain_adds_its_decibels_to_every_value():
    waveform, config = vowel(0.5), SpectrogramConfig()
    once = spectrogram.log_mel_spectrogram(waveform[np.newaxis], config, RATE).numpy()
    twice = spectrogram.log_mel_spectrogram(2 * waveform[np.newaxis], config, RATE).numpy()
    assert once.min() > -99
    np.testing.assert_allclose(twice - once, 6.0206, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 511, 16000])
def test_a_clip_has_a_frame_at_every_multiple_of_the_hop(samples):
    log_mel = spectrogram.log_mel_spectrogram(np.ones((2, samples), np.float32), SpectrogramConfig(), RATE)
    assert log_mel.shape == (2, samples // 160 + 1, 80)


# Vocal tract length perturbation


@pytest.mark.parametrize("config", [SpectrogramConfig(), MfccConfig(num_bands=64, low_hz=0.0)])
def test_the_middle_warp_is_the_unwarped_filterbank(config):
    filterbanks = spectrogram.warped_filterbanks(config, RATE, 0.1)
    assert filterbanks.shape == (spectrogram.NUM_WARPS, 513, config.num_bands)
    unwarped = spectrogram.mel_filterbank(config, RATE)
    np.testing.assert_allclose(filterbanks[spectrogram.NUM_WARPS // 2], unwarped, atol=1e-9)


@pytest.mark.parametrize(("warp", "factor"), [(0, 0.85), (5, 0.925), (15, 1.075), (20, 1.15)])
def test_a_warp_multiplies_frequencies_by_its_factor(warp, factor):
    """Up to the knee; half the sample rate stays fixed."""
    config = SpectrogramConfig(low_hz=0.0)
    centers = spectrogram.band_centers_hz(config)
    filterbank = spectrogram.warped_filterbanks(config, RATE, 0.15)[warp]
    for hertz in (500.0, 1000.0, 2000.0, 4000.0):
        power = np.zeros(513, np.float32)
        power[round(hertz / RATE * 1024)] = 1.0
        nearest = np.abs(centers - hertz * factor).argmin()
        assert abs((power @ filterbank).argmax() - nearest) <= 1  # It may be between two bands.
    last = np.zeros(513, np.float32)
    last[511] = 1.0
    assert (last @ filterbank).argmax() == config.num_bands - 1


# MFCC


@pytest.mark.parametrize("num_coefficients", [13, 40])
def test_mfcc_equal_librosa(num_coefficients):
    waveform = vowel(1.5)
    config = MfccConfig(num_bands=64, num_coefficients=num_coefficients)
    log_mel = spectrogram.log_mel_spectrogram(waveform[np.newaxis], config, RATE)[0].numpy()
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=num_coefficients).T
    found = spectrogram.mfcc(waveform[np.newaxis], config, RATE)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)  # of hundreds of decibels
    directly = librosa.feature.mfcc(
        y=waveform, sr=RATE, n_mfcc=num_coefficients, n_fft=1024, win_length=512, hop_length=160, n_mels=64, fmin=50,
        fmax=8000, pad_mode="constant",
    ).T  # fmt: skip
    # librosa cuts 80 dB below the maximum, which matters in silence only.
    loud = log_mel.min(axis=1) > log_mel.max() - 80
    assert loud.sum() > 20
    np.testing.assert_allclose(found[loud], directly[loud], atol=2e-2)
