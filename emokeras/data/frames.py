"""Waveform to short frames and their power spectra: one rule for all that is heard, so that the frames of spectrograms,
MFCCs and prosody are the same."""

import numpy as np
import scipy.signal
import tensorflow as tf

from emokeras.config import ProsodyConfig, SpectrogramConfig


def cut_frames(waveforms: tf.Tensor, config: SpectrogramConfig | ProsodyConfig, sample_rate_hz: int) -> tf.Tensor:
    """Return the frames [batch, frames, samples of a frame] of waveforms [batch, samples].

    They are centred on multiples of the hop, the ends padded with zeros, where librosa's (center=True,
    pad_mode="constant") are.
    """
    frame_samples = round(config.frame_seconds * sample_rate_hz)
    before = config.fft_size // 2 - (config.fft_size - frame_samples) // 2
    padded = tf.pad(waveforms, [[0, 0], [before, frame_samples - before]])  # [batch, samples + frame_samples]
    return tf.signal.frame(padded, frame_samples, round(config.hop_seconds * sample_rate_hz))


def power_spectrum(frames: tf.Tensor, config: SpectrogramConfig | ProsodyConfig) -> tf.Tensor:
    """Return the power [..., bins] of frames [..., samples] under a periodic Hann window."""
    # tf.signal's own Hann window is not periodic where its length is odd.
    window = scipy.signal.get_window("hann", frames.shape[-1]).astype(np.float32)
    spectrum = tf.signal.rfft(frames * window, [config.fft_size])
    return tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
