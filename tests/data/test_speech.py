"""Frames of a speech encoder: those of the speech, in order, whatever else is in the batch; cached exactly."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_SPEECH
from sounds import RATE, noise, syllables, tone

from emokeras.config import AudioConfig, Config, ModelConfig, SpeechConfig, TcnConfig
from emokeras.data import features, speech
from emokeras.data.activity import without_offset
from emokeras.errors import EmokerasError, UsageError
from emokeras.hub import speech_settings
from emokeras.recognizer.speech import load_speech_encoder

FRAME = 320  # samples
HOP = 160  # samples, of the activity
CONFIG = Config("tiny", {"speech": TcnConfig()})


def config_of(folder, *layers: int) -> Config:
    """Return the configuration of a network on these layers of a speech encoder."""
    settings = SpeechConfig(layers=layers, **speech_settings(str(folder)))
    return replace(CONFIG, speech=settings, model=ModelConfig(pretrained=str(folder)))


def samples_of_steps(blocks: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
    """Stand for an encoder: the state of a step is its samples. It shows which step a frame comes from."""
    return tf.reshape(blocks, [tf.shape(blocks)[0], -1, FRAME])


def padded(*waveforms: np.ndarray) -> np.ndarray:
    longest = max(map(len, waveforms))
    return np.stack([np.pad(waveform, (0, longest - len(waveform))) for waveform in waveforms])


def encoded(waveform: np.ndarray, config: Config = CONFIG, encode: Callable = samples_of_steps) -> np.ndarray:
    """Return the frames of the speech of one recording."""
    frames, mask = speech.encode_speech(tf.constant(waveform[np.newaxis]), config, encode)
    assert mask.numpy().all()
    return frames[0].numpy()


def speech_hops(waveform: np.ndarray) -> np.ndarray:
    return features.taken_speech(without_offset(waveform[np.newaxis]), CONFIG)[0].numpy()


def is_speech(waveform: np.ndarray) -> np.ndarray:
    """Return the frames that have speech in one of their hops, bool [frames]."""
    hops = speech_hops(waveform)
    return np.pad(hops, (0, len(hops) % 2)).reshape(-1, 2).any(axis=1)


def samples_of_speech(waveform: np.ndarray) -> np.ndarray:
    """Return the samples of the frames that are speech, [frames, FRAME]."""
    speaking = is_speech(waveform)
    whole = without_offset(waveform[np.newaxis])[0].numpy()
    return np.pad(whole, (0, len(speaking) * FRAME - len(whole))).reshape(-1, FRAME)[speaking]


def with_pauses(*parts: float) -> np.ndarray:
    """Return a voice for these seconds each, with pauses of 1.4 s, near silence, between and around."""
    pause = noise(round(1.4 * RATE), 1e-5)
    spoken = [syllables(seconds, seed=number) for number, seconds in enumerate(parts)]
    return np.concatenate([pause, *(sound for part in spoken for sound in (part, pause))])


# Which frames


@pytest.mark.parametrize("parts", [(0.4,), (1.7, 2.4), (9.5,), (24.3,), (12.0, 0.3, 9.1), (31.0, 8.0)], ids=str)
def test_the_frames_that_are_speech_are_taken_in_their_order(parts):
    """Also where they are in several blocks, and without those of long pauses."""
    waveform = with_pauses(*parts)
    frames = encoded(waveform)
    np.testing.assert_array_equal(frames, samples_of_speech(waveform))
    assert len(frames) == pytest.approx(50 * sum(parts), abs=3 * len(parts))


@pytest.mark.parametrize("seconds", [3.7, 9.9, 10.1, 25.0])
def test_a_block_has_at_most_ten_seconds(seconds):
    """Blocks of a recording have one length, but the last, which may be shorter."""
    waveform, given = syllables(seconds, silence_seconds=0.5), []

    def encode(blocks, samples):
        given.append((blocks.numpy(), samples.numpy()))
        return samples_of_steps(blocks, samples)

    encoded(waveform, encode=encode)
    ((blocks, samples),) = given
    hops = np.flatnonzero(speech_hops(waveform))
    span = (hops[-1] + 1 - hops[0] + 20) * HOP  # with 0.1 s before and after it
    assert len(blocks) == -(-span // (10 * RATE))
    assert not (samples % FRAME).any()
    assert samples.sum() == pytest.approx(span, abs=2 * FRAME)
    assert set(samples[:-1]) <= {blocks.shape[1]}
    assert samples[-1] <= blocks.shape[1] == samples.max() <= 10 * RATE


def test_blocks_are_padded_with_zeros():
    given = []

    def encode(blocks, samples):
        given.append((blocks.numpy(), samples.numpy()))
        return samples_of_steps(blocks, samples)

    short, long = syllables(0.5), syllables(2.0, silence_seconds=0.3, seed=1)
    speech.encode_speech(tf.constant(padded(short, long)), CONFIG, encode)
    ((blocks, samples),) = given
    for block, length in zip(blocks, samples, strict=True):
        assert np.count_nonzero(block[:length]) > 0.95 * length
        assert not block[length:].any()
    assert samples[0] < samples[1] == blocks.shape[1]


@pytest.mark.parametrize("silence", [0, 480, 5 * FRAME, 17003])
def test_silence_around_the_speech_does_not_change_which_frames_are_taken(silence):
    """It is not even encoded."""
    spoken = syllables(2.3)
    around = np.zeros(silence, np.float32)
    waveform = np.concatenate([around, spoken, around])
    np.testing.assert_array_equal(encoded(waveform), samples_of_speech(waveform))
    given = []
    encoded(waveform, encode=lambda *block: given.append(block[1].numpy()) or samples_of_steps(*block))
    assert given[0] <= len(spoken) + 0.2 * RATE + 4 * FRAME


@pytest.mark.parametrize(
    "waveform",
    [noise(2 * RATE), np.zeros(3000, np.float32), np.ones(1, np.float32), tone(440.0, 100), noise(321)],
    ids=["noise", "silence", "a sample", "100 samples", "321 samples"],
)
def test_a_recording_without_speech_has_all_its_frames(waveform):
    frames = encoded(waveform)
    np.testing.assert_array_equal(frames, samples_of_speech(waveform))
    is_silent = not without_offset(waveform[np.newaxis]).numpy().any()
    assert len(frames) == (1 if is_silent else (len(waveform) // HOP + 2) // 2)


def test_padding_is_0_in_frames_and_mask():
    short, long = syllables(0.5), syllables(2.0, seed=1)
    frames, mask = speech.encode_speech(tf.constant(padded(short, long)), CONFIG, samples_of_steps)
    counts = [len(samples_of_speech(short)), len(samples_of_speech(long))]
    np.testing.assert_array_equal(mask, np.arange(counts[1]) < np.array(counts)[:, np.newaxis])
    assert not frames[0, counts[0] :].numpy().any()
    for row, waveform in enumerate((short, long)):
        np.testing.assert_allclose(frames[row, : counts[row]], samples_of_speech(waveform), atol=1e-7)


# Whisper


def log_mel_of(blocks: np.ndarray, samples: list[int], num_bands: int = 80) -> tuple[np.ndarray, np.ndarray]:
    given = speech.whisper_log_mel(tf.constant(blocks), tf.constant(samples), num_bands)
    return given["log_mel"].numpy(), given["mask"].numpy()


def loud_in_the_middle(seconds: float, seed: int = 0) -> np.ndarray:
    """Return syllables whose loudest part is not at their ends."""
    waveform = syllables(seconds, seed=seed)
    return waveform * np.hanning(len(waveform)).astype(np.float32)


@pytest.mark.parametrize("num_bands", [80, 128])
@pytest.mark.parametrize("seconds", [0.8, 3.0, 9.98])
def test_the_log_mel_spectrogram_is_that_of_transformers(seconds, num_bands):
    """Away from the ends: theirs continues in zeros to 30 s, and its beginning is mirrored."""
    transformers = pytest.importorskip("transformers")
    waveform = loud_in_the_middle(seconds)
    extractor = transformers.WhisperFeatureExtractor(feature_size=num_bands)
    expected = extractor(waveform, sampling_rate=RATE, return_tensors="np")["input_features"][0].T
    found, mask = log_mel_of(waveform[np.newaxis], [len(waveform)], num_bands)
    frames = len(waveform) // HOP
    assert found.shape == (1, frames, num_bands)
    assert mask.all()
    np.testing.assert_allclose(found[0, 2:-2], expected[2 : frames - 2], atol=1e-4)
    assert np.ptp(found[0, 2:-2]) > 1.5


def test_the_log_mel_spectrogram_of_a_block_does_not_depend_on_the_others():
    """Its range begins 80 dB below its own loudest part."""
    short, loud = 0.1 * loud_in_the_middle(1.0), 0.5 * loud_in_the_middle(2.4, seed=1)
    together, mask = log_mel_of(padded(short, loud), [len(short), len(loud)])
    np.testing.assert_array_equal(mask, np.arange(240) < np.array([[100], [240]]))
    for row, waveform in enumerate((short, loud)):
        frames = len(waveform) // HOP
        alone, _ = log_mel_of(waveform[np.newaxis], [len(waveform)])
        np.testing.assert_allclose(together[row, :frames], alone[0], atol=1e-5)
        assert not together[row, frames:].any()
    assert np.ptp(together[0, :100]) == pytest.approx(2.0, abs=1e-3)
    assert np.ptp(together[1]) == pytest.approx(2.0, abs=1e-3)


def equalized(waveforms: np.ndarray, samples: list[int], share: float = 0.5) -> np.ndarray:
    inputs = speech.whisper_log_mel(tf.constant(waveforms), tf.constant(samples), 80)
    return speech.equalized(inputs, share)["log_mel"].numpy()


def sloped(waveform: np.ndarray, decibels_per_octave: float) -> np.ndarray:
    """Return a waveform over a channel whose gain changes by this much per octave, from 100 Hz on."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(2 * len(waveform), 1 / RATE), 100.0) / 1000.0)
    spectrum = np.fft.rfft(waveform, 2 * len(waveform)) * 10 ** (decibels_per_octave * octaves / 20)
    return np.fft.irfft(spectrum)[: len(waveform)].astype(np.float32)


