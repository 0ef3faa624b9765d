"""What the files of a run say: run.json, trace and epochs, or the state of an unfinished one.

Read without torch and without the weights.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import (
    read_json,
    read_model,
    sha256_of_file,
    write_atomically,
    write_text,
)
from reproduce.experiments import paths
from reproduce.experiments.spec import TrainingSpec, checkpoints, training_spec

DAMAGED = "the saved state {} is damaged; delete it to start this run again"
# entry of the saved state's header: everything but the tensors, as JSON
PROGRESS = "progress"
# of every row of the trace, after the iteration
TRACE_COLUMNS = (
    "epoch",
    "natural_risk",
    "robust_regularization",
    "lambda",
    "learning_rate",
    "lipschitz",
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class ExtraInfo(_Part):
    """The extra images a run was trained with."""

    images: int
    sha256: str


class ImagesInfo(_Part):
    """The images a run was trained with, or an evaluation made on."""

    sha256: str = ""
    source: str = ""
    official: bool
    train: int
    test: int
    extra: ExtraInfo | None = None


class Segment(_Part):
    """The hardware and software that did a part of some work."""

    began: str = ""
    device: str = ""
    name: str = ""
    processes: int = 1
    versions: dict[str, str] = {}
    commit: str | None = None


class RunSegment(Segment):
    """The time of one process, or group of processes, on a training run."""

    device: str
    seconds: float
    precision: str | None = None
    """What it computed in; None of runs of version 0.1, which computed as their settings say."""

    @property
    def hours(self) -> float:
        """Device hours.  Each process holds a GPU of its own; on a CPU all share the one."""
        return self.seconds * (1 if self.device == "cpu" else self.processes) / 3600


class Published(_Part):
    """What of a finished run was published."""

    name: str
    """The publication's name."""
    weights: list[Checkpoint]
    """The checkpoints whose weights were published; only these can be evaluated again."""
    every: Annotated[int, Field(ge=1)]
    """Its trace holds every so many iterations, and all of the last epoch."""


class RunInfo(_Part):
    """The part of run.json that says whether a run can be used, and what it cost."""

    digest: str
    data: ImagesInfo
    final_lambda: float
    zeta: float | None = None
    hardware: list[str]
    seconds: float
    models: dict[Checkpoint, str]
    trace: str
    epochs: str
    checkpoint_epochs: dict[Checkpoint, int]
    segments: list[RunSegment] = Field(alias="pieces")
    published: Published | None = None
    """None for a run that was trained into this folder."""

    @property
    def hours(self) -> float:
        """Hours that the run held its devices, pauses not counted; several GPUs add up."""
        return sum(segment.hours for segment in self.segments)

    @property
    def kept(self) -> tuple[Checkpoint, ...]:
        """The checkpoints whose weights are there."""
        return tuple(self.models if self.published is None else self.published.weights)


def read_run(folder: Path) -> RunInfo | None:
    """Read a run's run.json; None if there is none, HarnessError if it is damaged."""
    path = paths.run_file(folder)
    return read_model(path, RunInfo) if path.is_file() else None


def problem_with(
    config: Config,
    spec: TrainingSpec,
    run: RunInfo | None,
    folder: Path | None = None,
    *,
    checksums: bool = False,
) -> str | None:
    """Say why a run in a folder, or the cell's own, is not the one that `spec` asks for.

    Looks at settings, images and presence of the files; at their bytes only with `checksums`.
    """
    if run is None:
        return "is not trained"
    if run.digest != spec.digest:
        return "was trained with other settings"
    images = {spec.parsed.dataset: run.data.sha256}
    if spec.extra is not None:
        images[spec.extra.name] = "" if run.data.extra is None else run.data.extra.sha256
    for name, sha256 in images.items():
        manifest = paths.prepared_file(config, name).with_suffix(".json")
        if manifest.is_file() and read_json(manifest).get("sha256") != sha256:
            return f"was trained with other images than {manifest.with_suffix('.npz')}"
    folder = paths.cell_folder(config, spec.parsed) if folder is None else folder
    kept = checkpoints(spec.train) if run.published is None else run.kept
    lost = next((path for path in paths.run_files(folder, kept) if not path.is_file()), None)
    if lost is not None:
        return f"has lost {lost.name}"
    damaged = damaged_files(folder, run) if checksums else []
    return f"has a damaged {damaged[0].name}" if damaged else None


def require_run(config: Config, cell: Cell) -> RunInfo:
    """Return the finished run of a cell; HarnessError if there is none of these settings."""
    run = read_run(paths.cell_folder(config, cell))
    problem = problem_with(config, training_spec(config, cell), run)
    if run is None or problem is not None:
        raise HarnessError(f"{cell} {problem}; run `reproduce train {cell}` first")
    return run


