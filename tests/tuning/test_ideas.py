"""An ablation trains a recipe as it is and with each idea, keeps what it measured, and tells the gain."""

from dataclasses import replace

import pytest
from conftest import tiny_arguments

from emokeras import runs
from emokeras.config import ExperimentConfig, override
from emokeras.errors import UsageError
from emokeras.recipes import RECIPES
from tuning import ablation, tried
from tuning.ideas import IDEAS

MEL, MFCC, WORDS, SPEECH = (RECIPES[name].config for name in ("mel-cnn3", "mfcc-tcn", "text-gru", "speech-tcn"))


def planned(config, **ideas) -> list[str]:
    chosen = {name.replace("_", " "): IDEAS[name.replace("_", " ")] for name in ideas} if ideas else IDEAS
    return [trial.idea for trial in ablation.plan_trials(config, chosen, [0], [0], lambda line: None)]


def test_only_ideas_that_change_what_is_trained_are_tried():
    assert planned(MEL)[0] == tried.PLAIN
    assert {"no shift of bands", "no change of speed"} <= set(planned(MEL))
    assert "MFCCs every 10 ms" not in planned(MEL)
    assert "a spectrum every 16 ms" not in planned(MEL)  # It has one every 16 ms.
    assert "no mixup" not in planned(MEL)
    assert {"MFCCs every 10 ms", "no mixup"} <= set(planned(MFCC))
    assert "no shift of bands" not in planned(MFCC)  # A shift of bands is of spectrograms alone.
    assert "no squeeze and excitation" not in planned(MFCC)
    assert {"equalisation", "windows of 2 s"} <= set(planned(MFCC))
    assert not {"equalisation", "windows of 2 s"} & set(planned(WORDS))
    assert "mixup of all clips" not in planned(MEL)  # It has no mixup.
    # A speech model hears the clip as it is; its frames are mixed and masked.
    assert {"no mixup", "mixup of all clips", "no SpecAugment"} <= set(planned(SPEECH))
    assert not {"more change of speed", "equalisation", "other vocal tracts"} & set(planned(SPEECH))


def test_an_idea_for_all_bodies_is_tried_on_each():
    """As `--change encoder.KEY` is, in a network of several branches."""
    joined = RECIPES["early-mel-prosody"].config
    changes = {"encoder.dropout=0.3": {"encoder.dropout": "0.3"}}
    trial = ablation.plan_trials(joined, changes, [0], [0])[1]
    assert trial.changes == "encoders.spectrogram.dropout 0 → 0.3, encoders.prosody.dropout 0.1 → 0.3"


def test_a_change_that_no_trial_would_feel_is_not_tried():
    """What comes after the validation by which an idea is judged."""
    said = []
    changes = {"training.refit_epochs=9": {"training.refit_epochs": "9"}}
    assert [trial.idea for trial in ablation.plan_trials(MEL, changes, [0], [0], said.append)] == [tried.PLAIN]
    assert said == ["training.refit_epochs=9: changes nothing in mel-cnn3"]


def test_each_fold_and_seed_has_the_recipe_as_it_is_and_each_idea():
    ideas = {"no mixup": IDEAS["no mixup"]}
    trials = ablation.plan_trials(MFCC, ideas, [0, 1], [5, 6])
    told = [(trial.idea, trial.config.experiment.fold, trial.config.experiment.seed) for trial in trials]
    assert told == [(idea, fold, seed) for fold in (0, 1) for seed in (5, 6) for idea in (tried.PLAIN, "no mixup")]
    assert trials[1].changes == "augment.mixup_alpha 0.4 → 0"
    assert trials[1].config.augment == replace(MFCC.augment, mixup_alpha=0.0)
    plain, changed = (trial.key("ravdess") for trial in trials[:2])
    assert plain["plain"] == plain["config"] == changed["plain"] != changed["config"]