def test_equalization_of_0_changes_nothing():
    inputs = speech.whisper_log_mel(tf.constant(syllables(0.5)[np.newaxis]), tf.constant([8000]), 80)
    assert speech.equalized(inputs, 0.0) is inputs


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("gain", [0.1, 10.0])
def test_the_level_of_a_recording_is_normalized(gain, share):
    waveform = syllables(1.5)
    found = equalized(np.stack([waveform, gain * waveform]), [24000, 24000], share)
    assert found[0].max() == pytest.approx(1.5, abs=1e-5)  # as of full scale
    assert 1.5 < np.ptp(found[0]) <= 2.0 + 1e-5  # 80 dB at most
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the root mean square between two average spectra, levels aside."""
    return (one - other).mean(axis=0).std()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("slope", [-6.0, 6.0])
def test_a_channel_is_taken_out_by_its_share(slope, share):
    waveform = syllables(3.0)
    before = log_mel_of(np.stack([waveform, sloped(waveform, slope)]), [48000, 48000])[0]
    after = equalized(np.stack([waveform, sloped(waveform, slope)]), [48000, 48000], share)
    assert distance(*before) > 0.2  # 8 dB
    assert distance(*after) / distance(*before) == pytest.approx(1.0 - share, abs=0.05)


def test_the_average_spectrum_comes_nearer_to_that_of_speech():
    """By the share of the smoothed difference; the fine structure stays."""
    waveform, target = syllables(3.0), speech.average_spectrum(80)
    smooth = [
        np.convolve(own - target, np.ones(15) / 15, "valid") for own in average_spectra(waveform, (0.0, 0.5, 1.0))
    ]
    plain, half, whole = (own.std() for own in smooth)
    assert half / plain == pytest.approx(0.5, abs=0.1)
    assert whole < 0.25 * plain
    fine = [np.diff(own, 2) for own in average_spectra(waveform, (0.0, 1.0))]
    np.testing.assert_allclose(*fine, atol=0.02)


def average_spectra(waveform: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    return [equalized(waveform[np.newaxis], [len(waveform)], share)[0].mean(axis=0) for share in shares]


def test_equalization_of_a_block_does_not_depend_on_the_others():
    short, loud = 0.1 * loud_in_the_middle(1.0), 0.5 * loud_in_the_middle(2.4, seed=1)
    together = equalized(padded(short, loud), [len(short), len(loud)])
    for row, waveform in enumerate((short, loud)):
        frames = len(waveform) // HOP
        np.testing.assert_allclose(
            together[row, :frames], equalized(waveform[np.newaxis], [len(waveform)])[0], atol=1e-5
        )
        assert not together[row, frames:].any()


def test_equalization_of_silence_is_finite():
    found = equalized(np.zeros((2, 1600), np.float32), [1600, FRAME])
    assert np.isfinite(found).all()
    assert not found[1, 2:].any()


@pytest.mark.parametrize("num_bands", [80, 128])
def test_the_average_spectrum_of_speech_falls_with_frequency(num_bands):
    spectrum, centers = speech.average_spectrum(num_bands), centers_hz(num_bands)
    falling = spectrum[(centers > 500) & (centers < 5000)]
    assert len(falling) > num_bands / 2
    assert (np.diff(falling) < 0).all()
    # 62.1 dB at 500 Hz and 44.5 dB at 5 kHz in third-octave bands, of which the upper is ten times as wide.
    fall = 40 * (np.interp(500, centers, spectrum) - np.interp(5000, centers, spectrum))
    assert fall == pytest.approx(62.1 - 44.5 + 10.0, abs=0.5)


def test_the_average_spectrum_of_speech_has_the_published_values_per_hertz():
    """Of Byrne et al. (1994), here between their bands at 1000 and 1250 Hz, and at 4000 and 5000 Hz."""
    centers, spectrum = centers_hz(80), 40 * speech.average_spectrum(80)
    for low, high, low_decibels, high_decibels in ((1000, 1250, 53.7, 53.0), (4000, 5000, 45.6, 44.5)):
        band = np.flatnonzero((centers > low) & (centers < high))[0]
        share = np.log(centers[band] / low) / np.log(high / low)
        expected = (1 - share) * (low_decibels - 10 * np.log10(low)) + share * (high_decibels - 10 * np.log10(high))
        assert spectrum[band] == pytest.approx(expected, abs=1e-3)


def centers_hz(num_bands: int) -> np.ndarray:
    """Return the centers of Slaney's mel bands up to 8 kHz: linear up to 1 kHz, then 27 bands for a factor of 6.4."""
    mel = np.arange(1, num_bands + 1) / (num_bands + 1) * (15 + 27 * np.log(8) / np.log(6.4))
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


