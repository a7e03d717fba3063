"""RESULTS.md and the pages of the protocols."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from kept_runs import cells_of, keep_run, written

from emokeras.data.splits import PROTOCOLS
from emokeras.recipes import RECIPES
from emokeras.results import overview, pages, published, selection
from emokeras.results.rows import read_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def section(text, heading):
    """Return the part of a page under a heading, up to the next of its level or above."""
    level = heading.partition(" ")[0]
    return re.split(rf"\n#{{1,{len(level)}}} ", text.split(f"\n{heading}\n")[1])[0]


def keep_main_recipes(results):
    """Keep the main recipes on `random` and on all folds of `luna`, with known counts."""
    counts = {"mel-resnet": (30, 20), "weighted-mel-mfcc": (34, 26), "flagship": (38, 24)}
    for recipe, (known, new) in counts.items():
        keep_run(results, known, recipe=recipe)
        for fold in range(5):
            keep_run(results, new + 6 * (fold == 0 and recipe == "flagship"), "luna", recipe=recipe, fold=fold)


def test_the_committed_pages_are_those_of_the_committed_rows(tmp_path):
    """Otherwise run `python -m emokeras.results.pages`."""
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results", results)
    (tmp_path / "docs").mkdir()
    pages.write_results(results, tmp_path / "RESULTS.md")
    assert (tmp_path / "RESULTS.md").read_text() == (ROOT / "RESULTS.md").read_text()
    names = sorted(path.name for path in results.glob("*.md"))
    assert names == sorted(path.name for path in (ROOT / "results").glob("*.md"))
    for name in names:
        assert (results / name).read_text() == (ROOT / "results" / name).read_text(), name


def test_the_overview_fits_on_one_screen():
    assert len((ROOT / "RESULTS.md").read_text().splitlines()) <= 60


def test_the_overview_has_the_main_recipes_under_each_protocol(results):
    keep_main_recipes(results)
    keep_run(results, 40, recipe="mel-cnn3")
    keep_run(results, 40, "speaker", corpus="demo", recipe="flagship")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in written(results).splitlines()]
    table = [row for row in rows if len(row) == 8]
    recipes = ["`mel-resnet`", "`weighted-mel-mfcc`", "`flagship`", "`flagship-speech`, pretrained"]
    assert table[0][:6] == ["protocol", "figure", *recipes]
    assert [row[0] for row in table[2::3]] == ["ravdess, `random`: known speakers", "ravdess, `luna`: new speakers"]
    wa, ua, minutes = table[5:8]
    group = read_rows(results)["ravdess"]["luna"]["flagship"]
    assert wa[4].startswith("63.0 [")
    assert ua[4] == f"63.0 ± {100 * np.std([run.test['accuracy'] for run in group], ddof=1):.1f}"
    assert minutes[2:5] == ["18.5"] * 3
    assert "ResLSTM-SA; settings chosen on test" in wa[6]
    assert "81.8" in wa[7]


def test_incomplete_protocols_have_no_figure_in_the_overview(results):
    keep_run(results, 30, "luna")
    for fold in (0, 1):
        keep_run(results, 30, "luna", recipe="flagship", fold=fold)
    text = written(results)
    (row,) = (line for line in text.splitlines() if "`luna`: new" in line)
    assert "| 1 of 5 folds | – | 2 of 5 folds |" in row
    assert "What follows" not in text
    keep_run(results, 30, recipe="flagship")
    assert "75.0 [" in written(results)


def test_what_is_gained_by_a_pretrained_encoder_is_a_sentence_of_its_own(results):
    for fold in range(5):
        keep_run(results, 25, "luna", recipe="flagship", fold=fold)
        keep_run(results, 35, "luna", recipe="flagship-speech", fold=fold)
    (sentence,) = overview.conclusions(read_rows(results))
    assert "`flagship-speech` is better than `flagship` on new speakers (`luna`): UA" in sentence
    assert "a gain of +25.0" in sentence


def test_a_protocol_without_a_main_recipe_has_no_line_in_the_overview(results):
    keep_run(results, 30, recipe="flagship")
    keep_run(results, 30, "luna", recipe="mel-cnn3")
    assert "`luna`" not in written(results).partition("## Details")[0]


def test_without_a_main_recipe_the_overview_links_to_the_pages(results):
    keep_run(results, 30, "luna", recipe="mel-cnn3")
    text = written(results)
    assert "|" not in text
    assert "results/luna.md" in text


def test_the_conclusions_follow_from_the_rows(results):
    keep_main_recipes(results)
    first, second, third, fourth, fifth = overview.conclusions(read_rows(results))
    assert "`flagship` is no better than `weighted-mel-mfcc`: UA 63.0 ± 6.7 and 65.0 ± 0.0" in first
    assert "without fold 0, on which `flagship` was developed, WA 60.0 and 65.0." in first
    assert "`flagship` is better than `weighted-mel-mfcc`: WA 95.0 and 85.0, a gain of +10.0 [" in second
    assert "`weighted-mel-mfcc`, is better than `mel-resnet` on new speakers (+15.0 [" in third
    assert "and better than `mel-resnet` on known ones (+10.0 [" in third
    assert "75.0 and 50.0 (`mel-resnet`), 85.0 and 65.0 (`weighted-mel-mfcc`), 95.0 and 63.0 (`flagship`)" in fourth
    assert "UA 62.3 ± 1.2 (ResLSTM-SA; settings chosen on test)" in fifth
    assert "has UA 65.0 ± 0.0 and WA 65.0." in fifth


def test_a_conclusion_changes_with_the_rows(results):
    keep_main_recipes(results)
    for fold in range(5):
        keep_run(results, 36, "luna", recipe="flagship", fold=fold)
    keep_run(results, 30, recipe="flagship")
    first, second, *_ = overview.conclusions(read_rows(results))
    assert "`flagship` is better than `weighted-mel-mfcc`" in first
    assert "`flagship` is worse than `weighted-mel-mfcc`" in second


def test_conclusions_without_their_rows_are_left_out(results):
    keep_main_recipes(results)
    shutil.rmtree(results / "ravdess" / "luna" / "flagship" / "fold-3-seed-0")
    sentences = overview.conclusions(read_rows(results))
    assert len(sentences) == 3
    assert not any("fold 0" in sentence for sentence in sentences)


def test_recipes_without_a_run_in_common_are_not_compared(results):
    keep_run(results, 30, recipe="flagship", seed=1)
    keep_run(results, 20, recipe="weighted-mel-mfcc")
    assert not overview.conclusions(read_rows(results))


def test_the_overview_links_to_the_pages_that_there_are(results):
    keep_run(results, 30)
    keep_run(results, 30, "luna")
    assert re.findall(r"\]\((.*?)\)", written(results)) == ["results/random.md", "results/luna.md"]
    (results / "history.md").write_text("")
    (results.parent / "docs").mkdir()
    links = re.findall(r"\]\((.*?)\)", written(results))
    assert links[2:] == ["results/history.md", "docs"]
    assert all((results.parent / link).exists() for link in links)


def test_a_page_has_its_protocol_a_command_and_the_corpora_in_order(results):
    for corpus in ("demo", "own", "ravdess", "emodb"):
        keep_run(results, 30, "speaker", corpus=corpus)
    text = written(results, "speaker")
    assert text.startswith("<!-- Written by `python -m emokeras.results.pages`")
    assert f"# Protocol speaker\n\nSplit: {PROTOCOLS['speaker'].description}.\n" in text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["ravdess", "emodb", "own", "demo"]
    command = "python -m emokeras.train RECIPE --corpus CORPUS --protocol speaker --split-seed P --seed S"
    commands = [line for line in text.splitlines() if line.startswith("python -m emokeras.train")]
    assert commands == [f"{command} --results results"]
    keep_run(results, 30, "luna")
    command = "python -m emokeras.train RECIPE --corpus ravdess --protocol luna --fold K --seed S --results results"
    assert command in written(results, "luna").splitlines()


def test_rows_on_part_of_the_folds_have_a_table_of_their_own(results):
    for fold in range(5):
        keep_run(results, 20, "luna", fold=fold)
    keep_run(results, 40, "luna", recipe="mel-cnn3", fold=2)
    text = written(results, "luna")
    whole, part = section(text, "## ravdess").split("### On part of the folds")
    assert "| `mel-resnet` | 5 folds" in whole
    assert "`mel-cnn3`" not in whole
    assert "| `mel-cnn3` \\* | 1 of 5 folds × 1 seed |" in part  # marked: its settings are those of `mel-resnet` here


def test_a_row_with_other_settings_is_marked_and_noted(results):
    keep_run(results, 30, **{"training.epochs": 3})
    keep_run(results, 20, recipe="mel-resnet-tuned")
    text = written(results, "random")
    assert "| `mel-resnet` \\* |" in text
    assert "\n\\* `mel-resnet`: `training.epochs` 3, now 120.\n" in text
    assert "\n\\* `mel-resnet-tuned`: not a recipe" in text


def test_the_figures_of_the_student_reports_are_next_to_ours(results):
    keep_run(results, 30)
    keep_run(results, 30, recipe="unknown")
    keep_run(results, 30, "speaker", corpus="demo")
    assert cells_of(written(results, "random"), "mel-resnet")["report"] == RECIPES["mel-resnet"].reported
    assert cells_of(written(results, "random"), "unknown")["report"] == "–"
    assert "report" not in cells_of(written(results, "speaker"), "mel-resnet")  # they are of RAVDESS


def test_recipes_that_take_only_text_are_expected_at_chance_on_ravdess(results):
    keep_run(results, 30)
    assert "chance" not in written(results, "random")
    keep_run(results, 5, recipe="text-lstm")
    keep_run(results, 6, recipe="text-gru")
    keep_run(results, 6, recipe="text-gru", corpus="demo")
    text = written(results, "random")
    assert text.count("at chance, about 13 %, and to have no gain in a fusion: `text-gru`, `text-lstm`.") == 1
    assert "chance" not in section(text, "## demo")


def test_readings_of_the_test_subsets_are_counted(results):
    for fold, seed in ((0, 0), (0, 1), (2, 0)):
        keep_run(results, 30, "luna", fold=fold, seed=seed)
    keep_run(results, 30, "luna", fold=2, recipe="mel-cnn3")
    keep_run(results, 30, "speaker", corpus="own", split_seed=3)
    assert "there: fold 0 2 + 25, fold 2 2 + 6." in written(results, "luna")
    assert "there: split 3 1 + 0." in written(results, "speaker")
    assert "actors 1, 2, 3, 5, 6, 8, 10, 11, 14, 17" in written(results, "luna").replace("\n  ", " ")
    assert "Choice of the recipes" not in written(results, "speaker")  # not on this corpus


def test_earlier_readings_are_those_of_the_history():
    def numbers(text):
        ends = [part.split("-") for part in text.split(", ")]
        return [number for first, *last in ends for number in range(int(first), int((last or [first])[0]) + 1)]

    counted, key = {}, None
    for line in (ROOT / "results" / "history.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            key = tuple(line[3:].split(", protocol "))
            counted[key] = {}
        elif line.startswith("| `"):
            splits, seeds = re.search(r"\| (?:fold|split) ([\d, -]+), seed ([\d, -]+) \|", line).groups()
            for split in numbers(splits):
                counted[key][split] = counted[key].get(split, 0) + len(numbers(seeds))
    assert counted == selection.EARLIER_READINGS
    assert sum(sum(counts.values()) for counts in counted.values()) == 170


def test_published_figures_are_on_the_page_of_their_own_protocol(results):
    for protocol in ("random", "luna"):
        keep_run(results, 30, protocol)
    keep_run(results, 30, "random", corpus="demo")
    luna = section(written(results, "luna"), "### Published for this protocol")
    assert "| ResLSTM-SA | – | – | 62.3 ± 1.2 | no | settings | 10 seeds |" in luna
    random = written(results, "random")
    assert "ResLSTM" not in random
    assert "student report E" in section(random, "## ravdess")
    assert "Published" not in section(random, "## demo")


def test_the_best_published_figure_prefers_systems_with_nothing_chosen_on_test():
    def best(protocol, pretrained):
        return published.best_published("ravdess", protocol, pretrained)

    assert best("random-10fold", False).wa == "90.07"  # and not 92.08, at the best epoch on test
    assert best("luna", False).figures == "UA 62.3 ± 1.2"  # the only one
    assert (best("luna", True).wa, best("luna", True).chosen_on_test) == ("81.8", "checkpoint")  # not the listeners
    assert best("emobox", True).system == "Whisper large v3, frozen"
    assert best("emobox", False) is None


def test_recipes_without_a_row_are_listed_with_the_weights_they_need(results):
    keep_run(results, 30)
    keep_run(results, 30, "luna")
    (needed, waiting) = section(written(results, "random"), "### Recipes without a row").strip().splitlines()
    fetched = {
        "mel-resnet-imagenet": "imagenet",
        "text-bert": "google-bert/bert-base-uncased",
        "speech-tcn": "openai/whisper-base",
        "speech-linear": "openai/whisper-base",
        "flagship-speech": "openai/whisper-base",
    }
    for name, weights in fetched.items():
        assert f"`{name}` (`{weights}`)" in needed
    others = set(re.findall(r"`([^`]+)`", waiting))
    assert others == set(RECIPES) - {"mel-resnet", *fetched}
    assert "without a row" not in written(results, "luna")


def test_the_command(results, capsys):
    keep_run(results, 30)
    output = results.parent / "R.md"
    assert pages.main(["--results", str(results), "--output", str(output)]) == 0
    assert output.read_text().startswith("<!-- Written by")
    shutil.rmtree(results)
    assert pages.main(["--results", str(results), "--output", str(output)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
