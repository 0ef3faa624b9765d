"""Which number of the comparison with the paper an entry of a table is."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from reproduce.cell import parse_cell
from reproduce.config.grids import AttackTable, ComparisonTable, Grid, TuningTable
from reproduce.report.words import with_std
from reproduce.results.frames import Results
from reproduce.tables.layouts import Column, Row

_TUNING = {"lambda": "lambda", "robust_accuracy": "robust_accuracy", "hours": "gpu_hours"}


class Place(NamedTuple):
    """What a number is of; None where a part of the name does not matter."""

    dataset: str
    architecture: str | None
    method: str
    lam: float | None
    attack: str
    metric: str


def place_of(grid: Any, row: Row, column: Column) -> Place | None:
    """Name the number at a row and a column of a table's layout; None for what is only ours.

    Parameters
    ----------
    grid : Grid, AttackTable, TuningTable or ComparisonTable
        The table's section of the configuration.
    row, column : Row, Column
        Of its layout.
    """
    keys = row.keys
    match grid:
        case Grid():
            metric, architecture = column.key.split(" ")
            return Place(
                grid.dataset, architecture, keys["method"], keys["lambda"], grid.attack, metric
            )
        case AttackTable() if column.key in grid.attacks:
            names = keys["dataset"], keys["architecture"], keys["method"], keys["lambda"]
            return Place(*names, column.key, "robust_accuracy")
        case TuningTable() if column.key in _TUNING:
            name = keys["tuning"]
            return Place(
                grid.dataset, keys["architecture"], name, None, "pgd20", _TUNING[column.key]
            )
        case ComparisonTable() if column.key == grid.attack:
            if keys["method"] in grid.published:
                method = keys["method"]
                return Place(grid.dataset, None, method, None, grid.attack, "robust_accuracy")
            cell = parse_cell(keys["method"])
            return Place(
                cell.dataset,
                cell.architecture,
                cell.method,
                cell.lam,
                grid.attack,
                "robust_accuracy",
            )
    return None


def is_papers(column: Column) -> bool:
    """Say whether a column of a layout holds the paper's numbers, which stand beside ours here."""
    return column.group == "Paper" or column.key == "paper"


class Comparison:
    """The rows of a comparison by what they are of.

    `printed` of a row is the paper's number as text; two readings of a number are one row, with
    both in `printed` and no difference.

    Parameters
    ----------
    diff : pandas.DataFrame
        From `build_diff`.
    """

    def __init__(self, diff: pd.DataFrame) -> None:
        self._rows: dict[Place, Mapping[Any, Any]] = {}
        for row in diff.to_dict("records"):
            lam = None if math.isnan(row["lambda"]) else round(row["lambda"], 4)
            place = Place(
                row["dataset"],
                row["architecture"],
                row["method"],
                lam,
                row["attack"],
                row["metric"],
            )
            row["printed"] = with_std(row["paper"], row["paper_std"])
            if (other := self._rows.get(place)) is not None:
                row["printed"] = f"{other['printed']} or {row['printed']}"
                row["difference"] = math.nan
            self._rows[place] = row
            # published checkpoints go by their id alone: their network may be unknown
            self._rows.setdefault(place._replace(architecture=None), row)

    def of(self, place: Place | None) -> Mapping[Any, Any] | None:
        """Return the row of a number, or None if the comparison has none."""
        return None if place is None else self._rows.get(place)


def seeds_behind(
    grid: Any, place: Place | None, lam: float, results: Results
) -> tuple[tuple[str, float], ...]:
    """Return the single values behind a mean, each with its seed in words.

    Parameters
    ----------
    grid : Grid, AttackTable, TuningTable or ComparisonTable
        The table's section of the configuration.
    place : Place or None
        What the number is of.
    lam : float
        The mean lambda of a strategy of tuning; others have it in their place.  Lambdas are
        compared to four decimals, as cell ids have them.
    results : Results
        The records.
    """
    if place is None or place.metric == "gpu_hours" or isinstance(grid, ComparisonTable):
        return ()
    frame = results.frame
    frame = frame[
        (frame["dataset"] == place.dataset)
        & (frame["architecture"] == place.architecture)
        & (frame["attack"] == place.attack)
    ]
    if isinstance(grid, TuningTable):
        adaptive = place.method == "war"
        frame = frame[
            frame["training_seed"].isin(grid.seeds)
            & (frame["method"] == ("war" if adaptive else "trades"))
        ]
        frame = frame if adaptive else frame[frame["lambda"].round(4) == round(lam, 4)]
    else:
        frame = frame[(frame["method"] == place.method) & (frame["lambda"].round(4) == place.lam)]
    metric = "final_lambda" if place.metric == "lambda" else place.metric
    by, word = "training_seed", "seed"
    if isinstance(grid, AttackTable):
        by, word = "attack_seed", "start"
    values = zip(frame[by].tolist(), frame[metric].tolist(), strict=True)
    return tuple((f"{word} {seed}", float(value)) for seed, value in values)
