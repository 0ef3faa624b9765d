"""Figures 1, 7, 8 and 9: natural risk and robust regularisation during training, by width."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.experiments.grids import curve_cells, find_experiment
from reproduce.figures.lines import draw_lines, smooth
from reproduce.figures.style import Drawing, legend_above, look, new_figure, runs_of, say_missing
from reproduce.registry import width_label
from reproduce.results.frames import read_histories

_TERMS = {
    "natural_risk": "natural risk",
    "robust_regularization": "robust regularisation",
}


def make(config: Config, name: str) -> Drawing:
    """Draw both terms of the loss over the epochs: a row of panels a lambda, a line a width."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    numbers = smooth(histories.traces, list(_TERMS), config.train_of(grid.method).epochs)
    figure = _plot(grid, numbers)
    say_missing(figure, histories.missing, numbers.empty)
    caption = (
        f"{runs_of(grid)}. Lines: mean over seeds of the batch means, smoothed over 3 % of the "
        "run, with one standard deviation of the seeds; dots: single iterations."
    )
    title = find_experiment(config, name).title
    return Drawing(title, caption, figure, numbers, histories.missing)


def _plot(grid: Curves, numbers: pd.DataFrame) -> Figure:
    rows = len(grid.lambdas)
    figure = new_figure(rows, height=0.7 + 1.35 * rows, columns=2, squeeze=False)
    for row, lam in enumerate(grid.lambdas):
        for column, (term, title) in enumerate(_TERMS.items()):
            axes = figure.axes[2 * row + column]
            _panel(axes, grid, numbers[numbers["lambda"] == lam], term)
            axes.set_title(title if row == 0 else "")
            axes.set_xlabel("epoch" if row == rows - 1 else "")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        figure.axes[2 * row].set_ylabel(f"λ = {lam:g}")
    legend_above(figure)
    return figure


def _panel(axes: Axes, grid: Curves, numbers: pd.DataFrame, term: str) -> None:
    for place, architecture in enumerate(grid.architectures):
        runs = numbers[numbers["architecture"] == architecture]
        draw_lines(axes, runs, term, "position", width_label(architecture), **look(place))
    if numbers.empty:
        return
    # single batches at the beginning would flatten all that follows
    settled = numbers.loc[numbers["position"] > 0.1 * numbers["position"].max(), term]
    axes.set_ylim(0, 1.05 * max(settled.max(), numbers[f"{term}_smooth"].max()))
