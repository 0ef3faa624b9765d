"""Every figure of the configuration, as an image within the page."""

import base64

import pandas as pd

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.figures import available_figures, make, svg_of
from reproduce.figures.style import Drawing
from reproduce.report.exhibits import Cell, Figure, Link, Plain
from reproduce.report.words import label

# a table of more rows than this is left to the csv
_MOST_ROWS = 40


def figure_views(config: Config, damaged: list[str]) -> tuple[Figure, ...]:
    """Draw every figure from whatever runs there are.

    Parameters
    ----------
    config : Config
        The configuration.
    damaged : list of str
        Takes the figures that could not be drawn, with the reason.
    """
    views = []
    for name in available_figures(config):
        try:
            views.append(figure_view(config, name, make(config, name)))
        except HarnessError as error:
            damaged.append(f"{label(name)}: {error}")
    return tuple(views)


def figure_view(config: Config, name: str, drawing: Drawing) -> Figure:
    """Write a figure out: the picture, what it shows, what it lacks, its numbers."""
    width, height = (round(96 * inches) for inches in drawing.figure.get_size_inches())
    folder = paths.figure_file(config, name, "svg").parent.name
    return Figure(
        name,
        f"{label(name)}. {drawing.title}",
        data_uri("image/svg+xml", svg_of(drawing).encode()),
        (width, height),
        drawing.caption,
        drawing.missing,
        _numbers(name, drawing.numbers),
        tuple(Link(f"{name}.{form}", f"{folder}/{name}.{form}") for form in ("svg", "png", "csv")),
    )


def data_uri(kind: str, content: bytes) -> str:
    """Return a file as a URI that holds it whole."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _numbers(name: str, frame: pd.DataFrame) -> Plain | None:
    """Return the numbers of a figure as a table, where there are few enough to read."""
    if not 0 < len(frame) <= _MOST_ROWS:
        return None
    heads = tuple(str(column).replace("_", " ") for column in frame.columns)
    rows = tuple(tuple(_cell(value) for value in row) for row in frame.itertuples(index=False))
    return Plain(f"{name}-numbers", f"{label(name)}: the numbers", heads, rows)


def _cell(value: object) -> Cell:
    if not isinstance(value, float):
        return Cell(str(value))
    return Cell("–", "") if value != value else Cell(f"{value:.6g}", value)
