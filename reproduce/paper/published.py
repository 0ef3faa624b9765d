"""The paper's numbers (published.csv, percent, with their ±) and its published checkpoints."""

import csv
import math
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator

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
    """Return one table of Wu et al. 2021, such as "table1", a row a number.

    A number that cannot be read in the source has NaN and a note, one that can be read in two ways
    has two rows.  Of Table 4 `method` is RobustBench's id where it is a published checkpoint's.
    """
    frame = _all()
    return frame[frame["table"] == table].drop(columns="table").reset_index(drop=True)


def network_of(architecture: str) -> str | None:
    """Return how cells name a network of the leaderboard's; None if they have no such."""
    found = re.fullmatch(r"WideResNet-(\d+-\d+)", architecture)
    return None if found is None else f"wrn-{found[1]}"


def parse_radius(text: str) -> float:
    """Read a radius as the leaderboard writes it, such as 8/255 or 0.031; ValueError if none."""
    above, slash, below = text.partition("/")
    radius = float(above) / float(below) if slash else float(above)
    if not 0 < radius < math.inf:
        raise ValueError(f"{text} is no radius")
    return radius


class PublishedModel(BaseModel, frozen=True):
    """A published checkpoint, as its card on the leaderboard describes it."""

    id: str  # RobustBench's
    method: str  # short name of its training method, and whose it is
    authors: str
    year: int
    dataset: str
    architecture: str  # in the leaderboard's words
    extra_data: bool  # whether it was trained with images beyond the data set's
    # at which the leaderboard's number was measured, pixels in [0, 1]
    epsilon: Annotated[float, BeforeValidator(parse_radius)]
    natural: float  # percent, on the leaderboard
    autoattack: float
    reported: float  # robust accuracy by its own paper

    @property
    def source(self) -> str:
        """Whose it is, such as Zhang et al. 2019."""
        return f"{self.authors} et al. {self.year}"

    @property
    def network(self) -> str | None:
        """The architecture as cells name it, such as wrn-34-10; None if there is no such."""
        return network_of(self.architecture)


@cache
def published_models() -> dict[str, PublishedModel]:
    """Return the published models of Table 4 and Figure 6 (RobustBench, March 2025) by their id."""
    with files("reproduce").joinpath("paper", "zoo.csv").open(encoding="utf-8") as handle:
        models = [PublishedModel.model_validate(row) for row in csv.DictReader(handle)]
    return {model.id: model for model in models}
