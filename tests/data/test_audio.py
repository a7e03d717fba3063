"""Decoding to mono waveforms, one line for files that cannot be decoded, content hashes, and the waveform cache."""

import errno
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from conftest import REAL_CLIPS

from emokeras.data import audio
from emokeras.errors import AudioError, EmokerasError

needs_real_clips = pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason=f"{REAL_CLIPS} is not there")
RATE = 16000


@dataclass
class Clip:
    """The fields of a `corpora.Clip` that the cache uses."""

    path: Path
    content: str = ""
    member: str = ""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "waveforms"


def noise(samples: int = 1000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return noise [samples, channels] on the 16-bit grid, which a PCM_16 file keeps exactly."""
    integers = np.random.default_rng(seed).integers(-20000, 20000, (samples, channels))
    return (integers / 32768).astype(np.float32)


def tone(hertz: float, rate: int = RATE, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


# Decoding


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au"])
def test_lossless_files_give_their_samples(tmp_path, suffix, channels):
    samples = noise(channels=channels)
    decoded, rate = audio.decode(write(tmp_path / f"clip.{suffix}", samples, 22050, "PCM_16"))
    assert rate == 22050
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_files_give_nearly_their_samples(tmp_path, suffix):
    samples = tone(440.0, seconds=1.0)
    decoded, rate = audio.decode(write(tmp_path / f"clip.{suffix}", samples))
    assert (rate, decoded.shape[1]) == (RATE, 1)
    assert abs(len(decoded) - len(samples)) < 0.2 * RATE  # An encoder may pad.
    spectrum = np.abs(np.fft.rfft(decoded[:, 0] * np.hanning(len(decoded))))
    assert abs(spectrum.argmax() * RATE / len(decoded) - 440.0) < 2.0
    assert np.abs(decoded).max() == pytest.approx(0.5, rel=0.1)


def test_a_member_of_a_zip_is_read_without_unpacking(tmp_path):
    samples = noise()
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.write(write(tmp_path / "clip.wav", samples), "Actor_01/clip.wav")
    decoded, _ = audio.decode(tmp_path / "clips.zip", "Actor_01/clip.wav")
    np.testing.assert_array_equal(decoded, samples)
    with pytest.raises(AudioError, match=r"clips\.zip:Actor_02/clip\.wav cannot be read"):
        audio.decode(tmp_path / "clips.zip", "Actor_02/clip.wav")


def test_a_replaced_archive_is_read_again(tmp_path):
    path = tmp_path / "clips.zip"
    for seed in (0, 1):
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(write(tmp_path / "clip.wav", noise(seed=seed)), "clip.wav")
        os.utime(path, ns=(seed, seed + 1))
        np.testing.assert_array_equal(audio.decode(path, "clip.wav")[0], noise(seed=seed))


@needs_real_clips
def test_a_real_clip_is_decoded():
    path = REAL_CLIPS / "Actor_01" / "03-01-01-01-01-01-01.flac"
    samples, rate = audio.decode(path)
    assert (rate, samples.shape[1]) == (48000, 1)
    assert 3.0 < len(samples) / rate < 3.6
    waveform = audio.load_waveform(path, RATE)
    assert len(waveform) == pytest.approx(len(samples) / 3, abs=1)


# Mono and rate


def test_stereo_becomes_the_mean_of_its_channels(tmp_path):
    samples = noise(channels=2)
    waveform = audio.load_waveform(write(tmp_path / "clip.wav", samples), RATE)
    assert waveform.shape == (1000,)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, (samples[:, 0] + samples[:, 1]) / 2, atol=1e-7)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(48000, 16000), (8000, 16000), (44100, 22050), (11025, 16000)])
def test_resampling_is_soxr_and_keeps_a_tone(from_rate, to_rate):
    samples = tone(1000.0, from_rate)
    waveform = audio.to_waveform(samples[:, np.newaxis], from_rate, to_rate)
    np.testing.assert_array_equal(waveform, soxr.resample(samples, from_rate, to_rate, quality="HQ"))
    assert len(waveform) == pytest.approx(len(samples) * to_rate / from_rate, abs=1)
    middle = slice(to_rate // 10, 4 * to_rate // 10)
    np.testing.assert_allclose(waveform[middle], tone(1000.0, to_rate)[: len(waveform)][middle], atol=2e-3)


def test_resampling_does_not_alias():
    waveform = audio.to_waveform(tone(11000.0, 48000)[:, np.newaxis], 48000, RATE)
    assert np.abs(waveform[1000:-1000]).max() < 1e-4


def test_the_same_rate_changes_nothing():
    samples = noise()
    np.testing.assert_array_equal(audio.to_waveform(samples, RATE, RATE), samples[:, 0])


def test_a_waveform_stays_between_minus_one_and_one(tmp_path):
    loud = write(tmp_path / "loud.wav", np.array([3.0, -2.0, 0.5], np.float32), subtype="FLOAT")
    np.testing.assert_array_equal(audio.load_waveform(loud, RATE), [1.0, -1.0, 0.5])
    square = np.sign(tone(300.0, 48000))[:, np.newaxis]  # Resampling overshoots at its edges.
    assert np.abs(soxr.resample(square[:, 0], 48000, RATE)).max() > 1.0
    assert np.abs(audio.to_waveform(square, 48000, RATE)).max() == 1.0


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_a_clip_of_few_samples_keeps_at_least_one(tmp_path, samples):
    waveform = audio.load_waveform(write(tmp_path / "short.wav", noise(samples), 48000), RATE)
    assert len(waveform) >= 1


# Files that cannot be decoded


def refusal(path: Path, member: str = "") -> str:
    """Return the one line of the error for a file; it begins with the file's path."""
    with pytest.raises(AudioError) as caught:
        audio.load_waveform(path, RATE, member)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}:{member}" if member else str(path))
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "missing.wav")


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.wav"
    path.touch()
    assert "empty file (0 bytes)" in refusal(path)