def test_a_digest_tells_settings_apart_but_not_runs():
    assert ablation.digest(MEL) == ablation.digest(replace(MEL, experiment=ExperimentConfig(fold=3, seed=1)))
    digests = {ablation.digest(config) for config in (MEL, MFCC, override(MEL, {"model.dropout": 0.21}))}
    assert len(digests) == 3
    # Settings at their defaults are not told: those that come later will change no digest.
    assert ablation._unusual(WORDS) == {
        "recipe": "text-gru",
        "encoders": {"tokens": {"kind": "recurrent", "batch_normalization": False, "l2": 0.0, "cell": "gru"}},
        "model": {"pooling": "mean", "hidden_units": ()},
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
    assert ablation.chosen_ideas(None, []) == ablation.chosen_ideas(",".join(IDEAS), []) == IDEAS
    assert list(ablation.chosen_ideas("no mixup, no noise", ["encoder.filters=96"])) == [
        "no mixup",
        "no noise",
        "encoder.filters=96",
    ]
    assert ablation.chosen_ideas(None, ["encoder.filters=96"]) == {"encoder.filters=96": {"encoder.filters": "96"}}
    with pytest.raises(UsageError, match="there is no idea 'no mxup'"):
        ablation.chosen_ideas("no mxup", [])


def row(idea: str, fold: int, accuracy: float, plain: str = "p") -> tried.Row:
    told = dict.fromkeys((*tried.KEYS, *tried.FIGURES), "1")
    changes = "" if idea == tried.PLAIN else f"to {idea}"
    told |= {"recipe": "mel", "plain": plain, "idea": idea, "changes": changes, "fold": str(fold)}
    return told | {"balanced_accuracy": str(accuracy), "accuracy": "0.1", "loss": str(2 * accuracy)}


def test_the_page_tells_gains_over_what_both_have():
    rows = [row(tried.PLAIN, 0, 0.60), row("worse", 0, 0.59), row("better", 0, 0.62), row("better", 1, 0.70)]
    rows += [row(tried.PLAIN, 1, 0.64), row("better", 2, 0.99), row("alone", 3, 0.9)]
    rows += [row(tried.PLAIN, 0, 0.5, plain="later") | {"changes": "model.dropout=0.4"}]
    rows += [row("better", 0, 0.58, plain="later"), row("nothing to compare with", 0, 0.5, plain="latest")]
    first, second = tried.page(rows).split("## mel")[1:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines() if line.startswith("|")]
    assert [line[:7] for line in cells[2:]] == [
        [tried.PLAIN, "", "2", "62.0", "", "1.240", ""],
        ["better", "to better", "2", "66.0", "+4.0", "1.320", "+0.080"],
        ["worse", "to worse", "1", "59.0", "-1.0", "1.180", "-0.020"],
    ]
    assert "configuration later" in second
    assert "| as it is | model.dropout=0.4 | 1 | 50.0 |  |" in second  # What --set gave all trainings of a table.
    assert "| better | to better | 1 | 58.0 | +8.0 |" in second
    assert "latest" not in second


def test_a_recipe_whose_settings_are_told_in_other_words_has_one_line():
    rows = [row(tried.PLAIN, 0, 0.60), row(tried.PLAIN, 1, 0.50) | {"changes": "model.dropout=0.4"}]
    page = tried.page([*rows, row("room", 0, 0.7), row("room", 1, 0.56)])
    assert "| as it is | model.dropout=0.4 | 2 | 55.0 |  |" in page
    assert "| room | to room | 2 | 63.0 | +8.0 |" in page


def test_an_idea_of_another_strength_has_a_line_of_its_own():
    rows = [row(tried.PLAIN, 0, 0.60), row("room", 0, 0.7)]
    rows.append(row("room", 0, 0.5) | {"changes": "stronger"})
    lines = [line for line in tried.page(rows).splitlines() if line.startswith("| room")]
    assert [[cell.strip() for cell in line.split("|")[2:6]] for line in lines] == [
        ["to room", "1", "70.0", "+10.0"],
        ["stronger", "1", "50.0", "-10.0"],
    ]


def test_what_was_measured_is_kept_and_not_measured_again(demo_folder, tmp_path, capsys):
    arguments = ["mel-cnn3", "--corpus", str(demo_folder), "--ideas", "no label smoothing", "--epochs", "1"]
    arguments += ["--results", str(tmp_path / "results"), "--runs-dir", str(tmp_path / "runs"), *tiny_arguments()]
    arguments += ["--set", "training.label_smoothing=0.1"]
    assert ablation.main([*arguments, "--change", "training.teacher=nowhere"]) == 1
    assert "1 of 3 trainings failed: training.teacher=nowhere" in capsys.readouterr().err
    plain, smooth = tried.read_rows(tmp_path / "results" / "ablation.csv")
    assert (plain["idea"], smooth["idea"]) == (tried.PLAIN, "no label smoothing")
    assert plain["changes"].endswith(", training.label_smoothing=0.1")
    assert smooth["changes"] == "training.label_smoothing 0.1 → 0"
    folders = {folder.name[:8]: folder for folder in (tmp_path / "runs" / "mel-cnn3").iterdir()}
    for told in (plain, smooth):
        (epoch,) = runs.read_history(folders[told["config"]] / "history.csv")
        assert float(told["balanced_accuracy"]) == pytest.approx(epoch["val_balanced_accuracy"], abs=1e-4)
        assert float(told["loss"]) == pytest.approx(epoch["val_loss"], abs=1e-4)
        assert told["clips"] == "8"
        assert not (folders[told["config"]] / "predictions.csv").exists()  # The test subset was not read.
    assert "no label smoothing" in (tmp_path / "results" / "ablation.md").read_text()
    capsys.readouterr()
    assert ablation.main(arguments) == 0
    assert capsys.readouterr().out.count("done already") == 2
    assert ablation.main([*arguments, "--set", "training.label_smoothing=0.1"]) == 0  # The same, told otherwise.
    assert capsys.readouterr().out.count("done already") == 2
    assert len(tried.read_rows(tmp_path / "results" / "ablation.csv")) == 2


def test_what_cannot_be_tried_is_one_line(demo_folder, capsys):
    for arguments, told in (
        ([], "name a recipe"),
        (["weighted-mel-mfcc"], "is an ensemble: its weights are fitted exactly; take one of its members"),
        (["early-mel-mfcc"], "model.branches: mel-resnet is no run that has ended"),
        (["mel-cnn3", "--set", "experiment.fold=3"], "--set experiment.fold: give --folds instead"),
        (
            ["mel-cnn3", "--corpus", str(demo_folder), "--folds", "-1"],
            "protocol 'speaker' has no fold -1",
        ),
        (["mel-cnn3", "--corpus", str(demo_folder), "--folds", "0,9"], "protocol 'speaker' has no fold 9"),
        (["mel-cnn3", "--corpus", str(demo_folder), "--change", "foo"], "--change foo: write it as section.key=value"),
        (["mel-cnn3", "--corpus", str(demo_folder), "--change", "encoder.filter=3"], "filter"),
        (["mel-cnn3", "--corpus", str(demo_folder), "--ideas", "none"], "there is no idea 'none'"),
        (["mel-cnn3", "--corpus", str(demo_folder), "--folds", "x"], "write whole numbers"),
    ):
        assert ablation.main(arguments) == 2
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
