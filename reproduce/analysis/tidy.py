"""Every number there is as one tidy table, for people's own analysis."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce import paths
from reproduce.analysis.results import read_evaluation, read_published
from reproduce.analysis.tidy_rows import COLUMNS, rows_from_elsewhere, rows_of_cell
from reproduce.cells import parse_cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import Evaluation, PublishedEvaluation
from reproduce.files import write_atomically


@dataclass(frozen=True)
class Tidy:
    """All results in one table.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row for each checkpoint, attack, attack seed and metric, with `COLUMNS`.
    records : int
        Number of records behind it.
    left_out : tuple of str
        Records that exist and are damaged, outdated or of no attack of the configuration.
    """

    frame: pd.DataFrame
    records: int
    left_out: tuple[str, ...]


def tidy_results(config: Config) -> Tidy:
    """Read every record that counts, whether or not an experiment asks for it.

    One counts if an attack of the configuration made it, with the settings of the
    configuration, on the weights that lie there.
    """
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    records = 0
    for source in (_of_cells(config, left_out), _from_elsewhere(config, left_out)):
        for found in source:
            records += 1
            rows += found
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Tidy(frame, records, tuple(left_out))


def write_results(config: Config) -> Tidy:
    """Write all results as results.parquet and return them."""
    tidy = tidy_results(config)
    path = paths.results_file(config)
    write_atomically(
        path, lambda part: tidy.frame.to_parquet(part, compression="zstd", index=False)
    )
    return tidy


def _of_cells(config: Config, left_out: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of every record in the cells' folders that counts."""
    top = paths.root(config) / "cells"
    choices = {paths.record_file(top, c, "", 0).parent.name: c for c in paths.CHECKPOINTS}
    for path in _records(top, "*/*/*/*/*/records*/*.npz"):
        try:
            cell = parse_cell(path.parent.parent.relative_to(top).as_posix())
            checkpoint = choices.get(path.parent.name)
            if checkpoint is None:
                left_out.append(f"{path} is of no checkpoint of a run")
                continue
            evaluation = Evaluation(cell, checkpoint, *_attack_of(config, path))
            found = read_evaluation(config, evaluation)
            if found is not None:
                yield rows_of_cell(config, evaluation, *found)
        except HarnessError as error:
            left_out.append(_named(path, error))


def _from_elsewhere(config: Config, left_out: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of every record of a published or other network that counts."""
    for path in _records(paths.root(config) / "models", "*/*/records/*.npz"):
        folder = path.parent.parent
        try:
            attack, seed = _attack_of(config, path)
            item = PublishedEvaluation(folder.name, folder.parent.name, attack, seed)
            record, _ = read_published(config, item)
            if record is not None:
                yield rows_from_elsewhere(config, item, record)
        except HarnessError as error:
            left_out.append(_named(path, error))


def _records(folder: Path, pattern: str) -> list[Path]:
    """Return the records under a folder, without what a write that was cut short left."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _attack_of(config: Config, path: Path) -> tuple[str, int]:
    """Return the attack of the configuration, and its seed, whose record is called so.

    Raises
    ------
    HarnessError
        If there is none.
    """
    label, _, seed = path.stem.rpartition("-seed")
    attacks = [name for name in config.eval.attacks if config.eval.label(name) == label]
    if not attacks or not seed.isdecimal():
        raise HarnessError(f"{path} is of no attack of the configuration")
    return attacks[0], int(seed)


def _named(path: Path, error: HarnessError) -> str:
    """Say why a record is left out, with its name where the reason does not hold it."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"
