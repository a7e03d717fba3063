"""Compute the logits, probabilities and metrics of a subset."""

from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import softmax

from emokeras.data.corpora import Clip
from emokeras.data.pipeline import ClipWindows
from emokeras.reporting import metrics

WINDOWS_PER_BATCH = 96


def predict_logits(model: keras.Model, windows: ClipWindows) -> np.ndarray:
    """Return each clip's logits [clips, emotions], the mean over its windows."""
    logits = model.predict(windows.inputs, batch_size=WINDOWS_PER_BATCH, verbose=0)["emotion"]
    return mean_over_windows(logits, windows.clips).astype(np.float32)


def mean_over_windows(values: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Return the mean over each clip's windows, float64 [clips, units], of values [windows, units]; `clips` is as in
    `pipeline.ClipWindows`."""
    sums = np.zeros((clips[-1] + 1, values.shape[1]), np.float64)
    np.add.at(sums, clips, values)
    return sums / np.bincount(clips)[:, np.newaxis]


def to_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    return softmax(logits.astype(np.float64), axis=-1).astype(np.float32)


def to_labels(clips: Sequence[Clip], emotions: Sequence[str]) -> np.ndarray:
    """Return the index of each clip's emotion, int [clips]."""
    number = {emotion: index for index, emotion in enumerate(emotions)}
    return np.array([number[clip.emotion] for clip in clips], dtype=np.int64)


def score_clips(
    clips: Sequence[Clip], emotions: Sequence[str], probabilities: np.ndarray, whole_speakers: bool
) -> dict:
    """Return the metrics of probabilities [clips, emotions], also by speaker, sex and intensity. `whole_speakers` is as
    in `metrics.score`."""
    return metrics.score(
        to_labels(clips, emotions),
        probabilities,
        emotions,
        speakers=[clip.speaker for clip in clips],
        sexes=[clip.sex for clip in clips],
        intensities=[clip.intensity for clip in clips],
        whole_speakers=whole_speakers,
    )
