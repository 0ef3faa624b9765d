"""Figures from traces, epochs and records: SVG, PNG, and the numbers behind each as CSV.

matplotlib is imported when a figure is drawn: to plan figures does not need it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import figure_names

if TYPE_CHECKING:
    from reproduce.figures.style import Drawing

__all__ = ["FIGURES", "available_figures", "draw", "make", "svg_of"]

# in the order of the paper, then ours
FIGURES = (*(f"figure{number}" for number in range(1, 10)), "war", "lemma")


def _functions() -> dict[str, Callable[[Config, str], "Drawing"]]:
    """Return the function that draws each figure; figures of one kind share one."""
    from reproduce.figures import curves, others

    return {
        "figure1": curves.loss_terms,
        "figure2": others.sets,
        "figure3": curves.metrics,
        "figure4": curves.lipschitz,
        "figure5": others.schedules,
        "figure6": others.networks,
        "figure7": curves.loss_terms,
        "figure8": curves.loss_terms,
        "figure9": curves.loss_terms,
        "war": curves.war,
        "lemma": others.lemma,
    }


def available_figures(config: Config) -> tuple[str, ...]:
    """Name the figures of a configuration, those that it leaves out left out."""
    given = {*figure_names(config), "figure5", "lemma"}
    if config.experiments.table3 is not None:
        given.add("war")
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
    from reproduce.figures.style import figure_style, note_missing

    with figure_style():
        drawing = _functions()[name](config, name)
        note_missing(drawing)
    return drawing


def draw(config: Config, name: str) -> "Drawing":
    """Write a figure and its numbers under the results folder; errors are those of `make`."""
    from reproduce.figures.style import save

    drawing = make(config, name)
    save(config, name, drawing)
    return drawing


def svg_of(drawing: "Drawing") -> str:
    """Return a figure as SVG, the same text for the same numbers."""
    from reproduce.figures.style import as_svg

    return as_svg(drawing.figure)
