"""Lines over training: smoothed, the mean over seeds with their spread, the raw points thin."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

# part of a whole run that one point of a smoothed line averages
_WINDOW = 0.03
# positions at which a whole run is drawn: a column of a page shows no more
_POSITIONS = 800
_RUN = ["dataset", "architecture", "method", "lambda", "seed"]


def smooth(traces: pd.DataFrame, columns: Sequence[str], epochs: int) -> pd.DataFrame:
    """Return what is drawn of traces: some of their rows, with smoothed columns beside.

    Runs of one length are drawn at the same positions, however far each has come, so
    that a mean over seeds is one over all that are there.

    Parameters
    ----------
    traces : pandas.DataFrame
        As of `Histories`.
    columns : sequence of str
        What is followed.
    epochs : int
        Length of a whole run.

    Returns
    -------
    pandas.DataFrame
        The columns that name the run, iteration, position (in epochs), and for each
        column its value at that iteration and, as ``<column>_smooth``, the mean of the
        iterations around it, 3 % of a whole run.
    """
    keep = [*_RUN, "iteration", "position", *columns, *(f"{name}_smooth" for name in columns)]
    if traces.empty:
        return pd.DataFrame(columns=keep)
    parts = []
    for _, run in traces.groupby(_RUN, sort=False):
        part = run.sort_values("iteration")
        part = part.assign(position=_positions(part))
        whole = len(part) * epochs / part["position"].iloc[-1]
        # odd, or the mean would lie half an iteration beside its middle
        window = 2 * round(_WINDOW * whole / 2) + 1
        for name in columns:
            smoothed = part[name].rolling(window, min_periods=1, center=True).mean()
            part = part.assign(**{f"{name}_smooth": smoothed})
        parts.append(part[_drawn(part["position"], epochs)][keep])
    return pd.concat(parts, ignore_index=True)


def _positions(run: pd.DataFrame) -> pd.Series:
    """Return how many epochs are over after each iteration; the last epoch may be cut short."""
    counts = run.groupby("epoch").size()
    last = counts.index[-1]
    if len(counts) > 1:
        # phases change the number of iterations of an epoch, a stop cuts it short
        counts[last] = max(counts[last], counts.iloc[-2])
    within = run.groupby("epoch").cumcount() + 1
    return run["epoch"] - 1 + within / run["epoch"].map(counts)


def _drawn(positions: pd.Series, epochs: int) -> pd.Series:
    """Say which iterations are drawn: the last of each of many equal parts of a whole run."""
    part = np.ceil(positions * _POSITIONS / epochs - 1e-9)
    drawn: pd.Series = ~part.duplicated(keep="last")
    return drawn


def draw_lines(
    axes: Axes, frame: pd.DataFrame, column: str, position: str, label: str, **look: Any
) -> None:
    """Draw one column of several seeds: mean and spread over thin raw points.

    Where fewer seeds are there than at the beginning, the line breaks and goes on pale.

    Parameters
    ----------
    axes : Axes
        Where to.
    frame : pandas.DataFrame
        Rows of all seeds of one network; with ``<column>_smooth`` if it was smoothed.
    column, position : str
        What is drawn, and over what.
    label : str
        Name in the legend.
    """
    if frame.empty:
        return
    smoothed = f"{column}_smooth"
    if smoothed in frame:
        # thousands of points: a picture within the SVG
        axes.plot(
            frame[position],
            frame[column],
            linestyle="none",
            marker=".",
            markersize=1.2,
            markeredgewidth=0,
            alpha=0.45,
            color=look["color"],
            rasterized=True,
        )
    shown = smoothed if smoothed in frame else column
    # not pivot_table: that would average two runs of one seed in silence
    seeds = frame.pivot(index=position, columns="seed", values=shown)  # noqa: PD010
    seeds = seeds.sort_index()
    mean, spread, there = seeds.mean(axis=1), seeds.std(axis=1, ddof=1), seeds.count(axis=1)
    axes.fill_between(
        seeds.index, mean - spread, mean + spread, color=look["color"], alpha=0.18, linewidth=0
    )
    for count in sorted(there.unique(), reverse=True):
        pale = {} if count == there.max() else {"alpha": 0.4}
        name = label if count == there.max() else "_"
        axes.plot(seeds.index, mean.where(there == count), label=name, **{**look, **pale})
