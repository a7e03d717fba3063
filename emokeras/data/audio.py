"""Audio files to waveforms: decode with libsndfile, mix to mono, resample with soxr; and the cache of waveforms.

The cache is the only thing of the data that is kept: one HDF5 file per corpus and sample rate (and per kind of variant,
see `variants`), named by a hash of the clips' contents and of the parameters, so that a changed clip or another rate
never meets a stale waveform.
"""

import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr

from emokeras.errors import AudioError, EmokerasError
from emokeras.files import UNREADABLE_ARCHIVE, home, replacing

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus", ".caf", ".w64"})
CACHE_VERSION = 1


@functools.lru_cache(maxsize=2)
def _open_archive(path: Path, modified_ns: int) -> zipfile.ZipFile:
    """Open an archive once: reading its table of contents anew for each of 1440 members takes half a minute."""
    return zipfile.ZipFile(path)


def decode(path: Path, member: str = "") -> tuple[np.ndarray, int]:
    """Read an audio file, or a member of a zip archive, as it is.

    Parameters
    ----------
    path: the audio file, or the archive.
    member: the name within the archive; empty for a plain file.

    Returns
    -------
    samples [shape=(samples, channels), float32 in -1 to 1] and the sample rate in Hz.

    Raises
    ------
    AudioError: no such file, not a sound, no samples in it, or samples that are not finite.
    """
    where = f"{path}:{member}" if member else str(path)
    try:
        if member:
            source = io.BytesIO(_open_archive(path, os.stat(path).st_mtime_ns).read(member))
            empty = not source.getbuffer().nbytes
        else:
            # soundfile refuses a name that is not UTF-8, which only Windows cannot have.
            source, empty = str(path) if os.name == "nt" else os.fsencode(path), not os.path.getsize(path)
        if empty:
            raise AudioError(f"{where} is an empty file (0 bytes): delete it or fetch it again", "empty (0 bytes)")
        samples, sample_rate_hz = soundfile.read(source, dtype="float32", always_2d=True)
    except (OSError, KeyError) as error:
        raise AudioError(f"{where} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except (soundfile.SoundFileError, *UNREADABLE_ARCHIVE) as error:
        raise AudioError(
            f"{where} is no audio file that libsndfile reads: convert it to WAV or FLAC, or take it out",
            "no audio that libsndfile reads",
        ) from error
    if not len(samples):
        raise AudioError(f"{where} holds no samples: delete it or fetch it again", "without a single sample")
    if not np.isfinite(samples).all():
        bad = int(np.size(samples) - np.isfinite(samples).sum())
        raise AudioError(
            f"{where} holds {bad} samples that are not finite numbers (NaN or infinity): write it again",
            "with samples that are NaN or infinite",
        )
    return samples, sample_rate_hz


def to_waveform(samples: np.ndarray, from_rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    """Mix [samples, channels] to mono (the channels' mean) and resample (soxr, high quality) to [samples], float32."""
    mono = samples.mean(axis=1, dtype=np.float32)
    if from_rate_hz != sample_rate_hz:
        resampled = soxr.resample(mono, from_rate_hz, sample_rate_hz, quality="HQ")
        mono = resampled if len(resampled) else mono[:1]  # One sample at 48 kHz is none at 16 kHz.
    return np.clip(mono, -1.0, 1.0).astype(np.float32)


def load_waveform(path: Path, sample_rate_hz: int, member: str = "") -> np.ndarray:
    """Read any file libsndfile knows as a mono waveform [samples], float32 in -1 to 1, at `sample_rate_hz`.

    Raises AudioError as `decode` does.
    """
    samples, from_rate_hz = decode(Path(path), member)
    return to_waveform(samples, from_rate_hz, sample_rate_hz)


def content_hash(samples: np.ndarray, sample_rate_hz: int) -> str:
    """Return the SHA-256 of decoded samples [samples, channels] and their rate: the same for a WAV and its FLAC."""
    digest = hashlib.sha256(f"{sample_rate_hz} {samples.shape[1]} ".encode())
    digest.update(np.ascontiguousarray(samples, dtype="<f4"))
    return digest.hexdigest()


def load_waveforms(clips: Sequence, sample_rate_hz: int) -> list[np.ndarray]:
    """Return the waveform [samples] of each `data.corpus.Clip`, decoded once and kept under EMOKERAS_HOME/waveforms.

    A cache that cannot be written (a full disk) is a one-line EmokerasError, and leaves no half file behind.
    """
    cache = cache_path(clips, sample_rate_hz)
    waveforms = read_cache(cache)
    if waveforms is None:
        waveforms = decode_all(clips, sample_rate_hz)
        write_cache(cache, waveforms)
    return waveforms


def cache_path(clips: Sequence, sample_rate_hz: int, change: str = "") -> Path:
    """Return where these clips' waveforms are kept. `change` names what was done to them since, with its parameters."""
    key = hashlib.sha256(f"{CACHE_VERSION} {sample_rate_hz} soxr-HQ{change}".encode())
    for clip in clips:
        key.update(clip.content.encode())
    return home() / "waveforms" / f"{key.hexdigest()[:24]}.h5"


def read_cache(cache: Path) -> list[np.ndarray] | None:
    """Return the waveforms [samples] that a cache holds, None where there is none. A damaged one is removed."""
    import h5py

    if not cache.exists():
        return None
    try:
        with h5py.File(cache, "r") as file:
            samples, ends = file["samples"][:], file["ends"][:]
        return np.split(samples, ends[:-1])
    except (OSError, KeyError):
        cache.unlink()  # A damaged cache is worth nothing: it is made again.
    return None


def write_cache(cache: Path, waveforms: list[np.ndarray]) -> None:
    """Keep waveforms [samples] for `read_cache`. Raises EmokerasError where they cannot be; no half file is left."""
    import h5py

    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as temporary, h5py.File(temporary, "w") as file:
            file["samples"] = np.concatenate(waveforms)
            file["ends"] = np.cumsum([len(waveform) for waveform in waveforms])
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        raise EmokerasError(
            f"{cache.parent} cannot hold the waveform cache ({reason}): free some space, "
            "or set EMOKERAS_HOME to a folder on another disk"
        ) from error


def decode_all(clips: Sequence, sample_rate_hz: int) -> list[np.ndarray]:
    """Decode clips to waveforms in parallel, with a progress bar."""
    return in_parallel(lambda clip: load_waveform(clip.path, sample_rate_hz, clip.member), "decoding", clips)


def in_parallel(work: Callable, what: str, clips: Sequence, *more: Sequence) -> list:
    """Return what `work` gives for each of the clips, made by as many threads as there are cores; a bar says `what`.

    `work` takes a clip, and what stands at its place in each of `more`.
    """
    from tqdm import tqdm

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(work, clips, *more), what, len(clips), unit="clip", leave=False, disable=None))
