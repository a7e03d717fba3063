"""Audio files to waveforms: decode with libsndfile, mix to mono, resample with soxr; and the waveform cache.

The cache has one HDF5 file per corpus and sample rate, and per change made to the waveforms (`variants`, `speech`). Its
name is a hash of the clips' contents and of these parameters, so that a stale cache is never read.
"""

import contextlib
import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr

from emokeras.errors import AudioError, EmokerasError
from emokeras.files import UNREADABLE_ARCHIVE, home, replacing

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus", ".caf", ".w64"})
CACHE_VERSION = 1
PART_SECONDS = 20.0  # of a file that is read in parts


@functools.lru_cache(maxsize=2)
def _open_archive(path: Path, modified_ns: int) -> zipfile.ZipFile:
    """Keep an archive open: reading its table of contents for each of 1440 members takes half a minute."""
    return zipfile.ZipFile(path)


def decode(path: Path, member: str = "") -> tuple[np.ndarray, int]:
    """Decode an audio file, or a member of a zip archive.

    Parameters
    ----------
    path: the audio file, or the archive.
    member: the name in the archive; empty for a plain file.

    Returns
    -------
    float32 [samples, channels] in -1 to 1, and the sample rate in Hz.

    Raises
    ------
    AudioError: no such file, not audio, no samples, or samples that are not finite.
    """
    where = f"{path}:{member}" if member else str(path)
    with _opened(path, member, where) as file:
        samples, sample_rate_hz = file.read(dtype="float32", always_2d=True), file.samplerate
    if not len(samples):
        raise AudioError(f"{where} has no samples: delete it, or fetch it again", "without samples")
    _check_finite(samples, where)
    return samples, sample_rate_hz


