"""Frames of a frozen pretrained speech encoder: blocks of speech are encoded, and the frames that are speech are kept.

An encoder is given as a function. Whisper's is a Keras network and runs in graph, so that a model takes the waveform.
wav2vec 2.0, HuBERT and WavLM are those of transformers and run in PyTorch; a model takes their frames as an input.

A recording's speech, from the first to the last of it, is encoded in blocks of at most BLOCK_SECONDS: attention costs
the square of the length. What a recording gives does not depend on the others of its batch.
"""

import functools
import importlib.util
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from emokeras.config import GIVE_SPEECH_ENCODER, Config, SpectrogramConfig
from emokeras.data import activity, features
from emokeras.data.audio import cache_path, write_error
from emokeras.data.frames import speech_first
from emokeras.data.spectrogram import band_centers_hz, log_mel_spectrogram
from emokeras.errors import UsageError, first_line
from emokeras.files import replacing
from emokeras.hub import quiet_transformers

SPEECH_VERSION = 2
SAMPLE_RATE_HZ = 16000  # of all of these encoders
HOP, FRAME_HOP = 160, 320  # samples; of speech activity, and of the frames of all of these encoders
HOPS_PER_FRAME = FRAME_HOP // HOP
BLOCK_SECONDS = 10.0
MARGIN_SECONDS = 0.1  # encoded before and after the speech
SECONDS_PER_BATCH = 40.0  # of speech, when clips are encoded for the cache
FRAMES, ENDS = "frames.npy", "ends.npy"  # of all clips, and the end of each among them
WAV2VEC_MARGIN = 80  # samples that a first frame of wav2vec 2.0 and its kin reads beyond its own hop
SMOOTHED_BANDS = 15
# The long-term average speech spectrum of 12 languages, in third-octave bands: Hz and dB of both sexes (Byrne et al.,
# Journal of the Acoustical Society of America 96(4), 1994).
AVERAGE_SPEECH_DECIBELS = {
    63: 38.6, 80: 43.5, 100: 54.4, 125: 57.7, 160: 56.8, 200: 60.2, 250: 60.3, 315: 59.0, 400: 62.1, 500: 62.1,
    630: 60.5, 800: 56.8, 1000: 53.7, 1250: 53.0, 1600: 52.0, 2000: 48.7, 2500: 48.1, 3150: 46.8, 4000: 45.6,
    5000: 44.5, 6300: 44.3, 8000: 43.7,
}  # fmt: skip

# Blocks of waveforms, float32 [blocks, samples], and the samples of each, int32 [blocks], both multiples of FRAME_HOP
# -> float32 [blocks, samples / FRAME_HOP, units].
SpeechEncoder = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class SpeechFrames(NamedTuple):
    """The frames that are speech, in their order, float32 [batch, frames, units], and 1 at those of each recording,
    float32 [batch, frames]; every recording has at least one."""

    frames: tf.Tensor
    mask: tf.Tensor


def encode_speech(waveforms: tf.Tensor, config: Config, encode: SpeechEncoder) -> SpeechFrames:
    """Return the frames of the speech of waveforms, float32 [batch, samples] at 16 kHz; zeros at the end are padding.

    Where a recording has no speech, all of it is taken.
    """
    waveforms = activity.without_offset(waveforms)
    speech = features.taken_speech(waveforms, config)  # [batch, hops]
    blocks = cut_blocks(waveforms, speech)
    states = encode(blocks.waveforms, blocks.samples)  # [all blocks, steps, units]
    num_hops = tf.shape(speech)[1]
    num_frames = (num_hops + HOPS_PER_FRAME - 1) // HOPS_PER_FRAME
    padded = tf.pad(speech, [[0, 0], [0, num_frames * HOPS_PER_FRAME - num_hops]])
    is_speech = tf.reduce_any(tf.reshape(padded, [-1, num_frames, HOPS_PER_FRAME]), axis=2)  # [batch, frames]
    order, count = speech_first(is_speech)
    order = order[:, : tf.reduce_max(count)]
    mask = tf.sequence_mask(count, tf.shape(order)[1])
    step = tf.where(mask, tf.gather(_steps_of_frames(blocks, num_frames), order, batch_dims=1), 0)
    frames = tf.gather(tf.reshape(states, [-1, tf.shape(states)[2]]), step)
    mask = tf.cast(mask, tf.float32)
    return SpeechFrames(frames * mask[..., tf.newaxis], mask)


