"""Labels and probabilities to accuracy (WA), unweighted average recall (UA), precision, recall, F1 and calibration.

Pure functions: arrays in, plain Python numbers out, ready for metrics.json. Emotions are indices into a list of names.
An emotion without clips in a subset has no recall: its figures are None (`null` in JSON), and it is left out of the
averages over emotions (UA, macro F1). An emotion that occurs but is never predicted has precision 0 and F1 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from emokeras.errors import RunError

NUM_BOOTSTRAP_RESAMPLES = 10_000
MIN_SPEAKERS = 10  # a bootstrap over fewer speakers gives intervals that are too narrow
NUM_CALIBRATION_BINS = 15


def score(
    labels: np.ndarray,
    probabilities: np.ndarray,
    emotions: Sequence[str],
    speakers: Sequence[str] | None = None,
    sexes: Sequence[str] | None = None,
    intensities: Sequence[str] | None = None,
    whole_speakers: bool = False,
) -> dict[str, Any]:
    """Return every figure of one subset, as metrics.json keeps it.

    Parameters
    ----------
    labels: int [clips], the true emotions.
    probabilities: float [clips, emotions], rows that sum to 1 (not logits).
    emotions: names [emotions], in the order of the columns.
    speakers, sexes, intensities: text [clips]; a clip with an empty text is in no group.
    whole_speakers: whether all clips of a speaker are in the subset, so that speakers and not clips are independent.

    Returns
    -------
    accuracy (WA), balanced_accuracy (UA), precision_weighted, recall_weighted, f1_weighted, f1_macro, accuracy_ci95 and
    balanced_accuracy_ci95 ([low, high]; None with `whole_speakers` and fewer than MIN_SPEAKERS known speakers),
    expected_calibration_error, cross_entropy (nats), per_emotion {name: {precision, recall, f1, support}}, by_speaker,
    by_sex and by_intensity {value: {accuracy, balanced_accuracy, support}}, confusion_matrix (counts, rows are the
    true emotions). All shares are in [0, 1].

    Raises
    ------
    RunError: a probability is not a finite number (training has diverged).
    ValueError: the arguments do not fit each other, there is no clip, or the probabilities do not sum to 1.
    """
    figures = point_figures(labels, probabilities, emotions)  # It checks them.
    labels, predicted = np.asarray(labels), np.asarray(probabilities).argmax(axis=1)
    by_speaker = _by_group(labels, predicted, speakers)
    groups = np.arange(len(labels))
    if whole_speakers:
        groups = speakers if speakers is not None and all(speakers) and len(by_speaker) >= MIN_SPEAKERS else None
    correct = labels == predicted
    return figures | {
        "accuracy_ci95": None if groups is None else interval(correct, groups),
        "balanced_accuracy_ci95": None if groups is None else interval(correct, groups, labels),
        "by_speaker": by_speaker,
        "by_sex": _by_group(labels, predicted, sexes),
        "by_intensity": _by_group(labels, predicted, intensities),
    }


def point_figures(labels: np.ndarray, probabilities: np.ndarray, emotions: Sequence[str]) -> dict[str, Any]:
    """Return the figures of `score` over all clips, without the intervals, whose bootstrap takes most of its time."""
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
    of_true_emotion = probabilities[np.arange(len(probabilities)), labels]
    return float(-np.log(np.maximum(of_true_emotion, np.finfo(np.float32).tiny)).mean())


def calibration_bins(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the clips by the largest probability (the confidence) into bins of equal mass: as many clips in each, or one
    fewer. Clips of the same confidence count with their mean accuracy, so that their order does not matter.

    Parameters
    ----------
    labels: int [clips].
    probabilities: float [clips, emotions].

    Returns
    -------
    The number of clips in each bin, int [bins], the least confident first; their mean confidence and their accuracy,
    float [bins], 0 in an empty bin (with fewer clips than bins).

    Source: Nguyen and O'Connor 2015, "Posterior Calibration and Exploratory Analysis for Natural Language Processing
    Models" (adaptive binning).
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    confidence, place = np.unique(probabilities.max(axis=1), return_inverse=True)  # Sorted, each value once.
    correct = probabilities.argmax(axis=1) == labels
    clips = np.bincount(place)
    share = np.repeat(np.bincount(place, weights=correct) / clips, clips)
    bins = np.arange(len(labels)) * num_bins // len(labels)
    counts = np.bincount(bins, minlength=num_bins)
    divisor = np.maximum(counts, 1)
    mean_confidence = np.bincount(bins, weights=np.repeat(confidence, clips), minlength=num_bins) / divisor
    accuracy = np.bincount(bins, weights=share, minlength=num_bins) / divisor
    return counts, mean_confidence, accuracy


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS
) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal mass, weighted by their clips, in
    [0, 1].

    Bins of equal width leave most clips of a confident model in one bin, where errors of both signs cancel. Sources:
    Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Nixon et al.
    2019, "Measuring Calibration in Deep Learning" (bins of equal mass, 15 of them).
    """
    counts, confidence, accuracy = calibration_bins(labels, probabilities, num_bins)
    return float(counts @ np.abs(accuracy - confidence) / counts.sum())


