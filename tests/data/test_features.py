"""Features agree with librosa, and what a clip gives never depends on its neighbours or on zeros after its end."""

from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import tensorflow as tf

from emokeras.config import AudioConfig, AugmentConfig, CnnConfig, Config, MfccConfig, SpectrogramConfig, TcnConfig
from emokeras.data import features
from emokeras.data.audio import load_waveform

REAL_CLIPS = Path(__file__).parents[2].parent / "shared" / "ravdess"
RATE = 16000
HOP = 160  # of trimming and of the default spectrogram, in samples
WINDOW = 40960
CONFIG = Config("tiny", {"spectrogram": CnnConfig()})

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


def voiced(seconds: float, rate: int = RATE, silence_seconds: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return a gliding voice with two formants and some breath, silence (but for faint noise) before and after it."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 130 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = np.zeros_like(time)
    for harmonic in range(1, int(0.45 * rate / 160)):
        hertz = 130.0 * harmonic
        formants = np.exp(-(((hertz - 600) / 300) ** 2)) + 0.3 * np.exp(-(((hertz - 1800) / 400) ** 2)) + 0.01
        sound += formants * np.sin(harmonic * phase)
    random = np.random.default_rng(seed)
    sound = 0.4 * sound / np.abs(sound).max() * (0.6 + 0.4 * np.sin(2 * np.pi * 2.3 * time))
    sound += random.normal(scale=1e-3, size=len(time))
    silence = random.normal(scale=1e-5, size=(2, round(silence_seconds * rate)))
    return np.concatenate([silence[0], sound, silence[1]]).astype(np.float32)


def real_waveforms(rate: int, count: int = 2) -> list[np.ndarray]:
    names = ("03-01-01-01-01-01-01", "03-01-05-02-02-01-12", "03-01-06-01-01-02-17")[:count]
    return [load_waveform(REAL_CLIPS / f"Actor_{name[-2:]}" / f"{name}.flac", rate) for name in names]


def speech(rate: int, count: int = 2) -> list[np.ndarray]:
    """Return a synthetic voice, and real clips where there are any."""
    return [voiced(1.5, rate, 0.2)] + (real_waveforms(rate, count) if REAL_CLIPS.is_dir() else [])


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


# The spectrogram


@pytest.mark.parametrize(("rate", "config"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_mel_spectrogram_is_librosas(rate, config):
    """To a relative 1e-4 for all that lies within 60 dB of the clip's loudest value. Below that the rounding of single
    precision, which grows with the loud bins of the same frame, may add a ten-billionth (-100 dB) of the loudest."""
    for waveform in speech(rate):
        expected = librosa_mel(waveform, config, rate)
        measured = features.mel_spectrogram(waveform[np.newaxis], config, rate)[0].numpy()
        assert measured.shape == expected.shape
        peak = expected.max()
        heard = expected > 1e-6 * peak
        assert heard.mean() > 0.2
        np.testing.assert_allclose(measured[heard], expected[heard], rtol=1e-4)
        np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-10 * peak)


def test_the_log_mel_spectrogram_is_librosas_decibels():
    rate, config = CONFIGURATIONS["16 kHz"]
    for waveform in [*speech(rate), 1e-3 * voiced(0.3), np.zeros(800, np.float32)]:
        expected = librosa.power_to_db(librosa_mel(waveform, config, rate), ref=1.0, amin=1e-10, top_db=None)
        measured = features.log_mel_spectrogram(waveform[np.newaxis], config, rate)[0].numpy()
        np.testing.assert_allclose(measured, expected, atol=2e-3)


def test_the_filters_are_slaneys():
    expected = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=80, fmin=50.0, fmax=8000.0)
    filters = features.mel_filterbank(SpectrogramConfig(), RATE)
    np.testing.assert_array_equal(filters, expected.T)
    assert (filters.max(axis=0) > 0).all()  # No band is empty with the default sizes.


@pytest.mark.parametrize("hertz", [200.0, 440.0, 1000.0, 3000.0, 6500.0])
def test_a_tone_is_loudest_in_the_band_nearest_to_it(hertz):
    config = SpectrogramConfig()
    centres = librosa.mel_frequencies(config.num_bands + 2, fmin=config.low_hz, fmax=config.high_hz)[1:-1]
    time = np.arange(RATE) / RATE
    log_mel = features.log_mel_spectrogram(np.sin(2 * np.pi * hertz * time)[np.newaxis].astype("f4"), config, RATE)
    middle = log_mel[0, 10:-10].numpy()
    loudest = np.unique(middle.argmax(axis=1))
    # Where a tone lies between two bands, the narrower, taller triangle of the lower one may win by a little.
    assert np.abs(centres[loudest] - hertz).max() <= 1.1 * np.abs(centres - hertz).min()
    assert (middle.max(axis=1) - np.median(middle, axis=1) > 60).all()


@pytest.mark.parametrize("config", [SpectrogramConfig(), MfccConfig(num_bands=64, low_hz=0.0)])
def test_the_middle_vocal_tract_is_the_clips_own(config):
    filterbanks = features.warped_filterbanks(config, RATE, 0.1)
    assert filterbanks.shape == (features.VOCAL_TRACTS, 513, config.num_bands)
    own = features.mel_filterbank(config, RATE)
    np.testing.assert_allclose(filterbanks[features.VOCAL_TRACTS // 2], own, atol=1e-9)


@pytest.mark.parametrize(("tract", "factor"), [(0, 0.85), (5, 0.925), (15, 1.075), (20, 1.15)])
def test_another_vocal_tract_hears_frequencies_as_others(tract, factor):
    """Up to the knee every one as `factor` times it; half the rate stays where it is."""
    config = SpectrogramConfig(low_hz=0.0)
    centers = features.band_centers_hz(config)
    warped = features.warped_filterbanks(config, RATE, 0.15)[tract]
    for hertz in (500.0, 1000.0, 2000.0, 4000.0):
        power = np.zeros(513, np.float32)
        power[round(hertz / RATE * 1024)] = 1.0
        nearest = np.abs(centers - hertz * factor).argmin()
        assert abs((power @ warped).argmax() - nearest) <= 1  # It may lie between two.
    last = np.zeros(513, np.float32)
    last[511] = 1.0
    assert (last @ warped).argmax() == config.num_bands - 1


def test_clips_of_one_batch_are_heard_by_their_own_vocal_tracts():
    config = replace(CONFIG, augment=AugmentConfig(vocal_tract_change=0.1))
    waveforms = np.stack([voiced(1.0), voiced(1.0, seed=1)])
    spans = tf.constant([[0, RATE], [0, RATE]])
    both = extract(waveforms, config, spans=spans, tracts=tf.constant([3, 10]))["spectrogram"]
    own = extract(waveforms, config, spans=spans)["spectrogram"]
    np.testing.assert_allclose(both[1], own[1], atol=1e-4)
    filterbank = features.warped_filterbanks(config.spectrogram, RATE, 0.1)[3]
    frames = features.log_mel_spectrogram(waveforms[:1], config.spectrogram, RATE, filterbank)
    alone, _ = features.gather_windows(
        frames, spans[:1], tf.constant([[0] * own.shape[1]]), own.shape[2], round(config.spectrogram.hop_seconds * RATE)
    )
    assert np.abs(both[0, 0] - own[0, 0]).max() > 3
    np.testing.assert_allclose(both[0, 0], alone[0, 0], atol=1e-4)


def test_more_gain_adds_its_decibels_to_every_value():
    waveform = voiced(0.5)
    config = SpectrogramConfig()
    once = features.log_mel_spectrogram(waveform[np.newaxis], config, RATE).numpy()
    twice = features.log_mel_spectrogram(2 * waveform[np.newaxis], config, RATE).numpy()
    assert once.min() > -99
    np.testing.assert_allclose(twice - once, 6.0206, atol=1e-3)


def test_the_floor_is_minus_100_decibels():
    log_mel = features.log_mel_spectrogram(np.zeros((1, 1000), np.float32), SpectrogramConfig(), RATE).numpy()
    np.testing.assert_allclose(log_mel, -100.0, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 511, 16000])
def test_a_clip_has_a_frame_at_every_multiple_of_the_hop(samples):
    log_mel = features.log_mel_spectrogram(np.ones((2, samples), np.float32), SpectrogramConfig(), RATE)
    assert log_mel.shape == (2, samples // 160 + 1, 80)


# Where a clip is active


def span(waveform: np.ndarray, config: AudioConfig | None = None) -> tuple[int, int]:
    first, stop = features.active_span(waveform[np.newaxis], config or AudioConfig())[0].numpy()
    return int(first), int(stop)


def librosa_span(waveform: np.ndarray, decibels: float = 40.0, hop: int = HOP) -> tuple[int, int]:
    first, stop = librosa.effects.trim(waveform, top_db=decibels, frame_length=4 * hop, hop_length=hop)[1]
    return int(first), int(stop)


@pytest.mark.parametrize("decibels", [20.0, 40.0, 60.0])
@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_the_active_span_is_librosas_trim(rate, decibels):
    config = AudioConfig(sample_rate_hz=rate, trim_decibels=decibels)
    for waveform in [voiced(0.7, rate, 0.31), voiced(0.31, rate), *speech(rate, count=3)]:
        assert span(waveform, config) == librosa_span(waveform, decibels, round(0.01 * rate))


def test_trimming_does_not_depend_on_the_level():
    waveform = voiced(0.5, silence_seconds=0.3)
    assert span(waveform) == span(0.01 * waveform) == librosa_span(waveform)
    assert 3000 < span(waveform)[0] < span(waveform)[1] < len(waveform) - 3000


def test_a_pause_within_a_clip_is_kept():
    pause = np.zeros(8000, np.float32)
    waveform = np.concatenate([pause, voiced(0.3), pause, voiced(0.3), 1e-6 * np.ones(8000, np.float32)])
    first, stop = span(waveform)
    assert 8000 - 640 <= first <= 8000
    assert len(waveform) - 8000 <= stop <= len(waveform) - 8000 + 640


def test_zeros_after_a_clip_are_not_part_of_it():
    for waveform in (voiced(0.5), voiced(0.5, silence_seconds=0.3), voiced(0.3)[:4799]):
        alone = span(waveform)
        for zeros in (1, 159, 160, 5000):
            assert span(np.pad(waveform, (0, zeros))) == alone


def test_nothing_is_cut_where_nothing_is_to_be_cut():
    config = AudioConfig(trim_decibels=0.0)
    waveform = voiced(0.5, silence_seconds=0.3)
    assert span(waveform, config) == (0, len(waveform))
    assert span(np.pad(waveform, (0, 4000)), config) == (0, len(waveform))


def test_a_span_is_never_empty():
    for samples in (1, 100, 160, 5000):
        assert span(np.ones(samples, np.float32)) == (0, samples)
        first, stop = span(np.zeros(samples, np.float32))
        assert first == 0
        assert 1 <= stop <= HOP


# Where the windows are


def test_windows_begin_at_their_positions():
    config = AudioConfig()
    spans = tf.constant([[1600, 161600], [0, WINDOW], [3200, 3200 + 8960]])
    starts = features.window_starts(spans, tf.constant([[0.0, 0.5, 1.0]] * 3), config).numpy()
    assert starts[0].tolist() == [1600, 1600 + (160000 - WINDOW) // 2, 161600 - WINDOW]
    assert starts[1].tolist() == [0, 0, 0]  # exactly as long as the window
    assert starts[2].tolist() == [3200, 3200 - 16000, 3200 - 32000]  # shorter: at the window's beginning ... its end


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0.5]), (2, [0, 1]), (3, [0, 0.5, 1]), (5, [0, 0.25, 0.5, 0.75, 1])]
)
def test_serving_looks_at_evenly_spaced_positions(count, expected):
    np.testing.assert_allclose(features.even_positions(count), expected)


