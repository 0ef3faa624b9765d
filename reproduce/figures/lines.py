"""Lines over training: smoothed, the mean over seeds with their spread, the raw points thin."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

# part of a run that one point of a smoothed line averages
_WINDOW = 0.03
# points of a run that are kept for drawing: a column of a page shows no more
_POINTS = 800
_RUN = ["dataset", "architecture", "method", "lambda", "seed"]


def smooth(traces: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return what is drawn of traces: some of their rows, with smoothed columns beside.

    Parameters
    ----------
    traces : pandas.DataFrame
        As of `Histories`.
    columns : sequence of str
        What is followed.

    Returns
    -------
    pandas.DataFrame
        The columns that name the run, iteration, position (in epochs), and for each
        column its value at that iteration and, as ``<column>_smooth``, the mean of the
        3 % of the run around it.
    """
    keep = [*_RUN, "iteration", "position", *columns, *(f"{name}_smooth" for name in columns)]
    if traces.empty:
        return pd.DataFrame(columns=keep)
    parts = []
    for _, run in traces.groupby(_RUN, sort=False):
        part = run.sort_values("iteration")
        # odd, or the mean would lie half an iteration beside its middle
        window = 2 * round(_WINDOW * len(part) / 2) + 1
        for name in columns:
            smoothed = part[name].rolling(window, min_periods=1, center=True).mean()
            part = part.assign(**{f"{name}_smooth": smoothed})
        part = part.assign(position=_positions(part))
        parts.append(part.iloc[:: math.ceil(len(part) / _POINTS)][keep])
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


def draw_lines(
    axes: Axes, frame: pd.DataFrame, column: str, position: str, label: str, **look: Any
) -> None:
    """Draw one column of several seeds: mean and spread over thin raw points.

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
    seeds = frame.pivot_table(index=position, columns="seed", values=shown)
    mean, spread = seeds.mean(axis=1), seeds.std(axis=1, ddof=1)
    axes.fill_between(
        seeds.index, mean - spread, mean + spread, color=look["color"], alpha=0.18, linewidth=0
    )
    axes.plot(seeds.index, mean, label=label, **look)
