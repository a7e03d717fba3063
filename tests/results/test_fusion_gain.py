"""The gain of fusion: each figure of the comparison is computed again with NumPy and SciPy."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from kept_runs import Clip
from scipy.special import softmax

from emokeras import runs
from emokeras.config import ExperimentConfig, to_json
from emokeras.files import write_text
from emokeras.models.late import combine, fit_combination
from emokeras.recipes import RECIPES
from emokeras.reporting import metrics
from emokeras.results.fusion_gain import fusion_section, paired_gains
from emokeras.results.rows import read_run

EMOTIONS = ("calm", "happy", "sad")
NUM_CLIPS = 60


def keep(results, recipe, margin, fold=0, seed=0, split="aa", split_seed=0, protocol="luna"):
    """Put a run under results/ and read it; the true emotion's logits are higher by `margin`."""
    random = np.random.default_rng([fold, seed, len(recipe), int(10 * margin)])
    name = f"fold-{fold}-seed-{seed}" if protocol == "luna" else f"split-{split_seed}-seed-{seed}"
    folder = results / "ravdess" / protocol / recipe / name
    folder.mkdir(parents=True)
    experiment = ExperimentConfig(("ravdess",), (), protocol, fold, seed, split_seed, EMOTIONS)
    write_text(folder / "config.json", to_json(replace(RECIPES[recipe].config, experiment=experiment)))
    scores = {}
    for subset, file in (("test", "predictions.csv"), ("validation", "validation_predictions.csv")):
        labels = np.arange(NUM_CLIPS) % 3
        logits = random.normal(size=(NUM_CLIPS, 3)) + margin * np.eye(3)[labels]
        probabilities = softmax(logits, axis=1).astype(np.float32)
        clips = [
            Clip(f"{subset}-{fold}-{index}", f"{fold}-{index % 12}", EMOTIONS[label])
            for index, label in enumerate(labels)
        ]
        order = random.permutation(NUM_CLIPS)  # The clips of runs may be in any order.
        runs.write_predictions(folder / file, [clips[index] for index in order], EMOTIONS, probabilities[order])
        scores[subset] = metrics.score(labels[order], probabilities[order], EMOTIONS)
    numbers = {
        "fold": fold,
        "seed": seed,
        "split_seed": split_seed,
        "num_train": 9,
        "num_validation": 60,
        "num_test": 60,
    }
    value = {"recipe": recipe, "corpus": "ravdess", "protocol": protocol, **numbers, "emotions": list(EMOTIONS)}
    runs.write_json(folder / "metrics.json", value | scores | {"split_sha256": split})
    return read_run(folder, results)


@pytest.fixture
def rows(tmp_path):
    results = tmp_path / "results"
    return {
        "mel-resnet": [keep(results, "mel-resnet", 1.0, fold) for fold in range(3)],
        "mel-cnn3": [keep(results, "mel-cnn3", 2.0)],  # better, and of one fold only
        "mfcc-tcn": [keep(results, "mfcc-tcn", 1.2, fold) for fold in range(3)],
        "text-gru": [keep(results, "text-gru", 0.0, fold) for fold in range(3)],
    }


