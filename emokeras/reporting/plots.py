"""The pictures: confusion matrix, learning curves, reliability diagram, and what the network sees.

Each function returns a matplotlib Figure that belongs to no window and no global state; `save` writes it as PNG, the
same bytes each time, and `to_image` gives the pixels for TensorBoard. The colours are Okabe and Ito's, which people
with any colour vision can tell apart, and maps whose lightness rises evenly.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emokeras.files import replacing
from emokeras.reporting import metrics

BLUE, LIGHT_BLUE, VERMILLION = "#0072B2", "#9CC7E2", "#D55E00"
INK, FAINT_INK, GRID, EMPTY = "#262626", "#6b6b6b", "#e3e3e3", "#ececec"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that pictures do not depend on the machine's fonts
    "font.size": 10,
    "text.hinting": "none",  # hinted, the bold digits of small text look like another typeface
    "axes.titlesize": 11,
    "axes.edgecolor": FAINT_INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": FAINT_INK,
    "ytick.color": FAINT_INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
FREQUENCY_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def confusion_matrix(matrix: Sequence[Sequence[int]], emotions: Sequence[str], title: str = "") -> Figure:
    """Draw counts and the percent of each row; colour follows the percent.

    Args:
        matrix: clips, int [emotions, emotions], rows are the truth.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    num_emotions = len(emotions)
    if counts.shape != (num_emotions, num_emotions):
        raise ValueError(f"the matrix is {counts.shape}, there are {num_emotions} emotions")
    clips_in_row = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(clips_in_row, 1)

    with matplotlib.rc_context(STYLE):
        side_inches = 2.2 + 0.72 * num_emotions
        figure = _figure(side_inches + 0.9, side_inches)
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(num_emotions):
            for column in range(num_emotions):
                _write_cell(axes, row, column, counts[row, column], shares[row, column], clips_in_row[row, 0])
        labels = [f"{name}  ({clips})" for name, clips in zip(emotions, clips_in_row[:, 0], strict=True)]
        axes.set_xticks(range(num_emotions), emotions, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(num_emotions), labels)
        axes.set_xlabel("recognised as")
        axes.set_ylabel("spoken emotion  (clips)")
        axes.set_title(title, pad=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        # White lines between the cells, drawn as the grid of the minor ticks.
        axes.set_xticks(np.arange(num_emotions + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_emotions + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="minor", length=0)
        colorbar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, format=_percent())
        colorbar.set_label("of the clips of this emotion")
        colorbar.outline.set_visible(False)
        return _laid_out(figure)


def _write_cell(axes, row: int, column: int, count: int, share: float, clips_in_row: int) -> None:
    if clips_in_row == 0:
        axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=EMPTY, linewidth=0)
        return
    if count == 0:
        axes.text(column, row, "·", ha="center", va="center", color="#b0b0b0")
        return
    color = "white" if share > 0.55 else INK
    weight = "bold" if row == column else "normal"
    axes.text(column, row - 0.12, f"{100 * share:.0f} %", ha="center", va="center", color=color, weight=weight)
    axes.text(column, row + 0.24, str(count), ha="center", va="center", color=color, fontsize=7.5)


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int | None = None, title: str = "") -> Figure:
    """Draw loss and accuracy over the epochs, of training and validation, with the best epoch marked.

    Args:
        history: rows of history.csv: epoch (from 1), loss, accuracy, and val_loss, val_accuracy where there are any;
            they are nan where an epoch was not scored.
        best_epoch: the epoch whose weights were kept, as `epoch` counts; None: the one of least val_loss.
    """
    rows = [dict(row) for row in history]
    if not rows:
        raise ValueError("the history has no epoch to draw")
    epochs = np.array([row.get("epoch", index + 1) for index, row in enumerate(rows)])
    curves = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in rows[0] if key != "epoch"}
    if best_epoch is None and np.isfinite(curves.get("val_loss", [])).any():
        best_epoch = int(epochs[np.nanargmin(curves["val_loss"])])
    best = np.flatnonzero(epochs == best_epoch)
    marker = "o" if len(rows) == 1 else ""  # A line through one epoch would not be seen.

    with matplotlib.rc_context(STYLE):
        figure = _figure(9.0, 4.0)
        for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for name, column, color in (("training", key, BLUE), ("validation", f"val_{key}", VERMILLION)):
                if column in curves:
                    values = curves[column]
                    known = np.isfinite(values)
                    axes.plot(epochs[known], values[known], color=color, label=name, linewidth=1.8, marker=marker)
            if key == "accuracy":
                axes.yaxis.set_major_formatter(_percent())
                axes.set_ylim(0, 1)
            else:
                shown = [values[np.isfinite(values)] for column, values in curves.items() if column.endswith(key)]
                axes.set_ylim(0, 1.08 * max((float(values.max()) for values in shown if len(values)), default=1.0))
            if len(best) and f"val_{key}" in curves:
                _mark_best(axes, best_epoch, curves[f"val_{key}"][best[0]], key)
            axes.set_title(key)
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
        figure.suptitle(title, fontsize=11)
        return _laid_out(figure)


