"""Figures from traces, epochs and records: SVG, PNG, and the numbers behind each as CSV.

matplotlib is imported when a figure is drawn: to plan figures does not need it.
"""

from typing import TYPE_CHECKING

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import figure_names

if TYPE_CHECKING:
    from reproduce.figures.style import Drawing

# in the order of the paper, then ours
FIGURES = (*(f"figure{number}" for number in range(1, 10)), "war", "lemma")


def available_figures(config: Config) -> tuple[str, ...]:
    """Name the figures of a configuration, those that it leaves out left out."""
    given = {*figure_names(config), "figure5", "lemma"}
    if config.experiments.table3 is not None:
        given.add("war")
    return tuple(name for name in FIGURES if name in given)


def make(config: Config, name: str) -> "Drawing":
    """Draw a figure from whatever runs there are; HarnessError if the configuration has none."""
    known = available_figures(config)
    if name not in known:
        raise HarnessError(f"unknown figure {name!r}; the configuration has {', '.join(known)}")
    from reproduce.figures import curves, others
    from reproduce.figures.style import figure_style, finish

    functions = {
        "figure2": others.sets,
        "figure3": curves.metrics,
        "figure5": others.schedules,
        "figure6": others.networks,
        "war": curves.war,
        "lemma": others.lemma,
    }
    with figure_style():
        return finish(functions.get(name, curves.traces)(config, name))


def draw(config: Config, name: str) -> "Drawing":
    """Write a figure and its numbers under the results folder; raises as `make`."""
    drawing = make(config, name)
    drawing.save(config, name)
    return drawing
