"""Prepare: an archive is fetched through broken connections, checked before it is unpacked, and kept in its folder."""

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

from emokeras import prepare
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
    """Serves one archive; `cuts` are the bytes after which it breaks a connection, one request after another."""

    def __init__(self, data=ARCHIVE_BYTES, cuts=(), knows_range=True, status=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.cuts, self.knows_range, self.status = data, list(cuts), knows_range, status
        self.asked_for = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/speech.zip?download=1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked_for.append(asked)
        if server.status:
            self.send_error(server.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.knows_range else 0
        if start >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.data)}")
            self.end_headers()
            return
        self.send_response(206 if asked and server.knows_range else 200)
        if asked and server.knows_range:
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

    def start(**behaviour) -> Server:
        servers.append(Server(**behaviour))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def write_archive(path: Path, data: bytes = ARCHIVE_BYTES) -> Path:
    path.write_bytes(data)
    return path


# Fetching


def test_a_connection_cut_midway_is_resumed(serve, tmp_path, capsys):
    server = serve(cuts=[10_000, 20_000])
    target = download.download(Archive(server.url, len(ARCHIVE_BYTES), MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.asked_for == [None, "bytes=10000-", "bytes=30000-"]
    assert "the connection broke after 10,000 of" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["speech.zip"]


def test_a_broken_download_of_an_earlier_call_is_resumed(serve, tmp_path):
    (tmp_path / "speech.zip.part").write_bytes(ARCHIVE_BYTES[:12_345])
    server = serve()
    target = download.download(Archive(server.url, md5=MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.asked_for == ["bytes=12345-"]


@pytest.mark.parametrize("size_bytes", [None, len(ARCHIVE_BYTES)])
def test_a_download_that_had_all_but_its_name_is_taken_as_it_is(serve, tmp_path, size_bytes):
    (tmp_path / "speech.zip.part").write_bytes(ARCHIVE_BYTES)
    server = serve()
    target = download.download(Archive(server.url, size_bytes, MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.asked_for == ([] if size_bytes else [f"bytes={len(ARCHIVE_BYTES)}-"])


def test_a_server_that_ignores_range_starts_over(serve, tmp_path):
    server = serve(cuts=[10_000], knows_range=False)
    target = download.download(Archive(server.url, md5=MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES
    assert server.asked_for == [None, "bytes=10000-"]


def test_a_part_of_another_file_does_not_poison(serve, tmp_path):
    (tmp_path / "speech.zip.part").write_bytes(b"x" * 10_000)
    archive = Archive(serve().url, len(ARCHIVE_BYTES), MD5)
    with pytest.raises(DownloadError, match=f"has the MD5 checksum [0-9a-f]+ and should have {MD5}: .* fetch it again"):
        download.download(archive, tmp_path / "speech.zip")
    assert not list(tmp_path.glob("speech*"))
    assert download.download(archive, tmp_path / "speech.zip").read_bytes() == ARCHIVE_BYTES


def test_a_part_longer_than_the_file_is_fetched_anew(serve, tmp_path):
    (tmp_path / "speech.zip.part").write_bytes(b"x" * (len(ARCHIVE_BYTES) + 1))
    target = download.download(Archive(serve().url, md5=MD5), tmp_path / "speech.zip")
    assert target.read_bytes() == ARCHIVE_BYTES


def test_a_file_of_another_size_is_refused(serve, tmp_path):
    with pytest.raises(DownloadError, match=f"has {len(ARCHIVE_BYTES)} bytes and should have 208468073"):
        download.download(Archive(serve().url, 208_468_073), tmp_path / "speech.zip")
    assert not list(tmp_path.glob("speech*"))


@pytest.mark.parametrize("knows_range", [True, False])
def test_a_connection_that_never_lasts_is_given_up(serve, tmp_path, knows_range):
    server = serve(cuts=[5000] + [0] * 20 if knows_range else [5000] * 20, knows_range=knows_range)
    with pytest.raises(DownloadError, match=r"cannot be fetched .*: run the command again to go on from byte 5000"):
        download.download(Archive(server.url), tmp_path / "speech.zip")
    assert len(server.asked_for) == download.MAX_FAILURES
    assert (tmp_path / "speech.zip.part").stat().st_size == 5000


@pytest.mark.parametrize(("status", "num_requests"), [(404, 1), (503, download.MAX_FAILURES)])
def test_a_server_that_refuses(serve, tmp_path, status, num_requests):
    server = serve(status=status)
    with pytest.raises(DownloadError, match=rf"cannot be fetched \(the server answers {status} .* --source FILE.zip"):
        download.download(Archive(server.url), tmp_path / "speech.zip")
    assert len(server.asked_for) == num_requests


def test_no_server_at_all(serve, tmp_path):
    server = serve()
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="refused"):
        download.download(Archive(url), tmp_path / "speech.zip")


# Unpacking


def test_an_archive_is_unpacked_whole(tmp_path):
    download.unpack(write_archive(tmp_path / "speech.zip"), tmp_path / "folder")
    unpacked = {
        path.relative_to(tmp_path / "folder").as_posix(): path.read_bytes()
        for path in (tmp_path / "folder").rglob("*.wav")
    }
    assert unpacked == MEMBERS


@pytest.mark.parametrize(
    "name", ["../out.wav", "a/../../out.wav", "/out.wav", "..\\out.wav", "\\out.wav", "C:\\out.wav", "C:out.wav"]
)
def test_a_member_that_would_land_outside_is_refused(tmp_path, name):
    archive = write_archive(tmp_path / "speech.zip", zip_bytes({**MEMBERS, name: b"x"}))
    with pytest.raises(DownloadError) as caught:
        download.unpack(archive, tmp_path / "in" / "folder")
    assert f"its member '{name}' would land outside the folder" in str(caught.value)
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
    with pytest.raises(DownloadError, match="is no zip archive, or a damaged one"):
        download.unpack(archive, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["speech.zip"]


def test_an_archive_that_the_disk_has_no_room_for(tmp_path, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmokerasError, match="make room, or set EMOKERAS_HOME"):
        download.unpack(write_archive(tmp_path / "speech.zip"), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# The command


def run(*arguments: str) -> int:
    return prepare.main(list(arguments))


def test_the_published_archive_is_fetched_checked_and_unpacked(serve, monkeypatch, capsys, home):
    server = serve(cuts=[len(ARCHIVE_BYTES) // 2])
    monkeypatch.setattr(ravdess, "ARCHIVE", Archive(server.url, len(ARCHIVE_BYTES), MD5))
    assert run("--corpus", "ravdess") == 0
    out = capsys.readouterr().out
    assert re.search(r"^clips +24$", out, re.MULTILINE)
    assert re.search(r"^speakers +3 \(1 female, 2 male\)$", out, re.MULTILINE)
    assert re.search(r"^fearful +3$", out, re.MULTILINE)
    assert "checksum" not in out
    assert prepared_path("ravdess") == home / "corpora" / "ravdess"
    assert len(load_corpus("ravdess").clips) == 24
    assert not list((home / "downloads").iterdir())
    assert len(list((home / "waveforms").iterdir())) == 1


def test_preparing_again_says_so_and_changes_nothing(tmp_path, capsys, home):
    archive = write_archive(tmp_path / "speech.zip")
    assert run("--source", str(archive)) == 0
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert "prepared already" not in capsys.readouterr().out
    assert run() == 0
    assert f"ravdess is prepared already: {home / 'corpora' / 'ravdess'} (nothing is changed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_a_wrong_checksum_is_told_before_anything_is_unpacked(serve, tmp_path, monkeypatch, capsys, home):
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


def test_an_address_without_a_checksum_says_that_it_is_not_verified(serve, capsys):
    server = serve()
    assert run("--source", server.url) == 0
    assert f"no checksum is known of {server.url}: it is not verified" in capsys.readouterr().out


def test_a_fetched_archive_that_cannot_be_unpacked_is_fetched_anew(serve, capsys, home):
    server = serve(data=b"<html>moved</html>")
    assert run("--source", server.url) == 1
    assert "no zip archive, or a damaged one" in capsys.readouterr().err
    server.data = ARCHIVE_BYTES
    assert run("--source", server.url) == 0
    assert server.asked_for == [None, None]


def test_an_unsafe_archive_is_refused(tmp_path, capsys, home):
    archive = write_archive(tmp_path / "speech.zip", zip_bytes({**MEMBERS, "../out.wav": b"x"}))
    assert run("--source", str(archive)) == 1
    assert "'../out.wav' would land outside the folder" in capsys.readouterr().err
    assert prepared_path("ravdess") is None
    assert not list(tmp_path.rglob("out.wav"))


def test_a_folder_stays_where_it_is(tmp_path, capsys, home):
    with zipfile.ZipFile(io.BytesIO(ARCHIVE_BYTES)) as archive:
        archive.extractall(tmp_path / "mine")
    assert run("--source", str(tmp_path / "mine")) == 0
    assert f"{tmp_path / 'mine'} stays where it is" in capsys.readouterr().out
    assert prepared_path("ravdess") == tmp_path / "mine"
    assert load_corpus("ravdess").clips[0].path.is_relative_to(tmp_path / "mine")
    assert run() == 0
    assert f"delete {home / 'corpora' / 'ravdess.path'} first" in capsys.readouterr().out


def test_an_archive_or_folder_of_something_else_is_refused(tmp_path, home):
    archive = write_archive(tmp_path / "speech.zip")
    with pytest.raises(CorpusError, match="does not hold EMO-DB, whose files have names like 03a01Fa"):
        prepare.prepare("emodb", str(archive))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no usable clip"):
        prepare.prepare("ravdess", str(tmp_path / "empty"))
    assert not list((home / "corpora").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ravdes",), "no corpus 'ravdes' to prepare; did you mean 'ravdess'"),
        (("demo", "x.zip"), "leave out --source and --md5"),
        (("ravdess", "none.zip"), "--source none.zip: there is no such file or folder"),
        (("ravdess", "ftp://x/y.zip"), "give an http or https address"),
        (("ravdess", None, "12"), "32 hexadecimal digits"),
        (("ravdess", ".", "0" * 32), "--source is a folder"),
    ],
)
def test_arguments_that_do_not_fit(arguments, said):
    with pytest.raises(UsageError) as caught:
        prepare.prepare(*arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://[::1", "http://localhost/Übung.zip", "http://localhost/a b.zip"])
def test_what_is_no_address_is_told_at_once(address):
    with pytest.raises(DownloadError, match="is no address") as caught:
        prepare.prepare("ravdess", address)
    assert "\n" not in str(caught.value)


def test_help_answers_without_tensorflow():
    code = (
        "import sys\nfrom emokeras import prepare\n"
        "try:\n    prepare.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "python -m emokeras.prepare --corpus ravdess" in done.stdout
