"""Curves over training: Figures 1, 3, 4, 7, 8 and 9, and the figure of WAR."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from reproduce.cell import Cell
from reproduce.config.grids import Curves, TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import curve_cells, find_experiment, traced_cells
from reproduce.experiments.runs import load_run
from reproduce.experiments.schedules import measured_epochs
from reproduce.figures.style import (
    MARKERS,
    Drawing,
    legend_above,
    line_style,
    models,
    new_figure,
    runs_of,
)
from reproduce.registry import dataset_facts, parse_architecture, width_label
from reproduce.results.frames import METRIC_COLUMNS, read_histories

# part of a whole run that one point of a smoothed line averages
_WINDOW = 0.03
# positions at which a whole run is drawn: a column of a page shows no more
_POSITIONS = 800
_RUN = ["dataset", "architecture", "method", "lambda", "seed"]
_TERMS = {"natural_risk": "natural risk", "robust_regularization": "robust regularisation"}
# whose runs the figure of WAR shows
_WAR_TABLE = "table3"


def smooth(traces: pd.DataFrame, columns: Sequence[str], epochs: int) -> pd.DataFrame:
    """Return the rows of traces that are drawn, with their position in epochs.

    ``<column>_smooth`` is the mean of the iterations around one, 3 % of a whole run of `epochs`.
    Runs of one length are drawn at the same positions, however far each has come, so that a
    mean over seeds is one over all that are there.
    """
    keep = [*_RUN, "iteration", "position", *columns, *(f"{name}_smooth" for name in columns)]
    if traces.empty:
        return pd.DataFrame(columns=keep)
    drawn: list[pd.DataFrame] = []
    for _, trace in traces.groupby(_RUN, sort=False):
        run = trace.sort_values("iteration")
        run["position"] = _positions(run)
        whole = len(run) * epochs / run["position"].iloc[-1]
        # odd, so that the mean lies at its middle iteration
        window = 2 * round(_WINDOW * whole / 2) + 1
        for name in columns:
            run[f"{name}_smooth"] = run[name].rolling(window, min_periods=1, center=True).mean()
        # the last iteration of each of many equal parts of a whole run
        part = np.ceil(run["position"] * _POSITIONS / epochs - 1e-9)
        drawn.append(run.loc[~part.duplicated(keep="last"), keep])
    return pd.concat(drawn, ignore_index=True)


def _positions(run: pd.DataFrame) -> pd.Series:
    """Return how many epochs are over after each iteration; the last epoch may be cut short."""
    counts = run.groupby("epoch").size()
    last = counts.index[-1]
    if len(counts) > 1:
        # phases change the number of iterations of an epoch, a stop cuts it short
        counts[last] = max(counts[last], counts.iloc[-2])
    within = run.groupby("epoch").cumcount() + 1
    positions: pd.Series = run["epoch"] - 1 + within / run["epoch"].map(counts)
    return positions


def draw_lines(
    axes: Axes, frame: pd.DataFrame, column: str, position: str, label: str, **style: Any
) -> None:
    """Draw one column of several seeds of one network: mean and spread over faint raw points.

    Where fewer seeds are there than at the beginning, the line breaks and goes on pale.
    `frame` has ``<column>_smooth`` if it was smoothed.
    """
    if frame.empty:
        return
    smoothed = f"{column}_smooth"
    if smoothed in frame:
        dots: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 1.2}
        dots |= {"markeredgewidth": 0, "alpha": 0.45, "color": style["color"]}
        # thousands of points: a picture within the SVG
        axes.plot(frame[position], frame[column], rasterized=True, **dots)
    shown = smoothed if smoothed in frame else column
    # not pivot_table: that would average two runs of one seed in silence
    seeds = frame.pivot(index=position, columns="seed", values=shown).sort_index()  # noqa: PD010
    mean, spread, there = seeds.mean(axis=1), seeds.std(axis=1, ddof=1), seeds.count(axis=1)
    axes.fill_between(
        seeds.index, mean - spread, mean + spread, color=style["color"], alpha=0.18, linewidth=0
    )
    for count in sorted(there.unique(), reverse=True):
        whole = count == there.max()
        pale = {} if whole else {"alpha": 0.4}
        line = mean.where(there == count)
        axes.plot(seeds.index, line, label=label if whole else "_", **{**style, **pale})


def _line_a_width(
    axes: Axes, grid: Curves, numbers: pd.DataFrame, column: str, position: str = "position"
) -> None:
    for place, architecture in enumerate(grid.architectures):
        runs = numbers[numbers["architecture"] == architecture]
        draw_lines(axes, runs, column, position, width_label(architecture), **line_style(place))


def loss_terms(config: Config, name: str) -> Drawing:
    """Draw both terms of the loss over the epochs: a row of panels a lambda, a line a width."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    numbers = smooth(histories.traces, list(_TERMS), config.train_of(grid.method).epochs)
    rows = len(grid.lambdas)
    figure = new_figure(rows, height=0.7 + 1.35 * rows, columns=2, squeeze=False)
    panels = iter(figure.axes)
    for lam in grid.lambdas:
        for term, title in _TERMS.items():
            axes, shown = next(panels), numbers[numbers["lambda"] == lam]
            _line_a_width(axes, grid, shown, term)
            if len(shown):
                # single batches at the beginning would flatten all that follows
                settled = shown.loc[shown["position"] > 0.1 * shown["position"].max(), term]
                axes.set_ylim(0, 1.05 * max(settled.max(), shown[f"{term}_smooth"].max()))
            axes.set_title(title if lam == grid.lambdas[0] else "")
            axes.set_xlabel("epoch" if lam == grid.lambdas[-1] else "")
            axes.set_ylabel(f"λ = {lam:g}" if term == "natural_risk" else "")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    legend_above(figure)
    caption = (
        f"{runs_of(grid)}. Lines: mean over seeds of the batch means, smoothed over 3 % of the "
        "run, with one standard deviation of the seeds; dots: single iterations."
    )
    return Drawing(find_experiment(config, name).title, caption, figure, numbers, histories.missing)


