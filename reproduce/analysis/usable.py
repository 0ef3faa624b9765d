"""What of one run can be used: the one rule for figures, claims, tables and event files."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.files import sha256_of_file
from reproduce.runs import Found, RunInfo, find_run
from reproduce.saved import SavedTrace
from reproduce.schedules import measured_epochs
from reproduce.specs import training_spec
from reproduce.traces import as_frame, evenly, read_epochs, read_trace


@dataclass(frozen=True)
class UsableRun:
    """What of one run can be used.

    A finished run can if it has the configuration's settings, the images prepared now, and
    all its files; each of those is then read, and may be damaged, for itself.  Of another
    run with these settings it is what its saved state holds.

    Attributes
    ----------
    config : Config
        The configuration.
    cell : Cell
        The run.
    found : Found
        How far it is.
    """

    config: Config
    cell: Cell
    found: Found

    @property
    def finished(self) -> RunInfo | None:
        """What run.json says, of a finished run."""
        return self.found.finished

    @property
    def problem(self) -> str | None:
        """Why nothing of it can be used, in words; None if something can."""
        if self.found.damage is not None:
            return self.found.damage
        if self.found.problem is None or self.found.saved is not None:
            return None
        return f"{self.cell} {self.found.problem}"

    @property
    def written(self) -> float:
        """When its trace was written, in seconds since 1970."""
        if self.found.saved is not None:
            return self.found.saved.written
        return paths.trace_file(paths.cell_folder(self.config, self.cell)).stat().st_mtime

    def trace(self) -> pd.DataFrame:
        """Read its trace, a row an iteration, as `reproduce.traces.as_frame` has it.

        Of a run that was published with a part of its trace, it is every so many iterations.

        Raises
        ------
        HarnessError
            If nothing of the run can be used, or this file is damaged or not that run's.
        """
        run = self._usable()
        if isinstance(run, SavedTrace):
            return as_frame(run.rows)
        path = paths.trace_file(paths.cell_folder(self.config, self.cell))
        # before it is read: of a flipped bit the reader of such files may raise anything
        self._check(path, run.trace)
        trace = read_trace(path, self.cell)
        return trace if run.published is None else evenly(trace, run.published.every)

    def epochs(self) -> pd.DataFrame:
        """Read the metrics after the epochs it was measured after, a row each, as in epochs.csv.

        Raises
        ------
        HarnessError
            As `trace`.
        """
        run = self._usable()
        if isinstance(run, SavedTrace):
            return pd.DataFrame(run.progress["epochs"])
        path = paths.epochs_file(paths.cell_folder(self.config, self.cell))
        train = training_spec(self.config, self.cell).train
        if run.epochs is not None:
            self._check(path, run.epochs)
        return read_epochs(path, self.cell, measured_epochs(train))

    def _check(self, path: Path, sha256: str) -> None:
        if sha256_of_file(path) != sha256:
            raise HarnessError(
                f"{path} is damaged or not the one of run.json; `reproduce train {self.cell}` "
                "makes it again"
            )

    def _usable(self) -> RunInfo | SavedTrace:
        usable = self.finished or self.found.saved
        if usable is None:
            raise HarnessError(str(self.problem))
        return usable


def usable_run(config: Config, cell: Cell) -> UsableRun:
    """Look what of a run can be used; its large files are read when they are asked for."""
    return UsableRun(config, cell, find_run(config, training_spec(config, cell)))