def numbered(count: int) -> tf.Tensor:
    """Return frames [1, count, 1] that hold their own number, counted from 1."""
    return tf.range(1.0, count + 1)[tf.newaxis, :, tf.newaxis]


def seen(span: tuple[int, int], positions: list[float], frames: int = 1200) -> list[list[int]]:
    """Return for each window the numbers of the frames of `numbered` that it shows, 0 for padding."""
    spans = tf.constant([span])
    starts = features.window_starts(spans, tf.constant([positions], tf.float32), AudioConfig())
    windows, mask = features.gather_windows(numbered(frames), spans, starts, 256, HOP)
    np.testing.assert_array_equal(mask.numpy(), windows.numpy()[..., 0] > 0)
    return windows[0, :, :, 0].numpy().astype(int).tolist()


def test_a_span_as_long_as_the_window_fills_it():
    for window in seen((320, 320 + WINDOW), [0.0, 0.3, 1.0]):
        assert window == list(range(3, 259))


def test_a_short_span_lies_whole_in_the_window():
    first, middle, last = seen((320, 320 + 100 * HOP), [0.0, 0.5, 1.0])
    inside = list(range(3, 103))
    assert first == inside + [0] * 156
    assert middle == [0] * 78 + inside + [0] * 78
    assert last == [0] * 156 + inside


