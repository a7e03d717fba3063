"""Plots of the input and of the attention between branches."""

import numpy as np
import pytest

from emokeras.reporting import input_plots


def examples(num_clips=3):
    random = np.random.default_rng(0)
    return [random.normal(-40, 10, (50 + 10 * clip, 16)) for clip in range(num_clips)]


def test_plain_and_augmented_spectrograms_have_one_scale():
    plain = examples()
    augmented = [array - 6 for array in plain]
    masks = [np.arange(len(array)) < 40 for array in plain]
    figure = input_plots.spectrogram_batch(
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


def test_plain_spectrograms_only_and_arguments_that_do_not_fit():
    figure = input_plots.spectrogram_batch(examples(2))
    assert sum(len(axes.images) for axes in figure.axes[:2]) == 2
    with pytest.raises(ValueError, match="same clips"):
        input_plots.spectrogram_batch(examples(2), examples(1))
    with pytest.raises(ValueError, match=r"\[frames, bands\]"):
        input_plots.spectrogram_batch([np.zeros(10)])


def test_attention_maps_have_time_and_words_as_axes():
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 10)
    to_tokens = input_plots.AttentionMap(weights, ("spectrogram", "tokens"), (2.5, None), ([], ["so", "it", "is", ""]))
    to_spectrogram = input_plots.AttentionMap(
        weights.T, ("tokens", "spectrogram"), (None, 2.5), (["so", "it", "is", ""], [])
    )
    first, second, *_ = input_plots.attention_maps([to_tokens, to_spectrogram], "a clip").axes
    np.testing.assert_allclose(first.images[0].get_array(), weights)
    assert first.get_title() == "attention of spectrogram to tokens"
    assert [label.get_text() for label in first.get_xticklabels()] == ["so", "it", "is", ""]
    assert [label.get_text() for label in first.get_yticklabels()] == ["0", "0.5", "1", "1.5", "2"]
    # 10 steps take 2.5 s; the first row of an image is from -0.5 to 0.5.
    np.testing.assert_allclose(first.get_yticks(), [-0.5, 1.5, 3.5, 5.5, 7.5])
    assert second.get_ylabel() == "tokens (words)"
    assert second.get_xlabel() == "spectrogram (seconds)"
