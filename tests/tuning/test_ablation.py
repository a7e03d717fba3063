"""Ablations: a recipe is trained as it is and with each idea, and the gain is over the trainings that both have."""

from dataclasses import replace

import pytest

from emokeras import runs
from emokeras.config import ExperimentConfig, override
from emokeras.errors import RunError, UsageError
from emokeras.recipes import RECIPES
from tuning import ablation, measurements
from tuning.ablation import IDEAS
from tuning.measurements import FIGURES, KEYS, UNCHANGED, digest

MEL, MFCC, WORDS, SPEECH = (RECIPES[name].config for name in ("mel-cnn3", "mfcc-tcn", "text-gru", "speech-tcn"))


def planned(config, *changes) -> list[str]:
    """Return the changes, "section.key=value", that get a training."""
    ideas = ablation.choose_ideas(None, changes)
    unchanged, *trainings = ablation.plan_trainings(config, ideas, [0], [0])
    assert unchanged.idea == UNCHANGED
    return [training.idea for training in trainings]


@pytest.mark.parametrize(
    ("config", "changing", "others"),
    [
        # mel-cnn3 has a spectrum every 16 ms and no mixup.
        (
            MEL,
            ["augment.band_shift_bands=0", "augment.speed_change=0"],
            ["mfcc.hop_seconds=0.01", "spectrogram.hop_seconds=0.016", "augment.mixup_alpha=0",
             "augment.mixup_probability=1", "training.refit_epochs=9"],
        ),
        # Bands are of spectrograms; this network has no squeeze and excitation.
        (
            MFCC,
            ["mfcc.hop_seconds=0.01", "augment.mixup_alpha=0", "augment.equalization_decibels=6",
             "audio.window_seconds=2"],
            ["augment.band_shift_bands=0"],
        ),
        (WORDS, ["training.ema_momentum=0.99"], ["augment.equalization_decibels=6", "audio.window_seconds=2"]),
        # A speech encoder takes clips and variants of them, over channels; its frames are mixed and masked.
        (
            SPEECH,
            ["augment.mixup_alpha=0", "augment.mixup_probability=1", "augment.num_time_masks=0",
             "augment.num_variants=2", "augment.equalization_decibels=6", "audio.window_seconds=2", "speech.layers=2"],
            ["augment.speed_change=0.2", "augment.gain_decibels=6", "augment.vocal_tract_change=0.1"],
        ),
    ],
)  # fmt: skip
def test_only_changes_of_what_is_trained_are_tried(config, changing, others):
    assert planned(config, *changing, *others) == changing


def test_of_the_ideas_those_that_fit_are_tried(capsys):
    tried = [training.idea for training in ablation.plan_trainings(WORDS, IDEAS, [0], [0])]
    assert tried == [UNCHANGED, "Muon", "longer moving average"]
    assert "cepstral mean normalization: changes nothing in text-gru\n" in capsys.readouterr().out
    muon = RECIPES["mel-resnet-muon"].config
    assert not {"Muon", "layer normalization after blocks"} & {
        training.idea for training in ablation.plan_trainings(muon, IDEAS, [0], [0])
    }
    assert "Muon: mel-resnet-muon has it already\n" in capsys.readouterr().out


def test_a_change_of_all_encoders_is_listed_for_each():
    changes = ablation.choose_ideas(None, ["encoder.dropout=0.3"])
    training = ablation.plan_trainings(RECIPES["early-mel-prosody"].config, changes, [0], [0])[1]
    assert training.changes == "encoders.spectrogram.dropout 0 → 0.3, encoders.prosody.dropout 0.1 → 0.3"


def test_each_fold_and_seed_has_the_recipe_as_it_is_and_each_idea():
    ideas = {"Muon": IDEAS["Muon"]}
    trainings = ablation.plan_trainings(MFCC, ideas, [0, 1], [5, 6])
    experiments = [training.config.experiment for training in trainings]
    assert [(own.fold, own.seed) for own in experiments] == [
        (fold, seed) for fold in (0, 1) for seed in (5, 6) for _ in range(2)
    ]
    assert [training.idea for training in trainings] == [UNCHANGED, "Muon"] * 4
    assert trainings[1].changes == "training.optimizer adamw → muon"
    assert trainings[1].config.training == replace(MFCC.training, optimizer="muon")
    plain, changed = (training.key("ravdess") for training in trainings[:2])
    assert plain["plain"] == plain["config"] == changed["plain"] != changed["config"]


