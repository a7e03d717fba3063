"""Plots of a trained network: confusion matrix, learning curves, reliability diagram; and what all plots share.

Each function returns a matplotlib Figure without a window and without global state. `save` writes it as PNG, `to_image`
returns its pixels for TensorBoard. The colors are those of Okabe and Ito, distinct with any color vision, and maps of
even lightness.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

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
    "font.family": "DejaVu Sans",  # comes with matplotlib: plots do not depend on the fonts of the machine
    "font.size": 10,
    "text.hinting": "none",  # with hinting, small bold digits look like another typeface
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


def confusion_matrix(matrix: Sequence[Sequence[int]], emotions: Sequence[str], title: str = "") -> Figure:
    """Draw a confusion matrix: in each cell the percent of the row, which is also the color, and the number of clips.

    Parameters
    ----------
    matrix: clips, int [emotions, emotions], rows are the true emotions.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    num_emotions = len(emotions)
    if counts.shape != (num_emotions, num_emotions):
        raise ValueError(f"the matrix is {counts.shape}, there are {num_emotions} emotions")
    clips_in_row = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(clips_in_row, 1)

    with matplotlib.rc_context(STYLE):
        side_inches = 2.2 + 0.72 * num_emotions
        figure = new_figure(side_inches + 0.9, side_inches)
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(num_emotions):
            for column in range(num_emotions):
                _write_cell(axes, row, column, counts[row, column], shares[row, column], clips_in_row[row, 0])
        labels = [f"{name}  ({clips})" for name, clips in zip(emotions, clips_in_row[:, 0], strict=True)]
        axes.set_xticks(range(num_emotions), emotions, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(num_emotions), labels)
        axes.set_xlabel("predicted emotion")
        axes.set_ylabel("true emotion  (clips)")
        axes.set_title(title, pad=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        # The grid of the minor ticks draws white lines between the cells.
        axes.set_xticks(np.arange(num_emotions + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_emotions + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="minor", length=0)
        colorbar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, format=_percent())
        colorbar.set_label("share of the true emotion's clips")
        colorbar.outline.set_visible(False)
        return laid_out(figure)


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
    """Draw loss and accuracy over the epochs, of training and validation, and mark the best epoch.

    Parameters
    ----------
    history: rows of history.csv: epoch (from 1), loss, accuracy, and val_loss, val_accuracy where there are any, nan
        for an epoch without validation.
    best_epoch: the epoch whose weights were kept, as `epoch` counts; None: the one with the lowest val_loss.
    """
    rows = [dict(row) for row in history]
    if not rows:
        raise ValueError("the history has no epoch to draw")
    epochs = np.array([row.get("epoch", index + 1) for index, row in enumerate(rows)])
    curves = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in rows[0] if key != "epoch"}
    if best_epoch is None and np.isfinite(curves.get("val_loss", [])).any():
        best_epoch = int(epochs[np.nanargmin(curves["val_loss"])])
    best = np.flatnonzero(epochs == best_epoch)
    marker = "o" if len(rows) == 1 else ""  # A line through one point is invisible.

    with matplotlib.rc_context(STYLE):
        figure = new_figure(9.0, 4.0)
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
        return laid_out(figure)


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
    # Falling losses and rising accuracies leave room for the text at the top and at the bottom.
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
    """Draw the accuracy against the confidence (the largest probability) in bins of equal mass, and below the number of
    clips by confidence.

    Parameters
    ----------
    labels: int [clips].
    probabilities: float [clips, emotions].
    """
    counts, confidence, accuracy = metrics.calibration_bins(labels, probabilities)
    error = metrics.expected_calibration_error(labels, probabilities)
    confidence, accuracy = confidence[counts > 0], accuracy[counts > 0]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.8, 5.6)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        upper.vlines(confidence, confidence, accuracy, color=VERMILLION, linewidth=2, label="error")
        upper.plot(
            confidence, accuracy, color=BLUE, marker="o", markersize=5, linewidth=1, clip_on=False, label="accuracy"
        )
        upper.plot([0, 1], [0, 1], color=FAINT_INK, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
        upper.set_ylim(0, 1)
        upper.set_ylabel("accuracy")
        upper.set_title(title or "Reliability", pad=10)
        lower.hist(np.max(probabilities, axis=1), np.linspace(0, 1, 21), rwidth=0.92, color=FAINT_INK)
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
        return laid_out(figure)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, without date and program name: the same figure gives the same bytes."""
    with replacing(path) as temporary, matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format="png", metadata={"Software": None})


def to_image(figure: Figure) -> np.ndarray:
    """Return the figure's pixels, uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure without a window."""
    return Figure(figsize=(width_inches, height_inches), dpi=110, layout="constrained")


def laid_out(figure: Figure) -> Figure:
    """Fix the layout, so that drawing the figure again gives the same pixels, and return the figure."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()  # Axes with a fixed aspect are placed in the second pass.
    figure.set_layout_engine("none")
    return figure


def _percent() -> PercentFormatter:
    return PercentFormatter(1.0, decimals=0, symbol=" %")
