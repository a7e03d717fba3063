"""Recording conditions: levels, noise, channels, codecs, rooms; their numbers against SciPy and plain loops."""

import io

import numpy as np
import pytest
import soundfile
from scipy import signal

from emokeras.data import conditions
from emokeras.data.conditions import CONDITIONS, apply_condition

RATE_HZ = 16000
NAMES = [
    "clean",
    "level-minus-20",
    "level-plus-20",
    "white-noise-20",
    "white-noise-10",
    "white-noise-5",
    "babble-20",
    "babble-10",
    "babble-5",
    "silence-around",
    "low-noise-around",
    "room-noise-around",
    "telephone",
    "mp3",
    "opus",
    "reverberation-0.3",
    "reverberation-0.6",
    "low-pass-3khz",
    "clipping",
    "dc",
    "lost-packets",
]


def speech(seconds=3.0, rate_hz=RATE_HZ, seed=0):
    """Syllables of a voice: harmonics of a gliding pitch for 0.3 s, pauses of 0.1 s, silent ends."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = np.cumsum(150 + 30 * np.sin(2 * np.pi * (0.7 + 0.1 * seed) * time + seed)) / rate_hz
    voice = sum(np.sin(2 * np.pi * harmonic * pitch) / harmonic for harmonic in range(1, 24))
    speaks = (time % 0.4 < 0.3) & (time > 0.5) & (time < seconds - 0.5)
    return (0.05 * voice * speaks).astype(np.float32)


VOICES = conditions.make_voices({seed: [speech(seed=seed)] for seed in range(1, 8)}, RATE_HZ)


def under(name, waveform, content="a clip", rate_hz=RATE_HZ):
    return apply_condition(name, waveform, rate_hz, content, VOICES)


def decibels(power, reference):
    return 10 * np.log10(np.maximum(power, 1e-20) / reference)


def tone(hertz, seconds=2.0, rate_hz=RATE_HZ):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def gain_decibels(name, hertz, level=0.1):
    """The gain of a condition for a tone, without its first half second."""
    given = level * tone(hertz)
    return decibels(np.mean(under(name, given)[RATE_HZ // 2 :] ** 2), np.mean(given[RATE_HZ // 2 :] ** 2))


# All of them


def test_the_conditions_are_those_of_the_design():
    assert list(CONDITIONS) == NAMES
    assert set(conditions.NEVER_TRAINED) == {"lost-packets", "clipping", "low-pass-3khz"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [1, 160, 48000])
def test_a_clip_of_any_length_keeps_its_length_unless_something_is_put_around_it(name, samples):
    waveform = speech(samples / RATE_HZ) + np.float32(1e-3)
    before = waveform.copy()
    around = {"silence-around": 4, "low-noise-around": 4, "room-noise-around": 2}.get(name, 0) * RATE_HZ
    for given in (waveform, np.zeros_like(waveform)):
        changed = under(name, given)
        assert changed.dtype == np.float32
        assert changed.shape == (samples + around,)
        assert np.isfinite(changed).all()
    np.testing.assert_array_equal(waveform, before)


def test_a_waveform_depends_on_condition_and_content_only():
    first = {name: under(name, speech()) for name in NAMES}
    again = {name: under(name, speech()) for name in reversed(NAMES)}
    other = {name: under(name, speech(), "another clip") for name in NAMES}
    for name in NAMES:
        np.testing.assert_array_equal(first[name], again[name])
    differ = {name for name in NAMES if not np.array_equal(first[name], other[name])}
    assert differ == {
        name for name in NAMES if name.startswith(("white", "babble", "low-noise", "room", "reverb", "lost"))
    }
    noises = [first[f"white-noise-{snr}"] - speech() for snr in (20, 10)]
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.02  # not one noise at two levels


def test_clean_is_unchanged_and_levels_are_not_clipped():
    np.testing.assert_array_equal(under("clean", speech()), speech())
    np.testing.assert_allclose(under("level-minus-20", speech()), speech() / 10, rtol=1e-6)
    np.testing.assert_allclose(under("level-plus-20", speech()), 10 * speech(), rtol=1e-6)
    assert np.abs(under("level-plus-20", 2 * speech())).max() > 1


# Noise


def test_active_power_is_that_of_the_frames_within_40_decibels_of_the_loudest():
    waveform = np.concatenate([0.001 * tone(1000, 1), tone(1000, 1), 0.1 * tone(1000, 1), np.zeros(RATE_HZ)])
    powers = [np.mean(waveform[start : start + 320] ** 2) for start in range(0, len(waveform), 320)]
    expected = np.mean([power for power in powers if power >= max(powers) * 1e-4])
    assert conditions.active_power(waveform, RATE_HZ) == pytest.approx(expected)
    assert expected == pytest.approx((0.5 + 0.005) / 2, rel=1e-3)  # neither the zeros nor what is 60 dB below


@pytest.mark.parametrize("kind", ["white-noise", "babble"])
@pytest.mark.parametrize("snr", [20, 10, 5])
def test_noise_has_its_ratio_to_the_active_frames(kind, snr):
    noise = under(f"{kind}-{snr}", speech()) - speech()
    active = np.mean(speech()[speech() != 0] ** 2)
    assert decibels(active, np.mean(noise**2)) == pytest.approx(
        snr, abs=0.3
    )  # Frames are 20 ms, syllables begin within.
    assert decibels(conditions.active_power(speech(), RATE_HZ), np.mean(noise**2)) == pytest.approx(snr, abs=0.01)


def test_white_noise_is_flat():
    noise = under("white-noise-5", speech(30)) - speech(30)
    _, density = signal.welch(noise, RATE_HZ, nperseg=256)
    assert np.ptp(decibels(density[1:-1], density.mean())) < 1.5


def test_room_noise_has_the_spectrum_of_hoth():
    noise = conditions.room_noise(60 * RATE_HZ, RATE_HZ, np.random.default_rng(0))
    hertz, density = signal.welch(noise, RATE_HZ, nperseg=4096)
    table = {125: 30.9, 250: 26.0, 500: 21.1, 1000: 16.2, 2000: 11.3, 4000: 5.4, 6300: -1.3}  # ITU-T P.800
    measured = {center: decibels(density[abs(hertz / center - 1) < 0.05].mean(), 1) for center in table}
    offset = measured[1000] - table[1000]
    assert {center: round(value - offset) for center, value in measured.items()} == pytest.approx(table, abs=1.5)


@pytest.mark.parametrize(("name", "seconds", "snr"), [("low-noise-around", 2, 50), ("room-noise-around", 1, 20)])
def test_room_noise_is_before_after_and_under_the_speech(name, seconds, snr):
    changed, edge = under(name, speech()), seconds * RATE_HZ
    speech_power = conditions.active_power(speech(), RATE_HZ)
    for part in (changed[:edge], changed[-edge:], changed[edge:-edge] - speech()):
        assert decibels(speech_power, np.mean(part.astype(float) ** 2)) == pytest.approx(snr, abs=1)


def test_silence_is_zero():
    changed = under("silence-around", speech())
    np.testing.assert_array_equal(changed, np.pad(speech(), 2 * RATE_HZ))


def test_voices_are_joined_without_their_silent_ends_at_one_power():
    clips = [np.pad(level * tone(300, 1), RATE_HZ // 2) for level in (0.01, 0.5)]
    (voice,) = conditions.make_voices({"01": clips, "02": [np.zeros(RATE_HZ)]}, RATE_HZ)
    assert len(voice) == pytest.approx(2 * RATE_HZ, abs=2 * 320)
    assert np.mean(voice[:RATE_HZ] ** 2) == pytest.approx(1, rel=0.02)
    assert np.mean(voice[RATE_HZ:] ** 2) == pytest.approx(1, rel=0.02)


def test_babble_is_the_sum_of_six_of_the_voices():
    hertz = [250 * number for number in range(1, 9)]
    voices = [tone(own, 1) for own in hertz]
    babble = apply_condition("babble-5", speech(), RATE_HZ, "a clip", voices) - speech()
    power = np.abs(np.fft.rfft(babble)) ** 2
    shares = np.array([power[round(own * len(babble) / RATE_HZ)] for own in hertz]) / power.sum()
    np.testing.assert_allclose(np.sort(shares), [0, 0] + [1 / 6] * 6, atol=0.01)


# Channels


def test_a_telephone_passes_its_band_only():
    for hertz in (500, 1000, 2000, 3000):
        assert gain_decibels("telephone", hertz) == pytest.approx(0, abs=0.7), hertz
    for hertz in (60, 150, 3900, 5000, 7000):
        assert gain_decibels("telephone", hertz) < -25, hertz


def test_mu_law_has_the_noise_of_its_eight_bits():
    """G.711 demands 33 dB or more over 30 dB of levels; the mu-law curve with mu = 255 gives 38 dB at best."""
    for level in (0.5, 0.1, 0.02):
        given = level * tone(1010, rate_hz=8000)
        coded = conditions._through_file(given, 8000, format="WAV", subtype="ULAW")
        assert len(np.unique(coded)) <= 256
        assert 33 < decibels(np.mean(given**2), np.mean((coded - given) ** 2)) < 42
        curve = np.sign(given) * np.log1p(255 * np.abs(given)) / np.log(256)
        rounded = np.round(curve * 127.5 - 0.5) + 0.5
        reference = np.sign(rounded) * (256 ** (np.abs(rounded) / 127.5) - 1) / 255
        assert np.abs(coded - reference).max() < 0.08 * level


@pytest.mark.parametrize(("codec", "low", "high"), [("mp3", 16, 28), ("opus", 8, 14)])
def test_codecs_have_low_bit_rates_and_no_delay(codec, low, high):
    """Both rates depend on the sound: on RAVDESS they are 20 and 12 kbit/s."""
    given = speech(10)
    file = io.BytesIO()
    soundfile.write(file, given, RATE_HZ, **conditions.CODECS[codec])
    assert low < 8 * len(file.getvalue()) / 10 / 1000 < high
    coded = under(codec, given)
    assert not np.array_equal(coded, given)
    lags = signal.correlation_lags(len(coded), len(given))
    assert abs(lags[np.argmax(signal.correlate(coded, given, method="fft"))]) <= 2
    assert decibels(np.mean(coded**2), np.mean(given**2)) == pytest.approx(0, abs=2)


def test_the_low_pass_is_3_decibels_down_at_3_kilohertz():
    expected = {1000: 0.0, 3000: -3.0, 6000: -8 * 6.0}
    for hertz, gain in expected.items():
        measured = gain_decibels("low-pass-3khz", hertz)
        assert measured == pytest.approx(gain, abs=0.2) if hertz <= 3000 else measured < gain


def test_clipping_cuts_what_is_12_decibels_below_the_peak():
    changed = under("clipping", speech())
    assert np.abs(changed).max() == 1
    threshold = np.abs(speech()).max() * 10 ** (-12 / 20)
    np.testing.assert_array_equal(np.abs(changed) >= 1, np.abs(speech()) >= threshold)
    inside = np.abs(speech()) < threshold
    np.testing.assert_allclose(changed[inside], speech()[inside] / threshold, rtol=1e-5)


def test_dc_is_an_offset_of_a_tenth():
    np.testing.assert_allclose(under("dc", speech()) - speech(), 0.1, atol=1e-7)


def test_a_tenth_of_the_packets_is_lost_in_bursts():
    packet = 320
    received = under("lost-packets", np.ones(packet * 40000, np.float32)).reshape(-1, packet)
    assert np.isin(received.mean(axis=1), (0, 1)).all()  # whole packets
    lost = received[:, 0] == 0
    bursts = np.count_nonzero(np.diff(np.concatenate([[0], lost.astype(int)])) == 1)
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    assert lost.sum() / bursts == pytest.approx(2, abs=0.1)


# Rooms


@pytest.mark.parametrize("seconds", [0.3, 0.6])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_rooms_have_the_decay_time_of_their_names(seconds, rate_hz):
    for position in range(conditions.NUM_POSITIONS):
        response = conditions.room_response(seconds, rate_hz, position)
        assert np.sum(response**2) == pytest.approx(1, rel=1e-4)
        remaining = np.array([np.sum(response[start:] ** 2) for start in range(0, len(response), rate_hz // 100)])
        level = decibels(remaining, remaining[0])
        begin, end = np.argmax(level < -5), np.argmax(level < -25)  # T20, in steps of 10 ms
        assert 60 * 0.01 * (end - begin) / (level[begin] - level[end]) == pytest.approx(seconds, rel=0.2)


def test_the_first_arrivals_are_the_mirror_images_of_the_mouth():
    rate_hz, room = 48000, conditions.ROOM_METERS
    mouth, microphone = conditions._positions(0)
    images = [mouth]
    for axis in range(3):
        for wall in (0.0, room[axis]):
            image = mouth.copy()
            image[axis] = 2 * wall - mouth[axis]
            images.append(image)
    arrivals = [np.linalg.norm(image - microphone) / 343.0 * rate_hz for image in images]
    response = np.abs(conditions.room_response(0.6, rate_hz, 0))
    assert np.argmax(response) == pytest.approx(arrivals[0], abs=1)
    assert response[: int(arrivals[0]) - 20].max(initial=0) < 0.05 * response.max()
    for arrival in arrivals[1:]:
        near = response[round(arrival) - 2 : round(arrival) + 3].max()
        assert near > 0.5 * response.max() * arrivals[0] / arrival, arrival


def test_reverberation_continues_a_sound_that_has_ended():
    click = np.zeros(RATE_HZ, np.float32)
    click[100] = 1
    for name, seconds in (("reverberation-0.3", 0.3), ("reverberation-0.6", 0.6)):
        tail = under(name, click)[100:]
        responses = [conditions.room_response(seconds, RATE_HZ, own) for own in range(conditions.NUM_POSITIONS)]
        fits = [np.allclose(tail[: len(own)], own[: len(tail)], atol=1e-5) for own in responses]
        assert sum(fits) == 1
