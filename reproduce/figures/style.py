"""How figures look, and how they are written."""

import io
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.core.files import write_atomically, write_text
from reproduce.experiments import paths
from reproduce.registry import METHODS, dataset_facts, parse_architecture

# Okabe and Ito's colours: any colour vision keeps them apart.  Their order follows darkness, and
# each has dashes and a marker of its own, so grey print keeps them apart too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# a column of a two-column page, inches
COLUMN = 3.4
# lines of notes under a picture; `Drawing.missing` has them all
_MOST_NOTES = 3

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.2,
    # text stays text in the SVG, and equal figures give equal files
    "svg.fonttype": "none",
    "svg.hashsalt": "reproduce",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Give the context in which figures are drawn and written, whatever the user's matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@dataclass(frozen=True)
class Drawing:
    """A figure, every number that is drawn in it, and the runs and files that it lacks."""

    title: str
    caption: str
    figure: Figure
    numbers: pd.DataFrame
    missing: tuple[str, ...] = ()

    def svg(self) -> str:
        """Return the figure as SVG, without a date: it would make every file another."""
        with figure_style(), io.StringIO() as text:
            self.figure.savefig(text, format="svg", metadata={"Date": None})
            return text.getvalue()

    def save(self, config: Config, name: str) -> None:
        """Write the figure as SVG and PNG, and its numbers as CSV to six digits."""
        numbers = self.numbers.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        write_text(paths.figure_file(config, name, "csv"), numbers)
        write_text(paths.figure_file(config, name, "svg"), self.svg())
        png = paths.figure_file(config, name, "png")
        with figure_style():
            write_atomically(png, lambda p: self.figure.savefig(p, format="png", dpi=200))


def line_style(place: int) -> dict[str, Any]:
    """Return colour and dashes of the line at a place, from 0."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}


def new_figure(rows: int, height: float, columns: int = 1, **options: Any) -> Figure:
    """Return a figure one column of a page wide, with panels; `height` in inches.

    Panels share their horizontal axis; `options` go to matplotlib's `subplots`.
    """
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    figure.subplots(rows, columns, **{"sharex": True, **options})
    return figure


def finish(drawing: Drawing) -> Drawing:
    """Name the lines above all panels, and say below them what is missing."""
    figure, missing = drawing.figure, drawing.missing
    named = (axes.get_legend_handles_labels() for axes in figure.axes)
    handles, labels = next((found for found in named if found[0]), ([], []))
    if handles and not figure.legends:
        columns = 3 if max(map(len, labels)) > 6 else 4
        figure.legend(handles, labels, loc="outside upper center", ncols=columns)
    for axes in figure.axes if drawing.numbers.empty else []:
        axes.set(xticks=[], yticks=[])
        where: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, "nothing to show yet", color="#555555", **where)
    if missing:
        lines = [textwrap.shorten(line, 90) for line in missing[:_MOST_NOTES]]
        more = len(missing) - len(lines)
        lines += [f"and {more} more"] if more else []
        figure.supxlabel("\n".join(["Missing or unfinished:", *lines]), fontsize=5, color="#555555")
    return drawing


def models(architectures: Iterable[str]) -> str:
    """Name networks without their widths."""
    return ", ".join(dict.fromkeys(parse_architecture(name).title for name in architectures))


def runs_of(grid: Curves) -> str:
    """Say which runs a figure shows: networks, data set, method, seeds."""
    lams = ", ".join(f"{lam:g}" for lam in grid.lambdas)
    what = f"{dataset_facts(grid.dataset).title}, {METHODS[grid.method].title}, λ = {lams}"
    return f"{models(grid.architectures)} on {what}, {len(grid.seeds)} seed(s)"
