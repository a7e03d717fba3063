"""Files: the cache folder, writes that a kill cannot tear, CSV, and locks between processes."""

import os
import signal
import subprocess
import sys

import pytest
from children import wait_for

from emokeras.errors import CorpusError, RunError
from emokeras.files import home, locked, parse_csv, replacing, write_csv, write_text


def test_home_is_the_folder_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("EMOKERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert home() == tmp_path / "me" / ".cache" / "emokeras"


# Writing in one step


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path  # A rename within one folder is one step.
            assert temporary.suffix == ".keras"
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_folder_is_written_in_one_step(tmp_path):
    path = tmp_path / "member"
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "config.json").write_text("{}")
        assert not path.exists()
        inode = temporary.stat().st_ino
    assert path.stat().st_ino == inode  # It was renamed, not copied.
    assert (path / "config.json").read_text() == "{}"
    assert os.listdir(tmp_path) == ["member"]


def test_text_replaces_a_file_as_utf_8_with_its_line_ends(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("old")
    old = path.stat().st_ino
    write_text(path, "é\r\nb\n")
    assert path.read_bytes() == "é\r\nb\n".encode()
    assert path.stat().st_ino != old  # The old file was not written over.


# CSV


def test_csv_round_trip(tmp_path):
    path = tmp_path / "table.csv"
    rows = [["a, b", 'the "odd"'], ["two\nlines", "ü"], ["", "1.5"]]
    write_csv(path, ["clip", "emotion"], rows)
    text = path.read_text(encoding="utf-8")
    assert text == 'clip,emotion\n"a, b","the ""odd"""\n"two\nlines",ü\n,1.5\n'
    assert parse_csv(text, path, "mend it") == (["clip", "emotion"], rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n3,4", "ends in the middle of a line"),
        ("a,b\n1,2\n3\n", "line 3: 1 columns, the header has 2"),
        ("a,b\n1,2,3\n", "line 2: 3 columns, the header has 2"),
        ('a,b\n"1,2\n', "is not CSV"),
    ],
)
def test_damaged_csv_is_refused_in_one_line(text, message):
    for error in (RunError, CorpusError):
        with pytest.raises(error, match=message) as caught:
            parse_csv(text, "x/table.csv", "restore it", error)
        assert str(caught.value).startswith("x/table.csv")
        assert str(caught.value).endswith(": restore it")
        assert "\n" not in str(caught.value)


def test_a_torn_last_line_can_be_dropped():
    for torn in ("3,4", "3,", "3", ""):  # The first looks like a whole row.
        assert parse_csv(f"a,b\n1,2\n{torn}", "table", "", drop_torn_line=True) == (["a", "b"], [["1", "2"]])
    assert parse_csv("a,", "table", "", drop_torn_line=True) == ([], [])
    assert parse_csv("", "table", "", drop_torn_line=True) == ([], [])


# Locks

HOLD = """
import sys, time
from emokeras.errors import RunError
from emokeras.files import locked
try:
    with locked(sys.argv[1], "in use by another process"):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except RunError as error:
    print(error)
"""


def other_process(path, seconds):
    """Start a process that holds the lock for a while, or prints why it cannot."""
    return subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)


def test_a_lock_is_held_by_one_process(tmp_path):
    path = tmp_path / "lock"
    with locked(path, ""):
        assert other_process(path, 0).communicate()[0] == "in use by another process\n"
    assert other_process(path, 0).communicate()[0] == "held\n"
    assert not os.listdir(tmp_path)


def test_a_killed_process_holds_no_lock(tmp_path):
    path = tmp_path / "lock"
    holder = other_process(path, 60)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="held elsewhere"), locked(path, "held elsewhere"):
        pytest.fail("the other process holds it")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    wait_for(lambda: other_process(path, 0).communicate()[0] == "held\n")
