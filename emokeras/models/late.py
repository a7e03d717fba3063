"""Late fusion: what several networks say of a clip, made one answer, and the weights of that, fitted on validation.

Written with what NumPy and keras.ops have in common, so that a table, a recogniser and an export compute the same.
All of it works on probabilities: their logarithms are logits, up to what softmax does not see.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from emokeras.config import EnsembleMethod
from emokeras.errors import RunError, first_line

SMALLEST_PROBABILITY = 1e-7  # A network that is quite sure has logits like no other: 16 nats below is as good as none.
TIE_BREAK = 1e-3  # how much of a vote the mean probability counts


@dataclass(frozen=True)
class Combination:
    """How answers become one. "weighted" has a weight for each member, "stacking" a logistic regression: `kernel`
    [members × emotions, emotions] and `bias` [emotions]."""

    method: EnsembleMethod
    weights: tuple[float, ...] = ()
    kernel: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()


def combine(probabilities, combination: Combination, ops=np):
    """Return the probabilities [clips, emotions] of an ensemble whose members say probabilities [members, clips,
    emotions]; `ops` is numpy, or keras.ops for tensors.

    mean-logits, weighted: the softmax of the mean of the logits, plain or by the weights. mean-probabilities: their
    mean. vote: the share of the members whose likeliest emotion it is, where equals share a member's vote; among equal
    shares the mean probability decides, which enters as a thousandth of a vote. stacking: multinomial logistic
    regression over all members' logits.
    """
    match combination.method:
        case "mean-probabilities":
            return ops.mean(probabilities, axis=0)
        case "vote":
            is_likeliest = probabilities >= ops.max(probabilities, axis=-1, keepdims=True)
            votes = ops.where(is_likeliest, ops.ones_like(probabilities), 0.0)
            votes = ops.mean(votes / ops.sum(votes, axis=-1, keepdims=True), axis=0)
            return (votes + TIE_BREAK * ops.mean(probabilities, axis=0)) / (1.0 + TIE_BREAK)
    logits = ops.log(ops.maximum(probabilities, SMALLEST_PROBABILITY))
    match combination.method:
        case "mean-logits":
            return _softmax(ops.mean(logits, axis=0), ops)
        case "weighted":
            weights = np.array(combination.weights, np.float32)[:, np.newaxis, np.newaxis]
            return _softmax(ops.sum(logits * weights, axis=0), ops)
        case "stacking":
            num_emotions = len(combination.bias)
            kernel = np.array(combination.kernel, np.float32).reshape(-1, num_emotions, num_emotions)
            scores = ops.einsum("mce,mef->cf", logits, kernel) + np.array(combination.bias, np.float32)
            return _softmax(scores, ops)


def fit_combination(method: EnsembleMethod, probabilities: np.ndarray, labels: np.ndarray) -> Combination:
    """Return the combination of members that say probabilities [members, clips, emotions] of the validation clips whose
    emotions are `labels`, int [clips]. Raises RunError where stacking lacks a clip of some emotion."""
    match method:
        case "weighted":
            return Combination(method, weights=tuple(fit_weights(probabilities, labels).tolist()))
        case "stacking":
            return _fit_stacking(probabilities, labels)
    return Combination(method)


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights [members], none negative, of sum 1, by which the mean of the members' logits has the least
    cross-entropy.

    That is convex in the weights (a sum of log-sum-exps of linear functions less a linear one), so that SLSQP (Kraft
    1988, by SciPy) finds the one minimum.

    Parameters
    ----------
    probabilities: [members, clips, emotions]; labels: int [clips].
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST_PROBABILITY))
    clips = np.arange(len(labels))
    of_truth = logits[:, clips, labels]  # [members, clips]

    def loss_and_gradient(weights):
        mixed = np.tensordot(weights, logits, 1)  # [clips, emotions]
        loss = logsumexp(mixed, axis=1) - weights @ of_truth
        gradient = (softmax(mixed, axis=1) * logits).sum(axis=2) - of_truth
        return loss.mean(), gradient.mean(axis=1)

    even = np.full(len(logits), 1 / len(logits))
    found = minimize(
        loss_and_gradient,
        even,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(logits),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    weights = np.clip(found.x, 0, None)
    weights /= weights.sum()
    # Where the solver ends early for rounding, even weights may be better by less than it tells.
    return min((weights, even), key=lambda each: loss_and_gradient(each)[0])


def read_combination(path: Path) -> Combination:
    """Read the file in which a run keeps its combination, as JSON. Raises RunError."""
    try:
        return TypeAdapter(Combination).validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} cannot be read ({first_line(error)}): fuse the runs again") from error


def _fit_stacking(probabilities: np.ndarray, labels: np.ndarray) -> Combination:
    from sklearn.linear_model import LogisticRegression

    members, clips, emotions = probabilities.shape
    missing = emotions - len(np.unique(labels))
    if missing:
        raise RunError(f"stacking: {missing} of {emotions} emotions have no validation clip: take --method weighted")
    logits = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    rows = np.moveaxis(logits, 0, 1).reshape(clips, members * emotions)
    # 8 × 8 × members coefficients on some hundred clips: much regularised.
    fitted = LogisticRegression(C=0.01, max_iter=10_000).fit(rows, labels)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if emotions == 2:  # scikit-learn has one score then, of the second beyond the first.
        kernel, bias = kernel * [-0.5, 0.5], bias * [-0.5, 0.5]
    return Combination("stacking", kernel=tuple(map(tuple, kernel.tolist())), bias=tuple(bias.tolist()))


def _softmax(logits, ops):
    exponentials = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)
