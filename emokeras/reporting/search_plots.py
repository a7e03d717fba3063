"""The plot of a search: the score of each trial against each setting."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from emokeras.reporting.plots import BLUE, STYLE, VERMILLION, laid_out, new_figure


class Panel(NamedTuple):
    """The values of a setting in each trial, [trials]: numbers between two `ends`, on a logarithmic axis if `is_log`;
    or, without ends, some of the `choices`."""

    values: Sequence[float | str]
    ends: tuple[float, float] | None = None
    is_log: bool = False
    choices: Sequence[float | str] = ()


def scores_by_setting(
    panels: Mapping[str, Panel], scores: np.ndarray, best: int, objective: str, epochs: np.ndarray | None = None
) -> Figure:
    """Draw the scores of trials [trials] against each setting, a panel per setting, and mark the best trial. Trials of
    fewer `epochs` [trials] are paler."""
    epochs = np.ones(len(scores)) if epochs is None else np.asarray(epochs)
    shares = epochs / epochs.max()
    columns = min(4, len(panels))
    num_rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(2.9 * columns + 0.4, 2.4 * num_rows)
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
            counts = ", ".join(f"{count:g}" for count in np.unique(epochs))
            figure.suptitle(f"paler: fewer epochs, of {counts}", fontsize=8)
        return laid_out(figure)
