"""Rows of other corpora and of conditions, and the page that is written from them."""

import json

import numpy as np
import pytest
from kept_runs import keep_row, keep_run

from emokeras import runs
from emokeras.errors import RunError
from emokeras.results import pages
from emokeras.results.generalization import read_conditions
from emokeras.results.rows import read_rows


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def page(results):
    """Write the pages beside a run's own row, and return this one."""
    keep_run(results, 30)
    pages.write_results(results, results.parent / "RESULTS.md")
    return (results / "generalization.md").read_text(encoding="utf-8")


def cells(text, heading, condition):
    """Return the cells of a condition's line in the table under a heading, without the condition."""
    table = text.split(f"\n{heading}\n")[1].split("\n#")[0]
    (line,) = (line for line in table.splitlines() if line.startswith((f"| {condition} |", f"| {condition} †")))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_rows_are_beside_the_run_by_corpus_and_condition(results):
    folder = keep_row(results, 30, "telephone", fold=2)
    assert folder == results / "ravdess" / "luna" / "mel-resnet" / "fold-2-seed-0" / "on" / "emovo" / "telephone"
    (row,) = read_conditions(results)["emovo"]
    assert row.test["balanced_accuracy"] == 0.75
    assert row.test["among_corpus_emotions"]["balanced_accuracy"] == 1.0
    assert row.run == (2, 0, 0)
    keep_run(results, 30)
    assert [*read_rows(results)["ravdess"]] == ["random"]  # the run itself has not been kept


def test_a_cell_is_the_mean_over_folds_and_the_difference_to_clean(results):
    for fold, (clean, noisy) in enumerate(((32, 20), (40, 24))):
        keep_row(results, clean, fold=fold)
        keep_row(results, noisy, "babble-5", fold=fold)
        keep_row(results, noisy, "lost-packets", fold=fold)
    text = page(results)
    deviation = 100 * np.std([0.8, 1.0], ddof=1)
    assert cells(text, "### UA %", "clean") == [f"90.0 ± {deviation:.1f}"]
    assert cells(text, "### UA %", "babble-5") == [f"55.0 ± {100 * np.std([0.5, 0.6], ddof=1):.1f} (-35.0)"]
    assert cells(text, "### UA % among the common four", "babble-5") == ["100.0 ± 0.0 (+0.0)"]
    assert "| lost-packets † |" in text
    assert "| condition | `mel-resnet` (ravdess, luna, 2 of 5 folds) |" in text
    assert "40 test clips of 5 speakers." in text
    errors = [
        [row.test["expected_calibration_error"] for row in read_conditions(results)["emovo"]][i::3] for i in (1, 0)
    ]
    change = 100 * np.mean(np.subtract(errors[1], errors[0]))
    assert f"({change:+.1f})" in cells(text, "### Calibration error %", "babble-5")[0]


def test_folds_that_depend_on_the_corpus_are_those_of_the_run(results):
    for fold in range(2):
        keep_row(results, 20, protocol="left-out", fold=fold, num_folds=2)
        keep_row(results, 20, protocol="loso", fold=fold, num_folds=24)
        keep_row(results, 20, protocol="loso", recipe="mel-cnn3", fold=fold)  # an export does not say
    text = page(results)
    assert "`mel-resnet` (ravdess, left-out, 2 folds)" in text
    assert "`mel-resnet` (ravdess, loso, 2 of 24 folds)" in text
    assert "`mel-cnn3` (ravdess, loso, 2 runs)" in text


def test_recipes_are_columns_and_conditions_keep_their_order(results):
    for recipe in ("mel-resnet", "mel-cnn3"):
        keep_row(results, 20, recipe=recipe)
    keep_row(results, 20, "opus", recipe="mel-cnn3")
    keep_row(results, 20, "telephone", recipe="mel-cnn3")
    keep_row(results, 20, test_corpus="ravdess")
    text = page(results)
    assert text.index("## On ravdess") < text.index("## On emovo")
    table = text.split("## On emovo")[1]
    assert "`mel-cnn3` (ravdess, luna, 1 of 5 folds) | `mel-resnet`" in table
    assert cells(table, "### UA %", "opus") == ["50.0 (+0.0)", "–"]
    assert table.index("| clean |") < table.index("| telephone |") < table.index("| opus |")


def test_a_model_of_all_clips_has_rows_without_a_row_of_its_own(results):
    keep_row(results, 20, protocol="all")
    assert "`mel-resnet` (ravdess, all, 1 run)" in page(results)
    assert not (results / "all.md").exists()


def test_the_page_is_linked_where_there_is_one(results):
    keep_run(results, 30)
    pages.write_results(results, results.parent / "RESULTS.md")
    assert "generalization" not in (results.parent / "RESULTS.md").read_text()
    assert not (results / "generalization.md").exists()
    keep_row(results, 20)
    page(results)
    assert "[generalization](results/generalization.md)" in (results.parent / "RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["test", "balanced_accuracy"], 0.9, "balanced_accuracy of test is 0.9 in metrics.json, but 0.5"),
        (
            ["test", "among_common_emotions", "balanced_accuracy"],
            0.9,
            "among_common_emotions has balanced_accuracy 0.9 in metrics.json, but 1",
        ),
        (["num_test"], 41, "num_test of test is 41 in metrics.json, but 40"),
        (["condition"], "opus", "belongs in"),
        (["test_corpus"], "nemo", "belongs in"),
    ],
)
def test_rows_that_do_not_agree_are_refused(results, path, value, message):
    folder = keep_row(results, 20, "mp3")
    tree = runs.read_metrics(folder)
    part = tree
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (folder / "metrics.json").write_text(json.dumps(tree))
    with pytest.raises(RunError, match=message) as caught:
        read_conditions(results)
    assert str(folder) in str(caught.value)


def test_a_condition_that_there_is_not_is_refused(results):
    keep_row(results, 20, "underwater")
    with pytest.raises(RunError, match="there is no condition 'underwater'"):
        read_conditions(results)