def damaged_files(folder: Path, run: RunInfo) -> list[Path]:
    """Return the files of a run that are lost, or not those that run.json speaks of."""
    expected = {
        **{paths.model_file(folder, choice): run.models[choice] for choice in run.kept},
        paths.trace_file(folder): run.trace,
        paths.epochs_file(folder): run.epochs,
    }
    return [p for p, sha256 in expected.items() if not p.is_file() or sha256_of_file(p) != sha256]


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
    """Return every so many rows of a trace, and all of the last epoch.

    What is measured from the last epoch, WAR's zeta and the final lambda, stays exact.
    """
    last = frame["epoch"] == frame["epoch"].max()
    kept: pd.DataFrame = pd.concat([evenly(frame[~last], every), frame[last]])
    return kept


def write_trace(path: Path, frame: pd.DataFrame) -> None:
    """Write a trace, of the columns of `as_frame`, as Parquet."""
    write_atomically(path, lambda part: frame.to_parquet(part, compression="zstd", index=False))


def write_epochs(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the metrics after every epoch that was measured as CSV."""
    write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def state_file(folder: Path, digest: str) -> Path:
    """Return where the state of a run with these settings lies."""
    return folder / f"state-{digest}.safetensors"


class SavedTrace(NamedTuple):
    """Progress and trace of a run that has not ended, and when they were saved."""

    progress: dict[str, Any]
    """Epoch (from 1), step, and what else the state's header says."""
    iterations: int
    rows: NDArray[np.float64]
    """`TRACE_COLUMNS` of all iterations, or of the last ones; shape (rows, columns)."""
    written: float
    """Time of the file, in seconds since 1970."""


def read_rows(path: Path, last: int | None = None) -> SavedTrace | None:
    """Read the progress and the trace, or its last rows, of a saved state; None if absent."""
    try:  # without a look before: a run that ends removes its state at any moment
        written = path.stat().st_mtime
        with safe_open(path, framework="np") as state:
            progress = json.loads(state.metadata()[PROGRESS])
            trace = state.get_slice("trace")
            count, columns = trace.get_shape()
            rows = np.empty((0, columns))
            if count:
                rows = trace[0 if last is None else max(0, count - last) :]
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise HarnessError(DAMAGED.format(path)) from error
    return SavedTrace(progress, count, rows, written)


@dataclass(frozen=True)
class Run:
    """What there is of the run of a cell: its files, or until it has ended its saved state."""

    spec: TrainingSpec
    folder: Path
    info: RunInfo | None = None
    """What run.json says, of whatever settings it is."""
    reason: str | None = None
    """Why that is not the finished run; None if it is."""
    saved: SavedTrace | None = None
    damaged: bool = False
    """Whether a damaged file keeps one from telling."""

    @property
    def finished(self) -> RunInfo | None:
        """What run.json says of the finished run."""
        return self.info if self.reason is None else None

    @property
    def problem(self) -> str | None:
        """Why nothing of it can be used; None if something can."""
        return self.reason if self.saved is None else None

    @property
    def written(self) -> float:
        """When its trace was written, in seconds since 1970."""
        if self.saved is not None:
            return self.saved.written
        return paths.trace_file(self.folder).stat().st_mtime

    def trace(self) -> pd.DataFrame:
        """Read its trace, a row an iteration, or every so many of an imported run."""
        if self.saved is not None:
            return as_frame(self.saved.rows)
        run = self._required()
        trace = pd.read_parquet(self._checked(paths.trace_file(self.folder), run.trace))
        return trace if run.published is None else evenly(trace, run.published.every)

    def epochs(self) -> pd.DataFrame:
        """Read the metrics of epochs.csv, a row for each epoch that was measured; as `trace`."""
        if self.saved is not None:
            return pd.DataFrame(self.saved.progress["epochs"])
        path = self._checked(paths.epochs_file(self.folder), self._required().epochs)
        return pd.read_csv(path).astype("float64")

    def _required(self) -> RunInfo:
        if self.finished is None:
            raise HarnessError(str(self.reason))
        return self.finished

    def _checked(self, path: Path, sha256: str) -> Path:
        if sha256_of_file(path) != sha256:
            raise HarnessError(
                f"{path} is damaged or not the one of run.json; `reproduce train {self.spec.cell}` "
                "makes it again"
            )
        return path


def load_run(config: Config, cell: Cell, last: int | None = None) -> Run:
    """Say how far a run is; of a saved trace read the last rows only, if `last` says how many."""
    spec, folder = training_spec(config, cell), paths.cell_folder(config, cell)
    run = None
    try:
        # it may end between the two looks: run.json comes before the state goes
        for _ in range(2):
            run = read_run(folder)
            problem = problem_with(config, spec, run)
            if problem is None:
                return Run(spec, folder, run)
            saved = read_rows(state_file(folder, spec.digest), last)
            if saved is not None:
                break
    except HarnessError as error:
        return Run(spec, folder, run, str(error), damaged=True)
    return Run(spec, folder, run, f"{cell} {problem}", saved)
