"""The READMEs of the shipped models: their figures are those of the rows that they name."""

import re
from pathlib import Path

import numpy as np
import pytest

from emokeras import runs
from emokeras.config import read_config
from emokeras.reporting.metrics import balanced_accuracy, expected_calibration_error
from tuning import adaptation

ROOT = Path(__file__).parents[1]
CARDS = [ROOT / "saved_models" / name / "README.md" for name in runs.SHIPPED]
FIGURES = ("measured", "clips", "UA %", "calibration error %", "row under results/")
COVERAGE = ("measured", "all", "80 %", "50 %", "row under results/")


def lines_of(card: Path, header: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the lines of the tables with this header, {column: text}."""
    lines, now = [], ()
    for line in card.read_text().splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|")) if line.startswith("|") else ()
        if cells and now == header and "---" not in cells[0]:
            lines.append(dict(zip(header, cells, strict=True)))
        now = now if cells and now else cells
    return lines


def predictions_of(line: dict[str, str]) -> list[runs.Predictions]:
    """Return the predictions of the rows that a line names; several, as of folds, are averaged."""
    (place,) = re.findall(r"`([^`]+)`", line["row under results/"])
    files = sorted((ROOT / "results").glob(place if place.endswith(".csv") else f"{place}/predictions.csv"))
    assert files, place
    return [runs.read_predictions(file) for file in files]


@pytest.mark.parametrize("card", CARDS, ids=runs.SHIPPED)
def test_every_figure_of_a_card_is_that_of_its_rows(card):
    lines = lines_of(card, FIGURES)
    assert len(lines) >= 5
    for line in lines:
        predictions = predictions_of(line)
        ua = [balanced_accuracy(own.labels, own.probabilities.argmax(axis=1)) for own in predictions]
        error = [expected_calibration_error(own.labels, own.probabilities) for own in predictions]
        assert line["clips"] == f"{sum(len(own.labels) for own in predictions):,}", line
        assert line["UA %"] == f"{100 * np.mean(ua):.1f}", line
        assert line["calibration error %"] in ("", f"{100 * np.mean(error):.1f}"), line


@pytest.mark.parametrize("card", CARDS, ids=runs.SHIPPED)
def test_the_accuracy_of_the_surest_answers_is_that_of_the_rows(card):
    lines = lines_of(card, COVERAGE)
    assert lines
    for line in lines:
        (own,) = predictions_of(line)
        surest = np.argsort(-own.probabilities.max(axis=1), kind="stable")
        right = (own.labels == own.probabilities.argmax(axis=1))[surest]
        for column, share in (("all", 1.0), ("80 %", 0.8), ("50 %", 0.5)):
            assert line[column] == f"{100 * right[: round(share * len(right))].mean():.1f}", line


@pytest.mark.parametrize("name", runs.SHIPPED)
def test_a_shipped_model_has_its_license_and_was_trained_on_what_its_card_names(name):
    extra = ROOT / "saved_models" / name / "1" / "assets.extra"
    config = read_config(extra / "config.json")
    assert config.model.license == "CC BY-NC-SA 4.0"
    assert (config.experiment.corpora, config.experiment.protocol) == (("ravdess", "nemo"), "all")
    assert config.experiment.emotion_map == ("calm=neutral",)
    assert {row["subset"] for row in runs.read_split(extra)} == {"train"}
    assert len(runs.read_split(extra)) == 5921
    card = (ROOT / "saved_models" / name / "README.md").read_text()
    for part in (config.recipe, "CC BY-NC-SA 4.0", "Not measured on English outside RAVDESS", "5,921 clips"):
        assert part in card
    if config.has_speech_encoder:
        assert config.speech.sha256 in card
        assert "MIT License" in (ROOT / "saved_models" / name / "LICENSE-whisper").read_text()


def test_the_shipped_models_have_at_most_40_megabytes_together():
    files = [path for name in runs.SHIPPED for path in (ROOT / "saved_models" / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6


def test_the_page_of_the_adaptation_is_that_of_its_predictions_and_the_readme_has_its_figures():
    """Otherwise run `python -m tuning.adaptation`."""
    page = adaptation.page(ROOT / "results")
    assert page == (ROOT / "results" / "adaptation.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for corpus in ("emovo", "nemo"):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {corpus} "))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2] in readme  # as it is
        assert cells[4] in readme  # after 60 s