def _mark_best(axes, epoch: int, value: float, key: str) -> None:
    axes.axvline(epoch, color=FAINT_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.plot(
        [epoch],
        [value],
        linestyle="",
        marker="o",
        color=VERMILLION,
        markeredgecolor="white",
        markersize=9,
        zorder=4,
        label=f"best epoch ({epoch})",
    )
    # The text stands where curves that learn do not go: high up for the loss, low down for the accuracy.
    on_the_left = epoch > np.mean(axes.get_xlim())
    axes.annotate(
        f"{100 * value:.1f} %" if key == "accuracy" else f"{value:.3f}",
        (epoch, 0.95 if key == "loss" else 0.05),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-6 if on_the_left else 6, 0),
        textcoords="offset points",
        ha="right" if on_the_left else "left",
        va="center",
        color=VERMILLION,
        weight="bold",
    )


def reliability_diagram(labels: np.ndarray, probabilities: np.ndarray, title: str = "") -> Figure:
    """Draw how often the network is right against how sure it is, and below how sure it is how often.

    Args:
        labels: int [clips]; probabilities: float [clips, emotions].
    """
    counts, confidence, accuracy = metrics.calibration_bins(labels, probabilities)
    error = metrics.expected_calibration_error(labels, probabilities)
    filled = counts > 0
    width = 1 / len(counts)
    centers = (np.arange(len(counts)) + 0.5) * width
    with matplotlib.rc_context(STYLE):
        figure = _figure(4.8, 5.6)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        upper.bar(centers[filled], accuracy[filled], width * 0.92, color=LIGHT_BLUE, edgecolor=BLUE, label="accuracy")
        for center, sure, right in zip(centers[filled], confidence[filled], accuracy[filled], strict=True):
            left = [center - width * 0.46, center + width * 0.46]
            upper.plot(left, [sure, sure], color=VERMILLION, linewidth=2)
            upper.plot([center, center], [sure, right], color=VERMILLION, linewidth=1)
        upper.plot([], [], color=VERMILLION, linewidth=2, label="mean confidence")
        upper.plot([0, 1], [0, 1], color=FAINT_INK, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
        upper.set_ylim(0, 1)
        upper.set_ylabel("accuracy")
        upper.set_title(title or "Reliability", pad=10)
        lower.bar(centers, counts, width * 0.92, color=FAINT_INK)
        lower.set_ylabel("clips")
        lower.set_xlabel(f"confidence   (expected calibration error {100 * error:.1f} %)")
        lower.set_xlim(0, 1)
        lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
        for axes in (upper, lower):
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.xaxis.set_major_formatter(_percent())
        upper.yaxis.set_major_formatter(_percent())
        figure.align_ylabels()
        handles, labels_of_handles = upper.get_legend_handles_labels()
        figure.legend(handles, labels_of_handles, loc="outside lower center", ncols=3, fontsize=9, columnspacing=1.2)
        return _laid_out(figure)


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
    """Draw what the network sees: one column a clip, the plain features above, the augmented below.

    Args:
        plain: features of each clip, [clips] of float [frames, bands], in decibels or normalised.
        augmented: the same clips augmented; None: no second row.
        titles: a text over each clip, such as its emotion.
        hop_seconds: time between two frames.
        plain_masks, augmented_masks: which frames are no padding, [clips] of bool [frames]; padding is drawn grey.
        band_centers_hz: centre frequency of each band, [bands], rising; None: the bands are numbered.
        unit: what the colour means.
        feature_name: what is numbered where there are no frequencies.
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
    # One scale for all, so that gain and masks show; the quietest percent may not stretch it.
    heard = np.concatenate([array.compressed() for row in masked for array in row])
    low, high = np.percentile(heard, [1, 99.8]) if heard.size else (0.0, 1.0)

    with matplotlib.rc_context(STYLE):
        figure = _figure(1.6 + 2.3 * len(plain), 0.9 + 2.2 * len(rows))
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
        return _laid_out(figure)


class AttentionMap(NamedTuple):
    """Where the steps of one branch look in the others: `looks` float [steps, other steps], rows that sum to 1.

    `names` are the branch's and the others'. For both sides, in this order: `seconds` is how long all its steps take,
    None where they are no time; `words` are what they stand for, [] where they are no words.
    """

    looks: np.ndarray
    names: Sequence[str]
    seconds: tuple[float | None, float | None]
    words: tuple[Sequence[str], Sequence[str]]


def attention_maps(maps: Sequence[AttentionMap], title: str = "") -> Figure:
    """Draw attention maps side by side: a row for each step that looks, a column for each that is looked at."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(4.2 * len(maps), 3.8)
        figure.suptitle(title)
        for axes, one in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
            image = axes.imshow(one.looks, origin="lower", aspect="auto", interpolation="nearest", cmap="viridis")
            branch, *others = one.names
            _step_ticks(axes.yaxis, len(one.looks), one.seconds[0], one.words[0], branch)
            _step_ticks(axes.xaxis, one.looks.shape[1], one.seconds[1], one.words[1], ", ".join(others))
            axes.set_title(f"{branch} looks at {' and '.join(others)}")
            axes.spines[:].set_visible(False)
            colorbar = figure.colorbar(image, ax=axes, pad=0.02, aspect=30)
            colorbar.outline.set_visible(False)
        colorbar.set_label("weight")
        return _laid_out(figure)


def _step_ticks(axis, num_steps: int, seconds: float | None, words: Sequence[str], name: str) -> None:
    if words:
        axis.set_ticks(range(num_steps), words, rotation=30 if axis.axis_name == "x" else 0)
        axis.set_label_text(f"{name} (words)")
    elif seconds is None:
        axis.set_label_text(f"{name} (steps, one after the other)")
    else:
        ticks = np.arange(0, seconds, 0.5)
        axis.set_ticks(ticks / seconds * num_steps - 0.5, [f"{tick:g}" for tick in ticks])
        axis.set_label_text(f"{name} (seconds)")


class Panel(NamedTuple):
    """What a setting was in each trial, [trials]: numbers between two `ends`, on a logarithmic axis where `is_log`; or,
    without ends, one of the `choices`."""

    values: Sequence[float | str]
    ends: tuple[float, float] | None = None
    is_log: bool = False
    choices: Sequence[float | str] = ()


def scores_by_setting(
    panels: Mapping[str, Panel], scores: np.ndarray, best: int, objective: str, epochs: np.ndarray | None = None
) -> Figure:
    """Draw the scores of trials [trials] against each setting, a panel a setting; the best trial is marked. Those that
    trained for fewer `epochs` [trials] than others are paler."""
    epochs = np.ones(len(scores)) if epochs is None else np.asarray(epochs)
    shares = epochs / epochs.max()
    columns = min(4, len(panels))
    num_rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        figure = _figure(2.9 * columns + 0.4, 2.4 * num_rows)
        grid = figure.subplots(num_rows, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, panel) in zip(grid.flat, panels.items(), strict=False):
            places = panel.values
            if panel.ends is None:
                places = [panel.choices.index(value) for value in panel.values]
                axes.set_xticks(range(len(panel.choices)), map(str, panel.choices), rotation=20, ha="right", fontsize=7)
                axes.set_xlim(-0.5, len(panel.choices) - 0.5)
            else:
                axes.set_xscale("log" if panel.is_log else "linear")
                axes.set_xlim(*panel.ends)
            dots = {"linewidths": 0, "clip_on": False}
            axes.scatter(places, scores, s=18, color=BLUE, alpha=0.2 + 0.6 * shares, **dots)
            axes.scatter([places[best]], [scores[best]], s=46, color=VERMILLION, zorder=3, **dots)
            axes.set_title(name, fontsize=9)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for row in grid:
            row[0].set_ylabel(objective)
        if shares.min() < 1:
            told = ", ".join(f"{count:g}" for count in np.unique(epochs))
            figure.suptitle(f"the paler, the fewer epochs: {told}", fontsize=8)
        return _laid_out(figure)


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


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG: the same figure gives the same bytes, with no date and no program's name in them."""
    with replacing(path) as temporary, matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format="png", metadata={"Software": None})


def to_image(figure: Figure) -> np.ndarray:
    """Return the figure's pixels, uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(width_inches: float, height_inches: float) -> Figure:
    return Figure(figsize=(width_inches, height_inches), dpi=110, layout="constrained")


def _laid_out(figure: Figure) -> Figure:
    """Settle where everything stands, so that drawing the figure again gives the same picture."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()  # Axes of a fixed aspect find their place in the second pass.
    figure.set_layout_engine("none")
    return figure


def _percent() -> PercentFormatter:
    return PercentFormatter(1.0, decimals=0, symbol=" %")
