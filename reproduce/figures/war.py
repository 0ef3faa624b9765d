"""How width adjusted regularisation moves lambda, and with it the ratio of the two terms."""

import math

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from reproduce.cell import Cell
from reproduce.config.grids import TuningTable
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.grids import traced_cells
from reproduce.experiments.runs import problem_with, read_run
from reproduce.experiments.spec import training_spec
from reproduce.figures.lines import draw_lines, smooth
from reproduce.figures.style import Drawing, legend_above, look, models, new_figure, say_missing
from reproduce.registry import dataset_facts, width_label
from reproduce.results.frames import read_histories

# whose runs are shown
WAR_TABLE = "table3"
_COLUMNS = ["natural_risk", "robust_regularization", "lambda_t", "ratio"]


def make(config: Config, _: str) -> Drawing:
    """Draw ratio and lambda of Table 3's WAR runs, and the ratio at the thin network's lambda."""
    grid: TuningTable = getattr(config.experiments, WAR_TABLE)
    cells = traced_cells(grid)
    histories = read_histories(config, cells)
    traces = histories.traces
    traces = traces.assign(ratio=traces["natural_risk"] / traces["robust_regularization"])
    numbers = smooth(traces, _COLUMNS, config.train_of("war").epochs)
    zeta = _zeta(config, cells)
    figure = _plot(grid, numbers, zeta)
    say_missing(figure, histories.missing, numbers.empty)
    caption = (
        f"{models(grid.architectures)} on {dataset_facts(grid.dataset).title}. WAR raises lambda "
        "while the ratio lies above zeta, the thin network's, and lowers it below. Lines: mean "
        "over seeds, smoothed over 3 % of the run; pale: the same at a constant lambda."
    )
    title = "What width adjusted regularisation does to lambda"
    return Drawing(title, caption, figure, numbers.assign(zeta=zeta), histories.missing)


def _zeta(config: Config, cells: list[Cell]) -> float:
    """Return the ratio that WAR steered to, by the first finished run; NaN before there is one."""
    for cell in cells:
        try:
            run = read_run(paths.cell_folder(config, cell))
            problem = problem_with(config, training_spec(config, cell), run)
        except HarnessError:  # the histories name it
            continue
        if run is not None and problem is None and run.zeta is not None:
            return run.zeta
    return math.nan


def _plot(grid: TuningTable, numbers: pd.DataFrame, zeta: float) -> Figure:
    figure = new_figure(2, height=3.6)
    ratio, lam = figure.axes
    for place, name in enumerate(grid.architectures):
        runs = numbers[numbers["architecture"] == name]
        war, constant = (runs[runs["method"] == method] for method in ("war", "trades"))
        draw_lines(ratio, war, "ratio", "position", f"WAR, {width_label(name)}", **look(place))
        draw_lines(lam, war, "lambda_t", "position", "_", **look(place))
        label = f"λ = {grid.untuned:g}, {width_label(name)}"
        draw_lines(ratio, constant, "ratio", "position", label, alpha=0.45, **look(place))
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