def among(
    labels: np.ndarray, probabilities: np.ndarray, emotions: Sequence[str], kept: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the clips of some of the emotions as a model would answer them that has no others.

    Parameters
    ----------
    labels, probabilities, emotions: as in `score`.
    kept: some of the emotions, in the same order; the probabilities of the others are dropped and the rest is divided
        by its sum, which makes it uniform where all of it is 0.

    Returns
    -------
    The indices of the clips of these emotions, int [kept clips], their labels among `kept`, and their probabilities
    [kept clips, kept emotions].
    """
    columns = [emotions.index(name) for name in kept]
    clips = np.flatnonzero(np.isin(labels, columns))
    rest = np.asarray(probabilities, dtype=np.float64)[np.ix_(clips, columns)]
    total = rest.sum(axis=1, keepdims=True)
    shares = np.divide(rest, total, out=np.full_like(rest, 1 / len(columns)), where=total > 0)
    return clips, np.searchsorted(columns, np.asarray(labels)[clips]), shares


def interval(values: Sequence[int], groups: Sequence, classes: Sequence[int] | None = None) -> list[float]:
    """Return the 95 % percentile bootstrap interval [low, high] of a mean, resampling independent groups.

    Parameters
    ----------
    values: int [predictions]: 1 for a correct prediction, else 0. For a paired gain of one system over another, the
        first one's value minus the second one's.
    groups: [predictions], the clip of each prediction, or its speaker where whole speakers are tested. All predictions
        of a group are drawn together: those of several runs on one clip, or on one speaker's clips, are dependent.
    classes: int [predictions], the true emotions: the interval is then of the mean over the emotions' means (UA), over
        the emotions that occur in a resample. None: of the mean over all predictions (WA).

    Sources: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; of whole groups: Davison and Hinkley 1997,
    "Bootstrap Methods and their Application", section 3.8.
    """
    values = np.asarray(values, dtype=np.int64)
    of_group = np.unique(np.asarray(groups), return_inverse=True)[1]
    of_class = np.zeros_like(of_group) if classes is None else np.unique(classes, return_inverse=True)[1]
    num_groups, num_classes = of_group.max() + 1, of_class.max() + 1
    sums = np.zeros([num_groups, 2, num_classes], dtype=np.int64)  # of the values, and their number
    np.add.at(sums[:, 0], (of_group, of_class), values)
    np.add.at(sums[:, 1], (of_group, of_class), 1)

    # Groups with the same sums are interchangeable, so the number of draws of each kind is multinomial: the exact
    # bootstrap, at the cost of a few kinds instead of thousands of clips.
    kinds, counts = np.unique(sums.reshape(num_groups, -1), axis=0, return_counts=True)
    draws = np.random.default_rng(0).multinomial(num_groups, counts / num_groups, NUM_BOOTSTRAP_RESAMPLES)
    totals = (draws @ kinds).reshape(-1, 2, num_classes)
    means = totals[:, 0] / np.maximum(totals[:, 1], 1)
    estimates = means.sum(axis=1) / (totals[:, 1] > 0).sum(axis=1)
    return [float(bound) for bound in np.percentile(estimates, [2.5, 97.5])]


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
            f"the probabilities of {np.count_nonzero(~finite)} of {len(labels)} clips are not finite: training has "
            "diverged; train again with a smaller training.learning_rate"
        )
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() > 1e-3:
        raise ValueError("probabilities must be at least 0 and sum to 1 for each clip; are these logits?")
    return labels, probabilities
