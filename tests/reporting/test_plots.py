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


def examples(num_clips=3):
    random = np.random.default_rng(0)
    return [random.normal(-40, 10, (50 + 10 * clip, 16)) for clip in range(num_clips)]


def test_confusion_matrix_shows_counts_and_percents_of_the_row():
    figure = plots.confusion_matrix([[6, 2, 0], [0, 0, 0], [1, 0, 1]], EMOTIONS, "mel-cnn3")
    axes = figure.axes[0]
    assert texts_of(axes) == ["75 %", "6", "25 %", "2", "·", "50 %", "1", "·", "50 %", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["neutral  (8)", "calm  (0)", "happy  (2)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(EMOTIONS)
    assert axes.get_title() == "mel-cnn3"
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0], [0, 0, 0], [0.5, 0, 0.5]])


def test_a_matrix_of_other_emotions_is_refused():
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


def test_learning_curves_without_validation_of_one_epoch_or_diverged():
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
    assert [bar.get_height() for bar in upper.patches] == [0.5, 0.0, 1.0]
    assert sum(bar.get_height() for bar in lower.patches) == 4
    assert "28.5 %" in lower.get_xlabel()


def test_spectrograms_stand_above_their_augmented_selves_on_one_scale():
    plain = examples()
    augmented = [array - 6 for array in plain]
    masks = [np.arange(len(array)) < 40 for array in plain]
    figure = plots.spectrogram_batch(
        plain, augmented, ["calm", "sad", "angry"], 0.02, masks, masks, np.geomspace(60, 7600, 16)
    )
    images = [axes.images[0] for axes in figure.axes[:6]]
    assert len({image.get_clim() for image in images}) == 1
    first = images[0].get_array()
    assert first.shape == (16, 50)
    assert first.mask[:, 40:].all()
    assert not first.mask[:, :40].any()
    np.testing.assert_allclose(images[3].get_array()[:, :40], plain[0].T[:, :40] - 6)
    assert images[0].get_extent()[:2] == [0, pytest.approx(50 * 0.02)]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["calm", "sad", "angry"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0.25", "0.5", "1", "2", "4"]
    assert figure.axes[3].get_ylabel().startswith("augmented")


def test_spectrograms_alone_and_spectrograms_that_do_not_fit():
    figure = plots.spectrogram_batch(examples(2))
    assert sum(len(axes.images) for axes in figure.axes[:2]) == 2
    with pytest.raises(ValueError, match="same clips"):
        plots.spectrogram_batch(examples(2), examples(1))
    with pytest.raises(ValueError, match=r"\[frames, bands\]"):
        plots.spectrogram_batch([np.zeros(10)])


def test_attention_maps_have_time_and_words_for_axes():
    looks = np.random.default_rng(0).dirichlet(np.ones(4), 10)
    heard = plots.AttentionMap(looks, ("spectrogram", "tokens"), (2.5, None), ([], ["so", "it", "is", ""]))
    read = plots.AttentionMap(looks.T, ("tokens", "spectrogram"), (None, 2.5), (["so", "it", "is", ""], []))
    first, second, *_ = plots.attention_maps([heard, read], "a clip").axes
    np.testing.assert_allclose(first.images[0].get_array(), looks)
    assert first.get_title() == "spectrogram looks at tokens"
    assert [label.get_text() for label in first.get_xticklabels()] == ["so", "it", "is", ""]
    assert [label.get_text() for label in first.get_yticklabels()] == ["0", "0.5", "1", "1.5", "2"]
    # 10 steps take 2.5 s, and a picture's first row reaches from -0.5 to 0.5.
    np.testing.assert_allclose(first.get_yticks(), [-0.5, 1.5, 3.5, 5.5, 7.5])
    assert second.get_ylabel() == "tokens (words)"
    assert second.get_xlabel() == "spectrogram (seconds)"


def test_scores_stand_over_each_setting_and_the_best_stands_out():
    scores = np.array([0.2, 0.7, 0.5])
    panels = {
        "encoder.l2": plots.Panel([1e-6, 1e-4, 1e-3], (1e-7, 1e-3), True),
        "encoder.units": plots.Panel(["[64]", "[32]", "[64]"], choices=("[32]", "[64]")),
    }
    left, right, *_ = plots.scores_by_setting(panels, scores, 1, "val_accuracy").axes
    every, best = (dots.get_offsets() for dots in left.collections)
    np.testing.assert_allclose(every, [[1e-6, 0.2], [1e-4, 0.7], [1e-3, 0.5]])
    np.testing.assert_allclose(best, [[1e-4, 0.7]])
    assert (left.get_xscale(), left.get_xlim(), left.get_ylabel()) == ("log", (1e-7, 1e-3), "val_accuracy")
    assert [label.get_text() for label in right.get_xticklabels()] == ["[32]", "[64]"]
    np.testing.assert_allclose(right.collections[0].get_offsets()[:, 0], [1, 0, 1])


def test_trials_of_fewer_epochs_are_paler():
    panels = {"encoder.l2": plots.Panel([1e-6, 1e-4, 1e-3], (1e-7, 1e-3), True)}
    figure = plots.scores_by_setting(panels, np.array([0.2, 0.7, 0.5]), 1, "val_accuracy", np.array([3, 27, 9]))
    pale, full, between = figure.axes[0].collections[0].get_facecolors()[:, 3]
    assert pale < between < full
    assert figure.get_suptitle().endswith("3, 9, 27")
    whole = plots.scores_by_setting(panels, np.array([0.2, 0.7, 0.5]), 1, "val_accuracy")
    assert set(whole.axes[0].collections[0].get_facecolors()[:, 3]) == {full}
    assert whole.get_suptitle() == ""


def test_pictures_are_the_same_bytes_each_time(tmp_path):
    for name in ("first.png", "second.png"):
        plots.save(plots.learning_curves(history(), title="run"), tmp_path / name)
    first = (tmp_path / "first.png").read_bytes()
    assert first == (tmp_path / "second.png").read_bytes()
    assert Image.open(io.BytesIO(first)).text == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "second.png"]


def test_to_image_gives_the_pixels_that_save_writes(tmp_path):
    figure = plots.confusion_matrix(np.eye(3, dtype=int), EMOTIONS)
    plots.save(figure, tmp_path / "matrix.png")
    pixels = plots.to_image(figure)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(tmp_path / "matrix.png").convert("RGB")))


def test_no_window_system_is_touched():
    plots.to_image(plots.confusion_matrix(np.eye(3, dtype=int), EMOTIONS))
    pyplot = sys.modules.get("matplotlib.pyplot")  # librosa or others may have imported it
    assert pyplot is None or not pyplot.get_fignums()