def table(rows) -> dict[str, list[str]]:
    """Return the rows of the comparison by their first cell."""
    lines = [line for line in "\n".join(fusion_section(rows)).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    return {first: others for first, *others in cells}


def together(rows, recipes, file):
    """Return clips, labels and probabilities [recipes, clips, emotions] of the first fold, in one order."""
    read = [runs.read_predictions(rows[recipe][0].folder / file) for recipe in recipes]
    order = [np.argsort(one[0]) for one in read]
    stacked = np.stack([one[4][places] for one, places in zip(read, order, strict=True)])
    return np.array(read[0][0])[order[0]], read[0][2][order[0]], stacked


def test_the_rows_are_each_branch_each_pair_and_all(rows):
    assert list(table(rows)) == [
        "`mel-resnet`",
        "`mfcc-tcn`",
        "`text-gru`",
        "`mel-resnet` + `mfcc-tcn`",
        "`mel-resnet` + `text-gru`",
        "`mfcc-tcn` + `text-gru`",
        "`mel-resnet` + `mfcc-tcn` + `text-gru`",
    ]
    assert "Over 3 runs of each" in "\n".join(fusion_section(rows))


def test_a_branch_alone_has_its_own_figures(rows):
    accuracies = [100 * run.test["accuracy"] for run in rows["mfcc-tcn"]]
    recalls = [100 * run.test["balanced_accuracy"] for run in rows["mfcc-tcn"]]
    fusion, wa, ua, gain, weights = table(rows)["`mfcc-tcn`"]
    assert wa == f"{np.mean(accuracies):.1f} ± {np.std(accuracies, ddof=1):.1f}"
    assert ua == f"{np.mean(recalls):.1f} ± {np.std(recalls, ddof=1):.1f}"
    assert (fusion, gain, weights) == ("–", "–", "–")


@pytest.mark.parametrize("protocol", ["random", "luna"])
def test_a_pair_is_a_weighted_ensemble_and_its_gain_is_paired(protocol, tmp_path):
    """Against SciPy's bootstrap, over clips where speakers are known and over speakers where they are new."""
    pair = {"mel-resnet": 1.0, "mfcc-tcn": 1.2}
    rows = {recipe: [keep(tmp_path / "results", recipe, pair[recipe], protocol=protocol)] for recipe in pair}
    _, labels, validation = together(rows, pair, "validation_predictions.csv")
    combination = fit_combination("weighted", validation, labels)
    clips, labels, test = together(rows, pair, "predictions.csv")
    is_right = combine(test, combination).argmax(axis=1) == labels
    alone = [each.argmax(axis=1) == labels for each in test]
    best = max(alone, key=np.mean)
    gains = is_right.astype(int) - best.astype(int)

    fusion, wa, _, gain, weights = table(rows)["`mel-resnet` + `mfcc-tcn`"]
    assert fusion == "weighted"
    assert wa == f"{100 * is_right.mean():.1f}"
    assert weights == " · ".join(f"{weight:.2f}" for weight in combination.weights)
    mean, low, high = (float(number) for number in re.findall(r"[+-]?\d+\.\d", gain))
    assert mean == pytest.approx(100 * gains.mean(), abs=0.05)
    if protocol == "luna":  # 12 speakers with 5 clips each: the bootstrap of their means
        speakers = np.array([int(clip.split("-")[-1]) % 12 for clip in clips])
        gains = np.array([gains[speakers == speaker].mean() for speaker in range(12)])
    bootstrap = scipy.stats.bootstrap((gains,), np.mean, method="percentile", n_resamples=9999, rng=0)
    assert low == pytest.approx(100 * bootstrap.confidence_interval.low, abs=1.7)  # one clip is 1.7 %
    assert high == pytest.approx(100 * bootstrap.confidence_interval.high, abs=1.7)


def test_paired_gains_follow_the_clips_of_the_baseline(rows):
    own, baseline = rows["mfcc-tcn"], rows["mel-resnet"]
    correct = {clip: right for run in own for clip, right in zip(run.clips, run.correct, strict=True)}
    for gains, run in zip(paired_gains(own, baseline), baseline, strict=True):
        expected = [int(correct[clip]) - int(right) for clip, right in zip(run.clips, run.correct, strict=True)]
        assert gains.tolist() == expected
        assert {-1, 0, 1} == set(expected)


def test_a_branch_at_chance_adds_nothing(rows):
    _, _, _, gain, weights = table(rows)["`mfcc-tcn` + `text-gru`"]
    assert float(weights.split(" · ")[0]) > 0.8
    _, low, high = (float(number) for number in re.findall(r"[+-]?\d+\.\d", gain))
    assert low <= 0 <= high


def test_an_input_is_represented_by_the_recipe_with_the_most_runs_then_the_better_on_validation(rows, tmp_path):
    rows["mel-cnn3"] += [keep(tmp_path / "more", "mel-cnn3", 2.0, fold) for fold in (1, 2)]
    assert "`mel-cnn3`" in table(rows)
    assert "`mel-resnet`" not in table(rows)


def test_a_recipe_represents_an_input_rather_than_another_configuration(rows, tmp_path):
    """The best configuration of a search may well be better on validation."""
    rows["mfcc-tcn-tuned"] = [keep(tmp_path / "tuned", "mfcc-tcn", 3.0, fold) for fold in range(3)]
    assert "`mfcc-tcn`" in table(rows)
    assert "`mfcc-tcn-tuned`" not in table(rows)


def test_a_branch_with_fewer_folds_is_left_out(rows, tmp_path):
    cells = table(rows)
    rows["prosody-tcn"] = [keep(tmp_path / "begun", "prosody-tcn", 1.0, fold) for fold in range(2)]
    assert table(rows) == cells


def test_a_branch_with_fewer_splits_is_left_out(tmp_path):
    """On a protocol without folds, more seeds of one split are not more splits."""
    rows = {
        recipe: [keep(tmp_path / str(split), recipe, 1.0, split_seed=split) for split in range(3)]
        for recipe in ("mel-resnet", "mfcc-tcn")
    }
    cells = table(rows)
    rows["prosody-tcn"] = [keep(tmp_path, "prosody-tcn", 1.0, seed=seed) for seed in range(3)]
    assert table(rows) == cells


def test_clips_with_the_same_names_and_other_content_are_not_compared(rows, tmp_path):
    rows["mfcc-tcn"] = [keep(tmp_path / "other", "mfcc-tcn", 1.2, fold, split="bb") for fold in range(3)]
    assert fusion_section(rows) == []


def test_a_joint_network_is_compared_if_it_has_all_the_runs(rows, tmp_path):
    rows["early-mel-mfcc"] = [keep(tmp_path / "joint", "early-mel-mfcc", 1.5, fold) for fold in range(2)]
    assert "`early-mel-mfcc`" not in table(rows)
    rows["early-mel-mfcc"].append(keep(tmp_path / "joint", "early-mel-mfcc", 1.5, 2))
    fusion, wa, _, gain, weights = table(rows)["`early-mel-mfcc`"]
    assert (fusion, weights) == ("joint", "–")
    assert wa.startswith(f"{100 * np.mean([run.test['accuracy'] for run in rows['early-mel-mfcc']]):.1f}")
    assert re.match(r"^[+-]\d", gain)


def test_one_branch_or_different_folds_are_no_comparison(rows):
    assert fusion_section({"mel-resnet": rows["mel-resnet"]}) == []
    apart = {"mel-resnet": rows["mel-resnet"][:1], "mfcc-tcn": rows["mfcc-tcn"][1:]}
    assert fusion_section(apart) == []
