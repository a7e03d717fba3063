"""Frames of a frozen pretrained speech encoder (wav2vec 2.0, HuBERT, WavLM, Whisper's encoder), computed and cached.

The encoders are those of transformers and run in PyTorch, so a graph or an export takes their frames as an input.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emokeras.config import GIVE_SPEECH_ENCODER, Config
from emokeras.data.audio import cache_path, read_cache, write_cache
from emokeras.errors import UsageError, first_line
from emokeras.hub import quiet_transformers

SPEECH_VERSION = 1
SAMPLE_RATE_HZ = 16000  # of all of these encoders
FRAMES_PER_SECOND = 50  # of all of these encoders
SHORTEST_SAMPLES = 800  # A shorter input has no frame after wav2vec 2.0's convolutions.

SpeechEncoder = Callable[[np.ndarray], np.ndarray]


def load_speech_encoder(name: str, layer: int) -> SpeechEncoder:
    """Return a function from a waveform [samples] at 16 kHz to hidden states, float16 [frames, units], 50 per second.

    Parameters
    ----------
    name: a folder or a name on the Hugging Face hub.
    layer: 0 is the input of the first block, -1 the output of the last.

    Raises
    ------
    UsageError: torch is missing, or the model is not a speech encoder. The function raises it for a layer out of range.
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
    network = network.get_encoder() if network.config.model_type == "whisper" else network
    (key,) = extractor.model_input_names[:1]
    if key not in ("input_values", "input_features"):
        raise UsageError(f"{name} is a {network.config.model_type}, not a speech encoder: {GIVE_SPEECH_ENCODER}")
    network.to("cuda" if torch.cuda.is_available() else "cpu")

    def encode(waveform: np.ndarray) -> np.ndarray:
        padded = np.pad(waveform, (0, max(0, SHORTEST_SAMPLES - len(waveform))))
        inputs = extractor(padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")[key].to(network.device)
        with torch.inference_mode():
            states = network(inputs, output_hidden_states=True).hidden_states
        if not -len(states) <= layer < len(states):
            raise UsageError(f"speech.layer={layer}: {name} has layers 0 to {len(states) - 1}")
        frames = states[layer][0].cpu().numpy()
        if key == "input_features":  # Whisper pads every input to 30 s.
            frames = frames[: max(1, round(len(padded) / SAMPLE_RATE_HZ * FRAMES_PER_SECOND))]
        return frames.astype(np.float16)  # as in the cache

    return encode


def encode_waveforms(encode: SpeechEncoder, config: Config, waveforms: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the input of the network for waveforms [samples] at 16 kHz, as `fit_frames` does."""
    return fit_frames([encode(_middle(waveform, config)) for waveform in waveforms], config)


def encode_clips(clips: Sequence, waveforms: Sequence[np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Return the input of the network for each clip, as `fit_frames` does, cached under EMOKERAS_HOME/waveforms.

    Parameters
    ----------
    clips: sequence of `corpora.Clip`.
    waveforms: float32 [samples] each, of these clips, at 16 kHz.
    """
    from tqdm import tqdm

    name, layer = config.model.pretrained, config.speech.layer
    change = f" speech {SPEECH_VERSION} {_identity(name)} {layer} {config.speech.max_seconds}"
    cache = cache_path(clips, SAMPLE_RATE_HZ, change)
    cached = read_cache(cache)
    if cached is None:
        encode = load_speech_encoder(name, layer)
        bar = tqdm(waveforms, f"encoding by {name}", unit="clip", leave=False, disable=None)
        cached = [encode(_middle(waveform, config)).ravel() for waveform in bar]
        write_cache(cache, cached)
    return fit_frames([frames.reshape(-1, config.speech.units) for frames in cached], config)


def _middle(waveform: np.ndarray, config: Config) -> np.ndarray:
    """Return the middle `speech.max_seconds` of a waveform; attention costs the square of the length."""
    samples = round(config.speech.max_seconds * SAMPLE_RATE_HZ)
    first = max(0, len(waveform) - samples) // 2
    return waveform[first : first + samples]


def _identity(name: str) -> str:
    """Return the name of an encoder on the hub, or a hash of the files of its folder."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin")):
        with file.open("rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return digest.hexdigest()


def fit_frames(clips: Sequence[np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Return the frames [frames, units] of each clip cut to their middle, or padded, to the input of the network.

    Returns
    -------
    {"speech": float16 [clips, num_frames, units], "speech_mask": float32 [clips, num_frames]}
    """
    num_frames, units = config.num_frames("speech"), config.speech.units
    speech = np.zeros((len(clips), num_frames, units), np.float16)
    mask = np.zeros((len(clips), num_frames), np.float32)
    for row, valid, frames in zip(speech, mask, clips, strict=True):
        first = max(0, len(frames) - num_frames) // 2
        kept = frames[first : first + num_frames]
        row[: len(kept)], valid[: len(kept)] = kept, 1
    return {"speech": speech, "speech_mask": mask}
