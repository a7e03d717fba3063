"""Prepare: archives are downloaded over broken connections, verified before they are unpacked, and decoded once."""

import hashlib
import io
import re
import stat
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emokeras import prepare, train
from emokeras.data import audio
from emokeras.data.corpora import download, load_corpus, prepared_path, ravdess
from emokeras.data.corpora.download import Archive
from emokeras.errors import CorpusError, DownloadError, EmokerasError, UsageError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    return tmp_path / "home"


def wav_bytes(number: int) -> bytes:
    buffer = io.BytesIO()
    samples = np.random.default_rng(number).integers(-9999, 9999, 1600, dtype=np.int16)
    soundfile.write(buffer, samples, 16000, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


MEMBERS = {
    f"Actor_{actor}/03-01-{emotion:02d}-01-01-01-{actor}.wav": wav_bytes(100 * int(actor) + emotion)
    for actor in ("01", "02", "03")
    for emotion in range(1, 9)
}
ARCHIVE_BYTES = zip_bytes(MEMBERS)
MD5 = hashlib.md5(ARCHIVE_BYTES).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one archive. `cuts`: after how many bytes it closes the connection, one number per request."""

    def __init__(self, data=ARCHIVE_BYTES, cuts=(), supports_range=True, status=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.cuts, self.supports_range, self.status = data, list(cuts), supports_range, status
        self.requested_ranges = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/speech.zip?download=1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requested_ranges.append(asked)
        if server.status:
            self.send_error(server.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.supports_range else 0
        if start >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.data)}")
            self.end_headers()
            return
        self.send_response(206 if asked and server.supports_range else 200)
        if asked and server.supports_range:
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        self.send_header("Content-Length", str(len(server.data) - start))
        self.end_headers()
        self.wfile.write(server.data[start : start + server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    """Return a function that starts a server; all are stopped at the end."""
    servers = []

    def start(**behavior) -> Server:
        servers.append(Server(**behavior))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def write_archive(path: Path, data: bytes = ARCHIVE_BYTES) -> Path:
    path.write_bytes(data)
    return path


# Download


def test_a_connection_cut_midway_is_resumed(serve, tmp_path, capsys):
    server = serve(cuts=[10_000, 20_000])
    target = download.download(Archive(server.url, len(ARCHIVE_BYTES), MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.requested_ranges == [None, "bytes=10000-", "bytes=30000-"]
    assert "the connection broke after 10,000 of" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["speech.zip"]


def test_a_broken_download_is_resumed_by_a_later_call(serve, tmp_path):
    (tmp_path / "speech.zip.part").write_bytes(ARCHIVE_BYTES[:12_345])
    server = serve()
    target = download.download(Archive(server.url, md5=MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.requested_ranges == ["bytes=12345-"]


@pytest.mark.parametrize("size_bytes", [None, len(ARCHIVE_BYTES)])
def test_a_complete_part_is_not_fetched_again(serve, tmp_path, size_bytes):
    (tmp_path / "speech.zip.part").write_bytes(ARCHIVE_BYTES)
    server = serve()
    target = download.download(Archive(server.url, size_bytes, MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.requested_ranges == ([] if size_bytes else [f"bytes={len(ARCHIVE_BYTES)}-"])


def test_a_server_without_ranges_sends_the_file_from_the_start(serve, tmp_path):
    server = serve(cuts=[10_000], supports_range=False)
    target = download.download(Archive(server.url, md5=MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.requested_ranges == [None, "bytes=10000-"]


def test_a_part_of_another_file_is_refused_and_deleted(serve, tmp_path):
    (tmp_path / "speech.zip.part").write_bytes(b"x" * 10_000)
    archive = Archive(serve().url, len(ARCHIVE_BYTES), MD5)
    with pytest.raises(DownloadError, match=f"has the MD5 checksum [0-9a-f]+ and should have {MD5}: .* fetch it again"):
        download.download(archive, tmp_path / "speech.zip")
    assert not list(tmp_path.glob("speech*"))
    assert download.download(archive, tmp_path / "speech.zip").read_bytes() == ARCHIVE_BYTES


def test_a_part_longer_than_the_file_is_fetched_again(serve, tmp_path):
    (tmp_path / "speech.zip.part").write_bytes(b"x" * (len(ARCHIVE_BYTES) + 1))
    target = download.download(Archive(serve().url, md5=MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES


def test_a_file_of_another_size_is_refused(serve, tmp_path):
    with pytest.raises(DownloadError, match=f"has {len(ARCHIVE_BYTES)} bytes and should have 208468073"):
        download.download(Archive(serve().url, 208_468_073), tmp_path / "speech.zip")
    assert not list(tmp_path.glob("speech*"))


@pytest.mark.parametrize("supports_range", [True, False])
def test_a_connection_that_always_breaks_is_given_up(serve, tmp_path, supports_range):
    server = serve(cuts=[5000] + [0] * 20 if supports_range else [5000] * 20, supports_range=supports_range)
    with pytest.raises(DownloadError, match=r"cannot be fetched .*: run the command again to resume at byte 5000"):
        download.download(Archive(server.url), tmp_path / "speech.zip")
    assert len(server.requested_ranges) == download.MAX_FAILURES
    assert (tmp_path / "speech.zip.part").stat().st_size == 5000


@pytest.mark.parametrize(("status", "num_requests"), [(404, 1), (503, download.MAX_FAILURES)])
def test_a_refusal_of_the_server_is_an_error(serve, tmp_path, status, num_requests):
    server = serve(status=status)
    with pytest.raises(DownloadError, match=rf"cannot be fetched \(the server answered {status} .* --source FILE.zip"):
        download.download(Archive(server.url), tmp_path / "speech.zip")
    assert len(server.requested_ranges) == num_requests


def test_no_server_is_an_error(serve, tmp_path):
    server = serve()
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="refused"):
        download.download(Archive(url), tmp_path / "speech.zip")


# Unpack


def test_an_archive_is_unpacked_completely(tmp_path):
    download.unpack(write_archive(tmp_path / "speech.zip"), tmp_path / "folder")
    unpacked = {
        path.relative_to(tmp_path / "folder").as_posix(): path.read_bytes()
        for path in (tmp_path / "folder").rglob("*.wav")
    }
    assert unpacked == MEMBERS


@pytest.mark.parametrize(
    "name", ["../out.wav", "a/../../out.wav", "/out.wav", "..\\out.wav", "\\out.wav", "C:\\out.wav", "C:out.wav"]
)
def test_a_member_outside_the_folder_is_refused(tmp_path, name):
    archive = write_archive(tmp_path / "speech.zip", zip_bytes({**MEMBERS, name: b"x"}))
    with pytest.raises(DownloadError) as caught:
        download.unpack(archive, tmp_path / "in" / "folder")
    assert f"its member '{name}' would be unpacked outside the folder" in str(caught.value)
    assert not (tmp_path / "in").exists()
    assert not list(tmp_path.rglob("out.wav"))


def test_a_member_that_is_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("Actor_01/link.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "speech.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DownloadError, match=r"its member 'Actor_01/link.wav' is a link"):
        download.unpack(tmp_path / "speech.zip", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "text"])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path, damage):
    middle = ARCHIVE_BYTES.index(b"data") + 100
    data = {
        "cut": ARCHIVE_BYTES[:-100],
        "changed": ARCHIVE_BYTES[:middle] + b"damaged" + ARCHIVE_BYTES[middle + 7 :],
        "text": b"<html>not found</html>",
    }[damage]
    archive = write_archive(tmp_path / "speech.zip", data)
    with pytest.raises(DownloadError, match="is not a zip archive, or is damaged"):
        download.unpack(archive, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["speech.zip"]


def test_an_archive_too_large_for_the_disk_is_refused(tmp_path, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmokerasError, match="free some space, or set EMOKERAS_HOME"):
        download.unpack(write_archive(tmp_path / "speech.zip"), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# The command


def run(*arguments: str) -> int:
    return prepare.main(list(arguments))


def test_the_published_archive_is_downloaded_verified_unpacked_and_decoded_once(serve, monkeypatch, capsys, home):
    server = serve(cuts=[len(ARCHIVE_BYTES) // 2])
    monkeypatch.setattr(ravdess, "ARCHIVE", Archive(server.url, len(ARCHIVE_BYTES), MD5))
    decoded = []
    decode = audio.decode
    monkeypatch.setattr(audio, "decode", lambda path, member="": decoded.append(path) or decode(path, member))
    assert run("--corpus", "ravdess") == 0
    assert len(decoded) == len(set(decoded)) == 24
    out = capsys.readouterr().out
    assert re.search(r"^clips +24$", out, re.MULTILINE)
    assert re.search(r"^speakers +3 \(1 female, 2 male\)$", out, re.MULTILINE)
    assert re.search(r"^fearful +3$", out, re.MULTILINE)
    assert "checksum" not in out
    assert prepared_path("ravdess") == home / "corpora" / "ravdess"
    assert len(load_corpus("ravdess").clips) == 24
    assert not list((home / "downloads").iterdir())
    assert len(list((home / "waveforms").iterdir())) == 1


def test_preparing_again_changes_nothing(tmp_path, capsys, home):
    archive = write_archive(tmp_path / "speech.zip")
    assert run("--source", str(archive)) == 0
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert "prepared already" not in capsys.readouterr().out
    assert run() == 0
    assert f"ravdess is prepared already: {home / 'corpora' / 'ravdess'} (nothing changed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_a_wrong_checksum_is_refused_before_anything_is_unpacked(serve, tmp_path, monkeypatch, capsys, home):
    monkeypatch.setattr(ravdess, "ARCHIVE", Archive(serve().url, len(ARCHIVE_BYTES), "0" * 32))
    assert run() == 1
    error = capsys.readouterr().err
    assert f"has the MD5 checksum {MD5} and should have {'0' * 32}" in error
    assert error.count("error: ") == 1
    assert not (home / "corpora").exists()
    assert not [path for path in (home / "downloads").rglob("*") if path.is_file()]
    archive = write_archive(tmp_path / "speech.zip")
    assert run("--source", str(archive), "--md5", "0" * 32) == 1
    assert "should have 000" in capsys.readouterr().err
    assert archive.exists()
    assert not (home / "corpora").exists()
    assert run("--source", str(archive), "--md5", MD5.upper()) == 0


def test_an_address_without_a_checksum_is_announced_as_not_verified(serve, capsys):
    server = serve()
    assert run("--source", server.url) == 0
    assert f"{server.url} has no known checksum: it is not verified" in capsys.readouterr().out


def test_an_archive_that_cannot_be_unpacked_is_downloaded_again(serve, capsys, home):
    server = serve(data=b"<html>moved</html>")
    assert run("--source", server.url) == 1
    assert "not a zip archive, or is damaged" in capsys.readouterr().err
    server.data = ARCHIVE_BYTES
    assert run("--source", server.url) == 0
    assert server.requested_ranges == [None, None]


def test_an_unsafe_archive_is_refused(tmp_path, capsys, home):
    archive = write_archive(tmp_path / "speech.zip", zip_bytes({**MEMBERS, "../out.wav": b"x"}))
    assert run("--source", str(archive)) == 1
    assert "'../out.wav' would be unpacked outside the folder" in capsys.readouterr().err
    assert prepared_path("ravdess") is None
    assert not list(tmp_path.rglob("out.wav"))


def test_a_folder_is_used_in_place(tmp_path, capsys, home):
    with zipfile.ZipFile(io.BytesIO(ARCHIVE_BYTES)) as archive:
        archive.extractall(tmp_path / "mine")
    assert run("--source", str(tmp_path / "mine")) == 0
    assert (
        f"{tmp_path / 'mine'} is used in place; its path is in {home / 'corpora' / 'ravdess.path'}"
        in capsys.readouterr().out
    )
    assert prepared_path("ravdess") == tmp_path / "mine"
    assert load_corpus("ravdess").clips[0].path.is_relative_to(tmp_path / "mine")
    assert run() == 0
    assert f"delete {home / 'corpora' / 'ravdess.path'} first" in capsys.readouterr().out


def test_an_archive_or_folder_of_something_else_is_refused(tmp_path, home):
    archive = write_archive(tmp_path / "speech.zip")
    with pytest.raises(CorpusError, match="is not EMO-DB, whose files have names such as 03a01Fa"):
        prepare.prepare("emodb", source=str(archive))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no usable clip"):
        prepare.prepare("ravdess", source=str(tmp_path / "empty"))
    assert not list((home / "corpora").iterdir())


@pytest.mark.parametrize(
    ("corpus", "arguments", "expected"),
    [
        ("ravdes", {}, "no corpus 'ravdes' to prepare; did you mean 'ravdess'"),
        ("demo", {"source": "x.zip"}, "leave out --source and --md5"),
        ("ravdess", {"source": "none.zip"}, "--source none.zip: there is no such file or folder"),
        ("ravdess", {"source": "ftp://x/y.zip"}, "give an http or https address"),
        ("ravdess", {"md5": "12"}, "32 hexadecimal digits"),
        ("ravdess", {"source": ".", "md5": "0" * 32}, "--source is a folder"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_line(corpus, arguments, expected):
    with pytest.raises(UsageError) as caught:
        prepare.prepare(corpus, **arguments)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://[::1", "http://localhost/Übung.zip", "http://localhost/a b.zip"])
def test_an_invalid_address_is_refused_at_once(address):
    with pytest.raises(DownloadError, match="is not a valid address") as caught:
        prepare.prepare("ravdess", source=address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("folder", "num_speakers"), [("", 0), ("anna", 1)])
def test_prepare_and_train_count_the_same_known_speakers(tmp_path, folder, num_speakers):
    for number, emotion in enumerate(("happy", "sad")):
        (tmp_path / "mine" / folder / emotion).mkdir(parents=True)
        (tmp_path / "mine" / folder / emotion / "clip.wav").write_bytes(wav_bytes(number))
    lines = []
    with pytest.raises(CorpusError, match="protocol 'speaker'"):  # It needs three.
        train.train("mel-cnn3", corpus=str(tmp_path / "mine"), run_dir=tmp_path / "run", say=lines.append)
    assert f"corpus mine: 2 clips, {num_speakers} speakers" in lines
    assert prepare.describe(load_corpus(tmp_path / "mine")).endswith(f"\nspeakers         {num_speakers}")


def test_help_answers_without_tensorflow():
    code = (
        "import sys\nfrom emokeras import prepare\n"
        "try:\n    prepare.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "python -m emokeras.prepare --corpus ravdess" in done.stdout
