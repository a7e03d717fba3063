"""Adapt a trained network to a corpus: the statistics of its speech frames, and its last layer, fitted anew.

The last layer is a multinomial logistic regression on the embedding, drawn to what it was. It is fitted to its optimum
in seconds, with a few clips of an emotion as with many.
"""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from emokeras.config import Config, with_experiment
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import Corpus, for_each_corpus
from emokeras.data.corpora.clips import present_emotions
from emokeras.data.speech import frame_statistics
from emokeras.errors import CorpusError, UsageError
from emokeras.recognizer.adapt import with_statistics
from emokeras.recognizer.model import Recognizer, join
from emokeras.training.score import WINDOWS_PER_BATCH, mean_over_windows, to_labels, to_probabilities
from emokeras.training.subsets import Subset, encode_corpus, evaluation_inputs, predict_subset

HEAD = "emotion"  # the layer that gives the logits
PRIOR_WEIGHT = 50.0  # of the squared distance of the head to the earlier one, in nats for a half of it
NUM_FOLDS = 5
LEAST_LOGIT = -1e4  # of an emotion that is never answered


def adapt_recognizer(recognizer: Recognizer, clips: Subset) -> Recognizer:
    """Return a recognizer of one network, adapted to labelled clips.

    Parameters
    ----------
    recognizer: of `recognizer.load_networks`.
    clips: of `clips_of`. Emotions that the network does not have are added to it.

    Raises UsageError for an ensemble, and for a network whose logits are of several heads.
    """
    member = _only_member(recognizer)
    config = with_experiment(member.config, emotions=emotions_with(member.config, clips.clips))
    network = adapt_network(member.network, config, clips)
    members = (replace(member, network=network, config=config),)
    return join(config, recognizer.clips_used, members, None, recognizer.encoder)


def clips_of(recognizer: Recognizer, corpus: Corpus) -> Subset:
    """Return the clips of a corpus with what the network takes, and their labels among all emotions of both."""
    config = _only_member(recognizer).config
    if config.takes_transcripts:
        raise UsageError("this network takes transcripts: only one that takes audio alone can be adapted")
    emotions, rate = emotions_with(config, corpus.clips), config.sample_rate_hz
    clips, waveforms, speech = list(corpus.clips), [], None
    if config.audio_inputs:
        waveforms = for_each_corpus(clips, lambda own: load_waveforms(own, rate))
    if config.has_speech_encoder:
        plain = replace(config, augment=replace(config.augment, num_variants=0))
        speech = encode_corpus(plain, corpus, lambda: recognizer.encoder)
    return Subset(clips, to_labels(clips, emotions), waveforms, speech=speech)


def emotions_with(config: Config, clips: Sequence) -> tuple[str, ...]:
    """Return the emotions of a network, then those that only these clips have."""
    own = config.experiment.emotions
    return (*own, *(emotion for emotion in present_emotions(clips) if emotion not in own))


def adapt_network(network: keras.Model, config: Config, clips: Subset) -> keras.Model:
    """Return a network that is adapted to labelled clips. `config` is its configuration, with all emotions that it is
    to have: those that it lacks come last. One without clips cannot be recognized."""
    if clips.speech:
        network = with_statistics(network, frame_statistics(own[0] for own in clips.speech))
    kernel, bias = network.get_layer(HEAD).get_weights()
    num_emotions = len(config.experiment.emotions)
    added = np.arange(len(bias), num_emotions)
    kernel, bias = np.pad(kernel, ((0, 0), (0, len(added)))), np.pad(bias, (0, len(added)))
    kernel, bias = fit_head(embed(network, config, clips), clips.labels, kernel, bias)
    bias[np.setdiff1d(added, clips.labels)] = LEAST_LOGIT
    head = keras.layers.Dense(num_emotions, dtype="float32", name=HEAD)
    adapted = keras.Model(network.input, {HEAD: head(network.get_layer(HEAD).input)}, name=network.name)
    head.set_weights([kernel, bias])
    return adapted


