"""Conditions: what happens to speech on its way to a recognizer, for measuring how a model stands it.

A condition is a function (waveform, sample_rate_hz, generator) -> waveform, float32 [samples] both, and is named in
CONDITIONS. `apply_condition` seeds the generator by the condition and the clip's content: a waveform is the same in
every run and in any order.

Signal-to-noise ratios relate to the mean power of the active frames of the clean clip: those within 40 dB of its
loudest frame (`active_power`). Waveforms may leave -1 to 1, as nothing is clipped that the condition does not clip.
Docstrings name the sources; a gain, an offset and silence have none.
"""

import functools
import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.fft
import scipy.signal
import soundfile
import soxr

FRAME_SECONDS, ACTIVE_DECIBELS = 0.020, 40.0
# Hoth 1941, "Room Noise Spectra at Subscribers' Telephone Locations", as ITU-T P.800 has it up to 8 kHz: dB per Hz.
# It falls by 5 dB an octave, from 2.5 kHz on faster.
ROOM_NOISE_HERTZ = (100.0, 2500.0, 4000.0, 8000.0, 24000.0)
ROOM_NOISE_DECIBELS = (32.4, 9.6, 5.4, -6.6, -30.4)
TELEPHONE_RATE_HZ, TELEPHONE_BAND_HERTZ = 8000, (300.0, 3400.0)
CODEC_RATE_HZ = 16000
CODECS = {
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "AVERAGE", "compression_level": 0.9},
    "opus": {"format": "OGG", "subtype": "OPUS", "compression_level": 0.97},
}
TALKERS, MIN_TALKERS = 6, 3  # of babble: as many where there are as many voices, and at least
ROOM_METERS, NUM_POSITIONS = (6.0, 5.0, 3.0), 8
SOUND_METERS_PER_SECOND, IMAGE_RATE_HZ = 343.0, 96000
PACKET_SECONDS, LOST_SHARE, MEAN_BURST_PACKETS = 0.020, 0.1, 2.0
CLIPPED_DECIBELS, OFFSET = 12.0, 0.1


# Level and offset


