"""How figures look, and how they are written."""

import io
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from reproduce.config.grids import Curves
from reproduce.config.schema import Config
from reproduce.core.files import write_atomically, write_text
from reproduce.experiments import paths
from reproduce.registry import METHODS, dataset_facts, parse_architecture


@dataclass(frozen=True)
class Drawing:
    """A figure, every number that is drawn in it, and the runs and files that it lacks."""

    title: str
    caption: str
    figure: Figure
    numbers: pd.DataFrame
    missing: tuple[str, ...] = ()


# Okabe and Ito's colours: any colour vision keeps them apart.  Their order follows darkness, and
# each has dashes and a marker of its own, so grey print keeps them apart too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# a column of a two-column page, inches
COLUMN = 3.4
# lines of notes under a picture; the caption has them all
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


def line_style(place: int) -> dict[str, Any]:
    """Return colour and dashes of the line at a place, from 0."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def new_figure(rows: int, height: float, columns: int = 1, **options: Any) -> Figure:
    """Return a figure one column of a page wide, with panels; `height` in inches.

    Panels share their horizontal axis; `options` go to matplotlib's `subplots`.
    """
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    figure.subplots(rows, columns, **{"sharex": True, **options})
    return figure


def note_missing(drawing: Drawing) -> None:
    """Write into a figure that it is not whole, or that there is nothing to show yet."""
    figure, missing = drawing.figure, drawing.missing
    for axes in figure.axes if drawing.numbers.empty else []:
        axes.set(xticks=[], yticks=[])
        where: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, "nothing to show yet", color="#555555", **where)
    if missing:
        lines = [textwrap.shorten(line, 90) for line in missing[:_MOST_NOTES]]
        more = len(missing) - len(lines)
        lines += [f"and {more} more"] if more else []
        figure.supxlabel("\n".join(["Missing or unfinished:", *lines]), fontsize=5, color="#555555")


def legend_above(figure: Figure, columns: int = 4) -> None:
    """Name the lines above all panels, where none runs below the names.

    They are those of the first panel that has lines: panels share their names.
    """
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=columns)
            return


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG, without a date: it would make every file another."""
    with figure_style(), io.StringIO() as text:
        figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()


def save(config: Config, name: str, drawing: Drawing) -> None:
    """Write a figure as SVG and PNG, and the numbers behind it as CSV to six digits."""
    numbers = drawing.numbers.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(paths.figure_file(config, name, "csv"), numbers)
    write_text(paths.figure_file(config, name, "svg"), as_svg(drawing.figure))

    def write(part: Path) -> None:
        with figure_style():
            drawing.figure.savefig(part, format="png", dpi=200)

    write_atomically(paths.figure_file(config, name, "png"), write)


def models(architectures: Iterable[str]) -> str:
    """Name networks without their widths."""
    return ", ".join(dict.fromkeys(parse_architecture(name).title for name in architectures))


def runs_of(grid: Curves) -> str:
    """Say which runs a figure shows: networks, data set, method, number of seeds."""
    lams = ", ".join(f"{lam:g}" for lam in grid.lambdas)
    seeds = f"{len(grid.seeds)} seed{'s' if len(grid.seeds) > 1 else ''}"
    data, method = dataset_facts(grid.dataset).title, METHODS[grid.method].title
    return f"{models(grid.architectures)} on {data}, {method}, λ = {lams}, {seeds}"
