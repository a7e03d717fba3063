"""What a pretrained speech model makes of a waveform: wav2vec 2.0, HuBERT, WavLM, or Whisper's encoder, as transformers
computes them, frozen, and kept. It is PyTorch's, no graph: an export takes its frames beside the waveform.
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
SAMPLE_RATE_HZ = 16000  # What all of these models hear.
SHORTEST_SAMPLES = 800  # Less gives wav2vec 2.0's convolutions no frame.

Represent = Callable[[np.ndarray], np.ndarray]


def load_speech_model(name: str, layer: int) -> Represent:
    """Load a pretrained speech model as a function: waveform [samples] at 16 kHz -> the hidden states of one of its
    layers, float16 [frames, units], 50 a second. Layer 0 is what goes into the first block, -1 the last's output.

    Raises UsageError without torch, for what is no such model, and for a layer that it has not.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError("a pretrained speech model needs torch: run `pip install 'emokeras[pretrained]'`")
    import torch

    with quiet_transformers():
        from transformers import AutoFeatureExtractor, AutoModel

        try:
            extractor = AutoFeatureExtractor.from_pretrained(name)
            network = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        except Exception as error:  # transformers, safetensors and json each have their own for a folder that is none.
            reason = f"cannot be had ({first_line(error)})"
            raise UsageError(f"{name or repr(name)} {reason}: {GIVE_SPEECH_ENCODER}") from error
    network = network.get_encoder() if network.config.model_type == "whisper" else network
    (key,) = extractor.model_input_names[:1]
    if key not in ("input_values", "input_features"):
        raise UsageError(f"{name} is a {network.config.model_type}, which hears nothing: {GIVE_SPEECH_ENCODER}")
    network.to("cuda" if torch.cuda.is_available() else "cpu")

    def represent(waveform: np.ndarray) -> np.ndarray:
        padded = np.pad(waveform, (0, max(0, SHORTEST_SAMPLES - len(waveform))))
        given = extractor(padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")[key].to(network.device)
        with torch.inference_mode():
            states = network(given, output_hidden_states=True).hidden_states
        if not -len(states) <= layer < len(states):
            raise UsageError(f"speech.layer={layer}: {name} has layers 0 to {len(states) - 1}")
        frames = states[layer][0].cpu().numpy()
        if key == "input_features":  # Whisper hears 30 s, whatever there is: two of its steps of 10 ms make a frame.
            frames = frames[: max(1, round(len(padded) / SAMPLE_RATE_HZ * 50))]
        return frames.astype(np.float16)  # As they are kept.

    return represent


def represent_waveforms(represent: Represent, config: Config, waveforms: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the network's input of waveforms [samples] as `fit_frames` does."""
    return fit_frames([represent(_middle(waveform, config)) for waveform in waveforms], config)


def represent_clips(clips: Sequence, waveforms: Sequence[np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Return the network's input of each `data.corpus.Clip` as `fit_frames` does, made once and kept as waveforms are.

    Parameters
    ----------
    waveforms: those of the clips [samples], at 16 kHz.
    """
    from tqdm import tqdm

    name, layer = config.model.pretrained, config.speech.layer
    change = f" speech {SPEECH_VERSION} {_identity(name)} {layer} {config.speech.max_seconds}"
    cache = cache_path(clips, SAMPLE_RATE_HZ, change)
    kept = read_cache(cache)
    if kept is None:
        represent = load_speech_model(name, layer)
        bar = tqdm(waveforms, f"hearing by {name}", unit="clip", leave=False, disable=None)
        kept = [represent(_middle(waveform, config)).ravel() for waveform in bar]
        write_cache(cache, kept)
    return fit_frames([frames.reshape(-1, config.speech.units) for frames in kept], config)


def _middle(waveform: np.ndarray, config: Config) -> np.ndarray:
    """Return the middle of a waveform, as much as the network is shown of it: the models' attention costs the square of
    what they hear, and Whisper hears 30 s alone."""
    samples = round(config.speech.max_seconds * SAMPLE_RATE_HZ)
    first = max(0, len(waveform) - samples) // 2
    return waveform[first : first + samples]


def _identity(name: str) -> str:
    """Return what tells a speech model apart: its name, and of a folder what its files hold."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin")):
        with file.open("rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return digest.hexdigest()


def fit_frames(clips: Sequence[np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Cut or pad the frames [frames, units] of each clip to the network's input: {"speech": float16 [clips, num_frames,
    units], "speech_mask": [clips, num_frames]}. Of a longer clip its middle is kept."""
    num_frames, units = config.num_frames("speech"), config.speech.units
    speech = np.zeros((len(clips), num_frames, units), np.float16)
    mask = np.zeros((len(clips), num_frames), np.float32)
    for row, valid, frames in zip(speech, mask, clips, strict=True):
        first = max(0, len(frames) - num_frames) // 2
        kept = frames[first : first + num_frames]
        row[: len(kept)], valid[: len(kept)] = kept, 1
    return {"speech": speech, "speech_mask": mask}