@pytest.mark.parametrize("samples", [1, 5, 159, 160, 161, 20000, 40799])
def test_a_short_span_of_any_length_lies_whole_in_the_window(samples):
    """Also where the clip ends between two frames: the last frame that holds some of it is heard."""
    for window in seen((0, samples), [0.0, 0.25, 0.5, 0.9, 1.0]):
        assert [number for number in window if number] == list(range(1, (samples - 1) // HOP + 2))


def test_a_long_span_is_seen_from_its_first_to_its_last_frame():
    windows = seen((1600, 161600), [0.0, 0.5, 1.0])
    assert windows[0] == list(range(11, 267))
    assert windows[2] == list(range(1010 - 255, 1011))
    assert all(0 not in window for window in windows)


@pytest.mark.parametrize("length", [160000, 160005, 159999])
def test_the_windows_of_a_loud_10_second_clip_cover_its_ends(length):
    windows = seen((0, length), [0.0, 0.5, 1.0])
    assert all(0 not in window for window in windows)
    assert windows[0][0] == 1
    assert windows[-1][-1] == (length - 1) // HOP + 1


@pytest.mark.parametrize("hop", [100, 160, 203])
def test_windows_of_any_hop_show_active_frames_only(hop):
    spans = tf.constant([[800, 30000]])
    starts = features.window_starts(spans, tf.constant([[0.0, 0.37, 1.0]]), AudioConfig())
    windows, _ = features.gather_windows(numbered(1000), spans, starts, round(WINDOW / hop), hop)
    numbers = np.unique(windows.numpy().astype(int))
    assert numbers[numbers > 0].min() == 800 // hop + 1
    assert numbers.max() <= 29999 // hop + 1


# All together


def extract(waveforms: np.ndarray, config: Config = CONFIG, **options) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in features.extract(tf.constant(waveforms), config, **options).items()}


def test_extract_gives_the_windows_of_the_log_mel_spectrogram():
    waveform = voiced(3.2, silence_seconds=0.2)
    inputs = extract(waveform[np.newaxis])
    assert {name: value.shape for name, value in inputs.items()} == {
        "spectrogram": (1, 3, 256, 80),
        "spectrogram_mask": (1, 3, 256),
    }
    log_mel = features.log_mel_spectrogram(waveform[np.newaxis], CONFIG.spectrogram, RATE)[0].numpy()
    first, stop = span(waveform)
    np.testing.assert_array_equal(inputs["spectrogram"][0, 0], log_mel[first // HOP : first // HOP + 256])
    np.testing.assert_array_equal(inputs["spectrogram"][0, 2], log_mel[stop // HOP - 256 : stop // HOP])
    middle = (first + stop - WINDOW) // 2 // HOP
    candidates = [log_mel[begin : begin + 256] for begin in (middle, middle + 1)]  # It may lie between two frames.
    assert any(np.array_equal(inputs["spectrogram"][0, 1], candidate) for candidate in candidates)
    assert inputs["spectrogram_mask"].all()


def test_padding_is_zero_and_the_mask_tells_it():
    waveform = voiced(0.8, silence_seconds=0.2)
    inputs = extract(waveform[np.newaxis])
    mask = inputs["spectrogram_mask"]
    assert set(np.unique(mask)) == {0.0, 1.0}
    first, stop = span(waveform)
    np.testing.assert_array_equal(mask.sum(axis=2), (stop - first) // HOP)
    assert (inputs["spectrogram"][mask == 0] == 0).all()
    assert (inputs["spectrogram"][mask == 1] < 0).any()


def test_a_clip_gives_the_same_alone_and_among_longer_neighbours():
    """Trailing zeros never change anything: features are compared to a millionth of their range of 100 dB."""
    clips = [voiced(0.5, seed=1), voiced(1.3, silence_seconds=0.4), np.ones(1, np.float32), voiced(3.7, seed=2)]
    clips += [voiced(0.02), np.zeros(700, np.float32), *speech(RATE)[1:]]
    longest = max(map(len, clips)) + 1234
    together = extract(np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips]))
    for number, clip in enumerate(clips):
        alone = extract(clip[np.newaxis])
        np.testing.assert_array_equal(together["spectrogram_mask"][number], alone["spectrogram_mask"][0])
        np.testing.assert_allclose(together["spectrogram"][number], alone["spectrogram"][0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [0, 1, 100, 511])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_clip_shorter_than_a_frame_has_one_frame_or_few(samples, level):
    inputs = extract(np.full((1, samples), level, np.float32))
    assert np.isfinite(inputs["spectrogram"]).all()
    expected = max(1, -(-samples // HOP)) if level else 1
    np.testing.assert_array_equal(inputs["spectrogram_mask"].sum(axis=2), expected)


def test_a_silent_clip_is_one_frame_of_silence():
    inputs = extract(np.zeros((1, 20000), np.float32))
    np.testing.assert_array_equal(inputs["spectrogram_mask"].sum(axis=2), 1)
    np.testing.assert_allclose(inputs["spectrogram"][inputs["spectrogram_mask"] == 1], -100.0, atol=1e-4)


def test_positions_and_spans_can_be_given():
    waveform = voiced(4.0)
    inputs = extract(waveform[np.newaxis], positions=tf.constant([[1.0]]), spans=tf.constant([[1600, 4800]]))
    log_mel = features.log_mel_spectrogram(waveform[np.newaxis], CONFIG.spectrogram, RATE)[0].numpy()
    np.testing.assert_array_equal(inputs["spectrogram"][0, 0, -20:], log_mel[10:30])
    assert (inputs["spectrogram"][0, 0, :-20] == 0).all()


@pytest.mark.parametrize("seconds", [0.3, 2.3, 2.6, 5.0])
@pytest.mark.parametrize("trim_decibels", [0.0, 40.0])
def test_what_is_cut_around_a_window_gives_its_features(seconds, trim_decibels):
    """For inputs of three hops, whose frames must stay where they are, whatever lies before and after."""
    three = {name: TcnConfig() for name in ("spectrogram", "mfcc", "prosody")}
    audio = AudioConfig(trim_decibels=trim_decibels)
    config = Config("tiny", three, audio=audio, mfcc=MfccConfig(hop_seconds=0.016))
    waveform = voiced(seconds, RATE, 0.37)
    span = features.active_span(waveform[np.newaxis], config.audio)
    for position in (0.0, 0.4, 0.731, 1.0):
        whole = features.extract(waveform[np.newaxis], config, tf.constant([[position]]), span)
        cut, moved = features.cut_window(tf.constant(waveform), span[0], tf.constant(position), config)
        assert len(cut) < 3.0 * RATE
        found = features.extract(cut[np.newaxis], config, tf.constant([[position]]), moved[np.newaxis])
        for name, value in whole.items():
            np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)


def test_the_number_of_windows_and_frames_is_the_configurations():
    audio = AudioConfig(window_seconds=1.2, num_windows=5)
    config = replace(CONFIG, audio=audio, spectrogram=replace(CONFIG.spectrogram, hop_seconds=0.02, num_bands=30))
    assert extract(voiced(2.0)[np.newaxis], config)["spectrogram"].shape == (1, 5, 60, 30)


@pytest.mark.parametrize("num_coefficients", [13, 40])
def test_mfcc_are_librosas(num_coefficients):
    waveform = voiced(1.5)
    config = MfccConfig(num_bands=64, num_coefficients=num_coefficients)
    spectrogram = features.log_mel_spectrogram(waveform[np.newaxis], config, RATE)[0].numpy()
    expected = librosa.feature.mfcc(S=spectrogram.T, n_mfcc=num_coefficients).T
    found = features.mfcc(waveform[np.newaxis], config, RATE)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)  # of hundreds of decibels
    directly = librosa.feature.mfcc(
        y=waveform, sr=RATE, n_mfcc=num_coefficients, n_fft=1024, win_length=512, hop_length=160, n_mels=64, fmin=50,
        fmax=8000, pad_mode="constant",
    ).T  # fmt: skip
    # librosa.feature.mfcc cuts 80 dB below the loudest, which concerns the silence only.
    loud = spectrogram.min(axis=1) > spectrogram.max() - 80
    assert loud.sum() > 20
    np.testing.assert_allclose(found[loud], directly[loud], atol=2e-2)


def test_mfcc_and_spectrogram_of_one_clip_show_the_same_windows():
    waveform = voiced(3.0)[np.newaxis]
    both = Config("both", {"spectrogram": CnnConfig(), "mfcc": CnnConfig()})
    inputs = features.extract(tf.constant(waveform), both)
    np.testing.assert_array_equal(inputs["mfcc_mask"], inputs["spectrogram_mask"])
    spectrogram, mask = inputs["spectrogram"][0, 1].numpy(), inputs["mfcc_mask"][0, 1].numpy() > 0
    expected = librosa.feature.mfcc(S=spectrogram.T, n_mfcc=40).T
    np.testing.assert_allclose(inputs["mfcc"][0, 1].numpy()[mask], expected[mask], atol=1e-2)


def test_features_are_the_same_in_a_graph_of_unknown_shape():
    """As the exported model calls them."""
    signature = tf.TensorSpec([None, None], tf.float32)
    in_graph = tf.function(lambda waveforms: features.extract(waveforms, CONFIG), input_signature=[signature])
    for seconds in (0.1, 1.0):
        waveforms = np.stack([voiced(seconds, seed=1), voiced(seconds, seed=2)])
        traced, eager = in_graph(waveforms), extract(waveforms)
        for name in eager:
            np.testing.assert_allclose(traced[name].numpy(), eager[name], atol=1e-4)
