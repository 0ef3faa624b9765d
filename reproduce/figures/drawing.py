"""A figure before it is written."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers behind it, and what is to be said about it.

    Attributes
    ----------
    title, caption : str
        What it shows, in a line; how to read it, in a sentence or two.
    figure : matplotlib.figure.Figure
        The picture.
    numbers : pandas.DataFrame
        Every number that is drawn.
    missing : tuple of str
        What belongs into it and is not there: runs not finished, files damaged.
    """

    title: str
    caption: str
    figure: Figure
    numbers: pd.DataFrame
    missing: tuple[str, ...] = ()