def test_a_digest_is_of_settings_not_of_folds_and_seeds():
    assert digest(MEL) == digest(replace(MEL, experiment=ExperimentConfig(fold=3, seed=1)))
    digests = {digest(config) for config in (MEL, MFCC, override(MEL, {"model.dropout": 0.21}))}
    assert len(digests) == 3
    # Settings at their defaults are left out, so that a new setting changes no digest.
    assert measurements._non_default(WORDS) == {
        "recipe": "text-gru",
        "encoders": {"tokens": {"kind": "recurrent", "l2": 0.0, "cell": "gru"}},
        "model": {"pooling": "mean", "hidden_units": (), "normalize_embedding": False},
        "training": {
            "epochs": 30,
            "optimizer": "adam",
            "schedule": "constant",
            "clip_norm": 0.0,
            "label_smoothing": 0.0,
            "class_weights": False,
            "select_by": "val_accuracy",
        },
    }


def test_ideas_are_chosen_by_name_and_by_change():
    assert ablation.choose_ideas(None, []) == ablation.choose_ideas(",".join(IDEAS), []) == IDEAS
    assert list(ablation.choose_ideas("Muon, equalization", ["encoder.filters=96"])) == [
        "Muon",
        "equalization",
        "encoder.filters=96",
    ]
    assert ablation.choose_ideas(None, ["encoder.filters=96"]) == {"encoder.filters=96": {"encoder.filters": "96"}}
    with pytest.raises(UsageError, match="there is no idea 'mxup'"):
        ablation.choose_ideas("mxup", [])


def row(idea: str, fold: int, accuracy: float, plain: str = "p") -> measurements.Row:
    columns = dict.fromkeys((*KEYS, *FIGURES), "1")
    changes = "" if idea == UNCHANGED else f"to {idea}"
    columns |= {"recipe": "mel", "plain": plain, "idea": idea, "changes": changes, "fold": str(fold)}
    return columns | {"balanced_accuracy": str(accuracy), "accuracy": "0.1", "loss": str(2 * accuracy)}


def test_gains_are_over_the_trainings_that_both_have():
    rows = [row(UNCHANGED, 0, 0.60), row("worse", 0, 0.59), row("better", 0, 0.62), row("better", 1, 0.70)]
    rows += [row(UNCHANGED, 1, 0.64), row("better", 2, 0.99), row("alone", 3, 0.9)]
    rows += [row(UNCHANGED, 0, 0.5, plain="later") | {"changes": "model.dropout=0.4"}]
    rows += [row("better", 0, 0.58, plain="later"), row("nothing to compare with", 0, 0.5, plain="latest")]
    first, second = measurements.page(rows).split("## mel")[1:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines() if line.startswith("|")]
    assert [line[:7] for line in cells[2:]] == [
        [UNCHANGED, "", "2", "62.0", "", "1.240", ""],
        ["better", "to better", "2", "66.0", "+4.0", "1.320", "+0.080"],
        ["worse", "to worse", "1", "59.0", "-1.0", "1.180", "-0.020"],
    ]
    assert "configuration later" in second
    assert "| as it is | model.dropout=0.4 | 1 | 50.0 |  |" in second  # What --set gave all trainings of a table.
    assert "| better | to better | 1 | 58.0 | +8.0 |" in second
    assert "latest" not in second


def test_a_recipe_whose_set_was_written_in_two_ways_has_one_line():
    rows = [row(UNCHANGED, 0, 0.60), row(UNCHANGED, 1, 0.50) | {"changes": "model.dropout=0.4"}]
    page = measurements.page([*rows, row("room", 0, 0.7), row("room", 1, 0.56)])
    assert "| as it is | model.dropout=0.4 | 2 | 55.0 |  |" in page
    assert "| room | to room | 2 | 63.0 | +8.0 |" in page


