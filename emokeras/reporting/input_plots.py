"""Plots of the input: spectrograms of clips, and the attention between the branches."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from emokeras.reporting.plots import STYLE, laid_out, new_figure

FREQUENCY_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def spectrogram_batch(
    plain: Sequence[np.ndarray],
    augmented: Sequence[np.ndarray] | None = None,
    titles: Sequence[str] = (),
    hop_seconds: float = 0.010,
    plain_masks: Sequence[np.ndarray] | None = None,
    augmented_masks: Sequence[np.ndarray] | None = None,
    band_centers_hz: Sequence[float] | None = None,
    unit: str = "dB",
    feature_name: str = "band",
) -> Figure:
    """Draw the network's input: a column per clip, the plain features above, the augmented ones below.

    Parameters
    ----------
    plain: features of each clip, [clips] of float [frames, bands], in decibels or normalized.
    augmented: the same clips augmented; None: no second row.
    titles: a text over each clip, such as its emotion.
    hop_seconds: time between two frames.
    plain_masks, augmented_masks: [clips] of bool [frames], False for padding, which is drawn gray.
    band_centers_hz: center frequency of each band, [bands], rising; None: the bands are numbered.
    unit: of the features.
    feature_name: the name of what is numbered where there are no frequencies.
    """
    rows = [("plain", plain, plain_masks)]
    if augmented is not None:
        rows.append(("augmented", augmented, augmented_masks))
    if any(len(features) != len(plain) for _, features, _ in rows) or len(plain) == 0:
        raise ValueError("give the same clips plain and augmented, at least one")
    masked = [
        [_without_padding(array, masks[clip] if masks is not None else None) for clip, array in enumerate(features)]
        for _, features, masks in rows
    ]
    # One scale for all, so that gain and masks are visible, without the lowest percent, which would stretch it.
    shown = np.concatenate([array.compressed() for row in masked for array in row])
    low, high = np.percentile(shown, [1, 99.8]) if shown.size else (0.0, 1.0)

    with matplotlib.rc_context(STYLE):
        figure = new_figure(1.6 + 2.3 * len(plain), 0.9 + 2.2 * len(rows))
        grid = figure.subplots(len(rows), len(plain), squeeze=False, sharex=True, sharey=True)
        for axes_row, (name, _, _), row in zip(grid, rows, masked, strict=True):
            for axes, array in zip(axes_row, row, strict=True):
                frames, bands = array.shape
                axes.set_facecolor("#d0d0d0")
                image = axes.imshow(
                    array.T,
                    origin="lower",
                    aspect="auto",
                    interpolation="nearest",
                    cmap="magma",
                    vmin=low,
                    vmax=high,
                    extent=(0, frames * hop_seconds, -0.5, bands - 0.5),
                )
                axes.spines[:].set_visible(False)
                if band_centers_hz is not None:
                    _frequency_ticks(axes, np.asarray(band_centers_hz, dtype=np.float64))
            quantity = feature_name if band_centers_hz is None else "frequency (kHz)"
            axes_row[0].set_ylabel(f"{name}\n{quantity}")
        for axes, text in zip(grid[0], titles, strict=False):
            axes.set_title(text)
        for axes in grid[-1]:
            axes.set_xlabel("seconds")
        colorbar = figure.colorbar(image, ax=grid, pad=0.01, aspect=30)
        colorbar.set_label(unit)
        colorbar.outline.set_visible(False)
        return laid_out(figure)


def _without_padding(features: np.ndarray, mask: np.ndarray | None) -> np.ma.MaskedArray:
    features = np.asarray(features, dtype=np.float64)  # [frames, bands]
    if features.ndim != 2:
        raise ValueError(f"the features of a clip must be [frames, bands], not {features.shape}")
    padding = np.zeros(len(features), dtype=bool) if mask is None else ~np.asarray(mask, dtype=bool)
    return np.ma.masked_array(features, np.broadcast_to(padding[:, np.newaxis], features.shape))


def _frequency_ticks(axes, band_centers_hz: np.ndarray) -> None:
    ticks_hz = [tick for tick in FREQUENCY_TICKS_HZ if band_centers_hz[0] <= tick <= band_centers_hz[-1] * 1.05]
    positions = np.interp(ticks_hz, band_centers_hz, np.arange(len(band_centers_hz)))
    axes.set_yticks(positions, [f"{tick / 1000:g}" for tick in ticks_hz])


class AttentionMap(NamedTuple):
    """Attention weights of the steps of one branch over those of the others: float [steps, other steps], rows that sum
    to 1.

    `names`: of the branch and of the others. For the branch and for the others: `seconds`, the length of all steps,
    None where they are not on a time axis; `words`, the word of each step, [] where they are not words.
    """

    weights: np.ndarray
    names: Sequence[str]
    seconds: tuple[float | None, float | None]
    words: tuple[Sequence[str], Sequence[str]]


def attention_maps(maps: Sequence[AttentionMap], title: str = "") -> Figure:
    """Draw attention maps side by side: a row for each step of the branch, a column for each step of the others."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.2 * len(maps), 3.8)
        figure.suptitle(title)
        for axes, one in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
            image = axes.imshow(one.weights, origin="lower", aspect="auto", interpolation="nearest", cmap="viridis")
            branch, *others = one.names
            _step_ticks(axes.yaxis, len(one.weights), one.seconds[0], one.words[0], branch)
            _step_ticks(axes.xaxis, one.weights.shape[1], one.seconds[1], one.words[1], ", ".join(others))
            axes.set_title(f"attention of {branch} to {' and '.join(others)}")
            axes.spines[:].set_visible(False)
            colorbar = figure.colorbar(image, ax=axes, pad=0.02, aspect=30)
            colorbar.outline.set_visible(False)
        colorbar.set_label("weight")
        return laid_out(figure)


def _step_ticks(axis, num_steps: int, seconds: float | None, words: Sequence[str], name: str) -> None:
    if words:
        axis.set_ticks(range(num_steps), words, rotation=30 if axis.axis_name == "x" else 0)
        axis.set_label_text(f"{name} (words)")
    elif seconds is None:
        axis.set_label_text(f"{name} (steps)")
    else:
        ticks = np.arange(0, seconds, 0.5)
        axis.set_ticks(ticks / seconds * num_steps - 0.5, [f"{tick:g}" for tick in ticks])
        axis.set_label_text(f"{name} (seconds)")
