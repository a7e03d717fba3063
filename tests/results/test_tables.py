"""The row of a recipe: means, pooled figures, missing folds and differing settings."""

import json

import numpy as np
import pytest
from kept_runs import keep_run

from emokeras.recipes import RECIPES
from emokeras.reporting import metrics
from emokeras.results.rows import read_rows
from emokeras.results.tables import complete_runs, gain_text, pooled, recipe_row, recipe_rows, settings_note


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def groups_of(results, protocol="random"):
    return read_rows(results)["ravdess"][protocol]


def row_of(results, protocol="random", recipe="mel-resnet"):
    return recipe_row(groups_of(results, protocol)[recipe])


def test_a_single_run(results):
    keep_run(results, num_correct=32)
    low, high = metrics.interval(np.arange(40) < 32, range(40))
    assert row_of(results) == {
        "runs": "1 seed",
        "test clips": "40",
        "WA %": "80.0",
        "UA %": "80.0",
        "pooled WA %": f"80.0 [{100 * low:.1f}, {100 * high:.1f}]",
        "P %": "80.0",
        "F1 %": "80.0",
        "parameters": "1,234,567",
        "minutes": "10.5",
        "CPU-minutes": "18.5",
    }


def test_folds_and_seeds_are_averaged_and_pooled_by_speaker(results):
    correct = {(fold, seed): 20 + 2 * fold + seed for fold in range(5) for seed in (0, 1)}
    for (fold, seed), count in correct.items():
        keep_run(results, count, "luna", fold=fold, seed=seed)
    row = row_of(results, "luna")
    shares = np.array(list(correct.values())) / 40
    assert row["runs"] == "5 folds × 2 seeds"
    assert row["test clips"] == "200"
    assert row["WA %"] == f"{100 * shares.mean():.1f} ± {100 * shares.std(ddof=1):.1f}"
    together = np.concatenate([np.arange(40) < count for count in correct.values()])
    speakers = [f"{fold}-{index // 4 % 5}" for fold, _ in correct for index in range(40)]
    low, high = metrics.interval(together, speakers)
    assert row["pooled WA %"] == f"{100 * shares.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def test_fewer_than_ten_speakers_have_a_range(results):
    keep_run(results, 30, "luna")
    group = groups_of(results, "luna")["mel-resnet"]
    mean, interval, speakers = pooled([run.correct for run in group], group)
    assert (mean, interval, speakers) == (0.75, None, [1.0, 1.0, 0.75, 0.5, 0.5])
    assert recipe_row(group)["pooled WA %"] == "75.0 (50.0 to 100.0 over 5 speakers)"
    keep_run(results, 30, "luna", fold=1)
    assert "[" in row_of(results, "luna")["pooled WA %"]


def test_gains_have_a_sign():
    assert gain_text(0.028, [0.009, 0.048], []) == "+2.8 [0.9, 4.8]"
    assert gain_text(-0.004, None, [-0.01, 0.002]) == "-0.4 (-1.0 to 0.2 over 2 speakers)"


def test_missing_folds_are_stated(results):
    for fold, seed in ((0, 0), (1, 0), (1, 1)):
        keep_run(results, 30, "luna", fold=fold, seed=seed)
    keep_run(results, 30, "luna", recipe="other", fold=3)
    assert row_of(results, "luna")["runs"] == "3 runs of 2 of 5 folds × 2 seeds"
    assert row_of(results, "luna", "other")["runs"] == "1 of 5 folds × 1 seed"


def test_only_seeds_with_every_fold_are_complete(results):
    for fold in range(5):
        keep_run(results, 20, "luna", fold=fold)
    keep_run(results, 40, "luna", fold=0, seed=1)
    keep_run(results, 40, "luna", recipe="other", fold=0)
    groups = groups_of(results, "luna")
    assert recipe_row(complete_runs(groups["mel-resnet"]))["WA %"] == "50.0 ± 0.0"
    assert complete_runs(groups["other"]) == []


