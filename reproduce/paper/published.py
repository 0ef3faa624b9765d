"""Loader of published.csv: a row a printed number, percent, with its ± where it has one."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@cache
def _all() -> "pd.DataFrame":
    import pandas as pd  # a quarter of a second that jobs without a table need not wait

    with files("reproduce").joinpath("paper", "published.csv").open(encoding="utf-8") as handle:
        frame = pd.read_csv(handle, dtype={"width": str, "note": str})
    frame["architecture"] = frame["architecture"] + "-" + frame.pop("width")
    frame["lambda"] = frame["lambda"].astype(float)
    return frame.fillna({"note": ""})


def published(table: str) -> "pd.DataFrame":
    """Return one table of the paper in long form.

    Parameters
    ----------
    table : str
        Name of a table of the paper, such as "table1".

    Returns
    -------
    pandas.DataFrame
        Columns dataset, architecture, method, lambda, attack, metric, mean, std,
        note.  A number that cannot be read in the source has NaN and a note, one that can be
        read in two ways has two rows.

    Source: Wu et al. 2021, tables 1 to 6; of Table 4 the method is RobustBench's id where
    the number is a published checkpoint's.
    """
    frame = _all()
    return frame[frame["table"] == table].drop(columns="table").reset_index(drop=True)