@pytest.mark.parametrize("content", [b"this is text\n" * 50, b"RIFF", b"\0" * 5000], ids=["text", "cut", "zeros"])
def test_a_file_that_is_not_audio_is_refused(tmp_path, content):
    path = tmp_path / "text.wav"
    path.write_bytes(content)
    assert "not an audio file that libsndfile reads" in refusal(path)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    refusal(tmp_path / "folder.wav")


def test_a_file_without_samples_is_refused(tmp_path):
    assert "has no samples" in refusal(write(tmp_path / "none.wav", np.zeros((0, 1), np.float32)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_counted(tmp_path, value):
    samples = noise(channels=2)
    samples[[3, 5], 0] = value
    path = write(tmp_path / "broken.wav", samples, subtype="FLOAT")
    assert "has 2 samples that are not finite" in refusal(path)


def test_members_that_are_not_audio_and_broken_archives_are_refused(tmp_path):
    path = tmp_path / "clips.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("empty.wav", b"")
        archive.writestr("text.wav", b"this is text")
        archive.writestr("broken.wav", os.urandom(2000))
    assert "empty file" in refusal(path, "empty.wav")
    assert "not an audio file" in refusal(path, "text.wav")
    content = bytearray(path.read_bytes())
    place = content.index(b"broken.wav") + len(b"broken.wav") + 1000
    content[place : place + 4] = b"\0\1\2\3"  # The checksum of the member no longer fits.
    path.write_bytes(content)
    assert "not an audio file" in refusal(path, "broken.wav")
    path.write_bytes(b"no archive")
    refusal(path, "text.wav")


# In parts


def in_parts(path: Path, rate: int = RATE) -> np.ndarray:
    parts = list(audio.read_waveform(path, rate))
    assert all(part.dtype == np.float32 and part.ndim == 1 and len(part) for part in parts)
    return np.concatenate(parts)


@pytest.fixture
def short_parts(monkeypatch):
    """A second is read in some fourteen parts."""
    monkeypatch.setattr(audio, "PART_SECONDS", 0.07)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_parts_of_a_file_are_its_waveform(tmp_path, channels, short_parts):
    path = write(tmp_path / "clip.wav", noise(16001, channels))
    np.testing.assert_array_equal(in_parts(path), audio.load_waveform(path, RATE))
    assert len(list(audio.read_waveform(path, RATE))) == 15


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
@pytest.mark.parametrize("from_rate", [44100, 48000])
def test_the_parts_of_a_file_at_another_rate_are_its_waveform(tmp_path, from_rate, suffix, short_parts):
    square = np.sign(tone(300.0, from_rate, 1.01))[:, np.newaxis]  # Resampling overshoots at its edges.
    path = write(tmp_path / f"clip.{suffix}", square * [1.0, 0.99] - 0.01 * noise(len(square), 2), from_rate)
    whole = audio.load_waveform(path, RATE)
    assert np.abs(whole).max() == 1.0
    found = in_parts(path)
    assert len(found) == len(whole)
    np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize("rate", [RATE, 48000])
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_few_samples_in_parts_are_at_least_one(tmp_path, samples, rate):
    path = write(tmp_path / "short.wav", noise(samples), rate)
    whole = audio.load_waveform(path, RATE)
    np.testing.assert_allclose(in_parts(path), whole, atol=1e-5)


def test_only_the_part_that_is_asked_for_is_read(tmp_path, monkeypatch):
    samples = noise(50000)
    samples[-1] = np.nan
    path = write(tmp_path / "clip.wav", samples, subtype="FLOAT")
    monkeypatch.setattr(audio, "PART_SECONDS", 1.0)
    parts = audio.read_waveform(path, RATE)
    for second in range(3):
        np.testing.assert_array_equal(next(parts), samples[16000 * second : 16000 * (second + 1), 0])
    with pytest.raises(AudioError, match=r"clip\.wav has 1 samples that are not finite"):
        next(parts)


def test_what_decode_refuses_is_refused_in_parts_with_the_same_line(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is text")
    write(tmp_path / "none.wav", np.zeros((0, 1), np.float32))
    write(tmp_path / "broken.wav", np.full(9, np.nan, np.float32), subtype="FLOAT")
    flac = write(tmp_path / "cut.flac", noise(80000), subtype="PCM_16")
    flac.write_bytes(flac.read_bytes()[:3000])
    for name in ("missing.wav", "folder.wav", "empty.wav", "text.wav", "none.wav", "broken.wav", "cut.flac"):
        with pytest.raises(AudioError) as caught:
            in_parts(tmp_path / name)
        assert str(caught.value) == refusal(tmp_path / name)


# Content


def test_the_content_is_of_the_samples_not_of_the_file(tmp_path):
    samples = noise(channels=2)
    wav = audio.decode(write(tmp_path / "clip.wav", samples, subtype="PCM_16"))
    flac = audio.decode(write(tmp_path / "clip.flac", samples, subtype="PCM_16"))
    wide = audio.decode(write(tmp_path / "wide.wav", samples, subtype="FLOAT"))
    assert audio.content_hash(*wav) == audio.content_hash(*flac) == audio.content_hash(*wide)
    assert len(audio.content_hash(*wav)) == 64


def test_content_differs_with_samples_rate_and_channels():
    samples = noise()
    changed = samples.copy()
    changed[500] += np.float32(1 / 32768)
    hashes = {
        audio.content_hash(samples, 16000),
        audio.content_hash(samples, 8000),
        audio.content_hash(changed, 16000),
        audio.content_hash(samples[:-1], 16000),
        audio.content_hash(samples.reshape(-1, 2), 16000),
    }
    assert len(hashes) == 5


def test_content_does_not_depend_on_the_memory_layout():
    samples = noise(channels=2)
    assert audio.content_hash(np.asfortranarray(samples), RATE) == audio.content_hash(samples, RATE)


# The cache


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    clips = []
    for number, samples in enumerate((300, 500, 400)):
        content = noise(samples, seed=number)
        clips.append(Clip(write(tmp_path / f"{number}.wav", content, 8000), audio.content_hash(content, 8000)))
    return clips


def forbid_decoding(monkeypatch):
    def fail(*_):
        raise AssertionError("a clip is decoded although it is cached")

    monkeypatch.setattr(audio, "decode", fail)


def assert_same(waveforms, others):
    assert len(waveforms) == len(others)
    for waveform, other in zip(waveforms, others, strict=True):
        assert waveform.dtype == other.dtype == np.float32
        np.testing.assert_array_equal(waveform, other)


def test_waveforms_come_in_the_order_of_the_clips(clips):
    expected = [noise(count, seed=number)[:, 0] for number, count in enumerate((300, 500, 400))]
    assert_same(audio.load_waveforms(clips, 8000), expected)
    assert_same(audio.load_waveforms(clips[::-1], RATE), [audio.load_waveform(clip.path, RATE) for clip in clips[::-1]])


def test_a_cached_waveform_is_not_decoded_again(clips, cache, monkeypatch):
    first = audio.load_waveforms(clips, RATE)
    assert len(list(cache.iterdir())) == 1
    for clip in clips:
        clip.path.unlink()
    forbid_decoding(monkeypatch)
    assert_same(audio.load_waveforms(clips, RATE), first)


def test_another_rate_or_content_has_another_cache(clips, cache, tmp_path):
    audio.load_waveforms(clips, RATE)
    assert [len(waveform) for waveform in audio.load_waveforms(clips, 8000)] == [300, 500, 400]
    assert len(list(cache.iterdir())) == 2
    changed = noise(500, seed=9)
    clips[1] = Clip(write(clips[1].path, changed, 8000), audio.content_hash(changed, 8000))
    np.testing.assert_array_equal(audio.load_waveforms(clips, 8000)[1], changed[:, 0])
    audio.load_waveforms(clips[:2], 8000)
    assert len(list(cache.iterdir())) == 4


def test_the_same_clips_in_another_folder_use_the_same_cache(clips, monkeypatch):
    first = audio.load_waveforms(clips, RATE)
    forbid_decoding(monkeypatch)
    moved = [Clip(Path("/somewhere/else.flac"), clip.content) for clip in clips]
    assert_same(audio.load_waveforms(moved, RATE), first)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other"])
def test_a_damaged_cache_is_made_again(clips, cache, damage, monkeypatch):
    first = audio.load_waveforms(clips, RATE)
    (file,) = cache.iterdir()
    if damage == "other":
        import h5py

        with h5py.File(file, "w") as content:
            content["samples"] = np.zeros(3, np.float32)
    else:
        whole = file.read_bytes()
        file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "empty": b""}[damage])
    assert_same(audio.load_waveforms(clips, RATE), first)
    forbid_decoding(monkeypatch)
    assert_same(audio.load_waveforms(clips, RATE), first)


def test_a_clip_that_cannot_be_decoded_leaves_no_cache(clips, cache):
    clips[1].path.write_text("this is text")
    with pytest.raises(AudioError, match=r"1\.wav is not an audio file"):
        audio.load_waveforms(clips, RATE)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_an_error_of_one_line_and_leaves_nothing(clips, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EmokerasError, match="No space left on device") as caught:
        audio.load_waveforms(clips, RATE)
    assert str(cache) in str(caught.value)
    assert "EMOKERAS_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_a_home_that_is_a_file_is_an_error(clips, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(EmokerasError, match="EMOKERAS_HOME"):
        audio.load_waveforms(clips, RATE)


@pytest.mark.slow
def test_a_disk_that_is_really_full_is_an_error_of_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can make a small disk")
    try:
        monkeypatch.setenv("EMOKERAS_HOME", str(disk))
        samples = noise(100_000)
        clip = Clip(write(tmp_path / "long.wav", samples), audio.content_hash(samples, RATE))
        with pytest.raises(EmokerasError, match="EMOKERAS_HOME") as caught:
            audio.load_waveforms([clip], RATE)
        assert "\n" not in str(caught.value)
        assert not [path for path in disk.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