def lipschitz(config: Config, name: str) -> Drawing:
    """Draw the largest input gradient of each attack over the epochs, a line a width."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    numbers = smooth(histories.traces, ["lipschitz"], config.train_of(grid.method).epochs)
    figure = new_figure(1, height=2.3)
    axes = figure.axes[0]
    _line_a_width(axes, grid, numbers, "lipschitz")
    axes.set(xlabel="epoch", ylabel="local Lipschitz constant", ylim=(0, None))
    legend_above(figure)
    caption = (
        f"{runs_of(grid)}. For each image the largest l1 norm of the input gradient among the "
        "steps of the training attack, mean over the batch. Lines: mean over seeds, smoothed over "
        "3 % of the run, with one standard deviation; dots: single iterations."
    )
    return Drawing(find_experiment(config, name).title, caption, figure, numbers, histories.missing)


def metrics(config: Config, name: str) -> Drawing:
    """Draw the three metrics over epochs, a line a width, and by width at the best epoch."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    measured = measured_epochs(config.train_of(grid.method))
    numbers = _with_best(histories.epochs, measured)
    figure = new_figure(2, height=3.4, columns=2, sharex=False)
    titles = ("(a) robust accuracy", "(b) natural accuracy", "(c) stability")
    for axes, metric, title in zip(figure.axes, METRIC_COLUMNS, titles, strict=False):
        _line_a_width(axes, grid, numbers, metric, "epoch")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    _at_the_best(figure.axes[3], numbers[numbers["best"]])
    for axes in figure.axes[::2]:
        axes.set_ylabel("%")
    legend_above(figure)
    caption = (
        f"{runs_of(grid)}, on the test images. Lines: mean over seeds with one standard "
        "deviation; (d): the epoch of each finished run with the highest robust accuracy."
    )
    if measured[0] > 1:
        caption += f" Only epochs {measured[0]} to {measured[-1]} are measured."
    return Drawing(find_experiment(config, name).title, caption, figure, numbers, histories.missing)


