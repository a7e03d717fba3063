"""Late fusion: fitted weights are optimal in any order of members; NumPy and tensors give the same probabilities."""

import itertools

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from emokeras.errors import RunError
from emokeras.models.late import (
    Combination,
    combine,
    fit_combination,
    fit_temperature,
    fit_weights,
    read_combination,
    with_temperature,
)
from emokeras.reporting.metrics import cross_entropy

METHODS = ("mean-logits", "mean-probabilities", "vote", "weighted", "stacking")


def members(seed: int, num_members: int = 3, clips: int = 60, emotions: int = 4, sharpness: float = 2.0):
    """Return probabilities [members, clips, emotions] of members of different accuracy, and the labels [clips]."""
    random = np.random.default_rng(seed)
    labels = np.arange(clips) % emotions
    margin = random.uniform(0, 2, num_members)[:, np.newaxis, np.newaxis]
    logits = random.normal(scale=sharpness, size=(num_members, clips, emotions)) + margin * np.eye(emotions)[labels]
    return softmax(logits, axis=-1).astype(np.float32), labels


def loss(probabilities, labels, weights):
    return cross_entropy(labels, combine(probabilities, Combination("weighted", tuple(weights))))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sharpness", [0.3, 2.0, 8.0])
def test_fitted_weights_are_never_worse_than_the_mean_or_a_member(seed, sharpness):
    probabilities, labels = members(seed, 2 + seed % 4, sharpness=sharpness)
    weights = fit_weights(probabilities, labels)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    fitted = loss(probabilities, labels, weights)
    assert fitted <= cross_entropy(labels, combine(probabilities, Combination("mean-logits"))) + 1e-6
    for member in np.eye(len(probabilities)):
        assert fitted <= loss(probabilities, labels, member) + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_no_weights_on_a_grid_are_better(seed):
    probabilities, labels = members(seed)
    fitted = loss(probabilities, labels, fit_weights(probabilities, labels))
    grid = [(a, b, 1 - a - b) for a, b in itertools.product(np.linspace(0, 1, 41), repeat=2) if a + b <= 1]
    best = min(loss(probabilities, labels, weights) for weights in grid)
    assert best - 2e-3 <= fitted <= best + 1e-6


def test_the_order_of_the_members_does_not_matter():
    probabilities, labels = members(3, 4)
    test, _ = members(4, 4)
    weights = fit_weights(probabilities, labels)
    assert len(set(np.round(weights, 3))) == 4  # else a wrong order would go unnoticed
    combined = {method: combine(test, fit_combination(method, probabilities, labels)) for method in METHODS}
    for order in map(list, itertools.permutations(range(4))):
        np.testing.assert_allclose(fit_weights(probabilities[order], labels), weights[order], atol=1e-4)
        for method, expected in combined.items():
            other = combine(test[order], fit_combination(method, probabilities[order], labels))
            np.testing.assert_allclose(other, expected, atol=1e-3, err_msg=method)


def test_a_single_member_has_weight_1_and_keeps_its_probabilities():
    probabilities, labels = members(0, 1)
    assert fit_combination("weighted", probabilities, labels).weights == (1.0,)
    for method in ("mean-logits", "mean-probabilities", "weighted"):
        np.testing.assert_allclose(
            combine(probabilities, fit_combination(method, probabilities, labels)), probabilities[0], atol=1e-6
        )


def test_a_member_at_chance_gets_no_weight():
    probabilities, labels = members(1, 2)
    chance = np.full_like(probabilities[:1], 0.25)
    correct = softmax(2.0 * np.eye(4)[labels], axis=-1)[np.newaxis].astype(np.float32)
    weights = fit_weights(np.concatenate([correct, chance]), labels)
    np.testing.assert_allclose(weights, [1, 0], atol=1e-6)


def test_means_are_those_of_numpy():
    probabilities, _ = members(2)
    np.testing.assert_allclose(combine(probabilities, Combination("mean-probabilities")), probabilities.mean(axis=0))
    logits = np.log(probabilities) + np.arange(60)[:, np.newaxis]  # A constant per clip does not matter.
    np.testing.assert_allclose(
        combine(probabilities, Combination("mean-logits")), softmax(logits.mean(axis=0), axis=-1), atol=1e-6
    )


