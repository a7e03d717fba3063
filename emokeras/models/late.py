"""Late fusion: combine the probabilities of several networks, with parameters that are fitted on validation.

`combine` uses what NumPy and keras.ops have in common, so that a table, a recognizer and an export compute the same.
The logarithms of probabilities serve as logits: they differ by a constant, which softmax removes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import minimize_scalar

from emokeras.config import EnsembleMethod
from emokeras.errors import RunError, first_line

SMALLEST_PROBABILITY = 1e-7  # 16 nats below certainty; it limits the weight of one very confident network
TIE_BREAK = 1e-3  # weight of the mean probability against a vote
LOG_TEMPERATURES = (-3.0, 3.0)  # between which a temperature is sought


@dataclass(frozen=True)
class Combination:
    """A method and its parameters: `weights` [members] of "weighted"; of "stacking" the logistic regression's `kernel`
    [members × emotions, emotions] and `bias` [emotions]."""

    method: EnsembleMethod
    weights: tuple[float, ...] = ()
    kernel: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()


def combine(probabilities, combination: Combination, ops=np):
    """Return the probabilities of an ensemble, float32 [clips, emotions].

    "mean-logits", "weighted": softmax of the mean of the logits, plain or weighted. "mean-probabilities": the mean.
    "vote": the share of the members whose most likely emotion it is; equally likely emotions share a member's vote, and
    the mean probability, with the weight of a thousandth of a vote, breaks ties. "stacking": multinomial logistic
    regression over the logits of all members.

    Parameters
    ----------
    probabilities: float32 [members, clips, emotions].
    ops: numpy, or keras.ops for tensors.
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


def fit_combination(
    method: EnsembleMethod, probabilities: np.ndarray, labels: np.ndarray, weights: Sequence[float] = ()
) -> Combination:
    """Fit a combination on validation clips.

    Parameters
    ----------
    probabilities: float32 [members, clips, emotions].
    labels: int [clips], the true emotions.
    weights: of the members in "weighted", in proportion; without any they are fitted.

    Raises
    ------
    RunError: an emotion has no clip, which stacking needs.
    """
    match method:
        case "weighted":
            shares = np.array(weights) / sum(weights) if weights else fit_weights(probabilities, labels)
            return Combination(method, weights=tuple(shares.tolist()))
        case "stacking":
            return _fit_stacking(probabilities, labels)
    return Combination(method)


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the non-negative weights [members], with sum 1, of the mean of logits with the least cross-entropy.

    The cross-entropy is convex in the weights (log-sum-exps of linear functions minus a linear one), so SLSQP (Kraft
    1988, in SciPy) finds its minimum.

    Parameters
    ----------
    probabilities: float32 [members, clips, emotions].
    labels: int [clips], the true emotions.
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

    equal = np.full(len(logits), 1 / len(logits))
    found = minimize(
        loss_and_gradient,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(logits),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    weights = np.clip(found.x, 0, None)
    weights /= weights.sum()
    # Where rounding ends the solver early, equal weights may be slightly better.
    return min((weights, equal), key=lambda each: loss_and_gradient(each)[0])


def with_temperature(probabilities, temperature: float, ops=np):
    """Return probabilities [..., emotions] whose logits are divided by a temperature (Guo et al., "On calibration of
    modern neural networks", ICML 2017); the order of the emotions stays. `ops` as for `combine`."""
    return _softmax(ops.log(ops.maximum(probabilities, SMALLEST_PROBABILITY)) / temperature, ops)


def fit_temperature(probabilities: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """Return the temperature with the lowest cross-entropy, averaged over several sets of clips of the same weight.

    Parameters
    ----------
    probabilities: float [clips, emotions] of each set.
    labels: int [clips] of each set, the true emotions.
    """

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        own = [with_temperature(values, temperature) for values in probabilities]
        right = [values[np.arange(len(names)), names] for values, names in zip(own, labels, strict=True)]
        return float(np.mean([-np.log(np.maximum(values, SMALLEST_PROBABILITY)).mean() for values in right]))

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def read_combination(path: Path) -> Combination:
    """Read a run's ensemble.json. Raises RunError when it is missing or damaged."""
    try:
        return TypeAdapter(Combination).validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} cannot be read ({first_line(error)}): combine the runs again") from error


def _fit_stacking(probabilities: np.ndarray, labels: np.ndarray) -> Combination:
    from sklearn.linear_model import LogisticRegression

    members, clips, emotions = probabilities.shape
    missing = emotions - len(np.unique(labels))
    if missing:
        raise RunError(f"stacking: {missing} of {emotions} emotions have no validation clip: take --method weighted")
    logits = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    rows = np.moveaxis(logits, 0, 1).reshape(clips, members * emotions)
    # 8 × 8 × members coefficients on a few hundred clips: strong regularization.
    fitted = LogisticRegression(C=0.01, max_iter=10_000).fit(rows, labels)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if emotions == 2:  # scikit-learn gives one score then, of the second against the first.
        kernel, bias = kernel * [-0.5, 0.5], bias * [-0.5, 0.5]
    return Combination("stacking", kernel=tuple(map(tuple, kernel.tolist())), bias=tuple(bias.tolist()))


def _softmax(logits, ops):
    exponentials = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)
