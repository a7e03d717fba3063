import io

import numpy as np
import pytest
from kept_runs import cells_of, keep_run, written
from rich.console import Console

from emokeras import runs
from emokeras.errors import RunError
from emokeras.recipes import RECIPES
from emokeras.reporting import screen
from emokeras.results import rows


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
    assert text.startswith("mel-resnet on ravdess, protocol random, split-0-seed-0")
    assert text.isascii()
    assert "\x1b" not in text
    assert "\x1b" in shown(lambda console: screen.print_metrics(value, console=console), force_terminal=True)


def test_the_table_after_a_benchmark(results):
    folders = [keep_run(results, count, "luna", fold=fold) for fold, count in enumerate((20, 30))]
    better = keep_run(results, 39, "luna", recipe="[better]", fold=1)
    group = [rows.read_run(folder, results) for folder in folders]
    groups = {"mel-resnet": group, "[better]": [rows.read_run(better, results)]}
    text = shown(lambda console: screen.print_benchmark(groups, console))
    title, header, first, second = text.splitlines()
    assert title.strip() == "ravdess, protocol luna"
    assert header.split("  ")[0] == "recipe"
    assert first.split()[:8] == ["[better]", "1", "of", "5", "folds", "×", "1", "seed"]
    deviation = 100 * np.std([0.5, 0.75], ddof=1)
    cells = cells_of(written(results), "mel-resnet")
    assert cells["WA %"] == f"62.5 ± {deviation:.1f}"
    columns = ("runs", "WA %", "UA %", "pooled WA % [95 %]", "F1 %", "minutes")
    assert second.split() == " ".join(["mel-resnet", *(cells[column] for column in columns)]).split()


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
