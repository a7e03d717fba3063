"""Jobs: which there are, the state of each, and what happens when a child fails or all is interrupted.

A small script stands in for training; tests/test_benchmark.py has a real one.
"""

import json
import sys
from dataclasses import replace

import pytest

from emokeras import runs
from emokeras.config import override, to_json
from emokeras.data.demo import make_demo_corpus
from emokeras.errors import CorpusError, RunError, UsageError
from emokeras.recipes import RECIPES
from emokeras.training import jobs

# It prints a line and leaves what a training leaves under results/.
STAND_IN = """
import pathlib, sys
row, settings, split_sha256 = sys.argv[1:]
print("training", pathlib.Path(row).name, flush=True)
pathlib.Path(row).mkdir(parents=True)
for name in ("metrics.json", "predictions.csv", "validation_predictions.csv"):
    (pathlib.Path(row) / name).write_text(f'{{"split_sha256": "{split_sha256}"}}')
(pathlib.Path(row) / "config.json").write_text(settings)
"""


@pytest.fixture
def plan(demo_folder, tmp_path):
    """Return a planner of jobs that run and are kept under `tmp_path`."""

    def planned(names=("mel-cnn3",), protocol="random-10fold", folds=(0, 1), seeds=(0,), corpus=demo_folder, **values):
        values = {path.replace("__", "."): value for path, value in values.items()}
        places = (tmp_path / "runs", tmp_path / "results")
        return jobs.plan_jobs(names, str(corpus), protocol, folds, seeds, values, *places)

    return planned


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """Return a demo corpus of other recordings: 2 speakers with 8 clips each."""
    folder = tmp_path_factory.mktemp("corpora") / "other"
    make_demo_corpus(folder, num_speakers=2, takes=1, seed=1)
    return folder


def stand_in(job, state):
    return [sys.executable, "-S", "-c", STAND_IN, str(job.row), to_json(job.config), job.split_sha256]


