"""The benchmark command: its children, RESULTS.md, what it refuses, and that it goes on after a kill."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import tiny_arguments

from emokeras import benchmark, commandline, runs

ROOT = Path(__file__).parents[1]


def arguments_of(demo_folder, folder, *more, protocol="speaker"):
    """Return the arguments of a benchmark of the shrunken mel-cnn3 whose files lie under `folder`."""
    places = ["--corpus", str(demo_folder), "--runs-dir", str(folder / "runs"), "--results", str(folder / "results")]
    return ["mel-cnn3", "--protocol", protocol, *places, *tiny_arguments(), *more]


def percent(share):
    return f"{100 * share:.1f}"


def cells_of(folder, recipe="mel-cnn3"):
    """Return the cells of the recipe's only row in RESULTS.md, by the names of the columns."""
    lines = (folder / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith(("| recipe", f"| `{recipe}`"))]
    header, row = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in rows)
    return dict(zip(header, row, strict=True))


def test_figures_of_ended_runs_are_kept_by_children(trained_run, demo_folder, tmp_path, capfd):
    """One of the two ended runs has lost a file: its child fails, the other's turn comes all the same."""
    folders = {seed: tmp_path / "runs" / "mel-cnn3" / f"demo-speaker-split-0-seed-{seed}" for seed in (0, 1)}
    for folder in folders.values():
        shutil.copytree(trained_run, folder)
    (folders[1] / "predictions.csv").unlink()
    assert benchmark.main(arguments_of(demo_folder, tmp_path, "--seeds", "1,0")) == 1
    output, errors = capfd.readouterr()
    lines = output.splitlines()
    assert lines[0] == "2 jobs on demo, protocol speaker: 1 recipe × 2 seeds; 0 done already, 2 begun"
    assert f"{folders[0]} has ended already; nothing to train" in lines
    assert "[1/2] mel-cnn3 split-0-seed-1: failed, exit status 1; what it said stands above" in lines
    of_child, of_benchmark = errors.splitlines()
    assert of_child.startswith(f"error: {folders[1]} lacks predictions.csv")
    assert of_benchmark.startswith("error: 1 of 2 jobs failed: mel-cnn3 split-0-seed-1 (exit status 1)")

    row = tmp_path / "results" / "demo" / "speaker" / "mel-cnn3" / "split-0-seed-0"
    assert {path.name for path in row.iterdir()} == set(runs.RESULT_FILES)
    assert (row / "predictions.csv").read_bytes() == (trained_run / "predictions.csv").read_bytes()
    figures = runs.read_metrics(trained_run)
    cells = cells_of(tmp_path)
    assert (cells["runs"], cells["test clips"]) == ("1 seed", "8")
    assert cells["WA %"] == percent(figures["test"]["accuracy"])
    assert cells["CPU-minutes"] == f"{figures['train_cpu_seconds'] / 60:.1f}"
    summary = lines[-1].split()
    assert summary[:5] == ["mel-cnn3", "1", "seed", cells["WA %"], cells["UA %"]]
    assert summary[-2:] == [cells["F1 %"], cells["minutes"]]

    # What is done is not done again; other settings are refused, and nothing is touched.
    written = (row / "metrics.json").stat().st_mtime_ns
    assert benchmark.main(arguments_of(demo_folder, tmp_path)) == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    assert output.splitlines()[0] == "1 job on demo, protocol speaker: 1 recipe × 1 seed; 1 done already"
    assert output.splitlines()[1] == f"[1/1] mel-cnn3 split-0-seed-0: done already, {row}"
    assert benchmark.main(arguments_of(demo_folder, tmp_path, "--set", "training.epochs=4")) == 1
    assert "training.epochs is 3, here 4" in capfd.readouterr().err
    assert (row / "metrics.json").stat().st_mtime_ns == written


