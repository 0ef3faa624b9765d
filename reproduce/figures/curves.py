"""Curves over training: Figures 1, 3, 4, 7, 8 and 9, and the figure of WAR."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.experiments.grids import curve_cells, find_experiment, traced_cells
from reproduce.experiments.runs import load_run
from reproduce.experiments.schedules import measured_epochs
from reproduce.figures.style import MARKERS, Drawing, line_style, models, new_figure, runs_of
from reproduce.registry import dataset_facts, parse_architecture, width_label
from reproduce.results.frames import METRIC_COLUMNS, read_histories

# part of a whole run that one point of a smoothed line averages
_WINDOW = 0.03
# positions at which a whole run is drawn: a column of a page shows no more
_POSITIONS = 800
_RUN = ["dataset", "architecture", "method", "lambda", "seed"]
_TERMS = {"natural_risk": "natural risk", "robust_regularization": "robust regularisation"}
_LIPSCHITZ = {"lipschitz": "local Lipschitz constant"}
_LINES = "Lines: mean over seeds, smoothed over 3 % of the run, with one standard deviation"


def smooth(traces: pd.DataFrame, columns: Sequence[str], epochs: int) -> pd.DataFrame:
    """Return the rows of traces that are drawn, with their position in epochs.

    ``<column>_smooth`` is the mean of the iterations around one, 3 % of a whole run of `epochs`.
    Runs of one length are drawn at the same positions, however far each has come, so that a
    mean over seeds is one over all that are there.
    """
    keep = [*_RUN, "iteration", "position", *columns, *(f"{name}_smooth" for name in columns)]
    drawn = [pd.DataFrame(columns=keep)]
    for _, trace in traces.groupby(_RUN, sort=False):
        run = trace.sort_values("iteration")
        counts = run.groupby("epoch").size()
        if len(counts) > 1:
            # phases change the number of iterations of an epoch, a stop cuts the last one short
            counts.iloc[-1] = max(counts.iloc[-2:])
        within = run.groupby("epoch").cumcount() + 1
        run["position"] = run["epoch"] - 1 + within / run["epoch"].map(counts)
        whole = len(run) * epochs / run["position"].iloc[-1]
        # odd, so that the mean lies at its middle iteration
        window = 2 * round(_WINDOW * whole / 2) + 1
        for name in columns:
            run[f"{name}_smooth"] = run[name].rolling(window, min_periods=1, center=True).mean()
        # the last iteration of each of many equal parts of a whole run
        part = np.ceil(run["position"] * _POSITIONS / epochs - 1e-9)
        drawn.append(run.loc[~part.duplicated(keep="last"), keep])
    return pd.concat(drawn[1:] or drawn, ignore_index=True)


def draw_lines(
    axes: Axes, frame: pd.DataFrame, column: str, position: str, label: str, **style: Any
) -> None:
    """Draw one column of several seeds of one network: mean and spread over faint raw points.

    Where fewer seeds are there than at the beginning, the line breaks and goes on pale.
    `frame` has ``<column>_smooth`` if it was smoothed.
    """
    if frame.empty:
        return
    shown, colour = column, style["color"]
    if f"{column}_smooth" in frame:
        shown = f"{column}_smooth"
        dots: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 1.2}
        dots |= {"markeredgewidth": 0, "alpha": 0.45, "color": colour}
        # thousands of points: a picture within the SVG
        axes.plot(frame[position], frame[column], rasterized=True, **dots)
    # not pivot_table: that would average two runs of one seed in silence
    seeds = frame.pivot(index=position, columns="seed", values=shown).sort_index()  # noqa: PD010
    mean, spread, there = seeds.mean(axis=1), seeds.std(axis=1, ddof=1), seeds.count(axis=1)
    axes.fill_between(
        seeds.index, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0
    )
    for count in sorted(there.unique(), reverse=True):
        whole = count == there.max()
        line = mean.where(there == count)
        options = style if whole else {**style, "alpha": 0.4}
        axes.plot(seeds.index, line, label=label if whole else "_", **options)


def _line_a_width(
    axes: Axes, grid: Curves, numbers: pd.DataFrame, column: str, position: str = "position"
) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for place, architecture in enumerate(grid.architectures):
        runs = numbers[numbers["architecture"] == architecture]
        draw_lines(axes, runs, column, position, width_label(architecture), **line_style(place))


def traces(config: Config, name: str) -> Drawing:
    """Draw columns of the traces over the epochs: a row of panels a lambda, a line a width."""
    grid: Curves = getattr(config.experiments, name)
    columns = _LIPSCHITZ if name == "figure4" else _TERMS
    histories = read_histories(config, curve_cells(grid))
    numbers = smooth(histories.traces, list(columns), config.train_of(grid.method).epochs)
    rows = len(grid.lambdas)
    figure = new_figure(rows, height=0.7 + 1.35 * rows, columns=len(columns), squeeze=False)
    panels = iter(figure.axes)
    for lam in grid.lambdas:
        for place, (column, title) in enumerate(columns.items()):
            axes, shown = next(panels), numbers[numbers["lambda"] == lam]
            _line_a_width(axes, grid, shown, column)
            if len(shown):
                # single batches at the beginning would flatten all that follows
                settled = shown.loc[shown["position"] > 0.1 * shown["position"].max(), column]
                axes.set_ylim(0, 1.05 * max(settled.max(), shown[f"{column}_smooth"].max()))
            axes.set_title(title if lam == grid.lambdas[0] else "")
            axes.set_xlabel("epoch" if lam == grid.lambdas[-1] else "")
            axes.set_ylabel("" if place else f"λ = {lam:g}")
    caption = f"{runs_of(grid)}. {_LINES}; dots: single iterations."
    if name == "figure4":
        caption += (
            " Of each image the largest l1 norm of the input gradient among the steps of the "
            "training attack, mean over the batch."
        )
    return Drawing(find_experiment(config, name).title, caption, figure, numbers, histories.missing)


def metrics(config: Config, name: str) -> Drawing:
    """Draw the three metrics over epochs, a line a width, and by width at the best epoch."""
    grid: Curves = getattr(config.experiments, name)
    histories = read_histories(config, curve_cells(grid))
    measured = measured_epochs(config.train_of(grid.method))
    runs = histories.epochs.groupby(["architecture", "seed"])["robust_accuracy"]
    # of a run that is over
    best = histories.epochs.index.isin(runs.idxmax()) & (runs.transform("size") == len(measured))
    numbers = histories.epochs.assign(best=best.astype(bool))
    figure = new_figure(2, height=3.4, columns=2, sharex=False)
    *panels, last = figure.axes
    titles = ("(a) robust accuracy", "(b) natural accuracy", "(c) stability")
    for axes, metric, title in zip(panels, METRIC_COLUMNS, titles, strict=True):
        _line_a_width(axes, grid, numbers, metric, "epoch")
        axes.set(title=title, xlabel="epoch")
    last.set(title="(d) at the best epoch", xlabel="width")
    chosen = numbers[numbers["best"]]
    if len(chosen):
        widths = chosen["architecture"].map(lambda name: parse_architecture(name).width)
        labels = ("robust", "natural", "stability")
        for place, (metric, label) in enumerate(zip(METRIC_COLUMNS, labels, strict=True)):
            seeds = chosen[metric].groupby(widths)
            drawn = line_style(place) | {"marker": MARKERS[place], "markersize": 3.5, "capsize": 2}
            last.errorbar(
                seeds.mean().index, seeds.mean(), yerr=seeds.std(ddof=1), label=label, **drawn
            )
        last.set_xticks(sorted(widths.unique()))
        last.legend()
    for axes in figure.axes[::2]:
        axes.set_ylabel("%")
    caption = (
        f"{runs_of(grid)}, on the test images. Lines: mean over seeds with one standard "
        "deviation; (d): the epoch of each finished run with the highest robust accuracy."
    )
    if measured[0] > 1:
        caption += f" Only epochs {measured[0]} to {measured[-1]} are measured."
    return Drawing(find_experiment(config, name).title, caption, figure, numbers, histories.missing)


def war(config: Config, _: str) -> Drawing:
    """Draw ratio and lambda of Table 3's WAR runs, and the ratio at the untuned lambda."""
    grid: Any = config.experiments.table3
    cells = traced_cells(grid)
    histories = read_histories(config, cells)
    found = histories.traces
    found = found.assign(ratio=found["natural_risk"] / found["robust_regularization"])
    numbers = smooth(found, [*_TERMS, "lambda_t", "ratio"], config.train_of("war").epochs)
    # the ratio that WAR steered to, by the first finished run
    finished = (load_run(config, cell).finished for cell in cells)
    zeta = next((run.zeta for run in finished if run and run.zeta is not None), math.nan)
    figure = new_figure(2, height=3.6)
    ratio, lam = figure.axes
    for place, name in enumerate(grid.architectures):
        runs, width = numbers[numbers["architecture"] == name], width_label(name)
        adapted, constant = (runs[runs["method"] == method] for method in ("war", "trades"))
        style, untuned = line_style(place), f"λ = {grid.untuned:g}, {width}"
        draw_lines(ratio, adapted, "ratio", "position", f"WAR, {width}", **style)
        draw_lines(lam, adapted, "lambda_t", "position", "_", **style)
        draw_lines(ratio, constant, "ratio", "position", untuned, alpha=0.45, **style)
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
    caption = (
        f"{models(grid.architectures)} on {dataset_facts(grid.dataset).title}. WAR raises lambda "
        f"while the ratio lies above zeta, the thin network's, and lowers it below. {_LINES}; "
        "pale: the same at a constant lambda."
    )
    title = "What width adjusted regularisation does to lambda"
    return Drawing(title, caption, figure, numbers.assign(zeta=zeta), histories.missing)