def unchanged(waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Return the waveform as it is."""
    return waveform


def change_level(
    waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, decibels: float
) -> np.ndarray:
    """Return the waveform with a gain; it is not clipped."""
    return waveform * np.float32(10.0 ** (decibels / 20.0))


def clip_peaks(waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Return the waveform recorded too loud: raised until its peak is 12 dB above full scale, then cut at -1 and 1.

    Source: hard clipping as in Kates and Arehart 2010, "The Hearing-Aid Speech Quality Index (HASQI)".
    """
    peak = np.abs(waveform).max()
    gain = 10.0 ** (CLIPPED_DECIBELS / 20.0) / peak if peak else 1.0
    return np.clip(waveform * np.float32(gain), -1.0, 1.0)


def offset(waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Return the waveform with a constant (DC), as a converter adds that is out of balance: 0.1 of full scale."""
    return waveform + np.float32(OFFSET)


# Noise


def active_frames(waveform: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of each frame of 20 ms, [frames], and whether it is active: within 40 dB of the loudest.

    A rest shorter than a frame is left out; a clip shorter than a frame is one.
    """
    length = min(round(FRAME_SECONDS * sample_rate_hz), len(waveform))
    frames = waveform[: len(waveform) // length * length].reshape(-1, length)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return power, (power > 0) & (power >= power.max() * 10.0 ** (-ACTIVE_DECIBELS / 10.0))


def active_power(waveform: np.ndarray, sample_rate_hz: int) -> float:
    """Return the mean power of the active frames (`active_frames`); 0 of a silent clip.

    Source: the idea of the active speech level, ITU-T P.56, by frames.
    """
    power, active = active_frames(waveform, sample_rate_hz)
    return float(power[active].mean()) if active.any() else 0.0


def add_white_noise(
    waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, snr_decibels: float
) -> np.ndarray:
    """Return the waveform with white Gaussian noise at a signal-to-noise ratio.

    Source: as in Varga and Steeneken 1993, "Assessment for Automatic Speech Recognition: II. NOISEX-92".
    """
    noise = generator.standard_normal(len(waveform), dtype=np.float32)
    return waveform + _scaled(noise, active_power(waveform, sample_rate_hz), snr_decibels)


def add_babble(
    waveform: np.ndarray,
    sample_rate_hz: int,
    generator: np.random.Generator,
    snr_decibels: float,
    voices: Sequence[np.ndarray],
) -> np.ndarray:
    """Return the waveform with the sum of six voices at a signal-to-noise ratio.

    Parameters
    ----------
    voices: of `make_voices`, at least MIN_TALKERS; each talker begins anywhere in one and repeats it.

    Source: Krishnamurthy and Hansen 2009, "Babble Noise: Modeling, Analysis, and Applications".
    """
    chosen = generator.choice(len(voices), min(TALKERS, len(voices)), replace=False)
    babble = np.zeros(len(waveform), np.float32)
    for index in chosen:
        voice = voices[index]
        babble += np.resize(np.roll(voice, -generator.integers(len(voice))), len(waveform))
    return waveform + _scaled(babble, active_power(waveform, sample_rate_hz), snr_decibels)


def make_voices(recordings: Mapping[str, Sequence[np.ndarray]], sample_rate_hz: int) -> list[np.ndarray]:
    """Return a voice for babble of each speaker, float32 [samples].

    Parameters
    ----------
    recordings: of each speaker the waveforms [samples]. They are joined from their first to their last active frame,
        each with an active power of 1; a silent one is left out.
    """
    voices = []
    for waveforms in recordings.values():
        parts = []
        for waveform in waveforms:
            _, active = active_frames(waveform, sample_rate_hz)
            if active.any():
                first, last = np.flatnonzero(active)[[0, -1]]
                length = len(waveform) // len(active)
                speech = waveform[first * length : (last + 1) * length]
                parts.append(speech / np.float32(np.sqrt(active_power(speech, sample_rate_hz))))
        if parts:
            voices.append(np.concatenate(parts))
    return voices


def surround_with_silence(
    waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, seconds: float
) -> np.ndarray:
    """Return the waveform with zeros before and after it, so many seconds each."""
    return np.pad(waveform, round(seconds * sample_rate_hz))


def surround_with_noise(
    waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, seconds: float, snr_decibels: float
) -> np.ndarray:
    """Return the waveform with room noise under it and for some seconds before and after it.

    The noise has Hoth's spectrum, which falls with the frequency. Sources: Hoth 1941, "Room Noise Spectra at
    Subscribers' Telephone Locations"; ITU-T P.800, table of the room noise.
    """
    padded = np.pad(waveform, round(seconds * sample_rate_hz))
    noise = room_noise(len(padded), sample_rate_hz, generator)
    return padded + _scaled(noise, active_power(waveform, sample_rate_hz), snr_decibels)


def room_noise(samples: int, sample_rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise with the spectrum of ROOM_NOISE_DECIBELS, float32 [samples]; its level is arbitrary."""
    length = scipy.fft.next_fast_len(samples, real=True)
    spectrum = scipy.fft.rfft(generator.standard_normal(length, dtype=np.float32))
    octaves = np.log2(np.maximum(np.arange(len(spectrum)) * sample_rate_hz / length, 1.0))
    decibels = np.interp(octaves, np.log2(ROOM_NOISE_HERTZ), ROOM_NOISE_DECIBELS)
    spectrum *= (10.0 ** (decibels / 20.0)).astype(np.float32)
    spectrum[0] = 0.0
    return scipy.fft.irfft(spectrum, length)[:samples]


def _scaled(noise: np.ndarray, speech_power: float, snr_decibels: float) -> np.ndarray:
    """Return noise whose mean power is `snr_decibels` below that of the speech."""
    power = np.mean(np.square(noise, dtype=np.float64))
    wanted = speech_power * 10.0 ** (-snr_decibels / 10.0)
    return noise * np.float32(np.sqrt(wanted / power) if power else 0.0)


# Channels


def telephone(waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Return the waveform as a telephone line passes it: 300 to 3400 Hz, 8 kHz, 8-bit mu-law, and back to the rate.

    Source: ITU-T G.711 (mu-law) and G.712 (band); libsndfile's mu-law.
    """
    narrow = soxr.resample(waveform, sample_rate_hz, TELEPHONE_RATE_HZ, quality="HQ")
    narrow = scipy.signal.sosfilt(_telephone_band(), narrow)
    narrow = _through_file(np.clip(narrow, -1.0, 1.0), TELEPHONE_RATE_HZ, format="WAV", subtype="ULAW")
    return _of_length(soxr.resample(narrow, TELEPHONE_RATE_HZ, sample_rate_hz, quality="HQ"), len(waveform))


@functools.cache
def _telephone_band() -> np.ndarray:
    return scipy.signal.butter(6, TELEPHONE_BAND_HERTZ, "bandpass", fs=TELEPHONE_RATE_HZ, output="sos")


def encode_and_decode(
    waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, codec: str
) -> np.ndarray:
    """Return the waveform after a lossy codec of CODECS at 16 kHz, and back to the rate.

    Sources: MPEG-2 layer III (ISO/IEC 13818-3) by LAME, 20 kbit/s on RAVDESS in the mean, nothing above 5.7 kHz; Opus
    (RFC 6716), 12 kbit/s, to 8 kHz; both by libsndfile.
    """
    encoded = soxr.resample(waveform, sample_rate_hz, CODEC_RATE_HZ, quality="HQ")
    decoded = _through_file(encoded, CODEC_RATE_HZ, **CODECS[codec])
    return _of_length(soxr.resample(decoded, CODEC_RATE_HZ, sample_rate_hz, quality="HQ"), len(waveform))


def low_pass(waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, hertz: float) -> np.ndarray:
    """Return the waveform without what is above a frequency (Butterworth, 8th order: 48 dB an octave).

    Source: Butterworth 1930, "On the Theory of Filter Amplifiers".
    """
    return scipy.signal.sosfilt(_low_pass(hertz, sample_rate_hz), waveform).astype(np.float32)


@functools.cache
def _low_pass(hertz: float, sample_rate_hz: int) -> np.ndarray:
    return scipy.signal.butter(8, hertz, "lowpass", fs=sample_rate_hz, output="sos")


def lose_packets(waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Return the waveform with zeros for packets of 20 ms that are lost: a tenth of them, in bursts of two in the mean.

    Source: Gilbert 1960, "Capacity of a Burst-Noise Channel": a Markov chain of two states.
    """
    length = round(PACKET_SECONDS * sample_rate_hz)
    draws = generator.random(-(-len(waveform) // length))
    ends = 1.0 / MEAN_BURST_PACKETS
    begins = ends * LOST_SHARE / (1.0 - LOST_SHARE)  # The share of lost packets is begins / (begins + ends).
    lost, is_lost = np.zeros(len(draws), bool), draws[0] < LOST_SHARE
    for packet, draw in enumerate(draws):
        if packet:
            is_lost = draw >= ends if is_lost else draw < begins
        lost[packet] = is_lost
    return np.where(np.repeat(lost, length)[: len(waveform)], np.float32(0.0), waveform)


def _through_file(waveform: np.ndarray, sample_rate_hz: int, **options) -> np.ndarray:
    """Return what libsndfile reads of the waveform that it has written, in memory."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate_hz, **options)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def _of_length(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Return the waveform with zeros or less at its end, [samples]: resampling rounds the length."""
    return np.pad(waveform[:samples], (0, max(samples - len(waveform), 0)))


# Rooms


def reverberate(
    waveform: np.ndarray, sample_rate_hz: int, generator: np.random.Generator, decay_seconds: float
) -> np.ndarray:
    """Return the waveform in a room, from one of eight pairs of positions; what fades after its end is cut off.

    Parameters
    ----------
    decay_seconds: the time in which the sound falls by 60 dB (RT60).

    Source: `room_response`.
    """
    response = room_response(decay_seconds, sample_rate_hz, int(generator.integers(NUM_POSITIONS)))
    return scipy.signal.oaconvolve(waveform, response)[: len(waveform)].astype(np.float32)


@functools.cache
def room_response(decay_seconds: float, sample_rate_hz: int, position: int) -> np.ndarray:
    """Return the impulse response of a room of 6 × 5 × 3 m with an energy of 1, float32 [samples].

    Parameters
    ----------
    decay_seconds: the time of the fall by 60 dB, as `decay_time` measures it.
    position: the number of a pair of positions of mouth and microphone, 1 to 2 m apart.

    Sources: Allen and Berkley 1979, "Image Method for Efficiently Simulating Small-Room Acoustics", with their
    high-pass; Eyring 1930, "Reverberation Time in 'Dead' Rooms".
    """
    room = np.array(ROOM_METERS)
    mouth, microphone = _positions(position)
    reach = SOUND_METERS_PER_SECOND * decay_seconds
    squares, bounces = [], []
    for axis, length in enumerate(room):
        most = int(reach / (2 * length)) + 1
        periods = np.arange(-most, most + 1)
        # The image of the mouth in each period of two room lengths, and its mirror image.
        offsets = [sign * mouth[axis] + 2 * periods * length - microphone[axis] for sign in (1, -1)]
        squares.append(np.concatenate(offsets) ** 2)
        bounces.append(np.concatenate([np.abs(periods) + np.abs(periods - mirrored) for mirrored in (0, 1)]))
    distance = np.sqrt(functools.reduce(np.add.outer, squares)).ravel()
    reflections = functools.reduce(np.add.outer, bounces).ravel()
    near = distance < reach
    distance, reflections = distance[near], reflections[near]
    moments = np.rint(distance / SOUND_METERS_PER_SECOND * IMAGE_RATE_HZ).astype(int)
    high_pass = scipy.signal.butter(2, 80.0, "highpass", fs=IMAGE_RATE_HZ, output="sos")
    areas = room.prod() / room
    # A reflection leaves exp(-absorbed) of the energy. Eyring's formula holds for a diffuse sound, and in a box with
    # six equal walls the decay is about a fifth longer: correct it by what is measured.
    absorbed = 24.0 * np.log(10.0) / reach * room.prod() / (2.0 * areas.sum())
    for _ in range(5):
        response = np.bincount(moments, np.exp(-0.5 * absorbed * reflections) / distance)
        response = scipy.signal.sosfilt(high_pass, response)
        absorbed *= decay_time(response, IMAGE_RATE_HZ) / decay_seconds
    response = soxr.resample(response, IMAGE_RATE_HZ, sample_rate_hz, quality="HQ")
    return (response / np.sqrt(np.sum(response**2))).astype(np.float32)


def decay_time(response: np.ndarray, sample_rate_hz: int) -> float:
    """Return the seconds in which the sound of an impulse response falls by 60 dB, from the fall from -5 to -35 dB.

    Source: Schroeder 1965, "New Method of Measuring Reverberation Time"; ISO 3382-1 (T30).
    """
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decibels = 10.0 * np.log10(energy / energy[0])
    fall = np.flatnonzero((decibels <= -5.0) & (decibels >= -35.0))
    decibels_per_sample, _ = np.polyfit(fall, decibels[fall], 1)
    return float(-60.0 / decibels_per_sample / sample_rate_hz)


def _positions(position: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where mouth and microphone are, in meters [3], half a meter or more from the walls."""
    generator = np.random.default_rng(position)
    while True:
        mouth, microphone = generator.uniform(0.5, np.array(ROOM_METERS) - 0.5, [2, 3])
        if 1.0 <= np.linalg.norm(mouth - microphone) <= 2.0:
            return mouth, microphone


# All of them

CONDITIONS = {
    "clean": unchanged,
    "level-minus-20": functools.partial(change_level, decibels=-20.0),
    "level-plus-20": functools.partial(change_level, decibels=20.0),
    **{f"white-noise-{snr}": functools.partial(add_white_noise, snr_decibels=float(snr)) for snr in (20, 10, 5)},
    **{f"babble-{snr}": functools.partial(add_babble, snr_decibels=float(snr)) for snr in (20, 10, 5)},
    "silence-around": functools.partial(surround_with_silence, seconds=2.0),
    "low-noise-around": functools.partial(surround_with_noise, seconds=2.0, snr_decibels=50.0),
    "room-noise-around": functools.partial(surround_with_noise, seconds=1.0, snr_decibels=20.0),
    "telephone": telephone,
    "mp3": functools.partial(encode_and_decode, codec="mp3"),
    "opus": functools.partial(encode_and_decode, codec="opus"),
    "reverberation-0.3": functools.partial(reverberate, decay_seconds=0.3),
    "reverberation-0.6": functools.partial(reverberate, decay_seconds=0.6),
    "low-pass-3khz": functools.partial(low_pass, hertz=3000.0),
    "clipping": clip_peaks,
    "dc": offset,
    "lost-packets": lose_packets,
}
BABBLE = tuple(name for name in CONDITIONS if name.startswith("babble-"))  # They take `voices` too.
NEVER_TRAINED = ("lost-packets", "clipping", "low-pass-3khz")  # Training must not use them: they test what is new.


def apply_condition(
    name: str, waveform: np.ndarray, sample_rate_hz: int, content: str, voices: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Return a clip's waveform under a condition, float32 [samples].

    Parameters
    ----------
    content: the clip's content hash, which seeds the random numbers together with the name.
    voices: of `make_voices`, for babble.
    """
    seed = int.from_bytes(hashlib.sha256(f"{name} {content}".encode()).digest()[:8], "big")
    options = {"voices": voices} if name in BABBLE else {}
    return CONDITIONS[name](waveform, sample_rate_hz, np.random.default_rng(seed), **options)
