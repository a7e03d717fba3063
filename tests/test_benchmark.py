"""The benchmark command: its children, the pages it writes, what it refuses, and that it continues after a kill."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from children import children_of, is_running, wait_for
from conftest import tiny_arguments

from emokeras import benchmark, commandline, runs
from emokeras.config import override, read_config, to_json
from emokeras.files import write_text

ROOT = Path(__file__).parents[1]


def arguments_of(demo_folder, folder, *more, protocol="speaker"):
    """Return the arguments of a benchmark of the shrunken mel-cnn3 that keeps its files under `folder`."""
    places = ["--corpus", str(demo_folder), "--runs-dir", str(folder / "runs"), "--results", str(folder / "results")]
    return ["mel-cnn3", "--protocol", protocol, *places, *tiny_arguments(), *more]


def percent(share):
    return f"{100 * share:.1f}"


def cells_of(folder, recipe="mel-cnn3"):
    """Return the cells of the recipe's row on the page of the protocol speaker, by column."""
    lines = (folder / "results" / "speaker.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith(("| recipe", f"| `{recipe}`"))]
    header, row = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in rows)
    return dict(zip(header, row, strict=True))


def test_figures_of_ended_runs_are_kept_by_children(trained_run, demo_folder, tmp_path, capfd):
    """One of the two ended runs has lost a file: its child fails, and the other one is kept all the same."""
    folders = {seed: tmp_path / "runs" / "mel-cnn3" / f"demo-speaker-split-0-seed-{seed}" for seed in (0, 1)}
    for folder in folders.values():
        shutil.copytree(trained_run, folder)
    (folders[1] / "predictions.csv").unlink()
    assert benchmark.main(arguments_of(demo_folder, tmp_path, "--seeds", "1,0")) == 1
    output, errors = capfd.readouterr()
    lines = output.splitlines()
    assert lines[0] == "2 jobs on demo, protocol speaker: 1 recipe × 2 seeds; 0 done already, 2 begun"
    assert f"{folders[0]} has ended already; there is nothing to train" in lines
    assert "[1/2] mel-cnn3 split-0-seed-1: failed, exit status 1; its messages are above" in lines
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

    # It is not done again, and a run with other settings is refused without a change.
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
    lines = []
    measured, problems = benchmark.benchmark(["mel-cnn3"], "speaker", values=values, say=lines.append, **places)
    assert [run.folder for run in measured["mel-cnn3"]] == [row]
    assert measured["mel-cnn3"][0].metrics == runs.read_metrics(trained_run)
    assert problems == []
    assert lines[-1] == f"figures are kept in {tmp_path / 'results'}, tables in {tmp_path / 'page.md'}"
    assert "](results/speaker.md)" in (tmp_path / "page.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"results", "page.md"}


def test_a_page_that_cannot_be_written_is_an_error_at_the_end(trained_run, demo_folder, tmp_path, capfd):
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


@pytest.mark.slow
def test_a_killed_benchmark_continues_with_what_is_missing(trained_run, demo_folder, tmp_path, capfd):
    """Seed 0 has been trained. Seed 1 is trained for real, and killed with the benchmark."""
    arguments = arguments_of(demo_folder, tmp_path, "--seeds", "0,1", "--set", "training.epochs=6")
    done = shutil.copytree(trained_run, tmp_path / "done")
    write_text(done / "config.json", to_json(override(read_config(done / "config.json"), {"training.epochs": 6})))
    row = runs.keep_results(done, tmp_path / "results")
    kept = {name: (row / name).stat().st_mtime_ns for name in runs.RESULT_FILES}
    folder = tmp_path / "runs" / "mel-cnn3" / "demo-speaker-split-0-seed-1"
    history = folder / "history.csv"

    process = subprocess.Popen([sys.executable, "-m", "emokeras.benchmark", *arguments], cwd=ROOT)
    try:
        wait_for(lambda: (history.exists() and len(runs.read_history(history)) >= 2) or process.poll() is not None, 400)
        assert process.poll() is None, "the benchmark ended before it could be killed"
        children = children_of(process.pid)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(map(is_running, children)), what="the end of the training")
    assert not (folder / "metrics.json").exists()
    num_epochs = len(runs.read_history(history))
    capfd.readouterr()

    assert benchmark.main(arguments) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "2 jobs on demo, protocol speaker: 1 recipe × 2 seeds; 1 done already, 1 begun"
    assert f"[1/2] mel-cnn3 split-0-seed-0: done already, {row}" in lines
    assert f"[2/2] mel-cnn3 split-0-seed-1: continues in {folder}" in lines
    (epoch,) = (int(line.split()[-1]) for line in lines if line.startswith("continues after epoch "))
    assert epoch >= num_epochs - 1
    assert {name: (row / name).stat().st_mtime_ns for name in runs.RESULT_FILES} == kept
    assert [row["epoch"] for row in runs.read_history(history)] == [1, 2, 3, 4, 5, 6]
    figures = [runs.read_metrics(each) for each in (row, row.with_name("split-0-seed-1"))]
    assert figures[1] == runs.read_metrics(folder)
    assert figures[0]["validation"] != figures[1]["validation"]
    cells = cells_of(tmp_path)
    assert cells["runs"] == "2 seeds"
    assert cells["WA %"].split(" ± ")[0] == percent(sum(each["test"]["accuracy"] for each in figures) / 2)
    assert lines[-1].startswith("mel-cnn3  2 seeds")
