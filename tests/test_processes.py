"""Child processes: their lines, their errors, their share of the cores, and that they end with this process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from children import is_running, wait_for

from emokeras import processes
from emokeras.errors import RunError, UsageError

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a signal at the death of the parent is Linux only")
# A child that has begun when the file of its process number is there, and then waits.
WAIT = """
import os, pathlib, sys, time
path = pathlib.Path(sys.argv[1])
path.with_suffix(".part").write_text(str(os.getpid()))
path.with_suffix(".part").rename(path)
time.sleep(60)
"""


def python(code: str, *words) -> list[str]:
    return [sys.executable, "-S", "-c", code, *map(str, words)]


def number_in(path: Path) -> int:
    """Return the number of the process that has written this file, once it has."""
    wait_for(path.exists)
    return int(path.read_text())


@pytest.fixture
def interruptible(monkeypatch):
    """Let this process react to Ctrl-C, which a job in the background ignores, and not wait long for its children."""
    monkeypatch.setattr(processes, "INTERRUPT_SECONDS", 0.2)
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


# One child


def test_a_command_runs_to_its_end_with_our_output(capfd):
    assert processes.run_to_end(python("print('done')")) == 0
    assert capfd.readouterr().out == "done\n"
    assert processes.run_to_end(python("raise SystemExit(3)")) == 3
    assert processes.python("emokeras.train", "mel-cnn3") == [sys.executable, "-m", "emokeras.train", "mel-cnn3"]


def test_how_a_child_ended_is_given_in_words():
    status = processes.run_to_end(python("import os; os.kill(os.getpid(), 9)"))
    assert processes.how_ended(status) == "ended by SIGKILL"
    assert processes.how_ended(3) == "exit status 3"
    assert processes.how_ended(-63) == "ended by signal 63"  # A real-time signal, which has no name.


def test_a_child_has_more_variables_and_no_input(monkeypatch):
    monkeypatch.setenv("OURS", "1")
    code = "import os, sys; print(os.environ['OURS'], os.environ['THEIRS'], repr(sys.stdin.read()))"
    child = processes.start(python(code), {"THEIRS": "2"}, stdout=subprocess.PIPE, text=True)
    assert child.communicate()[0] == "1 2 ''\n"


def test_stop_waits_then_terminates_then_kills(monkeypatch):
    monkeypatch.setattr(processes, "TERMINATE_SECONDS", 0.5)
    codes = {
        0: "import time; print('begun', flush=True); time.sleep(0.1)",
        -signal.SIGTERM: "import time; print('begun', flush=True); time.sleep(60)",
        -signal.SIGKILL: "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('begun', flush=True); time.sleep(60)",
    }
    children = [processes.start(python(code), stdout=subprocess.PIPE) for code in codes.values()]
    for child in children:
        child.stdout.readline()
    processes.stop(children, patience_seconds=1.0)
    assert [child.returncode for child in children] == list(codes)


# Several children


def test_lines_are_passed_on_with_the_name_of_their_command():
    code = "import sys; print('one'); print(sys.argv[1], file=sys.stderr)"
    lines = []
    processes.run_side_by_side({name: python(code, f"two of {name}") for name in "ab"}, 2, lines.append)
    for name in "ab":
        assert sorted(line for line in lines if line.startswith(f"  {name}: ")) == [
            f"  {name}: one",
            f"  {name}: two of {name}",
        ]
    assert len(lines) == 4


def test_an_error_line_of_a_command_that_succeeds_is_passed_on():
    lines = []
    processes.run_side_by_side({"a": python("print('error: one clip is left out')")}, 1, lines.append)
    assert lines == ["  a: error: one clip is left out"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_run_at_the_same_time_than_allowed(at_once):
    code = "import time; print(time.monotonic()); time.sleep(0.4); print(time.monotonic())"
    lines = []
    processes.run_side_by_side({name: python(code) for name in "abc"}, at_once, lines.append)
    times = {name: [float(line.split()[1]) for line in lines if line.startswith(f"  {name}:")] for name in "abc"}
    overlaps = [sum(begin <= first < end for begin, end in times.values()) for first, _ in times.values()]
    assert max(overlaps) == at_once


@pytest.mark.parametrize(("names", "at_once", "threads"), [("abc", 2, "2"), ("ab", 9, "2"), ("a", 2, "4")])
def test_each_has_its_share_of_the_cores(monkeypatch, names, at_once, threads):
    monkeypatch.setattr(processes, "num_cores", lambda: 4)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")  # What is set stays.
    code = "import os; print(*(os.environ[f'TF_NUM_{pool}_THREADS'] for pool in ('INTRAOP', 'INTEROP')))"
    lines = []
    processes.run_side_by_side({name: python(code) for name in names}, at_once, lines.append)
    assert sorted(lines)[:2] == [f"  {name}: {threads} 7" for name in names[:2]]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("print('begun'); print('error: no clip is left', file=sys.stderr); sys.exit(1)", RunError, "no clip is left"),
        ("print('error: give another', file=sys.stderr); sys.exit(2)", UsageError, "give another"),
        ("os.kill(os.getpid(), 9)", RunError, "ended by SIGKILL; give --resume to continue the run"),
        ("sys.exit(3)", RunError, "exit status 3; give --resume to continue the run"),
    ],
)
def test_the_error_of_one_is_raised_and_ends_the_others(tmp_path, code, error, message):
    wait_and_fail = f"import os, pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): pass\n{code}"
    commands = {"good": python(WAIT, tmp_path / "good"), "bad": python(wait_and_fail, tmp_path / "good")}
    lines, begun = [], time.monotonic()
    with pytest.raises(error) as caught:
        processes.run_side_by_side({**commands, "later": python("pass")}, 2, lines.append)
    assert type(caught.value) is error
    assert str(caught.value) == f"bad: {message}"
    assert not any("error:" in line for line in lines)  # The error is raised, not printed.
    assert not is_running(number_in(tmp_path / "good"))
    assert time.monotonic() - begun < 30


# The end of this process


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
@pytest.mark.parametrize("num_children", [1, 2])
def test_sigterm_and_ctrl_c_end_the_children(interruptible, tmp_path, ending, num_children):
    handler = signal.getsignal(signal.SIGTERM)
    paths = [tmp_path / str(number) for number in range(num_children)]

    def end_this_process():
        for path in paths:
            number_in(path)
        os.kill(os.getpid(), ending)

    commands = {path.name: python(WAIT, path) for path in paths}
    run = {1: lambda: processes.run_to_end(commands["0"]), 2: lambda: processes.run_side_by_side(commands, 2, print)}
    thread = threading.Thread(target=end_this_process)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run[num_children]()
    thread.join()
    assert not any(is_running(number_in(path)) for path in paths)
    assert signal.getsignal(signal.SIGTERM) == handler


# A process whose child has two children, as a benchmark whose training has two members.
CHAIN = """
import sys
from emokeras import processes
role, code, wait, folder = sys.argv[1:]
if role == "benchmark":
    processes.run_to_end([sys.executable, "-c", code, "training", code, wait, folder])
else:
    members = {name: [sys.executable, "-S", "-c", wait, f"{folder}/{name}"] for name in "ab"}
    processes.run_side_by_side(members, 2, print)
"""


@on_linux
@pytest.mark.parametrize("role", ["training", "benchmark"])
def test_children_end_when_their_parent_is_killed(tmp_path, role):
    parent = subprocess.Popen([sys.executable, "-c", CHAIN, role, CHAIN, WAIT, str(tmp_path)])
    children = [number_in(tmp_path / name) for name in "ab"]
    assert all(is_running(child) for child in children)
    parent.kill()
    parent.wait()
    # By themselves they would wait a minute.
    wait_for(lambda: not any(is_running(child) for child in children), 30, "the end of the children")