@pytest.mark.parametrize(("protocol", "count"), [("loso", 3), ("left-out", 2), ("speaker-kfold", 5)])
def test_complete_are_runs_of_as_many_folds_as_the_protocol_has_on_the_corpus(results, protocol, count):
    for fold in range(count):
        keep_run(results, 20, protocol, fold=fold, num_folds=count)
    keep_run(results, 40, protocol, fold=1, seed=1, num_folds=count)
    keep_run(results, 40, protocol, recipe="other", fold=0, num_folds=count)
    groups = groups_of(results, protocol)
    whole = complete_runs(groups["mel-resnet"])
    assert [run.metrics["fold"] for run in whole] == list(range(count))
    assert recipe_row(whole)["runs"] == f"{count} folds × 1 seed"
    assert complete_runs(groups["other"]) == []
    assert recipe_row(groups["other"])["runs"] == f"1 of {count} folds × 1 seed"


def test_splits_and_seeds_are_counted(results):
    for split in (0, 1, 2):
        keep_run(results, 30, split_seed=split)
    assert row_of(results)["runs"] == "3 splits"
    keep_run(results, 30, seed=1)
    assert row_of(results)["runs"] == "4 runs of 3 splits"


def test_minutes_are_averaged_unless_a_run_has_none(results):
    keep_run(results, 30, seed=0)
    keep_run(results, 30, seed=1, cpu_seconds={"train_cpu_seconds": 1230.0})
    keep_run(results, 30, recipe="older", seed=0)
    keep_run(results, 30, recipe="older", seed=1, cpu_seconds={})
    assert row_of(results)["CPU-minutes"] == "19.5"
    older = row_of(results, recipe="older")
    assert (older["CPU-minutes"], older["minutes"]) == ("–", "10.5")


def test_the_highest_accuracy_is_first(results):
    for recipe, count in (("mel-cnn3", 30), ("b", 35), ("a", 35)):
        keep_run(results, count, recipe=recipe)
    assert [row["recipe"] for row in recipe_rows(groups_of(results))] == ["a", "b", "mel-cnn3"]


def test_settings_that_are_not_the_recipes_are_noted(results):
    keep_run(results, 30)
    keep_run(results, 30, "luna", **{"training.epochs": 3, "encoder.filters": [8, 8, 8]})
    keep_run(results, 30, recipe="unknown")
    random, luna = groups_of(results), groups_of(results, "luna")
    assert settings_note("mel-resnet", random["mel-resnet"]) == ""
    filters = list(RECIPES["mel-resnet"].config.encoders["spectrogram"].filters)
    note = f"`encoders.spectrogram.filters` [8, 8, 8], now {filters}; `training.epochs` 3, now 120"
    assert settings_note("mel-resnet", luna["mel-resnet"]) == note
    assert settings_note("unknown", random["unknown"]).startswith("not a recipe")


def test_removed_settings_are_noted_as_those_of_an_earlier_version(results):
    folder = keep_run(results, 30)
    tree = json.loads((folder / "config.json").read_text())
    tree["training"]["teacher"] = "flagship"
    (folder / "config.json").write_text(json.dumps(tree))
    note = settings_note("mel-resnet", groups_of(results)["mel-resnet"])
    assert note == "settings of an earlier version: `training.teacher` flagship"


def test_rows_of_the_earlier_trimming_are_marked(results):
    """Until they are run again. The number of decibels is the recipe's, so it is no difference of its own."""
    folder = keep_run(results, 30)
    tree = json.loads((folder / "config.json").read_text())
    tree["audio"] = {"sample_rate_hz": 16000, "trim_decibels": 40.0, "window_seconds": 2.56, "num_windows": 3}
    (folder / "config.json").write_text(json.dumps(tree))
    assert settings_note("mel-resnet", groups_of(results)["mel-resnet"]) == "earlier trimming"
    tree["training"]["teacher"] = "flagship"
    tree["audio"]["trim_decibels"] = 30.0
    (folder / "config.json").write_text(json.dumps(tree))
    note = settings_note("mel-resnet", groups_of(results)["mel-resnet"])
    assert note == (
        "`audio.speech_decibels` 30, now 40; earlier trimming; "
        "settings of an earlier version: `training.teacher` flagship"
    )


def test_a_row_on_a_speech_encoder_says_that_it_is_pretrained(results):
    keep_run(results, 20, recipe="speech-tcn", **{"model.pretrained": "openai/whisper-base"})
    note = settings_note("speech-tcn", groups_of(results)["speech-tcn"])
    pretrained = (
        "pretrained (`openai/whisper-base`); its training audio is not public, contamination cannot be excluded"
    )
    assert note.startswith(pretrained)
    keep_run(results, 20, recipe="mel-cnn3")
    assert "pretrained" not in settings_note("mel-cnn3", groups_of(results)["mel-cnn3"])