@pytest.fixture(scope="module")
def whisper(whisper_model):
    """Return the configuration of a network on two layers of the tiny Whisper, and that encoder."""
    config = config_of(whisper_model, 3, 1)
    return config, load_speech_encoder(config)


CLIPS = {"100 samples": 100 / RATE, "1 s": 1.0, "3.7 s": 3.7, "25 s": 25.0, "40 s": 40.0}


@pytest.fixture(scope="module")
def batch(whisper):
    """Return clips of several lengths, and their frames and mask as a batch."""
    clips = [syllables(seconds, seed=number) for number, seconds in enumerate(CLIPS.values())]
    clips[1] = np.concatenate([noise(9000, 1e-5), clips[1], noise(30000, 1e-5)])
    frames, mask = speech.encode_speech(tf.constant(padded(*clips)), *whisper)
    return clips, frames.numpy(), mask.numpy()


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_has_the_same_frames_alone_and_in_a_batch_of_longer_ones(name, batch, whisper):
    clips, frames, mask = batch
    row = list(CLIPS).index(name)
    alone = encoded(clips[row], *whisper)
    assert alone.shape == (mask[row].sum(), 24)
    assert len(alone) == pytest.approx(max(1, 50 * CLIPS[name]), abs=3)
    np.testing.assert_array_equal(mask[row], np.arange(mask.shape[1]) < len(alone))
    np.testing.assert_allclose(frames[row, : len(alone)], alone, atol=1e-4)
    assert not frames[row, len(alone) :].any()