def test_an_idea_of_another_strength_has_a_line_of_its_own():
    rows = [row(UNCHANGED, 0, 0.60), row("room", 0, 0.7)]
    rows.append(row("room", 0, 0.5) | {"changes": "stronger"})
    lines = [line for line in measurements.page(rows).splitlines() if line.startswith("| room")]
    assert [[cell.strip() for cell in line.split("|")[2:6]] for line in lines] == [
        ["to room", "1", "70.0", "+10.0"],
        ["stronger", "1", "50.0", "-10.0"],
    ]


def test_what_was_measured_is_kept_and_not_measured_again(demo_folder, tmp_path, capsys):
    arguments = ["text-gru", "--corpus", str(demo_folder), "--ideas", "Muon", "--epochs", "1"]
    arguments += ["--results", str(tmp_path / "results"), "--runs-dir", str(tmp_path / "runs")]
    given = ["--set", "training.label_smoothing=0.1", "--set", "training.batch_size=8"]
    assert ablation.main([*arguments, *given, "--change", "model.start_from=nowhere"]) == 1
    assert "1 of 3 trainings failed: model.start_from=nowhere" in capsys.readouterr().err
    table = tmp_path / "results" / "ablation.csv"
    plain, muon = measurements.read_rows(table)
    assert (plain["idea"], muon["idea"]) == (UNCHANGED, "Muon")
    assert plain["changes"] == "training.label_smoothing=0.1, training.batch_size=8"
    assert muon["changes"] == "training.optimizer adam → muon"
    folders = {folder.name[:8]: folder for folder in (tmp_path / "runs" / "text-gru").iterdir()}
    for row in (plain, muon):
        (epoch,) = runs.read_history(folders[row["config"]] / "history.csv")
        assert float(row["balanced_accuracy"]) == pytest.approx(epoch["val_balanced_accuracy"], abs=1e-4)
        assert float(row["loss"]) == pytest.approx(epoch["val_loss"], abs=1e-4)
        assert row["clips"] == "8"
        assert not (folders[row["config"]] / "predictions.csv").exists()  # The test subset was not read.
    assert "| Muon | training.optimizer adam → muon | 1 |" in table.with_suffix(".md").read_text()
    for same in (given, [*given[2:], *given[:2]]):
        capsys.readouterr()
        assert ablation.main([*arguments, *same]) == 0
        assert capsys.readouterr().out.count("done already") == 2
    assert measurements.read_rows(table) == [plain, muon]


def test_a_damaged_table_is_refused(tmp_path):
    """As after a kill while a row was appended."""
    table = tmp_path / "ablation.csv"
    measurements.add_row(table, row(UNCHANGED, 0, 0.6))
    table.write_text(table.read_text()[:-5])
    with pytest.raises(RunError, match=r"ends in the middle of a line: remove or repair the line"):
        measurements.read_rows(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a recipe"),
        (["weighted-mel-mfcc"], "is an ensemble, whose weights are fitted exactly: give one of its members"),
        (["early-mel-mfcc"], "model.branches: mel-resnet is no run that has ended"),
        (["mel-cnn3", "--set", "experiment.fold=3"], "--set experiment.fold: give --folds instead"),
        (["mel-cnn3", "--folds", "-1"], "protocol 'speaker' has no fold -1"),
        (["mel-cnn3", "--folds", "0,9"], "protocol 'speaker' has no fold 9"),
        (["mel-cnn3", "--change", "foo"], "--change foo: write it as section.key=value"),
        (["mel-cnn3", "--change", "encoder.filter=3"], "filter"),
        (["mel-cnn3", "--ideas", "none"], "there is no idea 'none'"),
        (["mel-cnn3", "--folds", "x"], "write whole numbers"),
    ],
)
def test_what_cannot_be_tried_is_one_line(arguments, message, demo_folder, capsys):
    assert ablation.main([*arguments, "--corpus", str(demo_folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
