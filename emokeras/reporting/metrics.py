"""Labels and probabilities -> accuracy (WA), unweighted average recall (UA), precision, recall, F1, calibration.

Everything here is pure: arrays in, plain Python numbers out, ready for metrics.json. Emotions are indices into a list
of names. An emotion that has no clip in a subset has no recall: its figures are None (`null` in JSON), and it does not
enter the averages over emotions (UA, macro F1). One that occurs but is never predicted has precision 0 and F1 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from emokeras.errors import RunError

NUM_BOOTSTRAP_RESAMPLES = 10_000
NUM_CALIBRATION_BINS = 15


def score(
    labels: np.ndarray,
    probabilities: np.ndarray,
    emotions: Sequence[str],
    speakers: Sequence[str] | None = None,
    sexes: Sequence[str] | None = None,
    intensities: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return every figure of one subset, as metrics.json keeps it.

    Args:
        labels: index of the true emotion, int [clips].
        probabilities: what the model gives, float [clips, emotions], rows that sum to 1 (not logits).
        emotions: names, [emotions], in the order of the columns.
        speakers, sexes, intensities: one text for each clip, [clips]; clips with an empty text stand in no group.

    Returns:
        accuracy (WA), balanced_accuracy (UA), precision_weighted, recall_weighted, f1_weighted, f1_macro,
        accuracy_ci95 and balanced_accuracy_ci95 ([low, high]), expected_calibration_error, cross_entropy (nats),
        per_emotion {name: {precision, recall, f1, support}}, by_speaker, by_sex and by_intensity
        {value: {accuracy, balanced_accuracy, support}}, confusion_matrix (counts, rows are the truth). All shares
        lie in [0, 1].

    Raises:
        RunError: a probability is not a finite number (training has diverged).
        ValueError: the arguments do not fit each other, there is no clip, or the probabilities are none.
    """
    figures = point_figures(labels, probabilities, emotions)  # It checks them.
    labels, predicted = np.asarray(labels), np.asarray(probabilities).argmax(axis=1)
    return figures | {
        "accuracy_ci95": accuracy_interval(labels == predicted),
        "balanced_accuracy_ci95": _balanced_accuracy_interval(labels, predicted, len(emotions)),
        "by_speaker": _by_group(labels, predicted, speakers),
        "by_sex": _by_group(labels, predicted, sexes),
        "by_intensity": _by_group(labels, predicted, intensities),
    }


def point_figures(labels: np.ndarray, probabilities: np.ndarray, emotions: Sequence[str]) -> dict[str, Any]:
    """Return what `score` says of all clips together, but for the intervals, whose bootstraps take most of its time."""
    labels, probabilities = _checked(labels, probabilities, emotions)
    predicted = probabilities.argmax(axis=1)
    indices = np.arange(len(emotions))
    matrix = confusion_matrix(labels, predicted, labels=indices)
    present = np.flatnonzero(matrix.sum(axis=1))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=indices, average=None, zero_division=0.0
    )
    shares = support / support.sum()

    per_emotion = {}
    for index, name in enumerate(emotions):
        occurs = support[index] > 0
        per_emotion[name] = {
            "precision": float(precision[index]) if occurs else None,
            "recall": float(recall[index]) if occurs else None,
            "f1": float(f1[index]) if occurs else None,
            "support": int(support[index]),
        }

    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "balanced_accuracy": float(recall[present].mean()),
        "precision_weighted": float(precision @ shares),
        "recall_weighted": float(recall @ shares),
        "f1_weighted": float(f1 @ shares),
        "f1_macro": float(f1[present].mean()),
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
        "cross_entropy": cross_entropy(labels, probabilities),
        "per_emotion": per_emotion,
        "confusion_matrix": matrix.tolist(),
    }


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean recall over the emotions that occur (UA), both arguments int [clips]."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    return float(np.mean([np.mean(predicted[labels == label] == label) for label in np.unique(labels)]))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean of -log(probability of the true emotion), in nats.

    A probability of 0 counts as the smallest normal float32, which costs 87 nats and not infinity.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    given_to_truth = probabilities[np.arange(len(probabilities)), labels]
    return float(-np.log(np.maximum(given_to_truth, np.finfo(np.float32).tiny)).mean())


def calibration_bins(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the clips by the largest probability (the confidence) into bins of equal width, (0, 1/n], (1/n, 2/n] ...

    Args:
        labels: int [clips]; probabilities: float [clips, emotions].

    Returns:
        Clips in each bin, int [bins]; their mean confidence and their accuracy, float [bins], 0 in an empty bin.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    inner_edges = np.arange(1, num_bins) / num_bins
    bins = np.digitize(confidence, inner_edges, right=True)
    counts = np.bincount(bins, minlength=num_bins)
    divisor = np.maximum(counts, 1)
    mean_confidence = np.bincount(bins, weights=confidence, minlength=num_bins) / divisor
    accuracy = np.bincount(bins, weights=correct, minlength=num_bins) / divisor
    return counts, mean_confidence, accuracy


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS
) -> float:
    """Return the mean distance between confidence and accuracy over the bins, weighted by their clips, in [0, 1].

    Sources: Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo,
    Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks" (15 bins).
    """
    counts, confidence, accuracy = calibration_bins(labels, probabilities, num_bins)
    return float(counts @ np.abs(accuracy - confidence) / counts.sum())


