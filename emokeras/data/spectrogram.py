"""Log-mel spectrograms and MFCCs of batches of waveforms, in graph, with the values that librosa gives.

Prosody uses the same frames and power spectra.
"""

import functools

import numpy as np
import scipy.fft
import scipy.signal
import tensorflow as tf

from emokeras.config import MfccConfig, ProsodyConfig, SpectrogramConfig

SMALLEST_POWER = 1e-10  # -100 dB
NUM_WARPS = 21  # warp factors of VTLP; the middle one is 1
WARP_KNEE = 0.6  # where a warp begins to bend back, as a share of half the sample rate


def cut_frames(waveforms: tf.Tensor, config: SpectrogramConfig | ProsodyConfig, sample_rate_hz: int) -> tf.Tensor:
    """Return the frames of waveforms [batch, samples], float32 [batch, frames, samples of a frame].

    Frames are centered on multiples of the hop and the ends are padded with zeros, as librosa does with `center=True,
    pad_mode="constant"`.
    """
    frame_samples = round(config.frame_seconds * sample_rate_hz)
    before = config.fft_size // 2 - (config.fft_size - frame_samples) // 2
    padded = tf.pad(waveforms, [[0, 0], [before, frame_samples - before]])  # [batch, samples + frame_samples]
    return tf.signal.frame(padded, frame_samples, round(config.hop_seconds * sample_rate_hz))


def power_spectrum(frames: tf.Tensor, config: SpectrogramConfig | ProsodyConfig) -> tf.Tensor:
    """Return the power [..., fft_bins] of frames [..., samples] under a periodic Hann window."""
    # tf.signal's own Hann window is not periodic where its length is odd.
    window = scipy.signal.get_window("hann", frames.shape[-1]).astype(np.float32)
    spectrum = tf.signal.rfft(frames * window, [config.fft_size])
    return tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2


@functools.lru_cache(maxsize=8)
def mel_filterbank(config: SpectrogramConfig, sample_rate_hz: int) -> np.ndarray:
    """Return Slaney's mel filters, float32 [fft_bins, bands]."""
    import librosa

    return librosa.filters.mel(
        sr=sample_rate_hz, n_fft=config.fft_size, n_mels=config.num_bands, fmin=config.low_hz, fmax=config.high_hz
    ).T.astype(np.float32)


@functools.lru_cache(maxsize=8)
def warped_filterbanks(config: SpectrogramConfig, sample_rate_hz: int, change: float) -> np.ndarray:
    """Return the mel filters for vocal tract length perturbation, float32 [NUM_WARPS, fft_bins, bands].

    The warp factors run from 1 - `change` to 1 + `change`. A frequency is multiplied by the factor up to a knee; from
    there the warp is linear to half the sample rate, which stays fixed (Jaitly and Hinton, "Vocal Tract Length
    Perturbation improves speech recognition", ICML workshop 2013).
    """
    half_rate = sample_rate_hz / 2
    hertz = np.linspace(0, half_rate, config.fft_size // 2 + 1)
    filters = mel_filterbank(config, sample_rate_hz)
    banks = []
    for factor in np.linspace(1 - change, 1 + change, NUM_WARPS):
        knee = WARP_KNEE * half_rate * min(factor, 1) / factor
        warped_hertz = np.interp(hertz, (0, knee, half_rate), (0, knee * factor, half_rate))
        banks.append(np.stack([np.interp(warped_hertz, hertz, one) for one in filters.T], axis=1))
    return np.stack(banks).astype(np.float32)


def band_centers_hz(config: SpectrogramConfig) -> np.ndarray:
    """Return the center frequency of each mel filter, [bands]."""
    import librosa

    return librosa.mel_frequencies(config.num_bands + 2, fmin=config.low_hz, fmax=config.high_hz)[1:-1]


def band_widths_hz(config: SpectrogramConfig) -> np.ndarray:
    """Return the width of each mel filter at half its height, [bands]. Slaney's filters are as much lower as they are
    wider: a mel power times this is in proportion to the power in the band."""
    import librosa

    edges_hz = librosa.mel_frequencies(config.num_bands + 2, fmin=config.low_hz, fmax=config.high_hz)
    return (edges_hz[2:] - edges_hz[:-2]) / 2


def mel_spectrogram(
    waveforms: tf.Tensor, config: SpectrogramConfig, sample_rate_hz: int, filterbank: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the mel power spectrogram, float32 [batch, frames, bands].

    Parameters
    ----------
    waveforms: float32 [batch, samples].
    filterbank: float32 [fft_bins, bands], or one for each clip [batch, fft_bins, bands]; by default `mel_filterbank`.
    """
    power = power_spectrum(cut_frames(waveforms, config, sample_rate_hz), config)
    filterbank = mel_filterbank(config, sample_rate_hz) if filterbank is None else filterbank
    return tf.matmul(power, filterbank)


def log_mel_spectrogram(
    waveforms: tf.Tensor, config: SpectrogramConfig, sample_rate_hz: int, filterbank: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the log-mel spectrogram in decibels re 1, at least -100, [batch, frames, bands].

    It is not normalized by the maximum of the clip. Parameters as for `mel_spectrogram`.
    """
    power = mel_spectrogram(waveforms, config, sample_rate_hz, filterbank)
    return (10.0 / np.log(10.0)) * tf.math.log(tf.maximum(power, SMALLEST_POWER))


def mfcc(
    waveforms: tf.Tensor, config: MfccConfig, sample_rate_hz: int, filterbank: tf.Tensor | None = None
) -> tf.Tensor:
    """Return mel-frequency cepstral coefficients, [batch, frames, coefficients].

    They are the orthonormal DCT-II of `log_mel_spectrogram`. Parameters as for `mel_spectrogram`.
    """
    cosines = scipy.fft.dct(np.eye(config.num_bands), norm="ortho")[:, : config.num_coefficients]
    decibels = log_mel_spectrogram(waveforms, config, sample_rate_hz, filterbank)
    return tf.matmul(decibels, cosines.astype(np.float32))