@contextlib.contextmanager
def _opened(path: Path, member: str, where: str) -> Iterator[soundfile.SoundFile]:
    """Open an audio file; what goes wrong, then and while it is read, is an AudioError."""
    try:
        if member:
            source = io.BytesIO(_open_archive(path, os.stat(path).st_mtime_ns).read(member))
            empty = not source.getbuffer().nbytes
        else:
            # soundfile refuses a str that is not UTF-8, which a name can be on any system but Windows.
            source, empty = str(path) if os.name == "nt" else os.fsencode(path), not os.path.getsize(path)
        if empty:
            raise AudioError(f"{where} is an empty file (0 bytes): delete it, or fetch it again", "empty (0 bytes)")
        with soundfile.SoundFile(source) as file:
            yield file
    except (OSError, KeyError) as error:
        raise AudioError(f"{where} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except (soundfile.SoundFileError, *UNREADABLE_ARCHIVE) as error:
        raise AudioError(
            f"{where} is not an audio file that libsndfile reads: convert it to WAV or FLAC, or remove it",
            "not audio that libsndfile reads",
        ) from error


def _check_finite(samples: np.ndarray, where: str) -> None:
    if not np.isfinite(samples).all():
        bad = int(np.size(samples) - np.isfinite(samples).sum())
        raise AudioError(
            f"{where} has {bad} samples that are not finite (NaN or infinity): convert it again",
            "with NaN or infinite samples",
        )


def read_waveform(path: Path, sample_rate_hz: int) -> Iterator[np.ndarray]:
    """Yield a file's mono waveform in parts, float32 [samples] each in -1 to 1, so that a long one needs no memory.

    Together they are what `load_waveform` returns. Raises AudioError as `decode` does, when it gets there.
    """
    with _opened(path, "", str(path)) as file:
        resampler = None
        if file.samplerate != sample_rate_hz:
            resampler = soxr.ResampleStream(file.samplerate, sample_rate_hz, 1, dtype="float32", quality="HQ")
        is_empty, first = True, np.zeros(0, np.float32)
        while True:
            samples = file.read(round(PART_SECONDS * file.samplerate), dtype="float32", always_2d=True)
            _check_finite(samples, str(path))
            mono = samples.mean(axis=1, dtype=np.float32)
            first = first if len(first) else mono[:1]
            part = mono if resampler is None else resampler.resample_chunk(mono, last=not len(mono))
            if len(part):
                is_empty = False
                yield np.clip(part, -1.0, 1.0)
            if not len(mono):
                break
    if not len(first):
        raise AudioError(f"{path} has no samples: delete it, or fetch it again", "without samples")
    if is_empty:  # One sample at 48 kHz is none at 16 kHz.
        yield np.clip(first, -1.0, 1.0)


def to_waveform(samples: np.ndarray, from_rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    """Mix [samples, channels] to mono (their mean) and resample (soxr, high quality): float32 [samples] in -1 to 1."""
    mono = samples.mean(axis=1, dtype=np.float32)
    if from_rate_hz != sample_rate_hz:
        resampled = soxr.resample(mono, from_rate_hz, sample_rate_hz, quality="HQ")
        mono = resampled if len(resampled) else mono[:1]  # One sample at 48 kHz is none at 16 kHz.
    return np.clip(mono, -1.0, 1.0).astype(np.float32)


def load_waveform(path: Path, sample_rate_hz: int, member: str = "") -> np.ndarray:
    """Decode a file, or a member of a zip archive, to a mono waveform, float32 [samples] in -1 to 1.

    Raises AudioError as `decode` does.
    """
    samples, from_rate_hz = decode(Path(path), member)
    return to_waveform(samples, from_rate_hz, sample_rate_hz)


def content_hash(samples: np.ndarray, sample_rate_hz: int) -> str:
    """Return the SHA-256 of decoded samples, float32 [samples, channels], and their rate: a WAV's is its FLAC's."""
    digest = hashlib.sha256(f"{sample_rate_hz} {samples.shape[1]} ".encode())
    digest.update(np.ascontiguousarray(samples, dtype="<f4"))
    return digest.hexdigest()


def load_waveforms(clips: Sequence, sample_rate_hz: int) -> list[np.ndarray]:
    """Return the waveform of each `corpora.Clip`, float32 [samples], from the cache or decoded in parallel and cached.

    Raises AudioError for a clip that cannot be decoded, EmokerasError where the cache cannot be written.
    """
    cache = cache_path(clips, sample_rate_hz)
    waveforms = read_cache(cache)
    if waveforms is None:
        waveforms = in_parallel(lambda clip: load_waveform(clip.path, sample_rate_hz, clip.member), "decoding", clips)
        write_cache(cache, waveforms)
    return waveforms


def cache_path(clips: Sequence, sample_rate_hz: int, change: str = "") -> Path:
    """Return the cache file of these clips' waveforms. `change` names what was made of them, with its parameters."""
    key = hashlib.sha256(f"{CACHE_VERSION} {sample_rate_hz} soxr-HQ{change}".encode())
    for clip in clips:
        key.update(clip.content.encode())
    return home() / "waveforms" / f"{key.hexdigest()[:24]}.h5"


def read_cache(cache: Path) -> list[np.ndarray] | None:
    """Return the waveforms [samples] in a cache file, None where there is none. A damaged file is deleted."""
    import h5py

    if not cache.exists():
        return None
    try:
        with h5py.File(cache, "r") as file:
            samples, ends = file["samples"][:], file["ends"][:]
        return np.split(samples, ends[:-1])
    except (OSError, KeyError):
        cache.unlink()  # Damaged.
        return None


def write_cache(cache: Path, waveforms: list[np.ndarray]) -> None:
    """Write waveforms [samples] for `read_cache`. Raises EmokerasError where that fails, and leaves no partial file."""
    import h5py

    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as temporary, h5py.File(temporary, "w") as file:
            file["samples"] = np.concatenate(waveforms)
            file["ends"] = np.cumsum([len(waveform) for waveform in waveforms])
    except OSError as error:
        raise write_error(cache, error) from error


def write_error(cache: Path, error: OSError) -> EmokerasError:
    """Return what to raise where a file or folder of the cache cannot be written."""
    reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
    return EmokerasError(
        f"the waveform cache cannot be written to {cache.parent} ({reason}): free some space, "
        "or set EMOKERAS_HOME to a folder on another disk"
    )


def in_parallel(work: Callable, what: str, clips: Sequence, *more: Sequence) -> list:
    """Return `work(clip, ...)` for each clip and the values at its index in `more`, in one thread per core.

    The progress bar is titled `what`.
    """
    from tqdm import tqdm

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(work, clips, *more), what, len(clips), unit="clip", leave=False, disable=None))
