"""How the demo corpus sounds: syllables and cues -> tracks over time -> a waveform, by a source-filter synthesizer."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.signal import resample_poly

from emokeras.data.demo.cues import Cues, Speaker
from emokeras.data.demo.words import Syllable, syllables_of

SAMPLE_RATE_HZ = 16000
FRAME_SAMPLES = 64
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ
WINDOW_SAMPLES = 256
FFT_SIZE = 512
SOURCE_OVERSAMPLING = 2
SPEECH_LEVEL_DECIBELS = -28.0
SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 3.5

_BINS_HZ = np.arange(FFT_SIZE // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SIZE)
_OCTAVES_ABOVE_1_KHZ = np.log2(np.maximum(_BINS_HZ, 150.0) / 1000.0)
_BANDWIDTHS_HZ = (70.0, 100.0, 140.0)
_UPPER_FORMANTS_HZ = ((3500.0, 220.0), (4500.0, 280.0), (5600.0, 400.0))


@dataclass
class Tracks:
    """The parameters of the synthesizer over time, one value per frame of FRAME_SECONDS [frames]."""

    voice: np.ndarray  # amplitude of the glottal source
    noise: np.ndarray  # amplitude of the friction noise
    noise_hz: np.ndarray
    noise_octaves: np.ndarray
    pitch_semitones: np.ndarray  # relative to the speaker's base pitch
    formants_hz: np.ndarray  # [frames, 3]


def lay_out(random: np.random.Generator, syllables: list[Syllable], cues: Cues, speaker: Speaker) -> Tracks:
    """Place the syllables in time, with the rhythm, loudness and pitch of the cues."""
    lengths = _lengths_in_frames(random, syllables, cues, speaker)
    num_frames = int(lengths.sum()) + 1
    tracks = Tracks(
        voice=np.zeros(num_frames),
        noise=np.zeros(num_frames),
        noise_hz=np.full(num_frames, 4000.0),
        noise_octaves=np.full(num_frames, 0.6),
        pitch_semitones=np.zeros(num_frames),
        formants_hz=np.tile(np.array((500.0, 1500.0, 2500.0)), (num_frames, 1)),
    )
    start = 0
    for index, (syllable, (onset, vowel, gap)) in enumerate(zip(syllables, lengths, strict=True)):
        position = index / max(1, len(syllables) - 1)
        level = cues.fade_decibels * (position - 0.5) + cues.stress_decibels * (syllable.stressed - 0.5)
        amplitude = _to_amplitude(level + random.normal(0, 0.7))
        _write_onset(tracks, slice(start, start + onset), syllable, amplitude)
        _write_vowel(tracks, slice(start + onset, start + onset + vowel), syllable, cues, amplitude)
        whole = slice(start, start + onset + vowel + gap)
        time = np.linspace(-0.5, 0.5, whole.stop - whole.start)
        accent = cues.accent_semitones * (syllable.stressed - 0.4)
        tracks.pitch_semitones[whole] = (
            cues.pitch_semitones
            + accent
            + cues.declination_semitones * (position - 0.5)
            + cues.glide_semitones * np.clip(1.4 * time, -0.5, 0.5)
            + cues.final_semitones * max(0.0, position - 0.7) / 0.3
            + random.normal(0, 0.3)
        )
        start = whole.stop
    tracks.pitch_semitones[start:] = tracks.pitch_semitones[start - 1]
    _smooth_tracks(tracks)
    _add_tremor(random, tracks, cues)
    return tracks


def _lengths_in_frames(
    random: np.random.Generator, syllables: list[Syllable], cues: Cues, speaker: Speaker
) -> np.ndarray:
    """Return the frames of onset, vowel and following gap of every syllable [syllables, 3]."""
    rate = speaker.syllables_per_second * max(0.4, 1 + cues.tempo_percent / 100)
    seconds = np.empty((len(syllables), 3))
    for index, syllable in enumerate(syllables):
        total = (1.12 if syllable.stressed else 0.9) * max(0.5, random.normal(1, 0.07)) / rate
        onset = min(syllable.onset.seconds * 4.6 / rate, 0.45 * total)
        gap = (total - onset) * (1 - np.clip(cues.legato, 0.4, 1.0))
        pause = max(0.0, cues.pause_seconds) * random.uniform(0.5, 1.5) if syllable.ends_word else 0.0
        seconds[index] = onset, total - onset - gap, gap + pause
    seconds *= np.clip(seconds.sum(), SHORTEST_SECONDS - 0.3, LONGEST_SECONDS - 0.4) / seconds.sum()
    return np.maximum(np.round(seconds / FRAME_SECONDS).astype(int), (2, 6, 0))


def _write_onset(tracks: Tracks, frames: slice, syllable: Syllable, amplitude: float) -> None:
    onset = syllable.onset
    tracks.voice[frames] = onset.voice * amplitude
    noisy = slice(max(frames.start, frames.stop - 5), frames.stop) if onset.burst else frames
    tracks.noise[noisy] = onset.noise * amplitude
    tracks.noise_hz[frames] = onset.noise_hz
    tracks.noise_octaves[frames] = onset.noise_octaves
    tracks.formants_hz[frames] = onset.formants_hz or syllable.start_hz


def _write_vowel(tracks: Tracks, frames: slice, syllable: Syllable, cues: Cues, amplitude: float) -> None:
    time = np.linspace(0, 1, frames.stop - frames.start)
    attack = np.clip(cues.attack, 0.03, 0.75)
    rise = np.minimum(1, 0.15 + 0.85 * time / attack)
    fall = _to_amplitude(-max(0.0, cues.decay_decibels) * np.clip((time - attack) / (1 - attack), 0, 1))
    tracks.voice[frames] = amplitude * rise * fall
    start, end = np.array(syllable.start_hz), np.array(syllable.end_hz)
    tracks.formants_hz[frames] = start + time[:, None] * (end - start)


def _smooth_tracks(tracks: Tracks) -> None:
    """Smooth amplitudes over 12 ms, formants over 60 ms and pitch over 50 ms, as slow as articulators move."""
    tracks.voice = _smooth(tracks.voice, 0.012)
    tracks.noise = _smooth(tracks.noise, 0.012)
    tracks.pitch_semitones = _smooth(tracks.pitch_semitones, 0.050)
    tracks.formants_hz = np.stack([_smooth(track, 0.060) for track in tracks.formants_hz.T], axis=1)


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    half = max(1, round(seconds / 2 / FRAME_SECONDS))
    window = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(track, half, mode="edge"), window / window.sum(), mode="valid")


def _add_tremor(random: np.random.Generator, tracks: Tracks, cues: Cues) -> None:
    depth = max(0.0, cues.tremor_semitones)
    rate_hz = random.uniform(6.0, 8.0) * (1 + 0.15 * _smooth(random.normal(0, 3, len(tracks.voice)), 0.2))
    phase = 2 * np.pi * (random.random() + np.cumsum(rate_hz) * FRAME_SECONDS)
    tracks.pitch_semitones = tracks.pitch_semitones + depth * np.sin(phase)
    tracks.voice = tracks.voice * _to_amplitude(4.0 * depth * np.sin(phase + 0.6))


def _to_amplitude(decibels: np.ndarray | float) -> np.ndarray | float:
    return 10.0 ** (decibels / 20.0)


# Source and filter


def glottal_source(random: np.random.Generator, pitch_hz: np.ndarray, cues: Cues) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivative of the glottal flow and the opening of the glottis (0 to 1), both [frames * FRAME_SAMPLES].

    The pulse is Rosenberg's trigonometric one (1971), along a pitch track `pitch_hz` [frames].
    """
    # The corner where the glottis closes has harmonics above half the sample rate: it is made at twice the rate.
    factor = SOURCE_OVERSAMPLING
    num_samples = len(pitch_hz) * FRAME_SAMPLES * factor
    times = np.arange(num_samples) / (FRAME_SAMPLES * factor)
    cycles = np.cumsum(np.interp(times, np.arange(len(pitch_hz)), pitch_hz)) / (SAMPLE_RATE_HZ * factor)
    index = cycles.astype(np.int64)
    part = cycles - index
    num_cycles = int(index[-1]) + 3
    # Jitter shifts each closure by a fraction of its period; the cycle between two closures is stretched to fit.
    jitter = random.normal(0, max(0.1, cues.jitter_percent) / 100, num_cycles)
    part = np.clip(part + jitter[index] * (1 - part) + jitter[index + 1] * part, 0, 1)
    shimmer = _to_amplitude(random.normal(0, max(0.05, cues.shimmer_decibels), num_cycles))
    open_quotient = np.clip(cues.open_quotient, 0.35, 0.85)
    opening, closing = open_quotient * 2 / 3, open_quotient / 3
    flow = np.where(part < opening, 0.5 - 0.5 * np.cos(np.pi / opening * part), 0.0)
    closes = (part >= opening) & (part < open_quotient)
    flow[closes] = np.cos(np.pi / 2 / closing * (part[closes] - opening))
    flow *= shimmer[index]
    source = np.diff(flow, prepend=0.0) * (SAMPLE_RATE_HZ * factor / np.mean(pitch_hz))
    return resample_poly(source, 1, factor), flow[::factor]


