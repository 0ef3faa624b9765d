"""How width adjusted regularisation moves lambda, and with it the ratio of the two terms."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from reproduce import paths
from reproduce.analysis.layouts.layout import width
from reproduce.catalogue import dataset_facts
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import traced_cells
from reproduce.figures.style import COLOURS, DASHES, new_figure
from reproduce.files import read_json
from reproduce.runs import problem_with, read_run
from reproduce.specs import training_spec
from reproduce.training.trace import read_trace

# iterations that one point of the smoothed lines averages, as a fraction of the run
_WINDOW = 0.03


def numbers(config: Config) -> pd.DataFrame:
    """Read the traces of Table 3's WAR runs, and of the same networks at the thin one's lambda.

    Returns
    -------
    pandas.DataFrame
        A row an iteration of each run: dataset, architecture, method, seed, zeta, iteration,
        natural_risk, robust_regularization, lambda, ratio.

    Raises
    ------
    HarnessError
        If Table 3 is not configured, or none of its WAR runs is finished.
    """
    frames = [_trace(config, cell) for cell in traced_cells(config)]
    found = [frame for frame in frames if frame is not None]
    if not any((frame["method"] == "war").any() for frame in found):
        raise HarnessError("figure war: no WAR run of table3 is finished yet")
    return pd.concat(found, ignore_index=True)


def _trace(config: Config, cell: Cell) -> pd.DataFrame | None:
    """Return the trace of a run with its name; None if it is not finished with these settings."""
    folder = paths.cell_folder(config, cell)
    if problem_with(config, training_spec(config, cell), read_run(folder)) is not None:
        return None
    trace = read_trace(paths.trace_file(folder), cell)
    names = ("dataset", "architecture", "method", "seed", "zeta")
    zeta = read_json(paths.run_file(folder))["zeta"]
    values = (cell.dataset, cell.architecture, cell.method, cell.seed, zeta)
    columns = ["iteration", "natural_risk", "robust_regularization", "lambda"]
    frame = trace[columns].assign(**dict(zip(names, values, strict=True)))
    frame["ratio"] = frame["natural_risk"] / frame["robust_regularization"]
    return frame[[*names, *columns, "ratio"]]


def plot(frame: pd.DataFrame) -> Figure:
    """Draw ratio and lambda over the iterations, a line a network, the mean over its seeds."""
    figure = new_figure(2, height=3.6)
    ratio, lam = figure.axes
    for place, name in enumerate(dict.fromkeys(frame["architecture"])):
        look = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
        runs = frame[frame["architecture"] == name]
        war, constant = (runs[runs["method"] == method] for method in ("war", "trades"))
        _line(ratio, war, "ratio", f"WAR, {width(name)}", **look)
        _line(lam, war, "lambda", "_", **look)
        if len(constant):
            label = f"λ = {constant['lambda'].iloc[0]:g}, {width(name)}"
            _line(ratio, constant, "ratio", label, alpha=0.45, **look)
    zeta = frame.loc[frame["method"] == "war", "zeta"].iloc[0]
    ratio.axhline(zeta, color="black", linestyle=":", linewidth=0.9, label=f"ζ = {zeta:.1f}")
    ratio.set_title(dataset_facts(frame["dataset"].iloc[0]).title, fontsize=8)
    ratio.set(yscale="log", ylabel="natural risk /\nrobust regularisation")
    lam.set(xlabel="iteration", ylabel="λ of WAR", ylim=(0, None))
    # 20, 50, 100 in place of powers of ten, of which there may be one
    ratio.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ratio.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ratio.yaxis.set_minor_formatter(NullFormatter())
    ratio.legend(fontsize=6, ncols=2)
    return figure


def _line(axes: Axes, runs: pd.DataFrame, column: str, label: str, **look: object) -> None:
    """Draw one column: the mean over seeds, smoothed, over thin lines of every seed as it is."""
    seeds = runs.pivot_table(index="iteration", columns="seed", values=column)
    window = max(1, round(_WINDOW * len(seeds)))
    mean = seeds.mean(axis=1).rolling(window, min_periods=1, center=True).mean()
    for seed in seeds:
        axes.plot(seeds.index, seeds[seed], color=look["color"], linewidth=0.3, alpha=0.25)
    axes.plot(mean.index, mean, label=label, **look)  # type: ignore[arg-type]
