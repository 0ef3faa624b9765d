"""What claims are judged on: records and histories, each read once."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.analysis.histories import Histories, read_histories
from reproduce.analysis.paired import Flags
from reproduce.analysis.results import read_evaluation, read_published
from reproduce.analysis.statistics import Sample, sample
from reproduce.cells import Cell
from reproduce.config import Config, Curves
from reproduce.errors import HarnessError
from reproduce.experiments import Evaluation, PublishedEvaluation, curve_cells
from reproduce.records import Record, worst_case


def _stable(record: Record) -> NDArray[np.bool_] | None:
    every_image = record.info["every_image"]
    return np.asarray(record.clean == record.adversarial) if every_image else None


# which images count for a metric; None where a record cannot tell
_TRUE: dict[str, Callable[[Record], NDArray[np.bool_] | None]] = {
    "robust_accuracy": lambda record: record.robust,
    "natural_accuracy": lambda record: record.clean == record.label,
    "perturbation_stability": _stable,
    "top5_natural_accuracy": lambda record: record.top5,
}


@dataclass(frozen=True)
class Group:
    """Networks that differ in nothing but their training seed, and a number of each.

    Attributes
    ----------
    name : str
        What they are; groups of one name are the same.
    values : mapping
        The number by training seed.
    images : mapping
        The images behind it, by training seed; empty where it is not of images.
    missing : tuple of str
        Planned networks that have no number, and why.
    """

    name: str
    values: Mapping[int, float]
    images: Mapping[int, Flags] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def sample(self) -> Sample:
        """Mean and standard deviation over seeds."""
        return sample(list(self.values.values()))


class Evidence:
    """The records and histories of a configuration, read when they are asked for.

    Parameters
    ----------
    config : Config
        The configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._records: dict[Evaluation, Record | str] = {}
        self._histories: dict[tuple[Cell, ...], Histories] = {}

    def grid(self, experiment: str) -> Any:
        """Return the grid of a table or figure that the configuration has."""
        return getattr(self.config.experiments, experiment)

    def record(self, item: Evaluation) -> Record | str:
        """Return the record of an evaluation, or why there is none."""
        if item not in self._records:
            try:
                found = read_evaluation(self.config, item)
            except HarnessError as error:
                self._records[item] = str(error)
            else:
                reason = f"{item.cell} has no record of {item.attack} with seed {item.seed} yet"
                self._records[item] = reason if found is None else found[0]
        return self._records[item]

    def published(self, item: PublishedEvaluation) -> Record | str:
        """Return the record of a published checkpoint, or why there is none."""
        try:
            record, reason = read_published(self.config, item)
        except HarnessError as error:
            return str(error)
        return record or reason or f"{item.name} has no record of {item.attack} yet"

    def histories(self, cells: Iterable[Cell]) -> Histories:
        """Return the traces and epochs of runs."""
        runs = tuple(cells)
        if runs not in self._histories:
            self._histories[runs] = read_histories(self.config, runs)
        return self._histories[runs]

    def group(self, name: str, items: Iterable[Evaluation], metric: str) -> Group:
        """Return one metric, in percent, of networks that differ in their training seed."""
        values, images, missing = {}, {}, []
        for item in items:
            record = self.record(item)
            if isinstance(record, str):
                missing.append(record)
                continue
            true = _TRUE[metric](record)
            if true is None:
                missing.append(f"the record of {item.attack} on {item.cell} tells no {metric}")
                continue
            where = f"the record of {item.attack} on {item.cell}"
            flags = Flags(where, item.cell.dataset, record.index, record.label, true)
            images[item.cell.seed] = flags
            values[item.cell.seed] = float(100 * true.mean())
        return Group(name, values, images, tuple(missing))

    def survivors(self, name: str, items: Sequence[Evaluation]) -> Group:
        """Return the share of images of one network that survive an attack from all its starts."""
        starts = [self.group(name, [item], "robust_accuracy") for item in items]
        missing = tuple(line for start in starts for line in start.missing)
        if missing:
            return Group(name, {}, {}, missing)
        seed = items[0].cell.seed
        held = [start.images[seed] for start in starts]
        index, robust = worst_case([(flags.index, flags.true) for flags in held])
        label = held[0].label[np.isin(held[0].index, index)]
        flags = replace(held[0], index=index, label=label, true=robust)
        return Group(name, {seed: float(100 * robust.mean())}, {seed: flags})


@dataclass(frozen=True)
class Runs:
    """The finished runs of a figure that follows training.

    Attributes
    ----------
    traces, epochs : mapping
        Rows of a trace, or of the epochs, by training run; where they can be read.
    missing : tuple of str
        Runs that are not finished and files that cannot be read.
    """

    traces: Mapping[Cell, pd.DataFrame]
    epochs: Mapping[Cell, pd.DataFrame]
    missing: tuple[str, ...]


def finished_runs(evidence: Evidence, grid: Curves) -> Runs:
    """Return the histories of runs, without those that have not come to their last epoch."""
    cells = curve_cells(grid)
    histories = evidence.histories(cells)
    last = evidence.config.train_of(grid.method).epochs

    def by_run(frame: pd.DataFrame) -> dict[Cell, pd.DataFrame]:
        runs = {
            Cell(*key): rows  # type: ignore[arg-type]
            for key, rows in frame.groupby(["dataset", "architecture", "method", "lambda", "seed"])
        }
        return {c: runs[c] for c in cells if c in runs and runs[c]["epoch"].max() == last}

    return Runs(by_run(histories.traces), by_run(histories.epochs), histories.missing)


def grouped(numbers: Mapping[Cell, float], what: str) -> dict[tuple[str, float], Group]:
    """Group a number of each run by network and lambda; runs where it is not finite are named."""
    values: dict[tuple[str, float], dict[int, float]] = {}
    missing: dict[tuple[str, float], list[str]] = {}
    for cell, number in numbers.items():
        key = (cell.architecture, cell.lam)
        of_key = values.setdefault(key, {})
        if math.isfinite(number):
            of_key[cell.seed] = number
        else:
            missing.setdefault(key, []).append(f"{cell} has no {what}: it is {number}")
    return {
        key: Group(f"{key[0]}, λ={key[1]:g}", found, missing=tuple(missing.get(key, ())))
        for key, found in values.items()
    }
