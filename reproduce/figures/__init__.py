"""Figures from traces and records: each as SVG, PNG, and the numbers behind it as CSV."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.figures import war

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw"]

# what collects the numbers, and what draws them
FIGURES: "dict[str, tuple[Callable[[Config], pd.DataFrame], Callable[[pd.DataFrame], Figure]]]" = {
    "war": (war.numbers, war.plot),
}


def draw(config: Config, name: str) -> None:
    """Write a figure and its numbers under the results folder.

    Raises
    ------
    HarnessError
        If there is no figure of that name, or nothing to draw yet.
    """
    if name not in FIGURES:
        raise HarnessError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
    from reproduce.figures.style import one_look, save

    collect, plot = FIGURES[name]
    numbers = collect(config)
    with one_look():
        save(config, name, plot(numbers), numbers)
