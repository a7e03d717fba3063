"""Prosody has librosa's values and the pitch that a sound was made with; it does not depend on other clips."""

import librosa
import numpy as np
import pytest
import sounds
from sounds import RATE, needs_real_clips, noise, tone, voice

from emokeras.config import Config, ProsodyConfig, SpectrogramConfig, TcnConfig
from emokeras.data import features
from emokeras.data import prosody as module
from emokeras.data.activity import without_offset
from emokeras.data.prosody import PROSODY, prosody
from emokeras.data.spectrogram import SMALLEST_POWER, cut_frames, mel_spectrogram, power_spectrum

HOP, FRAME = 320, 768  # of the default configuration, in samples
CONFIG = ProsodyConfig()

# 22.05 and 44.1 kHz have frames of 1058 and 2117 samples, which is odd.
CONFIGURATIONS = {
    16000: CONFIG,
    22050: ProsodyConfig(fft_size=2048),
    44100: ProsodyConfig(fft_size=4096),
    48000: ProsodyConfig(fft_size=4096),
}
SECONDS = np.arange(0, 1.5, 1 / RATE)
CONTOURS_HZ = {
    "low": 90 + 0 * SECONDS,
    "rising an octave": 100 * 2 ** (SECONDS / 1.5),
    "falling two octaves": 440 * 2 ** (-2 * SECONDS / 1.5),
    "vibrato": 220 * 2 ** (np.sin(2 * np.pi * 5 * SECONDS) / 12),
    "high vibrato": 500 * 2 ** (np.sin(2 * np.pi * 6 * SECONDS) / 24),
}


def speech() -> list[np.ndarray]:
    """Return a voice between near silence and noise, and real clips where there are any."""
    synthetic = np.concatenate([noise(4800, 1e-4), voice(CONTOURS_HZ["vibrato"]), noise(6400, 0.05)])
    return [synthetic, *real_clips()]


def real_clips() -> list[np.ndarray]:
    """Return clips of two men and three women: calm, sad, angry, happy, surprised."""
    return sounds.real_clips(("02-01-01-01-03", "04-02-01-01-12", "05-02-02-02-17", "03-01-02-01-20", "08-02-01-02-06"))


def prosody_of(waveform: np.ndarray, config: ProsodyConfig = CONFIG) -> dict[str, np.ndarray]:
    """Return the features of one clip by their names, [frames] each."""
    return dict(zip(PROSODY, prosody(waveform[np.newaxis], config, RATE)[0].numpy().T, strict=True))


def pitch_of(waveforms: np.ndarray, config: ProsodyConfig = CONFIG, rate: int = RATE) -> np.ndarray:
    """Return the pitch of waveforms [..., samples] in Hz, [..., frames], 0 where a frame is unvoiced."""
    power = power_spectrum(cut_frames(np.atleast_2d(waveforms), config, rate), config)
    hertz = module.pitch(np.maximum(power, SMALLEST_POWER), config, rate)[0].numpy()
    return hertz[0] if waveforms.ndim == 1 else hertz


def librosa_pitch(waveform: np.ndarray, frame: int = 1024) -> np.ndarray:
    return librosa.yin(
        waveform, fmin=65, fmax=600, sr=RATE, frame_length=frame, hop_length=HOP, center=True, pad_mode="constant"
    )


def semitones(hertz: np.ndarray, reference_hz: np.ndarray) -> np.ndarray:
    return np.abs(12 * np.log2(hertz / reference_hz))


# Frames