def accuracy_interval(correct: np.ndarray, clips: Sequence[str] | None = None) -> list[float]:
    """Return the 95 % percentile bootstrap interval [low, high] of the accuracy, resampling clips.

    Args:
        correct: whether each prediction is right, bool [predictions].
        clips: name of the clip of each prediction, [predictions]. Several runs that predict the same clips are not
            independent: all predictions of a clip are drawn together. None: each prediction is a clip of its own.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; the interval is Efron's percentile method.
    """
    return _mean_interval(correct, np.arange(len(correct)) if clips is None else clips)


def gain_interval(gains: Sequence[int], clips: Sequence[str]) -> list[float]:
    """Return the 95 % percentile bootstrap interval [low, high] of the mean gain of one recogniser over another.

    Args:
        gains: for each prediction 1 where the one alone is right, -1 where the other alone is, else 0, [predictions].
        clips: as for `accuracy_interval`. Both recognisers' answers to a clip are drawn together: the bootstrap is
            paired.
    """
    return _mean_interval(gains, clips)


def _mean_interval(values: Sequence[int], clips: Sequence) -> list[float]:
    """Return the interval of the mean of whole numbers [predictions], all of a clip drawn together."""
    members = np.unique(np.asarray(clips), return_inverse=True)[1]
    contributions = np.stack([np.bincount(members, weights=values), np.bincount(members)], axis=1)
    totals = _bootstrap_totals(contributions.astype(np.int64))
    return _percentile_interval(totals[:, 0] / totals[:, 1])


def _balanced_accuracy_interval(labels: np.ndarray, predicted: np.ndarray, num_emotions: int) -> list:
    """The same interval for UA; a resample's mean is over the emotions that occur in it."""
    contributions = np.zeros([len(labels), 2, num_emotions], dtype=np.int64)
    clips = np.arange(len(labels))
    contributions[clips, 0, labels] = labels == predicted
    contributions[clips, 1, labels] = 1
    totals = _bootstrap_totals(contributions.reshape(len(labels), -1)).reshape(-1, 2, num_emotions)
    hits, occurrences = totals[:, 0], totals[:, 1]
    recalls = hits / np.maximum(occurrences, 1)
    return _percentile_interval(recalls.sum(axis=1) / (occurrences > 0).sum(axis=1))


def _bootstrap_totals(contributions: np.ndarray) -> np.ndarray:
    """Draw clips with replacement and add up what they contribute: [clips, quantities] -> [resamples, quantities].

    Clips that contribute the same are interchangeable, so how often each kind is drawn is multinomial: this is the
    bootstrap over clips exactly, at the cost of a few kinds instead of thousands of clips.
    """
    kinds, clips_of_kind = np.unique(contributions, axis=0, return_counts=True)
    num_clips = len(contributions)
    draws = np.random.default_rng(0).multinomial(num_clips, clips_of_kind / num_clips, NUM_BOOTSTRAP_RESAMPLES)
    return draws @ kinds


def _percentile_interval(values: np.ndarray) -> list[float]:
    return [float(bound) for bound in np.percentile(values, [2.5, 97.5])]


def _by_group(labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str] | None) -> dict[str, dict]:
    if groups is None:
        return {}
    groups = np.asarray(groups, dtype=str)
    if groups.shape != labels.shape:
        raise ValueError(f"there are {len(labels)} clips, but {groups.size} speakers, sexes or intensities")
    result = {}
    for value in sorted(set(groups.tolist()) - {""}):
        chosen = groups == value
        result[value] = {
            "accuracy": float(np.mean(labels[chosen] == predicted[chosen])),
            "balanced_accuracy": balanced_accuracy(labels[chosen], predicted[chosen]),
            "support": int(chosen.sum()),
        }
    return result


def _checked(labels: Any, probabilities: Any, emotions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if labels.size == 0:
        raise ValueError("there is no clip to score")
    if labels.ndim != 1 or probabilities.shape != (len(labels), len(emotions)):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} do not fit: "
            f"[clips] and [clips, {len(emotions)} emotions] are wanted"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= len(emotions):
        raise ValueError(
            f"labels must be indices 0 to {len(emotions) - 1} into the emotions, not {labels.dtype} values"
        )
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        raise RunError(
            f"the model gives no finite probabilities for {np.count_nonzero(~finite)} of {len(labels)} clips: training "
            "has diverged; train again with a smaller training.learning_rate"
        )
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() > 1e-3:
        raise ValueError("probabilities must be at least 0 and sum to 1 for each clip; are these logits?")
    return labels, probabilities
