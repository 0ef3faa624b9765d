"""What a run's files say: run.json of a finished one, the saved state of one that has not ended.

Read without torch and without the weights.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.spec import TrainingSpec, checkpoints

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
    """The images a run was trained and validated with."""

    sha256: str
    source: str
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
    """One process's, or group of processes', time on a training run: from start to stop."""

    device: str
    seconds: float
    precision: str | None = None
    """What it computed in: float32 where the settings say tf32 and there is none.  None of runs of
    version 0.1, which computed in what their settings say."""
    compiled: bool | str | None = None
    """Whether the network was compiled; runs of version 0.1 say for what."""

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
    epochs: str | None = None
    """Checksum of epochs.csv; None of runs of version 0.1."""
    checkpoint_epochs: dict[Checkpoint, int]
    segments: list[RunSegment] = Field(alias="pieces")
    published: Published | None = None
    """None for a run that was trained into this folder."""

    @property
    def precisions(self) -> list[str]:
        """What its segments computed in, each once, as far as they say it."""
        return sorted({segment.precision for segment in self.segments if segment.precision})

    @property
    def hours(self) -> float:
        """Device hours: how long the run held its device or devices, pauses not counted.

        Of a run on GPUs these are its GPU-hours, several GPUs at once counted each; of one on
        a CPU the hours of the processor.  Tables, report and results.parquet all mean these.
        """
        return sum(segment.hours for segment in self.segments)

    @property
    def kept(self) -> tuple[Checkpoint, ...]:
        """The checkpoints whose weights lie beside run.json."""
        return tuple(self.models if self.published is None else self.published.weights)


def read_run(folder: Path) -> RunInfo | None:
    """Read a run's run.json; None if there is none, HarnessError if it is damaged."""
    path = paths.run_file(folder)
    if not path.is_file():
        return None
    try:
        return RunInfo.model_validate(read_json(path))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{path} is damaged at {key!r}") from error


def problem_with(
    config: Config, spec: TrainingSpec, run: RunInfo | None, folder: Path | None = None
) -> str | None:
    """Say why a run does not serve as the one that `spec` asks for; None if it does.

    Looks at settings, images and presence of the files, not at their bytes.  The files lie in
    the cell's own folder unless another is given.
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
    return None if lost is None else f"has lost {lost.name}"


def damaged_file(folder: Path, run: RunInfo) -> Path | None:
    """Return the first file of a run whose bytes are not those that run.json speaks of."""
    expected = {paths.model_file(folder, choice): run.models[choice] for choice in run.kept}
    expected[paths.trace_file(folder)] = run.trace
    if run.epochs is not None:
        expected[paths.epochs_file(folder)] = run.epochs
    for path, checksum in expected.items():
        if not path.is_file() or sha256_of_file(path) != checksum:
            return path
    return None


def state_file(folder: Path, digest: str) -> Path:
    """Return where the state of a run with these settings lies.

    The digest of the settings is part of the name: a run with other settings neither
    continues this state nor overwrites it.
    """
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
    """Read the progress of a saved state and its trace, or the last rows of that; None if absent.

    A run that ends removes its state at any moment, so whether one is there is known only
    from opening it.  HarnessError if it is damaged.
    """
    try:
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


class Found(NamedTuple):
    """How far the run with certain settings is, by its files."""

    run: RunInfo | None
    """What run.json says, of whatever settings it is."""
    problem: str | None
    """Why that does not serve as the finished run; None if it does."""
    saved: SavedTrace | None = None
    """What an unfinished run has saved."""
    damage: str | None = None
    """What is damaged, if that keeps one from telling."""

    @property
    def finished(self) -> RunInfo | None:
        """The finished run, if it can be used."""
        return self.run if self.problem is None and self.damage is None else None


def find_run(config: Config, spec: TrainingSpec, last: int | None = None) -> Found:
    """Say how far a run is; of a saved trace read the last rows only, if `last` says how many."""
    folder, run = paths.cell_folder(config, spec.parsed), None
    try:
        run = read_run(folder)
        problem = problem_with(config, spec, run)
        if problem is None:
            return Found(run, None)
        saved = read_rows(state_file(folder, spec.digest), last)
        if saved is None:
            # it may have ended between the two looks: run.json comes before the state goes
            run = read_run(folder)
            problem = problem_with(config, spec, run)
    except HarnessError as error:
        return Found(run, None, damage=str(error))
    return Found(run, problem, saved)