def embed(network: keras.Model, config: Config, clips: Subset) -> np.ndarray:
    """Return what the head of a network takes, the mean over the windows of each clip, float64 [clips, units]: the mean
    of the windows' logits is the head of it."""
    embedding = keras.Model(network.input, network.get_layer(HEAD).input)
    means = []
    for part in clips.parts():
        inputs, numbers = evaluation_inputs(part, config)
        windows = embedding.predict(inputs, batch_size=WINDOWS_PER_BATCH, verbose=0)
        means.append(mean_over_windows(windows, numbers))
    return np.concatenate(means)


def fit_head(
    embeddings: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray, prior_weight: float = PRIOR_WEIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the multinomial logistic regression that minimizes the cross-entropy of clips, summed,
    and `prior_weight` / 2 times the squared distance of the kernel to the one given. Only the emotions of these clips
    compete: the clips are no evidence against others, whose kernel and bias stay.

    Parameters
    ----------
    embeddings: float64 [clips, units].
    labels: int [clips].
    kernel, bias: [units, emotions], [emotions].
    """
    present = np.unique(labels)
    targets = labels[:, np.newaxis] == present
    start = np.vstack([kernel, bias])[:, present].astype(np.float64)  # The bias is the last row.
    features = np.hstack([embeddings, np.ones([len(embeddings), 1])])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        logits = features @ weights
        moved = weights - start
        moved[-1] = 0.0  # The bias is free.
        gradient = features.T @ (softmax(logits, axis=1) - targets) + prior_weight * moved
        return prior_weight / 2 * np.square(moved).sum() - log_softmax(logits, axis=1)[targets].sum(), gradient.ravel()

    fitted = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x.reshape(start.shape)
    kernel, bias = kernel.copy(), bias.copy()
    kernel[:, present], bias[present] = fitted[:-1], fitted[-1]
    return kernel, bias


def cross_validate(recognizer: Recognizer, clips: Subset) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the probabilities of clips before the adaptation, and by networks that are adapted to the other folds,
    [clips, emotions] each, and of what the folds are: "speakers" where there are several, else "clips".

    Raises CorpusError for fewer than two clips of an emotion, or of one emotion only.
    """
    member = _only_member(recognizer)
    counts = np.bincount(clips.labels)[np.unique(clips.labels)]
    if len(counts) < 2 or counts.min() < 2:
        raise CorpusError("to adapt needs two emotions at least, and two clips of each: give more clips")
    speakers = np.array([clip.speaker for clip in clips.clips])
    num_speakers = len(set(speakers))
    if num_speakers > 1:
        folds = StratifiedGroupKFold(min(NUM_FOLDS, num_speakers, counts.min()), shuffle=True, random_state=0)
    else:
        folds = StratifiedKFold(min(NUM_FOLDS, counts.min()), shuffle=True, random_state=0)
    config = with_experiment(member.config, emotions=emotions_with(member.config, clips.clips))
    before, after = np.zeros([2, len(clips.clips), len(config.experiment.emotions)])
    before[:, : len(member.config.experiment.emotions)] = to_probabilities(
        predict_subset(member.network, clips, config)
    )
    for train, test in folds.split(clips.labels, clips.labels, speakers):
        network = adapt_network(member.network, config, clips.take(train))
        after[test] = to_probabilities(predict_subset(network, clips.take(test), config))
    return before, after, "speakers" if num_speakers > 1 else "clips"


def _only_member(recognizer: Recognizer):
    if len(recognizer.members) != 1:
        raise UsageError("an ensemble cannot be adapted: give one network, such as a member's run")
    (member,) = recognizer.members
    if not isinstance(member.network.get_layer(HEAD), keras.layers.Dense):
        raise UsageError("a hybrid network has several heads and cannot be adapted: give another model")
    return member