class Blocks(NamedTuple):
    """The blocks of a batch's recordings, one recording after the other: their waveforms and samples, as a
    SpeechEncoder takes them; and of each recording, int32 [batch]: the hop where its first block begins, the hops from
    block to block, and the number of blocks of the recordings before it."""

    waveforms: tf.Tensor
    samples: tf.Tensor
    first: tf.Tensor
    length: tf.Tensor
    before: tf.Tensor


def cut_blocks(waveforms: tf.Tensor, speech: tf.Tensor) -> Blocks:
    """Return blocks of at most BLOCK_SECONDS that cover each recording from the first to the last of its speech, with
    MARGIN_SECONDS around it; those of a recording are equally long.

    Parameters
    ----------
    waveforms: float32 [batch, samples].
    speech: bool [batch, hops], with at least one hop of each recording.
    """
    margin, most = round(MARGIN_SECONDS * SAMPLE_RATE_HZ / HOP), round(BLOCK_SECONDS * SAMPLE_RATE_HZ / HOP)
    first = tf.cast(tf.argmax(speech, axis=1), tf.int32)
    stop = tf.shape(speech)[1] - tf.cast(tf.argmax(speech[:, ::-1], axis=1), tf.int32)
    first = tf.maximum(first - margin, 0) // HOPS_PER_FRAME * HOPS_PER_FRAME  # [batch]
    stop = tf.minimum(stop + margin, activity.lengths(waveforms) // HOP + 1)
    count = (stop - first + most - 1) // most
    length = _whole_frames((stop - first + count - 1) // count)
    begin = first[:, tf.newaxis] + tf.range(tf.reduce_max(count)) * length[:, tf.newaxis]  # [batch, blocks]
    hops = _whole_frames(tf.clip_by_value(stop[:, tf.newaxis] - begin, 0, length[:, tf.newaxis]))

    places = tf.where(hops > 0)  # of the blocks that there are, [all blocks, 2]
    samples = tf.gather_nd(hops, places) * HOP
    longest, size = tf.reduce_max(samples), tf.shape(waveforms)[1]
    position = (tf.gather_nd(begin, places) * HOP)[:, tf.newaxis] + tf.range(longest)  # [all blocks, samples]
    inside = tf.sequence_mask(samples, longest) & (position < size)
    row = tf.cast(places[:, :1], tf.int32) * size
    cut = tf.gather(tf.reshape(waveforms, [-1]), row + tf.minimum(position, size - 1)) * tf.cast(inside, tf.float32)
    before = tf.cumsum(tf.reduce_sum(tf.cast(hops > 0, tf.int32), axis=1), exclusive=True)
    return Blocks(cut, samples, first, length, before)


def _whole_frames(hops: tf.Tensor) -> tf.Tensor:
    """Return hops rounded up to whole frames."""
    return (hops + HOPS_PER_FRAME - 1) // HOPS_PER_FRAME * HOPS_PER_FRAME


def _steps_of_frames(blocks: Blocks, num_frames: tf.Tensor) -> tf.Tensor:
    """Return, for each frame of each recording from its beginning, the step among the states of all blocks, int32
    [batch, frames]. Frames outside of the blocks have some number."""
    steps = tf.shape(blocks.waveforms)[1] // FRAME_HOP
    length = blocks.length[:, tf.newaxis]
    offset = tf.range(num_frames) * HOPS_PER_FRAME - blocks.first[:, tf.newaxis]
    return (blocks.before[:, tf.newaxis] + offset // length) * steps + offset % length // HOPS_PER_FRAME


# Whisper


def whisper_log_mel(blocks: tf.Tensor, samples: tf.Tensor, num_bands: int) -> dict[str, tf.Tensor]:
    """Return the input of Whisper's encoder: {"log_mel": float32 [blocks, frames, bands], 100 a second, "mask": float32
    [blocks, frames]}, as transformers' WhisperFeatureExtractor computes it, but for a block's own length.

    Parameters as for a SpeechEncoder.
    """
    log_mel = log_mel_spectrogram(blocks, _whisper_bands(num_bands), SAMPLE_RATE_HZ)[:, :-1] / 10.0
    mask = tf.sequence_mask(samples // (FRAME_HOP // 2), tf.shape(log_mel)[1])[..., tf.newaxis]
    loudest = tf.reduce_max(tf.where(mask, log_mel, -10.0), axis=[1, 2], keepdims=True)
    scaled = (tf.maximum(log_mel, loudest - 8.0) + 4.0) / 4.0
    return {"log_mel": tf.where(mask, scaled, 0.0), "mask": tf.cast(mask[..., 0], tf.float32)}


def _whisper_bands(num_bands: int) -> SpectrogramConfig:
    return SpectrogramConfig(0.025, 0.010, fft_size=400, num_bands=num_bands, low_hz=0.0)


def equalized(inputs: dict[str, tf.Tensor], share: float) -> dict[str, tf.Tensor]:
    """Return the input of Whisper's encoder, of `whisper_log_mel`, with the level and, in part, the channel of each
    block taken out: its long-term average spectrum is moved towards that of speech, and its loudest value is 1.5, as
    of a recording at full scale.

    Parameters
    ----------
    share: how far the spectrum is moved, smoothed over SMOOTHED_BANDS; at 0 the inputs are returned as they are.
    """
    if not share:
        return inputs
    log_mel, mask = inputs["log_mel"], inputs["mask"]
    num_bands = log_mel.shape[2]
    level = tf.where(mask > 0, tf.reduce_mean(log_mel, axis=2), -10.0)  # [blocks, frames]
    counted = mask * tf.cast(level > tf.reduce_max(level, axis=1, keepdims=True) - 1.0, tf.float32)
    spectrum = tf.einsum("bf,bfm->bm", counted, log_mel) / tf.reduce_sum(counted, axis=1, keepdims=True)
    change = share * (average_spectrum(num_bands) - spectrum)
    change -= tf.reduce_mean(change, axis=1, keepdims=True)
    reach = SMOOTHED_BANDS // 2
    padded = tf.pad(change, [[0, 0], [reach, reach]], "SYMMETRIC")[..., tf.newaxis]
    change = tf.nn.avg_pool1d(padded, SMOOTHED_BANDS, 1, "VALID")[:, tf.newaxis, :, 0]
    log_mel = log_mel + change
    loudest = tf.reduce_max(tf.where(mask[..., tf.newaxis] > 0, log_mel, -10.0), axis=[1, 2], keepdims=True)
    log_mel = tf.maximum(log_mel, loudest - 2.0) + 1.5 - loudest
    return {"log_mel": log_mel * mask[..., tf.newaxis], "mask": mask}


@functools.cache
def average_spectrum(num_bands: int) -> np.ndarray:
    """Return AVERAGE_SPEECH_DECIBELS in Whisper's mel bands, float32 [bands], scaled as Whisper's input is: a quarter
    for a factor of ten. The level is arbitrary."""
    hertz, decibels = (np.array(values) for values in zip(*AVERAGE_SPEECH_DECIBELS.items(), strict=True))
    density = decibels - 10.0 * np.log10(hertz)  # per hertz: the bands are a third of an octave
    centers = band_centers_hz(_whisper_bands(num_bands))
    return (np.interp(np.log(np.maximum(centers, hertz[0])), np.log(hertz), density) / 40.0).astype(np.float32)


# wav2vec 2.0 and its kin


def load_torch_encoder(name: str, layers: Sequence[int]) -> SpeechEncoder:
    """Return a SpeechEncoder of a wav2vec 2.0, HuBERT or WavLM of transformers, which runs eagerly.

    Parameters
    ----------
    name: a folder or a name on the Hugging Face hub.
    layers: the hidden states that are concatenated; 0 is the input of the first block, -1 the output of the last.

    Raises
    ------
    UsageError: torch is missing, the model is not such an encoder, or it has no such layer.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError("a pretrained speech encoder needs torch: run `pip install 'emokeras[pretrained]'`")
    import torch

    with quiet_transformers():
        from transformers import AutoFeatureExtractor, AutoModel

        try:
            extractor = AutoFeatureExtractor.from_pretrained(name)
            network = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        except Exception as error:  # transformers, safetensors and json raise many kinds for a damaged folder.
            reason = f"cannot be loaded ({first_line(error)})"
            raise UsageError(f"{name or repr(name)} {reason}: {GIVE_SPEECH_ENCODER}") from error
    if extractor.model_input_names[:1] != ["input_values"]:
        raise UsageError(f"{name} is a {network.config.model_type}, not a speech encoder: {GIVE_SPEECH_ENCODER}")
    num_states = network.config.num_hidden_layers + 1
    if wrong := [layer for layer in layers if not -num_states <= layer < num_states]:
        raise UsageError(f"speech.layers={wrong[0]}: {name} has layers 0 to {num_states - 1}")
    network.to("cuda" if torch.cuda.is_available() else "cpu")

    def encode(blocks: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
        encoded = []
        for block, length in zip(blocks.numpy(), samples.numpy(), strict=True):
            # A frame for each hop: these encoders give none for the last samples, which fill no window.
            padded = np.pad(block[:length], (WAV2VEC_MARGIN // 2, WAV2VEC_MARGIN // 2))
            inputs = extractor(padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")["input_values"]
            with torch.inference_mode():
                states = network(inputs.to(network.device), output_hidden_states=True).hidden_states
            frames = torch.cat([states[layer][0] for layer in layers], dim=1).cpu().numpy()
            encoded.append(np.pad(frames, ((0, blocks.shape[1] // FRAME_HOP - len(frames)), (0, 0))))
        return tf.constant(np.stack(encoded))

    return encode


# The cache


def encode_clips(
    clips: Sequence,
    waveforms: Callable[[], Sequence[np.ndarray]],
    config: Config,
    load: Callable[[], SpeechEncoder],
    change: str = "",
) -> list[np.ndarray]:
    """Return the frames of the speech of each clip, float16 [frames, units], from a memory-mapped file under
    EMOKERAS_HOME/waveforms; where there is none they are encoded.

    Parameters
    ----------
    clips: sequence of `corpora.Clip`.
    waveforms, load: return the waveforms of these clips, float32 [samples] each, at 16 kHz, and the encoder. They are
        called where there are no frames yet.
    change: what was made of the waveforms, with its parameters, as for `audio.cache_path`.

    Raises
    ------
    EmokerasError: the frames cannot be written.
    """
    speech = config.speech
    change += (
        f" speech {SPEECH_VERSION} {speech.sha256} {speech.layers} {speech.equalization} {config.audio.speech_decibels}"
    )
    folder = cache_path(clips, SAMPLE_RATE_HZ, change).with_suffix("")
    if (cached := _read_frames(folder)) is not None:
        return cached
    encoded = _encode_all(waveforms(), config, load())
    try:
        with replacing(folder) as temporary:
            temporary.mkdir(parents=True)
            np.save(temporary / FRAMES, np.concatenate(encoded))
            np.save(temporary / ENDS, np.cumsum([len(frames) for frames in encoded]))
    except OSError as error:
        if not folder.is_dir():  # Another process may have written it, which a folder cannot replace.
            raise write_error(folder, error) from error
    return _read_frames(folder)


class FrameStatistics(NamedTuple):
    """The number of frames, and mean and variance of each unit over them, float64 [units]."""

    count: int
    mean: np.ndarray
    variance: np.ndarray


def frame_statistics(clips: Iterable[np.ndarray]) -> FrameStatistics:
    """Return the statistics of the frames of clips, [frames, units] each, which are read one after another."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for frames in clips:
        frames = frames.astype(np.float64)
        count, total, squares = count + len(frames), total + frames.sum(axis=0), squares + np.square(frames).sum(axis=0)
    mean = total / max(count, 1)
    return FrameStatistics(count, mean, np.maximum(squares / max(count, 1) - np.square(mean), 0.0))


def _read_frames(folder: Path) -> list[np.ndarray] | None:
    """Return the frames in a folder of the cache, None where there is none. A damaged folder is deleted."""
    if not folder.is_dir():
        return None
    try:
        frames, ends = np.load(folder / FRAMES, mmap_mode="r"), np.load(folder / ENDS)
    except (OSError, ValueError, EOFError):
        shutil.rmtree(folder)
        return None
    return [frames[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _encode_all(waveforms: Sequence[np.ndarray], config: Config, encode: SpeechEncoder) -> list[np.ndarray]:
    from tqdm import tqdm

    encoded: list[np.ndarray] = [None] * len(waveforms)
    bar = tqdm(
        total=len(waveforms), desc=f"encoding by {config.model.pretrained}", unit="clip", leave=False, disable=None
    )
    # Clips of like length are encoded together.
    for numbers in _batches([len(waveform) for waveform in waveforms]):
        own = [waveforms[number] for number in numbers]
        batch = np.zeros([len(own), max(map(len, own))], np.float32)
        for row, waveform in zip(batch, own, strict=True):
            row[: len(waveform)] = waveform
        frames, mask = encode_speech(tf.constant(batch), config, encode)
        for number, row, valid in zip(numbers, frames.numpy().astype(np.float16), mask.numpy(), strict=True):
            encoded[number] = row[: int(valid.sum())]
        bar.update(len(numbers))
    bar.close()
    return encoded


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Return indices in batches of like length, at most SECONDS_PER_BATCH when padded."""
    batches: list[list[int]] = []
    for number in np.argsort(lengths, kind="stable"):
        longest = lengths[number] / SAMPLE_RATE_HZ
        if not batches or longest * (len(batches[-1]) + 1) > SECONDS_PER_BATCH:
            batches.append([])
        batches[-1].append(int(number))
    return batches
