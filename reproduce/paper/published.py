"""Loader of published.csv: a row a printed number, percent, with its ± where it has one."""

import csv
import math
import re
from dataclasses import dataclass
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


@dataclass(frozen=True)
class PublishedModel:
    """A published checkpoint, as its card on the leaderboard describes it.

    Attributes
    ----------
    id : str
        RobustBench's id.
    method, source : str
        Short name of its training method, and whose it is.
    dataset, architecture : str
        Data set, and network in the leaderboard's words.
    extra_data : bool
        Whether it was trained with images beyond the data set's.
    epsilon : float
        Radius at which the leaderboard's number was measured, pixels in [0, 1].
    natural, autoattack, reported : float
        Percent: natural and AutoAttack accuracy on the leaderboard, and the robust
        accuracy that its own paper reports.
    """

    id: str
    method: str
    source: str
    dataset: str
    architecture: str
    extra_data: bool
    epsilon: float
    natural: float
    autoattack: float
    reported: float

    @property
    def network(self) -> str | None:
        """The architecture as cells name it, such as wrn-34-10; None if there is no such."""
        return network_of(self.architecture)


def network_of(architecture: str) -> str | None:
    """Return how cells name a network of the leaderboard's; None if they have no such."""
    found = re.fullmatch(r"WideResNet-(\d+-\d+)", architecture)
    return None if found is None else f"wrn-{found[1]}"


def parse_radius(text: str) -> float:
    """Read a radius as the leaderboard writes it, such as 8/255 or 0.031.

    Raises
    ------
    ValueError, ZeroDivisionError
        If it is none.
    """
    above, slash, below = text.partition("/")
    radius = float(above) / float(below) if slash else float(above)
    if not 0 < radius < math.inf:
        raise ValueError(f"{text} is no radius")
    return radius


@cache
def published_models() -> dict[str, PublishedModel]:
    """Return the published models of Table 4 and Figure 6 by their id.

    Source: RobustBench's model_info, March 2025.
    """
    with files("reproduce").joinpath("paper", "zoo.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    found = {}
    for row in rows:
        found[row["id"]] = PublishedModel(
            id=row["id"],
            method=row["method"],
            source=f"{row['authors']} et al. {row['year']}",
            dataset=row["dataset"],
            architecture=row["architecture"],
            extra_data=row["extra_data"] == "yes",
            epsilon=parse_radius(row["epsilon"]),
            natural=float(row["natural"]),
            autoattack=float(row["autoattack"]),
            reported=float(row["reported"]),
        )
    return found
