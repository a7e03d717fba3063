"""Figures against scikit-learn, and intervals against SciPy, a direct bootstrap and all resamples."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from emokeras.errors import RunError
from emokeras.reporting import metrics

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def draw(num_clips=300, present=range(8), sharpness=1.5, seed=0):
    """Return labels of the emotions `present`, and probabilities that are higher for the true emotion."""
    random = np.random.default_rng(seed)
    labels = random.choice(list(present), num_clips)
    logits = random.normal(size=(num_clips, len(EMOTIONS)))
    logits[np.arange(num_clips), labels] += sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


@pytest.mark.parametrize("present", [range(8), [0, 2, 3, 7]], ids=["all emotions", "four of them"])
def test_agrees_with_scikit_learn(present):
    labels, probabilities = draw(present=present)
    predicted = probabilities.argmax(axis=1)
    score = metrics.score(labels, probabilities, EMOTIONS)

    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="weighted", zero_division=0
    )
    assert score["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert score["precision_weighted"] == pytest.approx(precision)
    assert score["recall_weighted"] == pytest.approx(recall)
    assert score["f1_weighted"] == pytest.approx(f1)
    recalls = sklearn_metrics.recall_score(labels, predicted, labels=list(present), average="macro")
    assert score["balanced_accuracy"] == pytest.approx(recalls)
    macro = sklearn_metrics.f1_score(labels, predicted, labels=list(present), average="macro")
    assert score["f1_macro"] == pytest.approx(macro)
    normalized = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    assert score["cross_entropy"] == pytest.approx(sklearn_metrics.log_loss(labels, normalized, labels=range(8)))
    assert score["confusion_matrix"] == sklearn_metrics.confusion_matrix(labels, predicted, labels=range(8)).tolist()


def test_an_emotion_without_clips_has_no_figures_and_no_weight():
    labels, probabilities = draw(present=[0, 2, 3, 7])
    score = metrics.score(labels, probabilities, EMOTIONS)
    assert score["per_emotion"]["calm"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    present = [row["recall"] for row in score["per_emotion"].values() if row["support"]]
    assert len(present) == 4
    assert score["balanced_accuracy"] == pytest.approx(np.mean(present))


def test_an_emotion_never_predicted_has_precision_0():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    score = metrics.score(np.array([0, 0, 1]), probabilities, ("calm", "sad"))
    assert score["per_emotion"]["sad"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert score["per_emotion"]["calm"] == {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8, "support": 2}
    assert score["accuracy"] == pytest.approx(2 / 3)
    assert score["balanced_accuracy"] == 0.5
    assert score["f1_macro"] == pytest.approx(0.4)
    assert score["confusion_matrix"] == [[2, 0], [1, 0]]


def test_the_score_is_json():
    labels, probabilities = draw(num_clips=40, present=[1, 2])
    score = metrics.score(labels, probabilities, EMOTIONS, speakers=["a"] * 40)
    assert json.loads(json.dumps(score, allow_nan=False)) == score


def test_groups():
    labels = np.array([0, 0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.6, 0.4]])
    score = metrics.score(
        labels,
        probabilities,
        ("calm", "sad"),
        speakers=["02", "02", "02", "02", "01"],
        sexes=["female", "female", "male", "", ""],
    )
    assert score["by_speaker"] == {
        "01": {"accuracy": 1.0, "balanced_accuracy": 1.0, "support": 1},
        "02": {"accuracy": 0.75, "balanced_accuracy": 0.75, "support": 4},
    }
    assert score["by_sex"] == {
        "female": {"accuracy": 0.5, "balanced_accuracy": 0.5, "support": 2},
        "male": {"accuracy": 1.0, "balanced_accuracy": 1.0, "support": 1},
    }
    assert score["by_intensity"] == {}


def test_balanced_accuracy_weighs_emotions_not_clips():
    labels = np.array([0] * 9 + [1])
    assert metrics.balanced_accuracy(labels, np.zeros(10, dtype=int)) == 0.5


def test_calibration_error_by_hand():
    # Two bins: 0.62 and 0.62, of which one is right, and 0.8 (wrong) and 0.9 (right).
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.62, 0.38], [0.62, 0.38]])
    labels = np.array([0, 0, 0, 1])
    expected = (2 * (0.62 - 0.5) + 2 * (0.85 - 0.5)) / 4
    assert metrics.expected_calibration_error(labels, probabilities, num_bins=2) == pytest.approx(expected)


@pytest.mark.parametrize("num_clips", [300, 308, 15, 7])
def test_calibration_error_agrees_with_a_plain_loop(num_clips):
    generator = np.random.default_rng(num_clips)
    probabilities = generator.dirichlet(np.full(4, 0.4), num_clips)
    labels = generator.integers(4, size=num_clips)
    ranked = sorted(range(num_clips), key=lambda clip: probabilities[clip].max())
    total = 0.0
    for part in range(15):
        members = [clip for rank, clip in enumerate(ranked) if rank * 15 // num_clips == part]
        if members:
            confidence = sum(probabilities[clip].max() for clip in members) / len(members)
            accuracy = sum(probabilities[clip].argmax() == labels[clip] for clip in members) / len(members)
            total += len(members) / num_clips * abs(confidence - accuracy)
    assert metrics.expected_calibration_error(labels, probabilities) == pytest.approx(total)
    sizes = metrics.calibration_bins(labels, probabilities)[0]
    assert sizes.max() - sizes.min() <= 1


def test_calibration_error_does_not_depend_on_the_order_of_equal_confidences():
    probabilities = np.tile([0.7, 0.3], (40, 1))
    labels = np.repeat([0, 1], 20)
    shuffled = np.random.default_rng(0).permutation(labels)
    for own in (labels, labels[::-1], shuffled):
        assert metrics.expected_calibration_error(own, probabilities) == pytest.approx(0.2)


def test_among_some_emotions_clips_are_answered_as_by_a_model_without_the_others():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.7, 0.1], [1.0, 0.0, 0.0]])
    labels = np.array([1, 2, 0, 2])
    clips, own_labels, shares = metrics.among(labels, probabilities, ("calm", "happy", "sad"), ("happy", "sad"))
    assert clips.tolist() == [0, 1, 3]  # without the one that is calm
    assert own_labels.tolist() == [0, 1, 1]
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.2, 0.8], [0.5, 0.5]])


def test_cross_entropy_of_a_certain_error_is_finite():
    value = metrics.cross_entropy(np.array([1]), np.array([[1.0, 0.0]]))
    assert value == pytest.approx(-np.log(np.finfo(np.float32).tiny))


def test_accuracy_interval_agrees_with_scipy():
    correct = np.random.default_rng(1).random(250) < 0.8
    low, high = metrics.interval(correct, range(250))
    reference = stats.bootstrap(
        (correct.astype(float),), np.mean, method="percentile", n_resamples=10_000, random_state=0
    ).confidence_interval
    assert [low, high] == pytest.approx([reference.low, reference.high], abs=0.005)
    binomial = stats.binom.ppf([0.025, 0.975], 250, correct.mean()) / 250
    assert [low, high] == pytest.approx(binomial.tolist(), abs=0.005)


def test_balanced_accuracy_interval_agrees_with_scipy():
    labels, probabilities = draw(num_clips=200, present=[0, 1, 4])
    predicted = probabilities.argmax(axis=1)
    score = metrics.score(labels, probabilities, EMOTIONS)

    def balanced(indices):
        return metrics.balanced_accuracy(labels[indices], predicted[indices])

    reference = stats.bootstrap(
        (np.arange(200),), balanced, method="percentile", n_resamples=2000, vectorized=False, random_state=0
    ).confidence_interval
    assert score["balanced_accuracy_ci95"] == pytest.approx([reference.low, reference.high], abs=0.01)


def by_speaker(num_speakers=12, clips=20, seed=3):
    """Labels, predictions and speakers; speakers differ in accuracy, so that their clips are not independent, and in
    the number of their clips."""
    random = np.random.default_rng(seed)
    speakers = np.repeat([f"{number:02}" for number in range(num_speakers)], clips)[: -clips // 2]
    labels = np.arange(len(speakers)) % 4
    ability = np.repeat(random.uniform(0.3, 1.0, num_speakers), clips)[: len(speakers)]
    return labels, np.where(random.random(len(speakers)) < ability, labels, (labels + 1) % 4), speakers


def test_speaker_intervals_agree_with_a_direct_bootstrap():
    labels, predicted, speakers = by_speaker()
    correct = (labels == predicted).astype(int)
    clips_of = [np.flatnonzero(speakers == name) for name in np.unique(speakers)]
    random = np.random.default_rng(0)
    accuracies, recalls = [], []
    for _ in range(5000):
        drawn = np.concatenate([clips_of[number] for number in random.choice(len(clips_of), len(clips_of))])
        accuracies.append(correct[drawn].mean())
        recalls.append(metrics.balanced_accuracy(labels[drawn], predicted[drawn]))
    own = metrics.interval(correct, speakers)
    assert own == pytest.approx(np.percentile(accuracies, [2.5, 97.5]).tolist(), abs=0.01)
    expected = np.percentile(recalls, [2.5, 97.5]).tolist()
    assert metrics.interval(correct, speakers, labels) == pytest.approx(expected, abs=0.01)
    by_clip = metrics.interval(correct, range(len(correct)))
    assert own[1] - own[0] > 1.3 * (by_clip[1] - by_clip[0])


@pytest.mark.parametrize("num_groups", [2, 3])
def test_intervals_of_few_groups_agree_with_all_resamples(num_groups):
    values, groups = [1, 0, 1, 1, -1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1, 1, 2, 2]
    chosen = [index for index, group in enumerate(groups) if group < num_groups]
    values, groups = np.array(values)[chosen], np.array(groups)[chosen]
    means = []
    for resample in itertools.product(range(num_groups), repeat=num_groups):
        means.append(np.concatenate([values[groups == group] for group in resample]).mean())
    expected = np.percentile(means, [2.5, 97.5], method="inverted_cdf")
    assert metrics.interval(values, groups) == pytest.approx(expected.tolist())


def test_score_resamples_speakers_where_whole_speakers_are_tested():
    labels, predicted, speakers = by_speaker()
    probabilities = np.eye(4)[predicted]
    score = metrics.score(labels, probabilities, EMOTIONS[:4], speakers=list(speakers), whole_speakers=True)
    assert score["accuracy_ci95"] == metrics.interval(labels == predicted, speakers)
    assert score["balanced_accuracy_ci95"] == metrics.interval(labels == predicted, speakers, labels)
    by_clip = metrics.score(labels, probabilities, EMOTIONS[:4], speakers=list(speakers))
    assert by_clip["accuracy_ci95"] == metrics.interval(labels == predicted, range(len(labels)))


@pytest.mark.parametrize("speakers", [["01", "02"] * 20, ["01"] * 39 + [""], None])
def test_few_or_unknown_speakers_have_no_interval(speakers):
    labels, probabilities = draw(num_clips=40)
    score = metrics.score(labels, probabilities, EMOTIONS, speakers=speakers, whole_speakers=True)
    assert score["accuracy_ci95"] is score["balanced_accuracy_ci95"] is None
    assert json.loads(json.dumps(score, allow_nan=False)) == score


def test_intervals_are_seeded():
    labels, probabilities = draw()
    first, second = (metrics.score(labels, probabilities, EMOTIONS) for _ in range(2))
    assert first == second


def test_predictions_of_several_runs_for_one_clip_are_drawn_together():
    correct = np.random.default_rng(2).random(300) < 0.7
    clips = [f"clip-{index}" for index in range(300)]
    once = metrics.interval(correct, clips)
    assert metrics.interval(np.tile(correct, 4), clips * 4) == pytest.approx(once)
    assert metrics.interval([0, 0], ["a", "b"]) == [0, 0]


def test_arguments_that_are_not_labels_and_probabilities_are_refused():
    labels, probabilities = draw(num_clips=10)
    with pytest.raises(ValueError, match="logits"):
        metrics.score(labels, np.log(probabilities), EMOTIONS)
    with pytest.raises(ValueError, match="do not fit"):
        metrics.score(labels, probabilities[:, :7], EMOTIONS)
    with pytest.raises(ValueError, match="indices"):
        metrics.score(labels + 8, probabilities, EMOTIONS)
    with pytest.raises(ValueError, match="no clip"):
        metrics.score(labels[:0], probabilities[:0], EMOTIONS)
    probabilities[3:5, 0] = np.nan
    with pytest.raises(RunError, match=r"2 of 10 clips.*learning_rate"):
        metrics.score(labels, probabilities, EMOTIONS)