@pytest.mark.parametrize("rate", CONFIGURATIONS)
def test_frames_are_those_of_a_mel_spectrogram(rate):
    config = CONFIGURATIONS[rate]
    mel = SpectrogramConfig(config.frame_seconds, config.hop_seconds, config.fft_size, 40, 50.0, 8000.0)
    hop = round(config.hop_seconds * rate)
    for samples in (0, 1, hop - 1, hop, hop + 1, 7 * hop, 9999):
        waveforms = np.zeros((2, samples), np.float32)
        frames = prosody(waveforms, config, rate)
        assert frames.shape == (2, samples // hop + 1, len(PROSODY))
        assert frames.shape[:2] == mel_spectrogram(waveforms, mel, rate).shape[:2]
    click = np.zeros((1, 10 * hop), np.float32)
    click[0, 4 * hop] = 1.0  # in the middle of a frame, where the window is 1
    power = power_spectrum(cut_frames(click, config, rate), config)[0].numpy()
    np.testing.assert_allclose(power[4], 1.0, rtol=1e-3)
    np.testing.assert_allclose(power[5], power[3], rtol=5e-2)  # An odd frame has no middle sample.
    np.testing.assert_array_equal(power[:, 5].argmax(), mel_spectrogram(click, mel, rate)[0, :, 5].numpy().argmax())


# Pitch


@pytest.mark.parametrize("name", CONTOURS_HZ)
def test_pitch_is_that_of_the_synthetic_voice(name):
    hertz = CONTOURS_HZ[name]
    found, expected = pitch_of(voice(hertz))[2:-2], hertz[::HOP][2:]
    assert (found > 0).all()
    off = semitones(found, expected[: len(found)])
    assert off.max() < 0.25
    assert np.median(off) < 0.05


@pytest.mark.parametrize("name", CONTOURS_HZ)
def test_pitch_equals_librosa_yin(name):
    """Except in the vibrato, which librosa's rectangular frames smear more."""
    waveform = voice(CONTOURS_HZ[name])
    off = semitones(pitch_of(waveform)[2:-2], librosa_pitch(waveform)[2:-2])
    assert (off < 0.25).mean() > (0.6 if "vibrato" in name else 0.95)
    assert off.max() < 1.0


@needs_real_clips
def test_pitch_of_real_clips_equals_librosa_yin():
    """librosa's rectangular frame of 32 ms is about as long as ours of 48 ms, which is tapered. In 64 ms an actor's
    pitch changes too much, so there only the frames with a steady pitch are compared."""
    clips = real_clips()
    found = np.concatenate([pitch_of(clip) for clip in clips])
    short = np.concatenate([librosa_pitch(clip, 512) for clip in clips])
    long = np.concatenate([librosa_pitch(clip, 1024) for clip in clips])
    voiced = found > 0
    assert 0.2 < voiced.mean() < 0.6
    off = semitones(found[voiced], short[voiced])
    assert (off < 0.25).mean() > 0.85
    assert (off < 0.5).mean() > 0.92
    moves = semitones(long[1:], long[:-1])
    steady = voiced & (np.append(moves, 99) < 0.25) & (np.insert(moves, 0, 99) < 0.25)
    assert steady.sum() > 50
    assert (semitones(found[steady], long[steady]) < 0.25).mean() > 0.85


@pytest.mark.parametrize("rate", CONFIGURATIONS)
def test_no_tone_has_an_octave_error(rate):
    """Neither a pure tone nor a voice, also with its formant on the second or third harmonic."""
    time = np.arange(round(0.3 * rate)) / rate
    for hertz in 70.0 * 2 ** np.linspace(0, 3.05, 14):  # to 580 Hz
        rich = [voice(hertz + 0 * time, rate, formant_hz) for formant_hz in (hertz, 2 * hertz, 3 * hertz)]
        waveforms = np.stack([0.3 * tone(hertz, len(time), rate), *rich])
        found = pitch_of(waveforms, CONFIGURATIONS[rate], rate)[:, 3:-3]
        assert found.shape[1] >= 9
        np.testing.assert_allclose(found, hertz, rtol=5e-3)  # 0.09 semitones


def test_pitch_is_in_the_range_of_the_configuration():
    waveform = voice(CONTOURS_HZ["low"], formant_hz=200.0)
    assert np.median(pitch_of(waveform)) == pytest.approx(90, rel=5e-3)
    assert np.median(pitch_of(waveform, ProsodyConfig(low_hz=50, frame_seconds=0.06))) == pytest.approx(90, rel=5e-3)
    higher = pitch_of(waveform, ProsodyConfig(low_hz=120))
    assert (higher[higher > 0] >= 120).all()


def test_a_voice_is_voiced_and_noise_is_not():
    for hertz in CONTOURS_HZ.values():
        assert prosody_of(voice(hertz))["voicing"][2:-2].min() > 0.9
    hiss = prosody_of(noise(3 * RATE))
    assert hiss["voicing"].max() < 0.5
    assert not hiss["pitch_semitones"].any()
    between = prosody_of(voice(CONTOURS_HZ["low"]) + 0.7 * noise(len(SECONDS)))["voicing"]
    assert 0.4 < np.median(between) < 0.9


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_a_frame_has_a_pitch_where_its_aperiodicity_is_below_the_threshold(threshold):
    for waveform in speech():
        config = ProsodyConfig(voicing_threshold=threshold)
        found, hertz = prosody_of(waveform, config), pitch_of(waveform, config)
        voiced = found["voicing"] > 1 - threshold
        assert 0 < voiced.mean() < 1
        np.testing.assert_array_equal(hertz >= config.low_hz, voiced)
        np.testing.assert_array_equal(hertz == 0, ~voiced)
        expected = 12 * np.log2(np.where(voiced, hertz, 65) / 65)
        np.testing.assert_allclose(found["pitch_semitones"], expected, atol=1e-4)


@pytest.mark.parametrize("hertz", [0.0, 10.0, 25.0, 50.0])
def test_offset_and_hum_have_no_pitch(hertz):
    waveform = 0.3 * np.cos(2 * np.pi * hertz * SECONDS) + noise(len(SECONDS), 1e-3)
    assert not prosody_of(waveform.astype(np.float32))["pitch_semitones"].any()
    spoken = voice(CONTOURS_HZ["vibrato"])
    offset = (spoken + 0.3 * np.cos(2 * np.pi * min(hertz, 10.0) * SECONDS)).astype(np.float32)
    assert semitones(pitch_of(offset)[2:-2], pitch_of(spoken)[2:-2]).max() < 0.1


# Level and spectral shape


def test_level_and_zero_crossings_equal_librosa():
    for waveform in speech():
        found = prosody_of(waveform)
        level = librosa.feature.rms(y=waveform, frame_length=FRAME, hop_length=HOP, pad_mode="constant")[0]
        np.testing.assert_allclose(found["level_decibels"], librosa.amplitude_to_db(level, top_db=None), atol=1e-3)
        crossings = librosa.feature.zero_crossing_rate(waveform, frame_length=FRAME, hop_length=HOP, threshold=1e-5)[0]
        inside = slice(2, -2)  # librosa pads with the last sample, which is in no inner frame
        np.testing.assert_allclose(found["zero_crossing_rate"][inside], crossings[inside], atol=1e-6)
        assert np.ptp(crossings) > 0.1


@pytest.mark.parametrize("config", [CONFIG, ProsodyConfig(0.04, 0.016, 2048)], ids=["default", "padded"])
def test_spectral_shape_equals_librosa(config):
    frame, hop = round(config.frame_seconds * RATE), round(config.hop_seconds * RATE)
    for waveform in speech():
        transform = librosa.stft(
            waveform, n_fft=config.fft_size, win_length=frame, hop_length=hop, center=True, pad_mode="constant"
        )
        magnitude = np.maximum(np.abs(transform), 1e-5)  # the floor
        expected = {
            "centroid_octaves": librosa.feature.spectral_centroid(S=magnitude, sr=RATE)[0],
            "bandwidth_octaves": librosa.feature.spectral_bandwidth(S=magnitude, sr=RATE)[0],
            "rolloff_octaves": librosa.feature.spectral_rolloff(S=magnitude, sr=RATE)[0],
            "flatness_decibels": librosa.feature.spectral_flatness(S=magnitude)[0],
        }
        found = prosody_of(waveform, config)
        for name, values in expected.items():
            scaled = np.log2(values / config.low_hz) if name.endswith("octaves") else 10 * np.log10(values)
            close = np.abs(found[name] - scaled) < 2e-3
            # A sum may round to either side of 85 %, which moves the rolloff by a bin.
            assert close.mean() > 0.98 if name.startswith("rolloff") else close.all(), name
            assert np.ptp(scaled) > 0.1
        # The floor does not matter where there is sound.
        loud = found["level_decibels"] > -60
        centroid = librosa.feature.spectral_centroid(S=np.abs(transform), sr=RATE)[0]
        np.testing.assert_allclose(found["centroid_octaves"][loud], np.log2(centroid[loud] / config.low_hz), atol=1e-3)


def test_a_tone_and_noise_have_the_values_of_theory():
    pure = prosody_of(0.5 * tone(2080))
    inside = slice(2, -2)
    np.testing.assert_allclose(pure["level_decibels"][inside], 20 * np.log10(0.5 / np.sqrt(2)), atol=0.05)
    np.testing.assert_allclose(pure["zero_crossing_rate"][inside], 2 * 2080 / RATE, atol=0.003)
    np.testing.assert_allclose(pure["centroid_octaves"][inside], 5.0, atol=0.01)  # 65 Hz doubled five times
    np.testing.assert_allclose(pure["rolloff_octaves"][inside], 5.0, atol=0.02)
    assert pure["bandwidth_octaves"][inside].max() < 0.5
    assert pure["flatness_decibels"][inside].max() < -60
    hiss = {name: np.median(values) for name, values in prosody_of(noise(2 * RATE)).items()}
    assert hiss["centroid_octaves"] == pytest.approx(np.log2(4000 / 65), abs=0.05)
    assert hiss["bandwidth_octaves"] == pytest.approx(np.log2(8000 / np.sqrt(12) / 65), abs=0.05)
    assert hiss["rolloff_octaves"] == pytest.approx(np.log2(0.85 * 8000 / 65), abs=0.05)
    assert hiss["flatness_decibels"] == pytest.approx(-2.5, abs=0.3)  # Euler's constant of an exponential distribution
    assert hiss["zero_crossing_rate"] == pytest.approx(0.5, abs=0.02)


# All features


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_gain_changes_the_level_only(factor):
    for waveform in speech():
        once, scaled = prosody_of(waveform), prosody_of((factor * waveform).astype(np.float32))
        loud = once["level_decibels"] > -50
        assert loud.sum() > 30
        for name in PROSODY:
            expected = once[name] + 20 * np.log10(factor) * (name == "level_decibels")
            # After resampling the highest bins are below the floor, of which flatness takes the logarithm.
            close = np.abs(scaled[name] - expected)[loud] < (1.0 if name == "flatness_decibels" else 0.01)
            assert close.mean() > 0.95, name
            if name in ("pitch_semitones", "level_decibels", "voicing"):
                assert close.all(), name


def test_silence_has_the_values_of_faint_white_noise():
    """It is finite, unvoiced and at the smallest level, with a flat spectrum."""
    expected = {
        "pitch_semitones": 0.0,
        "level_decibels": -100.0,
        "zero_crossing_rate": 0.0,
        "centroid_octaves": np.log2(4000 / 65),
        "bandwidth_octaves": np.log2(8000 / np.sqrt(12) / 65),
        "rolloff_octaves": np.log2(0.85 * 8000 / 65),
        "flatness_decibels": 0.0,
    }
    for silence in (np.zeros(8000, np.float32), noise(8000, 1e-8)):
        found = prosody_of(silence)
        assert found["voicing"].max() < 0.1
        for name, value in expected.items():
            if name != "zero_crossing_rate" or not silence.any():
                np.testing.assert_allclose(found[name], value, atol=5e-3, err_msg=name)


@pytest.mark.parametrize("waveform", [np.ones(1), np.ones(8000), np.arange(8000) == 4000, np.arange(8000) > 4000])
def test_clicks_and_steps_give_finite_values(waveform):
    found = prosody_of(waveform.astype(np.float32))
    assert all(np.isfinite(values).all() for values in found.values())
    assert not found["pitch_semitones"].any()
    assert min(found["voicing"].min(), found["zero_crossing_rate"].min()) >= 0


def test_a_clip_gives_the_same_prosody_alone_and_in_a_batch_of_longer_ones():
    clips = [voice(CONTOURS_HZ["vibrato"])[:9999], np.zeros(700, np.float32), np.ones(1, np.float32), *speech()]
    longest = max(map(len, clips)) + 1234
    together = prosody(np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips]), CONFIG, RATE).numpy()
    for row, clip in zip(together, clips, strict=True):
        alone = prosody(clip[np.newaxis], CONFIG, RATE)[0].numpy()
        close = np.abs(row[: len(alone)] - alone) < 2e-3
        assert close.all(axis=1).mean() > 0.99  # The rolloff may move by a bin.
        np.testing.assert_allclose(row[: len(alone)], alone, atol=0.5)


def test_serving_gives_windows_of_prosody():
    config = Config("tiny", {"prosody": TcnConfig()})
    waveform = np.concatenate([np.zeros(6400, np.float32), voice(CONTOURS_HZ["vibrato"]), np.zeros(6400, np.float32)])
    inputs, _ = features.serving_inputs(config, {"waveform": waveform[np.newaxis]})
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "prosody": (1, 1, 128, len(PROSODY)),
        "prosody_mask": (1, 1, 128),
    }
    window, mask = inputs["prosody"][0, 0].numpy(), inputs["prosody_mask"][0, 0].numpy() > 0
    waveform = without_offset(waveform[np.newaxis])
    speech = features.taken_speech(waveform, config)[0].numpy()[::2]  # of each frame: its hop is two of those
    expected = prosody(waveform, CONFIG, RATE)[0].numpy()[speech]
    assert 73 <= speech.sum() <= 79
    np.testing.assert_allclose(window[mask], expected, atol=2e-3)
    assert not window[~mask].any()
