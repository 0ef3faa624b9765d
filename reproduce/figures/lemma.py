"""The largest input gradients found on the networks of Lemma 4.2, against their width."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.figures.style import MARKERS, Drawing, look, new_figure, say_missing
from reproduce.lemma.results import COLUMNS, WAYS, Examination, read_examination

# what the two rows of panels show
_SHOWN = {"near": "largest norm,\nlemma's condition", "wide_near": "largest norm,\nbeyond it"}


def make(config: Config, _: str) -> Drawing:
    """Draw the largest norms found, a line a depth, with a line of the bound's slope."""
    title = "Largest input gradient of random networks (Lemma 4.2)"
    found, missing = _read(config)
    numbers = pd.DataFrame(columns=list(COLUMNS)) if found is None else found.rows
    figure = plot(numbers)
    say_missing(figure, missing, numbers.empty)
    caption = (
        "Random networks of input dimension fixed (left) and equal to the width m (right). "
        "Top: largest norm found within the lemma's condition on input and weights; bottom: within "
        f"{config.lemma.wide_epsilon:g} of the input, each layer moved by "
        f"{config.lemma.wide_radius:g}. Lines: geometric mean over seeds; dots: networks, hollow "
        "ones too narrow for their depth to be fitted; grey: slope 1/2, the bound's."
    )
    if found is not None:
        caption += f" Exponents in m, with 95 % intervals: {_exponents(found)}."
    return Drawing(title, caption, figure, numbers, missing)


def _read(config: Config) -> tuple[Examination | None, tuple[str, ...]]:
    """Return what was found, or why it is not there."""
    try:
        found = read_examination(config)
    except HarnessError as error:
        return None, (str(error),)
    if found is None:
        there = paths.lemma_file(config).exists()
        reason = "it is of other settings" if there else "it is not there yet"
        return None, (f"lemma.json: {reason}, `reproduce lemma` makes it",)
    return found, ()


def _exponents(found: Examination) -> str:
    """Name the exponents in width and depth of what is drawn."""
    return "; ".join(
        f"{place} {found.fits[way, quantity].width}, {found.fits[way, quantity].depth} in H"
        for quantity, row in zip(_SHOWN, ("top", "bottom"), strict=True)
        for way, place in zip(WAYS, (f"{row} left", f"{row} right"), strict=True)
    )


def plot(frame: pd.DataFrame) -> Figure:
    """Draw rows of `Examination`: quantities downwards, ways of the input dimension across."""
    figure = new_figure(2, height=3.6, columns=2, sharey="row")
    panels = iter(figure.axes)
    for quantity, label in _SHOWN.items():
        for way, title in WAYS.items():
            axes = next(panels)
            _panel(axes, frame[frame["way"] == way], quantity)
            if quantity == "near":
                axes.set_title(title)
            else:
                axes.set_xlabel("width m")
            if way == "fixed":
                axes.set_ylabel(label)
    if len(frame):
        for axes in figure.axes:
            axes.set(xscale="log", yscale="log")
            axes.xaxis.set_major_locator(LogLocator())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, quantity: str) -> None:
    """Draw a line a depth over the networks' own dots, and the slope of the bound."""
    if frame.empty:
        return
    for place, (depth, rows) in enumerate(frame.groupby("H")):
        style = look(place)
        for fitted, dots in rows.groupby("fitted"):
            axes.plot(
                dots["m"],
                dots[quantity],
                linestyle="none",
                marker=MARKERS[place % len(MARKERS)],
                markersize=2.5,
                markeredgewidth=0.4,
                alpha=0.5,
                color=style["color"],
                markerfacecolor=style["color"] if fitted else "none",
            )
        means = np.exp(np.log(rows[quantity]).groupby(rows["m"]).mean())
        axes.plot(means.index, means, label=f"H={depth}", **style)
    widths = np.array([frame["m"].min(), frame["m"].max()], dtype=float)
    start = frame.loc[frame["m"] == widths[0], quantity].median()
    slope = start * np.sqrt(widths / widths[0])
    axes.plot(widths, slope, color="0.6", linewidth=2.5, zorder=0, label="slope 1/2")
