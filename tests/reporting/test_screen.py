"""The tables that the commands print."""

import io

import numpy as np
import pytest
from kept_runs import keep_run
from rich.console import Console

from emokeras import runs
from emokeras.errors import RunError
from emokeras.recipes import RECIPES
from emokeras.reporting import screen
from emokeras.results import rows, tables


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def shown(work, **options):
    console = Console(file=io.StringIO(), width=100, **options)
    work(console)
    return console.file.getvalue()


def test_the_table_after_training(results):
    folder = keep_run(results, 30)
    value = runs.read_metrics(folder)
    value["test"]["per_emotion"]["sad"] = {"precision": None, "recall": None, "f1": None, "support": 0}
    text = shown(lambda console: screen.print_metrics(value, console=console))
    lines = [line.split() for line in text.splitlines()]
    low, high = (f"{100 * bound:.1f}" for bound in value["test"]["accuracy_ci95"])
    interval = ["75.0", f"[{low},", f"{high}]"]
    assert ["accuracy", "(WA)", "%", *interval, *interval] in lines
    assert ["sad", "-", "-", "-", "0"] in lines
    neutral = value["test"]["per_emotion"]["neutral"]
    figures = [f"{100 * neutral[key]:.1f}" for key in ("precision", "recall", "f1")]
    assert ["neutral", *figures, "10"] in lines
    assert text.startswith("mel-resnet on ravdess, protocol random, split 0, seed 0")
    assert text.isascii()
    assert "\x1b" not in text
    assert "\x1b" in shown(lambda console: screen.print_metrics(value, console=console), force_terminal=True)


def test_a_subset_of_few_whole_speakers_has_their_range_and_their_figures(results):
    value = runs.read_metrics(keep_run(results, 30, "luna"))
    assert value["test"]["accuracy_ci95"] is None
    text = shown(lambda console: screen.print_metrics(value, console=console))
    assert text.startswith("mel-resnet on ravdess, protocol luna, fold 0, seed 0")
    lines = [line.split() for line in text.splitlines()]
    assert ["accuracy", "(WA)", "%", *(["75.0", "(50.0", "to", "100.0", "over", "5", "speakers)"] * 2)] in lines
    assert ["fold-0-speaker-2", "75.0", "75.0", "8"] in lines


def test_the_table_after_a_benchmark(results):
    for fold, count in enumerate((20, 30)):
        keep_run(results, count, "luna", fold=fold)
    for fold in range(5):
        keep_run(results, 10, "luna", recipe="[whole]", fold=fold)
    groups = rows.read_rows(results)["ravdess"]["luna"]
    text = shown(lambda console: screen.print_benchmark("ravdess, [luna]", tables.benchmark_rows(groups), console))
    title, header, first, second = text.splitlines()
    assert title.strip() == "ravdess, [luna]"
    assert header.split() == " ".join(tables.BENCHMARK_COLUMNS).split()
    assert first.split()[:6] == ["[whole]", "5", "folds", "×", "1", "seed"]  # although less accurate
    deviation = 100 * np.std([0.5, 0.75], ddof=1)
    row = tables.recipe_row(groups["mel-resnet"])
    assert row["WA %"] == f"62.5 ± {deviation:.1f}"
    cells = [row[column] for column in tables.BENCHMARK_COLUMNS[1:]]
    assert second.split() == " ".join(["mel-resnet", *cells]).split()


def test_the_table_of_conditions():
    def figures(accuracy, **more):
        own = {"accuracy": accuracy, "balanced_accuracy": accuracy, "expected_calibration_error": 0.25}
        own |= {"cross_entropy": 1.5, "per_emotion": {"sad": {"support": 7}}, "same_as_clean": 1.0}
        return own | {"by_sex": {"female": {"balanced_accuracy": 0.5}}} | more

    scores = {"clean": figures(0.75), "babble-5": figures(0.5)}
    lines = shown(lambda console: screen.print_conditions("on [emovo]", scores, console)).splitlines()
    assert lines[0].strip() == "on [emovo]"
    assert lines[-1].split() == ["babble-5", "7", "50.0", "50.0", "50.0", "-", "25.0", "1.500", "100.0"]
    among = {"among_corpus_emotions": {"balanced_accuracy": 0.9}, "among_common_emotions": None}
    scores = {"clean": figures(0.75, **among)}
    lines = shown(lambda console: screen.print_conditions("on emovo", scores, console)).splitlines()
    assert "common" in lines[1] + lines[2]
    assert lines[-1].split()[-3:] == ["100.0", "90.0", "-"]


def test_predictions_of_several_emotions_and_of_one():
    several = {"file": "a.wav", "probabilities": {"calm": 0.2, "sad": 0.7, "angry": 0.1}, "remark": ""}
    one = {"file": "[b].wav", "probabilities": {"calm": 1.0}, "remark": "noisy: the speech is 4 dB above the noise"}
    none = {"file": "c.wav", "probabilities": None, "remark": "no speech found"}
    lines = shown(lambda console: screen.print_predictions([several, one, none], console)).splitlines()
    assert [line.split() for line in lines[-5:-2]] == [
        ["a.wav", "sad", "70.0", "calm", "20.0"],
        ["[b].wav", "calm", "100.0"],
        ["c.wav", "none"],
    ]
    assert lines[-2:] == ["[b].wav: noisy: the speech is 4 dB above the noise", "c.wav: no speech found"]


def test_a_subset_alone_or_missing(results):
    value = {"validation": runs.read_metrics(keep_run(results, 30))["validation"]}
    text = shown(lambda console: screen.print_metrics(value, "validation", console))
    assert "validation, by emotion" in text
    assert "test" not in text
    with pytest.raises(RunError, match="no subset 'test', only validation"):
        screen.print_metrics(value)


def test_the_list_of_recipes():
    text = shown(screen.print_recipes)
    for name, recipe in RECIPES.items():
        assert name in text
        assert set(recipe.reported.split()) <= set(text.split())