def vocal_tract(formants_hz: np.ndarray, scale: float) -> np.ndarray:
    """Return the response of Klatt's cascade of resonators (1980), complex [frames, FFT_SIZE // 2 + 1]."""
    response = np.ones((1, len(_BINS_HZ)), np.complex64)
    for center_hz, bandwidth_hz in _UPPER_FORMANTS_HZ:
        response = response * _resonator(np.array([center_hz * scale]), bandwidth_hz)
    for track, bandwidth_hz in zip(formants_hz.T, _BANDWIDTHS_HZ, strict=True):
        response = response * _resonator(track * scale, bandwidth_hz)
    return response


def _resonator(center_hz: np.ndarray, bandwidth_hz: float) -> np.ndarray:
    """Return a resonator's response [frames, bins]; it is 1 at 0 Hz, as in Klatt's."""
    ratio = (_BINS_HZ / center_hz[:, None]).astype(np.float32)
    damping = (bandwidth_hz / center_hz[:, None]).astype(np.float32)
    return 1 / (1 - ratio**2 + 1j * ratio * damping)


def _spectra(signal: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the spectra [frames, bins] of windows that add up to the signal."""
    padded = np.pad(signal.astype(np.float32), (0, WINDOW_SAMPLES))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::FRAME_SAMPLES][:num_frames]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    weights = (hann * (2 * FRAME_SAMPLES / WINDOW_SAMPLES)).astype(np.float32)
    return scipy.fft.rfft(windows * weights, FFT_SIZE)


def _overlap_add(spectra: np.ndarray) -> np.ndarray:
    """Return the signal [samples] of filtered spectra [frames, bins]."""
    pieces = scipy.fft.irfft(spectra, FFT_SIZE).reshape(len(spectra), -1, FRAME_SAMPLES)
    signal = np.zeros((len(spectra) + pieces.shape[1] - 1, FRAME_SAMPLES))
    for shift in range(pieces.shape[1]):
        signal[shift : shift + len(spectra)] += pieces[:, shift]
    return signal.ravel()


def synthesize(random: np.random.Generator, transcript: str, cues: Cues, speaker: Speaker) -> np.ndarray:
    """Return the waveform of a spoken sentence [samples], in -1 to 1 at SAMPLE_RATE_HZ."""
    tracks = lay_out(random, syllables_of(transcript), cues, speaker)
    num_frames = len(tracks.voice)
    pitch_hz = np.clip(speaker.base_pitch_hz * 2 ** (tracks.pitch_semitones / 12), 50, 700)
    source, opening = glottal_source(random, pitch_hz, cues)
    breath = random.standard_normal(len(source)) * (0.2 + 0.8 * opening) * _to_amplitude(cues.breath_decibels)
    tract = vocal_tract(tracks.formants_hz, speaker.formant_scale * (1 + cues.formant_percent / 100))
    tilt = _to_amplitude(cues.tilt_decibels_per_octave * _OCTAVES_ABOVE_1_KHZ).astype(np.float32)
    voiced = _spectra(source, num_frames) * tilt + _spectra(breath * 3.0, num_frames)
    octaves_off = (np.log2(_BINS_HZ[None, 1:] / tracks.noise_hz[:, None]) / tracks.noise_octaves[:, None]) ** 2
    friction = np.pad(np.exp(-0.5 * octaves_off), ((0, 0), (1, 0))) * tracks.noise[:, None]
    hiss = _spectra(random.standard_normal(len(source)), num_frames)
    speech = _overlap_add(voiced * tract * tracks.voice[:, None].astype(np.float32) + hiss * friction)
    return _record(random, speech, cues, speaker)


def _record(random: np.random.Generator, speech: np.ndarray, cues: Cues, speaker: Speaker) -> np.ndarray:
    """Add a short silence before and after the speech, background noise and the response of the microphone."""
    loud = np.sqrt(np.mean(np.square(speech[np.abs(speech) > 0.05 * np.abs(speech).max()])))
    speech = speech * (_to_amplitude(SPEECH_LEVEL_DECIBELS + cues.level_decibels) / loud)
    before, after = (random.uniform(0.08, 0.18, 2) * SAMPLE_RATE_HZ).astype(int)
    longest = int(LONGEST_SECONDS * SAMPLE_RATE_HZ)
    padded = np.pad(speech, (before, after))[:longest]
    padded = np.pad(padded, (0, max(0, int(SHORTEST_SECONDS * SAMPLE_RATE_HZ) - len(padded))))
    noise = random.standard_normal(len(padded)) * _to_amplitude(speaker.noise_level_decibels)
    spectrum = scipy.fft.rfft(padded + noise)
    highest_hz, ripples = SAMPLE_RATE_HZ / 2, speaker.microphone_ripple_decibels
    decibels = np.interp(_BINS_HZ, np.linspace(0, highest_hz, len(ripples)), ripples)
    decibels = speaker.microphone_tilt_decibels_per_octave * _OCTAVES_ABOVE_1_KHZ + decibels
    response = np.interp(np.linspace(0, highest_hz, len(spectrum)), _BINS_HZ, _to_amplitude(decibels))
    waveform = scipy.fft.irfft(spectrum * response, len(padded))
    return waveform * min(1.0, 0.97 / np.abs(waveform).max())