def test_votes_are_counted_and_ties_go_to_the_higher_mean_probability():
    first, second, third = [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.5, 0.4]
    shares = combine(np.array([[first], [second], [third]], np.float32), Combination("vote"))
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3, 0]], atol=2e-3)
    tied = combine(np.array([[first], [second]], np.float32), Combination("vote"))  # equal sums, 0.8 each
    np.testing.assert_allclose(tied, [[1 / 2, 1 / 2, 0]], atol=2e-3)
    surer = combine(np.array([[first], [[0.05, 0.9, 0.05]]], np.float32), Combination("vote"))
    assert surer.argmax() == 1
    assert surer.sum() == pytest.approx(1)
    unsure = combine(np.array([[first], [[0.4, 0.2, 0.4]]], np.float32), Combination("vote"))
    np.testing.assert_allclose(unsure, [[3 / 4, 0, 1 / 4]], atol=2e-3)
    assert unsure.sum() == pytest.approx(1)


def test_stacking_is_the_logistic_regression_of_scikit_learn():
    probabilities, labels = members(5)
    test, _ = members(6)
    rows, test_rows = (np.log(np.moveaxis(each, 0, 1).reshape(60, 12)) for each in (probabilities, test))
    expected = LogisticRegression(C=0.01, max_iter=10_000).fit(rows, labels).predict_proba(test_rows)
    found = combine(test, fit_combination("stacking", probabilities, labels))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_stacking_works_with_two_emotions():
    probabilities, labels = members(5)
    probabilities = probabilities[..., :2] / probabilities[..., :2].sum(axis=-1, keepdims=True)
    rows = np.log(np.moveaxis(probabilities, 0, 1).reshape(60, 6))
    expected = LogisticRegression(C=0.01, max_iter=10_000).fit(rows, labels % 2).predict_proba(rows)
    found = combine(probabilities, fit_combination("stacking", probabilities, labels % 2))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_stacking_without_a_clip_of_some_emotion_is_refused():
    probabilities, labels = members(5)
    with pytest.raises(RunError, match="1 of 4 emotions have no validation clip"):
        fit_combination("stacking", probabilities[:, labels != 2], labels[labels != 2])


@pytest.mark.parametrize("method", METHODS)
def test_tensors_give_what_arrays_give(method):
    probabilities, labels = members(7)
    probabilities[0, :3] = [1, 0, 0, 0]  # log(0) is not finite
    combination = fit_combination(method, probabilities, labels)
    expected = combine(probabilities, combination)
    found = combine(keras.ops.convert_to_tensor(probabilities), combination, keras.ops)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=2e-6)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


def test_a_damaged_or_missing_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "ensemble.json"
    path.write_text('{"method": "weighted", "weights": ["a"]}')
    for expected in (r"ensemble.json cannot be read \(.*\): combine the runs again", "No such file"):
        with pytest.raises(RunError, match=expected) as caught:
            read_combination(path)
        assert "\n" not in str(caught.value)
        path.unlink(missing_ok=True)


def test_weights_that_are_given_are_not_fitted():
    probabilities, labels = np.full([3, 4, 2], 0.5, np.float32), np.array([0, 1, 0, 1])
    assert fit_combination("weighted", probabilities, labels, (2.0, 1.0, 1.0)).weights == (0.5, 0.25, 0.25)


def test_a_temperature_keeps_the_order_and_is_found_again():
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=2.0, size=(4000, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(5, p=row) for row in probabilities])
    # Too confident.
    confident = with_temperature(probabilities, 1 / 1.5)
    np.testing.assert_array_equal(confident.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(with_temperature(confident, 1.5), probabilities, atol=1e-3)
    assert fit_temperature([confident], [labels]) == pytest.approx(1.5, rel=0.06)
    assert fit_temperature([probabilities], [labels]) == pytest.approx(1.0, rel=0.06)
    # Sets have the same weight, however many clips they have.
    few = np.arange(400)
    both = fit_temperature([confident, probabilities[few]], [labels, labels[few]])
    many = fit_temperature([confident[few], probabilities], [labels[few], labels])
    assert both == pytest.approx(many, rel=0.1)