@pytest.mark.parametrize("silence", [0.0, 0.04, 0.37])
def test_the_frames_of_a_short_clip_are_what_the_encoder_gives_for_its_speech(silence, whisper):
    """With 0.1 s before and after it, as far as the recording goes."""
    config, encode = whisper
    waveform = syllables(3.0, silence_seconds=silence)
    hops = np.flatnonzero(speech_hops(waveform))
    first = max(hops[0] - 10, 0) // 2
    stop = -(-min(hops[-1] + 11, len(waveform) // HOP + 1) // 2)
    whole = without_offset(waveform[np.newaxis])[0].numpy()
    block = np.pad(whole, (0, FRAME))[first * FRAME : stop * FRAME]
    block = np.pad(block, (0, (stop - first) * FRAME - len(block)))
    states = encode(tf.constant(block[np.newaxis]), tf.constant([len(block)]))[0].numpy()
    expected = states[is_speech(waveform)[first:stop]]
    assert len(expected) >= 145
    np.testing.assert_allclose(encoded(waveform, config, encode), expected, atol=1e-4)


def test_frames_are_the_same_in_a_graph_of_unknown_shape(whisper):
    """As the exported model computes them."""
    config, encode = whisper
    in_graph = tf.function(
        lambda waveforms: speech.encode_speech(waveforms, config, encode),
        input_signature=[tf.TensorSpec([None, None], tf.float32)],
    )
    for clips in ([syllables(0.7)], [syllables(12.0, silence_seconds=0.3), with_pauses(1.0, 2.0), noise(500)]):
        traced = in_graph(padded(*clips))
        eager = speech.encode_speech(tf.constant(padded(*clips)), config, encode)
        np.testing.assert_array_equal(traced.mask, eager.mask)
        np.testing.assert_allclose(traced.frames, eager.frames, atol=1e-4)


# wav2vec 2.0 and its kin


KINDS = {"Wav2Vec2": {}, "Hubert": {}, "WavLM": {"num_buckets": 8, "max_bucket_distance": 16}}


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """Return the folder of a tiny random speech encoder of this kind, and the network itself."""
    torch = pytest.importorskip("torch", reason="the extra pretrained brings torch")
    import transformers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    config = getattr(transformers, f"{request.param}Config")(**TINY_SPEECH, **KINDS[request.param])
    network = getattr(transformers, f"{request.param}Model")(config)
    network.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder, network.eval()


@pytest.mark.parametrize("layers", [(0,), (1,), (-1,), (2, 0)], ids=str)
def test_the_frames_of_a_block_are_the_hidden_states_of_transformers(layers, model):
    """One for each 20 ms, whatever its length: half a window of an encoder's convolutions is added at its ends."""
    import torch
    import transformers

    folder, network = model
    lengths = [FRAME, 4 * FRAME, 16000, 20800]
    blocks = padded(*[noise(length, seed=length) for length in lengths])
    found = speech.load_torch_encoder(str(folder), layers)(tf.constant(blocks), tf.constant(lengths)).numpy()
    assert found.shape == (4, 65, 12 * len(layers))
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    for row, length in enumerate(lengths):
        inputs = extractor(np.pad(blocks[row, :length], (40, 40)), sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            states = network(inputs["input_values"], output_hidden_states=True).hidden_states
        expected = np.concatenate([states[layer][0] for layer in layers], axis=1)
        assert len(expected) == length // FRAME
        np.testing.assert_allclose(found[row, : len(expected)], expected, atol=1e-4)
        assert not found[row, len(expected) :].any()


def test_a_clip_has_the_same_frames_of_a_torch_encoder_alone_and_in_a_batch(model):
    config = config_of(model[0], -1)
    encode = load_speech_encoder(config)
    clips = [syllables(100 / RATE), syllables(0.7), syllables(11.0, silence_seconds=0.2)]
    frames, mask = speech.encode_speech(tf.constant(padded(*clips)), config, encode)
    for row, clip in enumerate(clips):
        alone = encoded(clip, config, encode)
        assert mask[row].numpy().sum() == len(alone)
        np.testing.assert_allclose(frames[row, : len(alone)], alone, atol=1e-4)


def test_what_is_no_encoder_of_torch_is_refused(tmp_path, speech_model, whisper_model, monkeypatch):
    import transformers

    def refusal(name, layers=(1,)) -> str:
        with pytest.raises(UsageError) as caught:
            speech.load_torch_encoder(str(name), layers)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "cannot be loaded (" in refusal(tmp_path / "empty")
    assert refusal(tmp_path / "empty").endswith("by --set model.pretrained=NAME|DIR")
    copy = shutil.copytree(whisper_model, tmp_path / "whisper")
    transformers.WhisperFeatureExtractor().save_pretrained(copy)
    assert "is a whisper, not a speech encoder: give" in refusal(copy)
    for layer in (3, -4):
        assert refusal(speech_model, (1, layer)) == f"speech.layers={layer}: {speech_model} has layers 0 to 2"
    monkeypatch.setattr(speech.importlib.util, "find_spec", lambda name: None)
    assert "needs torch: run `pip install 'emokeras[pretrained]'`" in refusal(speech_model)


def test_another_sample_rate_is_refused():
    with pytest.raises(ValueError, match="takes 16000 Hz only"):
        replace(CONFIG, audio=AudioConfig(sample_rate_hz=22050))


# The cache


@dataclass
class Clip:
    """What the cache needs of a `corpora.Clip`."""

    content: str


CACHED = [syllables(0.5), with_pauses(0.4, 0.9), syllables(100 / RATE), syllables(11.0, seed=3)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "waveforms"


def encode_cached(config: Config = CONFIG, change: str = "", **changes) -> list[np.ndarray]:
    """Return the frames of CACHED. `changes` may have other `waveforms` and an other encoder to `load`."""
    clips = [Clip(f"content {number}") for number in range(len(CACHED))]
    given = {"waveforms": lambda: CACHED, "load": lambda: samples_of_steps} | changes
    return speech.encode_clips(clips, given["waveforms"], config, given["load"], change)


def forbidden():
    raise AssertionError("frames are computed although they are cached")


def test_frames_are_computed_once_and_cached_exactly(cache):
    first = encode_cached()
    again = encode_cached(waveforms=forbidden, load=forbidden)
    assert len(list(cache.iterdir())) == 1
    order = np.argsort([len(waveform) for waveform in CACHED])
    given = speech.encode_speech(padded(*[CACHED[number] for number in order]), CONFIG, samples_of_steps)
    for row, number in enumerate(order):
        expected = given.frames[row].numpy()[given.mask[row] > 0].astype(np.float16)
        for frames in (first[number], again[number]):
            assert frames.dtype == np.float16
            assert isinstance(frames, np.memmap)  # Those of a whole corpus are not read into memory.
            np.testing.assert_array_equal(frames, expected)
        np.testing.assert_allclose(first[number], samples_of_speech(CACHED[number]), atol=1e-6, rtol=1e-3)


def test_the_frames_of_whisper_are_cached_in_float16(whisper, cache):
    config, encode = whisper
    for frames, waveform in zip(encode_cached(config, load=lambda: encode), CACHED, strict=True):
        alone = encoded(waveform, config, encode)
        np.testing.assert_allclose(frames, alone, rtol=1e-3, atol=1e-3)


def test_clips_of_like_length_are_encoded_together(cache):
    """At most 40 s at once, padding included, or one clip."""
    given = []

    def encode(blocks, samples):
        given.append(samples.numpy().sum() / RATE)
        return samples_of_steps(blocks, samples)

    lengths = [1.0, 19.0, 2.0, 60.0, 1.0, 19.5, 1.5, 5.0]
    waveforms = [syllables(seconds, seed=number) for number, seconds in enumerate(lengths)]
    clips = [Clip(f"{number}") for number in range(len(lengths))]
    found = speech.encode_clips(clips, lambda: waveforms, CONFIG, lambda: encode)
    assert given == pytest.approx([10.5, 38.5, 60.0], abs=0.2)
    for frames, waveform in zip(found, waveforms, strict=True):
        np.testing.assert_allclose(frames, samples_of_speech(waveform), atol=1e-6, rtol=1e-3)


def test_another_encoder_layer_equalization_or_range_of_speech_has_another_file(cache):
    encode_cached()
    other_audio = replace(CONFIG, audio=AudioConfig(speech_decibels=30.0))
    for number, (config, change) in enumerate(
        [
            (replace(CONFIG, speech=SpeechConfig(sha256="1234")), ""),
            (replace(CONFIG, speech=SpeechConfig(layers=(2,))), ""),
            (replace(CONFIG, speech=SpeechConfig(layers=(3, 2))), ""),
            (replace(CONFIG, speech=SpeechConfig(equalization=0.0)), ""),
            (other_audio, ""),
            (CONFIG, " 2 channel 1 []"),
        ]
    ):
        encode_cached(config, change)
        assert len(list(cache.iterdir())) == number + 2
    # What concerns windows, or another place of the same encoder, does not matter.
    audio = AudioConfig(window_seconds=1.0, window_step_seconds=0.5)
    moved = replace(CONFIG, audio=audio, model=ModelConfig(pretrained="/another/place"))
    encode_cached(moved, waveforms=forbidden, load=forbidden)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "missing"])
@pytest.mark.parametrize("name", ["frames.npy", "ends.npy"])
def test_a_damaged_cache_is_made_again(damage, name, cache):
    expected = [frames.copy() for frames in encode_cached()]
    (folder,) = cache.iterdir()
    whole = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        changed = {"cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "empty": b""}[damage]
        (folder / name).write_bytes(changed)
    for given in ({}, {"waveforms": forbidden, "load": forbidden}):
        for frames, known in zip(encode_cached(**given), expected, strict=True):
            np.testing.assert_array_equal(frames, known)


def refusal_to_write() -> str:
    with pytest.raises(EmokerasError) as caught:
        encode_cached()
    message = str(caught.value)
    assert "\n" not in message
    assert "EMOKERAS_HOME" in message
    return message


def test_a_cache_that_cannot_be_written_is_an_error_of_one_line(cache):
    cache.parent.mkdir()
    cache.write_text("a file")
    assert f"cannot be written to {cache}" in refusal_to_write()
    assert list(cache.parent.iterdir()) == [cache]
    assert cache.read_text() == "a file"


@pytest.mark.parametrize("step", ["save", "replace"])
def test_a_failed_write_of_the_cache_leaves_nothing(step, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np if step == "save" else os, step, full)
    assert "No space left on device" in refusal_to_write()
    assert not list(cache.iterdir())
    monkeypatch.undo()


def test_what_another_process_has_cached_meanwhile_is_taken(cache):
    """Members of an ensemble may be trained at the same time."""

    def load():
        encode_cached()
        return lambda blocks, samples: -samples_of_steps(blocks, samples)

    for frames, waveform in zip(encode_cached(load=load), CACHED, strict=True):
        np.testing.assert_allclose(frames, samples_of_speech(waveform), atol=1e-6, rtol=1e-3)
    assert len(list(cache.iterdir())) == 1


# Statistics


def test_the_statistics_of_frames_count_every_frame_once():
    """The second clip has a large mean: sums in float16 would overflow."""
    clips = [np.random.default_rng(length).normal(60.0 * length, size=(length, 3)) for length in (3, 400)]
    clips = [clip.astype(np.float16) for clip in clips]
    count, mean, variance = speech.frame_statistics(clips)
    assert count == 403
    together = np.concatenate(clips).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0))
    np.testing.assert_allclose(variance, together.var(axis=0), rtol=1e-6)
