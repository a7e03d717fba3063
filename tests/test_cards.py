"""The READMEs of the shipped models: their figures are those of the rows that they name."""

import re
from pathlib import Path

import numpy as np
import pytest

from emokeras import runs
from emokeras.config import read_config
from emokeras.reporting.metrics import balanced_accuracy, expected_calibration_error

ROOT = Path(__file__).parents[1]
CARDS = [ROOT / "saved_models" / name / "README.md" for name in runs.SHIPPED]
COLUMNS = ["measured", "clips", "UA %", "calibration error %", "row under results/"]


def lines_of(card: Path) -> list[dict[str, str]]:
    """Return the lines of the tables of figures, {column: text}."""
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.read_text().splitlines()]
    lines = [cells for cells in tables if len(cells) == len(COLUMNS) and "`" in cells[-1]]
    return [dict(zip(COLUMNS, cells, strict=True)) for cells in lines]


@pytest.mark.parametrize("card", CARDS, ids=runs.SHIPPED)
def test_every_figure_of_a_card_is_that_of_its_row(card):
    """Several rows, as of folds, are averaged."""
    lines = lines_of(card)
    assert len(lines) >= 5
    for line in lines:
        (place,) = re.findall(r"`([^`]+)`", line["row under results/"])
        files = sorted((ROOT / "results").glob(place if place.endswith(".csv") else f"{place}/predictions.csv"))
        assert files, place
        predictions = [runs.read_predictions(file) for file in files]
        ua = [balanced_accuracy(own.labels, own.probabilities.argmax(axis=1)) for own in predictions]
        error = [expected_calibration_error(own.labels, own.probabilities) for own in predictions]
        assert line["clips"] == f"{sum(len(own.labels) for own in predictions):,}", place
        assert line["UA %"] == f"{100 * np.mean(ua):.1f}", place
        assert line["calibration error %"] in ("", f"{100 * np.mean(error):.1f}"), place


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
