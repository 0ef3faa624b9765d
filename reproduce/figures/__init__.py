"""Figures from traces, epochs and records: SVG, PNG, and the numbers behind each as CSV."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import figure_names

if TYPE_CHECKING:
    from reproduce.figures.style import Drawing

__all__ = ["FIGURES", "available_figures", "draw", "make", "svg_of"]

# the module that makes each; figures that differ only in their runs share one
FIGURES = {
    "figure1": "terms",
    "figure2": "sets",
    "figure3": "epochs",
    "figure4": "lipschitz",
    "figure5": "schedules",
    "figure6": "networks",
    "figure7": "terms",
    "figure8": "terms",
    "figure9": "terms",
    "war": "war",
    "lemma": "lemma",
}


def available_figures(config: Config) -> tuple[str, ...]:
    """Name the figures of a configuration, those that it leaves out left out."""
    given = {*figure_names(config), "figure5", "lemma"}
    given |= {"war"} if config.experiments.table3 is not None else set()
    return tuple(name for name in FIGURES if name in given)


def make(config: Config, name: str) -> "Drawing":
    """Draw a figure from whatever runs there are; what is missing it says.

    Raises
    ------
    HarnessError
        If there is no figure of that name, or the configuration leaves it out.
    """
    known = available_figures(config)
    if name not in known:
        what = f"{name} is left out" if name in FIGURES else f"unknown figure {name!r}"
        raise HarnessError(f"{what}; the configuration has: {', '.join(known)}")
    from reproduce.figures.style import one_look

    drawing: Callable[[Config, str], Drawing] = import_module(
        f"reproduce.figures.{FIGURES[name]}"
    ).make
    with one_look():
        return drawing(config, name)


def draw(config: Config, name: str) -> "Drawing":
    """Write a figure and its numbers under the results folder.

    Raises
    ------
    HarnessError
        As `make`.
    """
    from reproduce.figures.style import save

    drawing = make(config, name)
    save(config, name, drawing)
    return drawing


def svg_of(drawing: "Drawing") -> str:
    """Return a figure as SVG, the same text for the same numbers."""
    from reproduce.figures.style import as_svg

    return as_svg(drawing.figure)