def leave(folder, config, *files, split_sha256=""):
    """Leave the configuration of a run and other files of it, which have nothing but the digest of its split."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(to_json(config), encoding="utf-8")
    for name in files:
        (folder / name).write_text(f'{{"split_sha256": "{split_sha256}"}}')


def leave_row(job, config=None):
    files = [name for name in runs.RESULT_FILES if name != "config.json"]
    leave(job.row, config or job.config, *files, split_sha256=job.split_sha256)


# The plan


def test_jobs_are_recipes_by_folds_by_seeds(plan, tmp_path, demo_folder):
    planned = plan(["mel-cnn3", "mel-resnet", "mel-cnn3"], folds=[1, 0], seeds=[0, 7, 0], training__epochs="9")
    names = [job.name for job in planned]
    runs_of_one = ["fold-1-seed-0", "fold-1-seed-7", "fold-0-seed-0", "fold-0-seed-7"]
    assert names == [f"{recipe} {run}" for recipe in ("mel-cnn3", "mel-resnet") for run in runs_of_one]
    job = planned[1]
    assert job.run_folder == tmp_path / "runs" / "mel-cnn3" / "demo-random-10fold-fold-1-seed-7"
    assert job.row == tmp_path / "results" / "demo" / "random-10fold" / "mel-cnn3" / "fold-1-seed-7"
    assert job.corpus == str(demo_folder)
    experiment = {"protocol": "random-10fold", "fold": 1, "seed": 7}
    values = {f"experiment.{key}": value for key, value in experiment.items()} | {"training.epochs": 9}
    assert job.config == override(RECIPES["mel-cnn3"].config, values)


def test_all_folds_are_planned_unless_some_are_given(plan):
    assert len(plan(folds=None)) == 10
    planned = plan(folds=None, protocol="speaker", experiment__split_seed=3)
    assert [job.row.name for job in planned] == ["split-3-seed-0"]


def test_folds_that_depend_on_the_corpus_are_all_planned(plan, demo_folder, other_folder, tmp_path):
    """A fold for each of two corpora, and for each of five speakers."""
    both = f"{demo_folder},{other_folder}"
    planned = plan(folds=None, protocol="left-out", corpus=both)
    place = tmp_path / "results" / "demo+other" / "left-out" / "mel-cnn3"
    assert [job.row for job in planned] == [place / "fold-0-seed-0", place / "fold-1-seed-0"]
    assert [job.run_folder.name for job in planned] == [f"demo+other-left-out-fold-{fold}-seed-0" for fold in (0, 1)]
    assert {job.corpus for job in planned} == {both}
    assert len({job.split_sha256 for job in planned}) == 2
    lines = []
    jobs.run_jobs(planned, say=lines.append, command=stand_in)
    assert lines[0] == "2 jobs on demo+other, protocol left-out: 1 recipe × 2 folds × 1 seed; 0 done already"
    with pytest.raises(UsageError, match="protocol 'left-out' has no fold 2: its folds are 0 to 1"):
        plan(folds=[0, 2], protocol="left-out", corpus=both)

    assert [job.row.name for job in plan(folds=None, protocol="loso")] == [f"fold-{fold}-seed-0" for fold in range(5)]
    with pytest.raises(UsageError, match="protocol 'loso' has no fold 5: its folds are 0 to 4"):
        plan(folds=[5], protocol="loso")
    with pytest.raises(CorpusError, match="'left-out' needs two corpora or more, and 'demo' is one"):
        plan(folds=None, protocol="left-out")


def test_jobs_on_mapped_emotions_have_a_row_and_splits_of_their_own(plan, demo_folder, other_folder):
    both = {"corpus": f"{demo_folder},{other_folder}", "protocol": "left-out", "folds": [0]}
    (plain,), (mapped,) = plan(**both), plan(**both, experiment__emotion_map="calm=neutral")
    assert mapped.row.parents[2].name == "demo+other-calm=neutral"
    assert mapped.config.experiment.emotion_map == ("calm=neutral",)
    assert mapped.run_folder != plain.run_folder
    command = jobs.train_command(mapped, "new")
    assert command[command.index("--set") + 1] == "experiment.emotion_map=calm=neutral"
    with pytest.raises(UsageError, match="--map calm: give two emotions"):
        plan(**both, experiment__emotion_map="calm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["mel-cnn3", "mel-cn3"]}, "there is no recipe 'mel-cn3'; did you mean 'mel-cnn3'"),
        ({"names": []}, "no recipe is given"),
        ({"folds": [0, 10]}, "protocol 'random-10fold' has no fold 10: its folds are 0 to 9"),
        ({"folds": [-1]}, "has no fold -1"),
        ({"protocol": "random", "folds": [1]}, "protocol 'random' has no fold 1: it has fold 0 only"),
        ({"folds": []}, "no fold is given"),
        ({"seeds": []}, "no seed is given"),
        ({"seeds": [0, -1]}, "seed -1 is out of range"),
        ({"seeds": [2**31]}, "seed 2147483648 is out of range"),
        ({"protocol": "lunar"}, "experiment.protocol"),
        ({"encoder__dropuot": 0}, "there is no setting 'encoder.dropuot'; did you mean 'encoder.dropout'"),
        ({"encoder__dropout": 2}, "encoders.spectrogram.dropout"),
        ({"experiment__seed": 2}, "--set experiment.seed: give --seeds instead"),
        ({"experiment__corpora": ["demo"]}, "--set experiment.corpora: give --corpus instead"),
    ],
)
def test_arguments_that_do_not_exist_are_refused(plan, arguments, message):
    with pytest.raises(UsageError, match=message):
        plan(**arguments)


def test_each_configuration_has_its_own_split_and_name(plan, tmp_path):
    """Two searches of one recipe give two configurations with one name."""
    for name, values in (("one", {"experiment.split_seed": 1}), ("two", {"model.dropout": 0.1})):
        leave(tmp_path / name, override(RECIPES["mel-cnn3"].config, values))
    one, two = (str(tmp_path / name / "config.json") for name in ("one", "two"))
    assert [job.row.name for job in plan([one, two], "random", [0])] == ["split-1-seed-0", "split-0-seed-0"]
    with pytest.raises(UsageError, match=f"{one} and mel-cnn3 are both called mel-cnn3"):
        plan([one, "mel-cnn3"], "random", [0], experiment__split_seed=1)


def test_a_corpus_that_the_protocol_cannot_split_is_refused(plan):
    with pytest.raises(CorpusError, match="luna"):
        plan(protocol="luna")
    with pytest.raises(CorpusError, match="no corpus or path"):
        plan(corpus="/no/such/folder")


def test_a_configuration_file_is_planned_as_a_recipe_is(plan, tmp_path):
    path = tmp_path / "best.json"
    path.write_text(to_json(replace(override(RECIPES["mel-cnn3"].config, {"encoder.l2": 0.5}), recipe="found")))
    (job,) = plan(names=[str(path)], folds=[0], seeds=[2])
    assert job.config.encoders["spectrogram"].l2 == 0.5
    assert job.row.parent.name == "found"
    command = jobs.train_command(job, "new")
    assert command[3:5] == ["--config", str(path)]


# The state of a job


def test_the_states_of_a_job(plan):
    (job,) = plan(folds=[0])
    assert jobs.job_state(job) == "new"
    (job.run_folder / "checkpoints").mkdir(parents=True)
    assert jobs.job_state(job) == "new"
    leave(job.run_folder, job.config)
    assert jobs.job_state(job) == "begun"
    leave(job.run_folder, job.config, "metrics.json", split_sha256=job.split_sha256)
    assert jobs.job_state(job) == "ended"
    leave(job.row, job.config, "metrics.json", split_sha256=job.split_sha256)  # killed while the figures were kept
    assert jobs.job_state(job) == "ended"
    leave_row(job)
    assert jobs.job_state(job) == "done"


@pytest.mark.parametrize("place", ["row", "run_folder"])
def test_a_run_with_other_settings_is_refused_or_ignored(plan, place):
    (job,) = plan(folds=[0])
    leave_row(job) if place == "row" else leave(job.run_folder, job.config)
    for changes, message in (
        ({"training__epochs": 3}, r"\(training.epochs is 40, here 3\): give --again"),
        ({"training__epochs": 3, "encoder__l2": 0}, r"\(encoders.spectrogram.l2 is 1e-05, here 0.0, and 1 more\)"),
        ({"experiment__split_seed": 1}, r"\(experiment.split_seed is 0, here 1\)"),
    ):
        (other,) = plan(folds=[0], **changes)
        with pytest.raises(RunError, match=message) as caught:
            jobs.job_state(other)
        assert str(getattr(job, place)) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert jobs.job_state(other, again=True) == "new"


def test_a_run_on_other_clips_is_refused_or_ignored(plan, demo_folder):
    """Two folders may have one name."""
    (job,) = plan(folds=[0])
    leave_row(job)
    other = replace(job, split_sha256="another")
    with pytest.raises(RunError, match=rf"was trained on other clips than those of {demo_folder}: give --again"):
        jobs.job_state(other)
    assert jobs.job_state(other, again=True) == "new"


def test_weights_are_compared_by_name(plan):
    """Rows under results/ have no paths."""
    (job,) = plan(folds=[0], model__weights="/a/folder/weights.h5")
    leave_row(job, override(job.config, {"model.weights": "weights.h5"}))
    assert jobs.job_state(job) == "done"
    (other,) = plan(folds=[0], model__weights="/a/folder/other.h5")
    with pytest.raises(RunError, match=r'model.weights is "weights.h5", here "/a/folder/other.h5"'):
        jobs.job_state(other)


def test_runs_that_a_network_starts_from_are_compared_by_recipe(plan, tmp_path):
    for name in ("mel-cnn3", "text-gru"):
        leave(tmp_path / name, RECIPES[name].config, "split.csv")
    branches = [str(tmp_path / name) for name in ("mel-cnn3", "text-gru")]
    (job,) = plan(["early-mel-text"], folds=[0], model__branches=branches)
    leave_row(job, override(job.config, {"model.branches": ["mel-cnn3", "text-gru"]}))
    assert jobs.job_state(job) == "done"
    (other,) = plan(["early-mel-text"], folds=[0], model__branches=branches[:1])
    with pytest.raises(RunError, match=r"model\.branches"):
        jobs.job_state(other)


def test_the_members_of_an_ensemble_are_compared_as_networks_are(plan):
    (job,) = plan(["flagship"], folds=[0], model__weights="/a/folder/weights.h5")
    leave_row(job, override(job.config, {"model.weights": "weights.h5"}))
    assert jobs.job_state(job) == "done"
    (other,) = plan(["flagship"], folds=[0], model__weights="other.h5")
    with pytest.raises(RunError, match=r"members\.mel-resnet-muon\.model\.weights"):
        jobs.job_state(other)


def test_a_run_with_a_removed_setting_is_not_taken_for_one_without(plan):
    (job,) = plan(folds=[0])
    leave_row(job)
    row = runs.read_json(job.row / "config.json")
    row["training"]["teacher"] = "flagship"
    runs.write_json(job.row / "config.json", row)
    with pytest.raises(RunError, match=r'training\.teacher is "flagship", here null'):
        jobs.job_state(job)


def test_a_network_that_starts_from_a_model_is_compared_as_it_is_trained(plan, tmp_path):
    leave(tmp_path / "start", override(RECIPES["mel-cnn3"].config, {"encoder.filters": [4]}), "model.keras")
    (job,) = plan(folds=[0], model__start_from=str(tmp_path / "start"))
    leave_row(job, override(job.config, {"encoder.filters": [4]}))
    assert jobs.job_state(job) == "done"


def test_an_earlier_row_is_replaced_by_a_run_that_has_ended_since(plan):
    (job,) = plan(folds=[0])
    leave_row(job, override(job.config, {"training.epochs": 3}))
    leave(job.run_folder, job.config, "metrics.json", split_sha256=job.split_sha256)
    assert jobs.job_state(job, again=True) == "ended"


def test_the_command_of_a_job(plan, demo_folder, tmp_path):
    (job,) = plan(folds=[1], seeds=[7], encoder__filters=[4, 8], model__weights="a b.h5")
    corpus = ["--corpus", str(demo_folder), "--results", str(tmp_path / "results")]
    run = ["mel-cnn3", "--protocol", "random-10fold", "--fold", "1", "--seed", "7", "--run-dir", str(job.run_folder)]
    settings = ["--set", "encoder.filters=[4, 8]", "--set", "model.weights=a b.h5"]
    command = [sys.executable, "-m", "emokeras.train"]
    assert jobs.train_command(job, "new") == [*command, *run, *settings, *corpus]
    for state in ("begun", "ended"):
        assert jobs.train_command(job, state) == [*command, "--resume", str(job.run_folder), *corpus]


# Running jobs


def test_only_missing_jobs_are_run(plan, capfd):
    planned = plan(["mel-cnn3", "mel-resnet"], folds=[0, 2], seeds=[0, 1])
    leave_row(planned[0])
    leave(planned[2].run_folder, planned[2].config)
    lines, ended, commands = [], [], []

    def command(job, state):
        commands.append((job.name, state))
        return stand_in(job, state)

    assert jobs.run_jobs(planned, say=lines.append, ended=lambda job: ended.append(job.name), command=command) == {}
    names = [job.name for job in planned]
    plan_line = "8 jobs on demo, protocol random-10fold: 2 recipes × 2 folds × 2 seeds; 1 done already, 1 begun"
    assert lines[0] == plan_line
    assert lines[1] == f"[1/8] mel-cnn3 fold-0-seed-0: done already, {planned[0].row}"
    assert lines[2] == f"[2/8] mel-cnn3 fold-0-seed-1: begins in {planned[1].run_folder}"
    assert lines[3] == f"[3/8] mel-cnn3 fold-2-seed-0: continues in {planned[2].run_folder}"
    assert len(lines) == 9
    assert ended == names[1:]
    assert commands == [(name, "begun" if name == names[2] else "new") for name in names[1:]]
    assert capfd.readouterr().out.splitlines() == [f"training {job.row.name}" for job in planned[1:]]
    # The same jobs again.
    lines.clear()
    assert jobs.run_jobs(planned, say=lines.append, command=lambda job, state: pytest.fail("nothing is missing")) == {}
    assert lines[0].endswith("; 8 done already")


def test_the_plan_of_one_job_is_in_the_singular(plan):
    lines = []
    jobs.run_jobs(plan(protocol="speaker", folds=None), say=lines.append, command=stand_in)
    assert lines[0] == "1 job on demo, protocol speaker: 1 recipe × 1 seed; 0 done already"


def test_a_job_that_fails_does_not_stop_the_others(plan):
    planned = plan(folds=[0, 1, 2])
    failures = {planned[0].name: "sys.exit(3)", planned[1].name: "os.kill(os.getpid(), 9)"}

    def command(job, state):
        code = failures.get(job.name)
        return [sys.executable, "-S", "-c", f"import os, sys; {code}"] if code else stand_in(job, state)

    lines, ended = [], []
    failed = jobs.run_jobs(planned, say=lines.append, ended=ended.append, command=command)
    assert failed == {planned[0].name: "exit status 3", planned[1].name: "ended by SIGKILL"}
    assert "[1/3] mel-cnn3 fold-0-seed-0: failed, exit status 3; its messages are above" in lines
    assert ended == planned[2:]
    assert [jobs.job_state(job) for job in planned] == ["new", "new", "done"]


def test_a_run_with_other_settings_stops_all_before_anything_is_trained(plan):
    planned = plan(folds=[0, 1])
    leave_row(planned[1], override(planned[1].config, {"training.epochs": 3}))
    with pytest.raises(RunError, match="fold-1-seed-0 was trained with other settings"):
        jobs.run_jobs(planned, command=lambda job, state: pytest.fail("nothing may be trained"))


def test_the_folder_of_a_run_with_other_settings_is_renamed(plan):
    (job,) = plan(folds=[0])
    for _ in range(2):
        leave(job.run_folder, override(job.config, {"training.epochs": 3}), "metrics.json")
        lines = []
        assert jobs.run_jobs([job], again=True, say=lines.append, command=stand_in) == {}
        assert not job.run_folder.exists()
        for path in job.row.iterdir():
            path.unlink()
        job.row.rmdir()
    aside = [job.run_folder.with_name(f"{job.run_folder.name}-aside-{number}") for number in (1, 2)]
    assert all(json.loads((folder / "config.json").read_text())["training"]["epochs"] == 3 for folder in aside)
    assert f"{job.run_folder} was renamed to {aside[1].name}" in lines


def test_an_interrupt_is_passed_on_after_the_count_of_the_jobs_done(plan, monkeypatch):
    def interrupt(words):
        raise KeyboardInterrupt

    planned, lines = plan(folds=[0, 1, 2]), []
    leave_row(planned[0])
    monkeypatch.setattr(jobs, "run_to_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        jobs.run_jobs(planned, say=lines.append)
    assert lines[-1] == "\n1 of 3 jobs are done; give the same command again to continue"
