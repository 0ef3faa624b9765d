"""Figure 3: the three metrics over epochs, and by width at the best epoch."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.experiments.grids import curve_cells, find_experiment
from reproduce.experiments.schedules import measured_epochs
from reproduce.figures.lines import draw_lines
from reproduce.figures.style import (
    MARKERS,
    Drawing,
    legend_above,
    look,
    new_figure,
    runs_of,
    say_missing,
)
from reproduce.registry import parse_architecture, width_label
from reproduce.results.frames import METRIC_COLUMNS, read_histories

_TITLES = ("(a) robust accuracy", "(b) natural accuracy", "(c) stability")
_SHORT = ("robust", "natural", "stability")


def make(config: Config, name: str) -> Drawing:
    """Draw robust accuracy, natural accuracy and stability over epochs, a line a width."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    measured = measured_epochs(config.train_of(grid.method))
    numbers = _with_best(histories.epochs, measured)
    figure = _plot(grid, numbers)
    say_missing(figure, histories.missing, numbers.empty)
    caption = (
        f"{runs_of(grid)}, on the test images. Lines: mean over seeds with one standard "
        "deviation; (d): the epoch of each finished run with the highest robust accuracy."
    )
    if measured[0] > 1:
        caption += f" Only epochs {measured[0]} to {measured[-1]} are measured."
    title = find_experiment(config, name).title
    return Drawing(title, caption, figure, numbers, histories.missing)


def _with_best(epochs: pd.DataFrame, measured: range) -> pd.DataFrame:
    """Mark the epoch of each run whose robust accuracy is the highest, once it is over."""
    if epochs.empty:
        return epochs.assign(best=pd.Series(dtype=bool))
    runs = epochs.groupby(["architecture", "seed"])["robust_accuracy"]
    finished = runs.transform("size") == len(measured)
    return epochs.assign(best=finished & epochs.index.isin(runs.idxmax()))


def _plot(grid: Curves, numbers: pd.DataFrame) -> Figure:
    figure = new_figure(2, height=3.4, columns=2, sharex=False)
    for axes, metric, title in zip(figure.axes, METRIC_COLUMNS, _TITLES, strict=False):
        for place, architecture in enumerate(grid.architectures):
            runs = numbers[numbers["architecture"] == architecture]
            draw_lines(axes, runs, metric, "epoch", width_label(architecture), **look(place))
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    _at_the_best(figure.axes[3], numbers[numbers["best"]])
    figure.axes[0].set_ylabel("%")
    figure.axes[2].set_ylabel("%")
    legend_above(figure)
    return figure


def _at_the_best(axes: Axes, best: pd.DataFrame) -> None:
    """Draw the three metrics against width: means, with one standard deviation."""
    axes.set_title("(d) at the best epoch")
    axes.set_xlabel("width")
    if best.empty:
        return
    widths = best.assign(width=[parse_architecture(n).width for n in best["architecture"]])
    for place, (metric, label) in enumerate(zip(METRIC_COLUMNS, _SHORT, strict=True)):
        seeds = widths.groupby("width")[metric]
        mean, spread = seeds.mean(), seeds.std(ddof=1)
        drawn = look(place) | {"marker": MARKERS[place], "markersize": 3.5}
        axes.errorbar(mean.index, mean, yerr=spread, label=label, capsize=2, **drawn)
    axes.set_xticks(sorted(widths["width"].unique()))
    axes.legend()
