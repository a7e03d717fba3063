"""Plots of a trained network, and how plots are written."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from emokeras.reporting import plots

EMOTIONS = ("neutral", "calm", "happy")


def history(num_epochs=12):
    epochs = np.arange(1, num_epochs + 1)
    return [
        {
            "epoch": float(epoch),
            "loss": 2 / epoch,
            "accuracy": 1 - 0.8 / epoch,
            "val_loss": 1 + 0.1 * abs(epoch - 7),
            "val_accuracy": 0.6 - 0.01 * abs(epoch - 9),
        }
        for epoch in epochs
    ]


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def line_of(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def test_confusion_matrix_has_counts_and_percents_of_the_row():
    figure = plots.confusion_matrix([[6, 2, 0], [0, 0, 0], [1, 0, 1]], EMOTIONS, "mel-cnn3")
    axes = figure.axes[0]
    assert texts_of(axes) == ["75 %", "6", "25 %", "2", "·", "50 %", "1", "·", "50 %", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["neutral  (8)", "calm  (0)", "happy  (2)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(EMOTIONS)
    assert axes.get_title() == "mel-cnn3"
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0], [0, 0, 0], [0.5, 0, 0.5]])


def test_a_matrix_with_another_number_of_emotions_is_refused():
    with pytest.raises(ValueError, match="3 emotions"):
        plots.confusion_matrix([[1, 0], [0, 1]], EMOTIONS)


def test_learning_curves_draw_the_history_and_mark_the_best_epoch():
    rows = history()
    loss, accuracy = plots.learning_curves(rows).axes
    np.testing.assert_allclose(line_of(loss, "training").get_ydata(), [row["loss"] for row in rows])
    np.testing.assert_allclose(line_of(accuracy, "validation").get_ydata(), [row["val_accuracy"] for row in rows])
    assert line_of(loss, "best epoch (7)").get_xydata().tolist() == [[7, 1.0]]
    assert texts_of(loss) == ["1.000"]
    assert texts_of(accuracy) == ["58.0 %"]
    assert loss.get_ylim()[1] > 2
    chosen = plots.learning_curves(rows, best_epoch=9).axes[1]
    assert line_of(chosen, "best epoch (9)").get_xydata().tolist() == [[9, 0.6]]


def test_learning_curves_of_one_epoch_with_gaps_and_diverged():
    training_only = [{"epoch": 1.0, "loss": 2.0, "accuracy": 0.2}]
    loss = plots.learning_curves(training_only).axes[0]
    assert [line.get_label() for line in loss.lines] == ["training"]
    assert loss.lines[0].get_marker() == "o"
    some = [row if row["epoch"] % 5 == 1 else {**row, "val_loss": np.nan, "val_accuracy": np.nan} for row in history()]
    accuracy = plots.learning_curves(some).axes[1]
    assert line_of(accuracy, "validation").get_xdata().tolist() == [1, 6, 11]
    assert line_of(accuracy, "training").get_xdata().tolist() == [*range(1, 13)]
    diverged = [{**row, "loss": np.nan, "val_loss": np.nan} for row in history()]
    assert plots.to_image(plots.learning_curves(diverged)).ndim == 3
    with pytest.raises(ValueError, match="no epoch"):
        plots.learning_curves([])


def test_reliability_diagram_draws_the_bins():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.62, 0.38], [0.62, 0.38]])
    upper, lower = plots.reliability_diagram(np.array([0, 0, 0, 1]), probabilities).axes
    assert line_of(upper, "accuracy").get_xdata() == pytest.approx([0.62, 0.62, 0.8, 0.9])
    assert line_of(upper, "accuracy").get_ydata().tolist() == [0.5, 0.5, 0.0, 1.0]
    assert sum(bar.get_height() for bar in lower.patches) == 4
    assert "28.5 %" in lower.get_xlabel()


def test_the_same_plot_gives_the_same_bytes(tmp_path):
    for name in ("first.png", "second.png"):
        plots.save(plots.learning_curves(history(), title="run"), tmp_path / name)
    first = (tmp_path / "first.png").read_bytes()
    assert first == (tmp_path / "second.png").read_bytes()
    assert Image.open(io.BytesIO(first)).text == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "second.png"]


def test_to_image_returns_the_pixels_that_save_writes(tmp_path):
    figure = plots.confusion_matrix(np.eye(3, dtype=int), EMOTIONS)
    plots.save(figure, tmp_path / "matrix.png")
    pixels = plots.to_image(figure)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(tmp_path / "matrix.png").convert("RGB")))


def test_no_window_is_opened():
    plots.to_image(plots.confusion_matrix(np.eye(3, dtype=int), EMOTIONS))
    pyplot = sys.modules.get("matplotlib.pyplot")  # librosa or others may have imported it
    assert pyplot is None or not pyplot.get_fignums()
