"""The paper's numbers over all tables, each once."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from reproduce.config.grids import Grid, TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import war_cells
from reproduce.report.tables import Collected
from reproduce.tables.diff import DIFF_COLUMNS

# what a mean is over, of the tables whose numbers may stand in one another
_SEEDS = "training seeds"


def each_once(config: Config, collected: Sequence[Collected]) -> pd.DataFrame:
    """Return the rows of all comparisons in one, each number where it stands first.

    A strategy of tuning in Table 3 ends with a lambda, and its networks are those that Table 1
    has at this lambda: where the paper prints the same number of both, it is one and counts
    once.  Numbers of other tables are over other seeds or of other checkpoints.

    Returns
    -------
    pandas.DataFrame
        Columns `DIFF_COLUMNS` and before them `table`, the name of the table.
    """
    names = ["table", *DIFF_COLUMNS]
    seen: set[Hashable] = set()
    rows = []
    for one in collected:
        grid = getattr(config.experiments, one.experiment.name)
        # two readings of a number are one
        diff = one.diff.drop_duplicates(DIFF_COLUMNS[: DIFF_COLUMNS.index("paper")])
        for row in diff.assign(table=one.experiment.name).to_dict("records"):
            number = _number(grid, row, one.diff)
            if number not in seen:
                seen.add(number)
                rows.append(row)
    return pd.DataFrame(rows, columns=names)


def _number(grid: Any, row: Mapping[Hashable, Any], diff: pd.DataFrame) -> Hashable:
    """Name what a row is of; rows of one name are one number of the paper."""
    method, lam, over = row["method"], row["lambda"], row["table"]
    if isinstance(grid, Grid):
        over = _SEEDS
    elif isinstance(grid, TuningTable) and row["metric"] == "robust_accuracy":
        over, (method, lam) = _SEEDS, _trained(grid, row, diff)
    what = row["dataset"], row["architecture"], row["attack"], row["metric"]
    # NaN, of no lambda or no number, is not even equal to itself
    return (
        over,
        method,
        *(None if math.isnan(value) else value for value in (lam, row["paper"])),
        *what,
    )


def _trained(
    grid: TuningTable, row: Mapping[Hashable, Any], diff: pd.DataFrame
) -> tuple[str, float]:
    """Return method and lambda of the networks that a strategy of tuning ended with."""
    if row["method"] == "war":
        return "war", war_cells(grid, row["architecture"])[0].lam
    if row["method"] == "untuned":
        return "trades", grid.untuned
    ended = diff[
        (diff["architecture"] == row["architecture"])
        & (diff["method"] == row["method"])
        & (diff["metric"] == "lambda")
    ]["ours"].dropna()
    if not len(ended):
        # before the search has ended it is nobody else's number
        return row["method"], math.nan
    return "trades", min(grid.lambdas, key=lambda lam: abs(lam - float(ended.iloc[0])))
