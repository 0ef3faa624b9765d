"""How a run went, as files: its trace, a row an iteration, and its epochs, a row each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.cell import Cell
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_atomically, write_text
from reproduce.experiments.runs import TRACE_COLUMNS


def as_frame(rows: Sequence[Sequence[float]] | NDArray[np.float64]) -> pd.DataFrame:
    """Return rows of a trace, with the iteration (from 1) as first column."""
    frame = pd.DataFrame(rows, columns=list(TRACE_COLUMNS))
    frame = frame.astype(dict.fromkeys(TRACE_COLUMNS, "float32") | {"epoch": "int32"})
    frame.insert(0, "iteration", pd.RangeIndex(1, len(frame) + 1).astype("int32"))
    return frame


def evenly(frame: pd.DataFrame, every: int) -> pd.DataFrame:
    """Return every so many rows of a trace, from the first iteration on."""
    kept: pd.DataFrame = frame[(frame["iteration"] - 1) % every == 0]
    return kept


def subsampled(frame: pd.DataFrame, every: int) -> pd.DataFrame:
    """Return a trace as it is published: every so many rows, and all of the last epoch.

    What is measured from the last epoch, WAR's zeta and the final lambda, stays exact.
    """
    last = frame["epoch"] == frame["epoch"].max()
    kept: pd.DataFrame = pd.concat([evenly(frame[~last], every), frame[last]])
    return kept


def write_trace(path: Path, frame: pd.DataFrame) -> None:
    """Write a trace, of the columns of `as_frame`, as Parquet."""
    write_atomically(path, lambda part: frame.to_parquet(part, compression="zstd", index=False))


def read_trace(path: Path, cell: Cell) -> pd.DataFrame:
    """Read the trace of a finished run, as `write_trace` wrote it.

    Raises
    ------
    HarnessError
        If it is damaged, naming the command that writes it anew.
    """
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # of a damaged file pyarrow raises many kinds
        raise HarnessError(f"{path} is damaged; `reproduce train {cell}` makes it anew") from error
    if missing := {*TRACE_COLUMNS} - {*frame.columns}:
        raise HarnessError(f"{path} lacks {', '.join(sorted(missing))}; it is no trace of a run")
    return frame


def write_epochs(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the metrics after every epoch that was measured as CSV."""
    write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def read_epochs(path: Path, cell: Cell, measured: range) -> pd.DataFrame:
    """Read the metrics of a finished run that was measured after these epochs.

    Raises
    ------
    HarnessError
        If the file is damaged, saying how to get it back.
    """
    try:
        frame = pd.read_csv(path).astype("float64")
        whole = frame["epoch"].tolist() == list(measured)
    except (OSError, ValueError, LookupError):
        whole = False
    if not whole:
        late = f" measured from {measured[0]} on" if measured[0] > 1 else ""
        raise HarnessError(
            f"{path} is damaged or not of {measured[-1]} epochs{late}; delete it, and "
            f"`reproduce train {cell}` makes it anew"
        )
    return frame