def _with_best(epochs: pd.DataFrame, measured: range) -> pd.DataFrame:
    """Mark the epoch of each run whose robust accuracy is the highest, once it is over."""
    if epochs.empty:
        return epochs.assign(best=pd.Series(dtype=bool))
    runs = epochs.groupby(["architecture", "seed"])["robust_accuracy"]
    finished = runs.transform("size") == len(measured)
    return epochs.assign(best=finished & epochs.index.isin(runs.idxmax()))


def _at_the_best(axes: Axes, best: pd.DataFrame) -> None:
    """Draw the three metrics against width: means, with one standard deviation."""
    axes.set(title="(d) at the best epoch", xlabel="width")
    if best.empty:
        return
    widths = best.assign(width=[parse_architecture(n).width for n in best["architecture"]])
    labels = ("robust", "natural", "stability")
    for place, (metric, label) in enumerate(zip(METRIC_COLUMNS, labels, strict=True)):
        seeds = widths.groupby("width")[metric]
        mean, spread = seeds.mean(), seeds.std(ddof=1)
        drawn = line_style(place) | {"marker": MARKERS[place], "markersize": 3.5}
        axes.errorbar(mean.index, mean, yerr=spread, label=label, capsize=2, **drawn)
    axes.set_xticks(sorted(widths["width"].unique()))
    axes.legend()


def war(config: Config, _: str) -> Drawing:
    """Draw ratio and lambda of Table 3's WAR runs, and the ratio at the untuned lambda."""
    grid: TuningTable = getattr(config.experiments, _WAR_TABLE)
    cells = traced_cells(grid)
    histories = read_histories(config, cells)
    traces = histories.traces
    traces = traces.assign(ratio=traces["natural_risk"] / traces["robust_regularization"])
    columns = [*_TERMS, "lambda_t", "ratio"]
    numbers = smooth(traces, columns, config.train_of("war").epochs)
    zeta = _zeta(config, cells)
    figure = _plot_war(grid, numbers, zeta)
    caption = (
        f"{models(grid.architectures)} on {dataset_facts(grid.dataset).title}. WAR raises lambda "
        "while the ratio lies above zeta, the thin network's, and lowers it below. Lines: mean "
        "over seeds, smoothed over 3 % of the run; pale: the same at a constant lambda."
    )
    title = "What width adjusted regularisation does to lambda"
    return Drawing(title, caption, figure, numbers.assign(zeta=zeta), histories.missing)


def _zeta(config: Config, cells: list[Cell]) -> float:
    """Return the ratio that WAR steered to, by the first finished run; NaN before there is one."""
    finished = (load_run(config, cell).finished for cell in cells)
    return next((run.zeta for run in finished if run and run.zeta is not None), math.nan)


def _plot_war(grid: TuningTable, numbers: pd.DataFrame, zeta: float) -> Figure:
    figure = new_figure(2, height=3.6)
    ratio, lam = figure.axes
    for place, name in enumerate(grid.architectures):
        runs, width = numbers[numbers["architecture"] == name], width_label(name)
        adapted, constant = (runs[runs["method"] == method] for method in ("war", "trades"))
        style = line_style(place)
        draw_lines(ratio, adapted, "ratio", "position", f"WAR, {width}", **style)
        draw_lines(lam, adapted, "lambda_t", "position", "_", **style)
        label = f"λ = {grid.untuned:g}, {width}"
        draw_lines(ratio, constant, "ratio", "position", label, alpha=0.45, **style)
    if not math.isnan(zeta):
        label = f"ζ = {zeta:.1f}"
        ratio.axhline(zeta, color="black", linestyle=":", linewidth=0.9, label=label)
    ratio.set(ylabel="natural risk /\nrobust regularisation")
    lam.set(xlabel="epoch", ylabel="λ of WAR", ylim=(0, None))
    if len(numbers):
        ratio.set_yscale("log")
        # 20, 50, 100 in place of powers of ten, of which there may be one
        ratio.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ratio.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ratio.yaxis.set_minor_formatter(NullFormatter())
    legend_above(figure, columns=3)
    return figure