def test_the_function_returns_what_was_measured(trained_run, demo_folder, tmp_path):
    row = runs.keep_results(trained_run, tmp_path / "results")
    values = commandline.parse_settings(tiny_arguments()[1::2])
    places = {"corpus": str(demo_folder), "results": tmp_path / "results", "output": tmp_path / "page.md"}
    told = []
    measured, problems = benchmark.benchmark(["mel-cnn3"], "speaker", values=values, say=told.append, **places)
    assert [run.folder for run in measured["mel-cnn3"]] == [row]
    assert measured["mel-cnn3"][0].metrics == runs.read_metrics(trained_run)
    assert problems == []
    assert told[-1] == f"figures are kept in {tmp_path / 'results'}, their tables in {tmp_path / 'page.md'}"
    assert "| `mel-cnn3` |" in (tmp_path / "page.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"results", "page.md"}


def test_a_page_that_cannot_be_written_is_told_at_the_end(trained_run, demo_folder, tmp_path, capfd):
    runs.keep_results(trained_run, tmp_path / "results")
    (tmp_path / "results" / "demo" / "speaker" / "other" / "split-0-seed-0").mkdir(parents=True)
    assert benchmark.main(arguments_of(demo_folder, tmp_path)) == 1
    output, errors = capfd.readouterr()
    assert errors.startswith(f"error: {tmp_path / 'RESULTS.md'} is not written: {tmp_path / 'results'}")
    assert len(errors.splitlines()) == 1
    assert output.splitlines()[-1].startswith("mel-cnn3  1 seed")  # the summary is shown all the same


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["mel-cnn3", "mel-cn3"], 2, "there is no recipe 'mel-cn3'; did you mean 'mel-cnn3'?"),
        (["mel-cnn3", "--folds", "0,5"], 2, "protocol 'luna' has no fold 5: its folds are 0 to 4"),
        (["mel-cnn3", "--folds", "all"], 2, "--folds all: write whole numbers with commas between"),
        (["mel-cnn3", "--seeds", "0,"], 2, "--seeds 0,: write whole numbers"),
        (["mel-cnn3", "--seeds=-1"], 2, "seed -1 is out of range"),
        (["mel-cnn3", "--set", "encoder.dropuot=0.1"], 2, "did you mean 'encoder.dropout'?"),
        (["mel-cnn3", "--set", "training.epochs"], 2, "section.key=value"),
        (["mel-cnn3", "--set", "experiment.fold=1"], 2, "give --folds instead"),
        (["mel-cnn3", "--corpus", "/no/such/folder"], 1, "/no/such/folder"),
        (["mel-cnn3", "--corpus", "DEMO"], 1, "luna"),  # 5 speakers, not RAVDESS's 24
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, status, message, demo_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(demo_folder) if argument == "DEMO" else argument for argument in arguments]
    assert benchmark.main([*arguments, "--protocol", "luna"]) == status
    output, errors = capsys.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert errors.startswith("error: ")
    assert message in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["mel-cnn3"], ["mel-cnn3", "--protocol", "lunar"], ["--protocol", "luna"]])
def test_recipes_and_a_protocol_must_be_named(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(arguments)
    assert caught.value.code == 2
    assert "protocol" in capsys.readouterr().err


def running(word):
    """Return the command lines of running processes that name `word`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # It has ended.
            continue
        if any(word in part for part in words):
            lines.append(words)
    return lines


@pytest.mark.slow
def test_a_killed_benchmark_goes_on_with_what_is_missing(demo_folder, tmp_path, capfd):
    arguments = arguments_of(demo_folder, tmp_path, "--seeds", "0,1", "--set", "training.epochs=6")
    process = subprocess.Popen([sys.executable, "-m", "emokeras.benchmark", *arguments], cwd=ROOT)
    folders = [tmp_path / "runs" / "mel-cnn3" / f"demo-speaker-split-0-seed-{seed}" for seed in (0, 1)]
    rows = [tmp_path / "results" / "demo" / "speaker" / "mel-cnn3" / f"split-0-seed-{seed}" for seed in (0, 1)]
    history = folders[1] / "history.csv"
    deadline = time.monotonic() + 600
    try:
        while not (history.exists() and len(runs.read_history(history)) >= 2):
            assert process.poll() is None, "the benchmark ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not (folders[1] / "metrics.json").exists()
    finally:
        process.kill()
        process.wait()
    if sys.platform == "linux":
        while running(str(folders[1])):
            assert time.monotonic() < deadline, "the child goes on without the benchmark"
            time.sleep(0.02)
    assert not (folders[1] / "metrics.json").exists()
    assert cells_of(tmp_path)["runs"] == "1 seed"  # RESULTS.md was written after the first job
    first = {name: (rows[0] / name).stat().st_mtime_ns for name in runs.RESULT_FILES}
    num_epochs = len(runs.read_history(history))
    capfd.readouterr()

    assert benchmark.main(arguments) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "2 jobs on demo, protocol speaker: 1 recipe × 2 seeds; 1 done already, 1 begun"
    assert f"[1/2] mel-cnn3 split-0-seed-0: done already, {rows[0]}" in lines
    assert f"[2/2] mel-cnn3 split-0-seed-1: goes on in {folders[1]}" in lines
    assert any(line.startswith("going on after epoch ") and int(line.split()[-1]) >= num_epochs - 1 for line in lines)
    assert {name: (rows[0] / name).stat().st_mtime_ns for name in runs.RESULT_FILES} == first
    assert [row["epoch"] for row in runs.read_history(history)] == [1, 2, 3, 4, 5, 6]
    figures = [runs.read_metrics(row) for row in rows]
    assert [row["seed"] for row in figures] == [0, 1]
    assert figures[1] == runs.read_metrics(folders[1])
    assert figures[0]["validation"] != figures[1]["validation"]
    cells = cells_of(tmp_path)
    assert cells["runs"] == "2 seeds"
    assert cells["WA %"].split(" ± ")[0] == percent(sum(row["test"]["accuracy"] for row in figures) / 2)
    assert lines[-1].startswith("mel-cnn3  2 seeds")
    commands = (tmp_path / "RESULTS.md").read_text().split("```bash\n")[1].splitlines()[:2]
    assert all(f"--seed {seed} --set" in command for seed, command in enumerate(commands))
