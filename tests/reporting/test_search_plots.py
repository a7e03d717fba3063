"""The plot of a search."""

import numpy as np

from emokeras.reporting import search_plots


def test_scores_are_drawn_against_each_setting_and_the_best_is_marked():
    scores = np.array([0.2, 0.7, 0.5])
    panels = {
        "encoder.l2": search_plots.Panel([1e-6, 1e-4, 1e-3], (1e-7, 1e-3), True),
        "encoder.units": search_plots.Panel(["[64]", "[32]", "[64]"], choices=("[32]", "[64]")),
    }
    left, right, *_ = search_plots.scores_by_setting(panels, scores, 1, "val_accuracy").axes
    every, best = (dots.get_offsets() for dots in left.collections)
    np.testing.assert_allclose(every, [[1e-6, 0.2], [1e-4, 0.7], [1e-3, 0.5]])
    np.testing.assert_allclose(best, [[1e-4, 0.7]])
    assert (left.get_xscale(), left.get_xlim(), left.get_ylabel()) == ("log", (1e-7, 1e-3), "val_accuracy")
    assert [label.get_text() for label in right.get_xticklabels()] == ["[32]", "[64]"]
    np.testing.assert_allclose(right.collections[0].get_offsets()[:, 0], [1, 0, 1])


def test_trials_of_fewer_epochs_are_paler():
    panels = {"encoder.l2": search_plots.Panel([1e-6, 1e-4, 1e-3], (1e-7, 1e-3), True)}
    figure = search_plots.scores_by_setting(panels, np.array([0.2, 0.7, 0.5]), 1, "val_accuracy", np.array([3, 27, 9]))
    pale, full, between = figure.axes[0].collections[0].get_facecolors()[:, 3]
    assert pale < between < full
    assert figure.get_suptitle().endswith("3, 9, 27")
    whole = search_plots.scores_by_setting(panels, np.array([0.2, 0.7, 0.5]), 1, "val_accuracy")
    assert set(whole.axes[0].collections[0].get_facecolors()[:, 3]) == {full}
    assert whole.get_suptitle() == ""
