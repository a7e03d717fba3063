"""Robustness: each change is tested on the validation clips under every condition, and on other corpora."""

import numpy as np
import pytest
from conftest import tiny_arguments

from emokeras import runs
from emokeras.data.conditions import CONDITIONS
from tuning import measurements, robustness
from tuning.measurements import KEYS, UNCHANGED
from tuning.robustness import FIGURES, GROUPS


def test_every_condition_is_in_one_group():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(set(CONDITIONS) - {"clean"})


def rows_of(idea: str, fold: int, accuracy: dict[str, float], test_corpus: str = "home") -> list[measurements.Row]:
    """Return the rows of one training: UA by condition, 0.4 for women and none for men."""
    columns = dict.fromkeys((*KEYS, *FIGURES), "1") | {"corpus": "home", "recipe": "mel", "idea": idea}
    columns |= {"changes": "" if idea == UNCHANGED else f"to {idea}", "fold": str(fold), "test_corpus": test_corpus}
    columns |= {"women": "0.4", "men": "nan"}
    return [
        columns | {"condition": name, "balanced_accuracy": str(value), "among_corpus_emotions": str(value + 0.1)}
        for name, value in accuracy.items()
    ]


def test_a_line_is_the_mean_over_trainings_and_over_the_conditions_of_a_group():
    rows = rows_of(UNCHANGED, 0, {"clean": 0.6, "mp3": 0.5, "opus": 0.3})
    rows += rows_of("room", 0, {"clean": 0.5, "mp3": 0.6, "opus": 0.7}) + rows_of("room", 1, {"clean": 0.6})
    rows += rows_of("room", 0, {"clean": 0.2}, "away") + rows_of("gain", 0, {"clean": 0.9})
    lines = [line for line in robustness.page(rows).splitlines() if line.startswith("|")]
    header, _, *cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    table = [dict(zip(header, line, strict=True)) for line in cells]
    assert [line["idea"] for line in table] == [UNCHANGED, "gain", "room"]
    assert table[2] == dict.fromkeys(header, "–") | {
        "idea": "room",
        "change": "to room",
        "trainings": "2",
        "clean": "55.0",
        "codecs": "65.0",
        "mean": "60.0",
        "women": "40.0",
        "away": "30.0",
    }
    assert (table[0]["codecs"], table[0]["mean"], table[0]["away"]) == ("40.0", "50.0", "–")


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_a_change_is_measured_under_conditions_and_on_another_corpus(demo_folder, small_folder, tmp_path, capsys):
    arguments = ["mel-cnn3", "--corpus", str(demo_folder), "--also", str(small_folder), *tiny_arguments()]
    arguments += ["--epochs", "1", "--change", "augment.gain_decibels=12;encoder.centered=true"]
    arguments += ["--results", str(tmp_path / "results"), "--runs-dir", str(tmp_path / "runs")]
    assert robustness.main(arguments) == 0
    assert "gain_decibels 6 → 12" in capsys.readouterr().out
    table = tmp_path / "results" / "robustness.csv"
    rows = measurements.read_rows(table)
    assert len(rows) == 2 * (len(CONDITIONS) + 1)
    for folder in (tmp_path / "runs" / "mel-cnn3").iterdir():
        (epoch,) = runs.read_history(folder / "history.csv")
        (own,) = (
            row
            for row in rows
            if folder.name.startswith(row["config"]) and (row["test_corpus"], row["condition"]) == ("demo", "clean")
        )
        assert float(own["balanced_accuracy"]) == pytest.approx(epoch["val_balanced_accuracy"], abs=1e-4)
        assert own["clips"] == "8"
        assert not (folder / "predictions.csv").exists()  # The test subset was not read.
    assert np.isfinite([float(row["cross_entropy"]) for row in rows]).all()
    assert robustness.main(arguments) == 0
    assert capsys.readouterr().out.count("done already") == 2
    assert measurements.read_rows(table) == rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text-gru"], "text-gru takes no audio"),
        (["mel-cnn3", "--change", "foo"], "--change foo: write it as section.key=value"),
        (["mel-cnn3", "--ideas", "none"], "there is no idea 'none'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, message, demo_folder, capsys):
    assert robustness.main([*arguments, "--corpus", str(demo_folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
