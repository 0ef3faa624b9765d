"""One look for all figures, and how they are written."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from reproduce import paths
from reproduce.config import Config
from reproduce.files import write_atomically, write_text

# Okabe and Ito's colours, told apart with any colour vision; in an order that darkness follows,
# with dashes of their own, so that grey print keeps them apart too
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
# a column of a two-column page, inches
COLUMN = 3.4

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    # text stays text in the SVG, and equal figures give equal files
    "svg.fonttype": "none",
    "svg.hashsalt": "reproduce",
}


def one_look() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and written."""
    return mpl.rc_context(_STYLE)


def new_figure(rows: int, height: float) -> Figure:
    """Return a figure one column wide with `rows` panels that share their horizontal axis."""
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    figure.subplots(rows, 1, sharex=True)
    return figure


def save(config: Config, name: str, figure: Figure, numbers: pd.DataFrame) -> None:
    """Write a figure as SVG and PNG, and the numbers behind it as CSV to six digits."""
    text = numbers.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(paths.figure_file(config, name, "csv"), text)

    def write(part: Path, suffix: str) -> None:
        # a date would make every file another
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(part, format=suffix, dpi=200, metadata=metadata)

    for suffix in ("svg", "png"):
        write_atomically(
            paths.figure_file(config, name, suffix),
            lambda part, suffix=suffix: write(part, suffix),  # type: ignore[misc]
        )
