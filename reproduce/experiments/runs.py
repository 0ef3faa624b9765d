"""What a saved state says of a run that has not ended, read without torch and its weights."""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.spec import TrainingSpec, checkpoints

T = TypeVar("T")

DAMAGED = "the saved state {} is damaged; delete it to start this run again"
# entries of the file's header: what it says in words, and the SHA-256 of that
PROGRESS, PROGRESS_SHA256 = "progress", "progress_sha256"
# of every row of the trace, after the iteration
TRACE_COLUMNS = (
    "epoch",
    "natural_risk",
    "robust_regularization",
    "lambda",
    "learning_rate",
    "lipschitz",
)


class _Piece(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    seconds: float = 0.0


class _Known(BaseModel):
    """What a saved state says in words, as far as anything reads it before it is loaded."""

    model_config = ConfigDict(extra="allow", strict=True)

    epoch: int
    step: int
    epochs: list[dict[str, float]]
    pieces: list[_Piece]


def state_file(folder: Path, digest: str) -> Path:
    """Where the state of a run with these settings lies.

    The settings' digest is part of the name: other settings never continue, and
    never overwrite, what was begun with these.
    """
    return folder / f"state-{digest}.safetensors"


def previous_file(path: Path) -> Path:
    """Where the state before the one of `path` lies: the last good one, should that be damaged."""
    return path.with_name(path.name.replace("state-", "previous-", 1))


def header(progress: dict[str, Any]) -> dict[str, str]:
    """Return the header of a saved state: its progress as JSON, and a checksum of it."""
    text = json.dumps(progress)
    return {PROGRESS: text, PROGRESS_SHA256: hashlib.sha256(text.encode()).hexdigest()}


def checksum_of_rows(rows: NDArray[np.float64]) -> int:
    """Return a CRC-32 of a saved trace: it is read without the weights beside it."""
    return zlib.crc32(np.ascontiguousarray(rows).tobytes())


def checksum_of_tensors(names: Iterable[str], take: Callable[[str], NDArray[Any]]) -> int:
    """Return a CRC-32 of all tensors of a saved state.

    It is fast, and a flipped bit on a disk does not pass it.

    Parameters
    ----------
    names : iterable of str
        What the tensors are called.
    take : callable
        Gives the tensor of a name.
    """
    value = 0
    for name in sorted(names):
        content = np.ascontiguousarray(take(name)).reshape(-1).view(np.uint8)
        value = zlib.crc32(content.data, zlib.crc32(name.encode(), value))
    return value


def check_state(path: Path) -> dict[str, Any]:
    """Hold every tensor of a saved state against its checksum, and return its progress.

    Raises
    ------
    FileNotFoundError
        If there is none.
    HarnessError
        If the file is not what was written.
    """
    progress, found = _read(path, lambda at: checksum_of_tensors(at.keys(), at.get_tensor))
    if progress.get("checksum") != found:
        raise HarnessError(DAMAGED.format(path))
    return progress


def read_progress(path: Path) -> dict[str, Any]:
    """Read only the progress of a saved state, without its tensors.

    Raises
    ------
    FileNotFoundError
        If there is none.
    HarnessError
        If the file is cut short or no saved state.
    """
    return _read(path, lambda _: None)[0]


class SavedTrace(NamedTuple):
    """Progress and trace of a run that has not ended, and when they were saved.

    Attributes
    ----------
    progress : dict
        As of `read_progress`.
    iterations : int
        Number of iterations done.
    rows : ndarray
        float64, shape (rows, columns): `TRACE_COLUMNS` of all iterations, or of the last ones.
    written : float
        Time of the file, in seconds since 1970.
    """

    progress: dict[str, Any]
    iterations: int
    rows: NDArray[np.float64]
    written: float


def read_rows(path: Path, last: int | None = None) -> SavedTrace | None:
    """Read the progress of a saved state and rows of its trace, without the weights.

    None if there is none.  A run that ends removes its state at any moment, so whether one is
    there is known only from opening it; who gets None after run.json was not there either
    looks at run.json once more (`reproduce.runs.find_run` does).

    Parameters
    ----------
    path : Path
        The file.
    last : int, optional
        Read only so many rows, from the end.

    Raises
    ------
    HarnessError
        If the file is cut short or no saved state.
    """

    def rows(handle: Any) -> tuple[int, NDArray[np.float64]]:
        part = handle.get_slice("trace")
        count, columns = part.get_shape()
        if columns != len(TRACE_COLUMNS):
            raise ValueError(columns)
        if not count:
            return 0, np.empty((0, columns))
        return count, part[0 if last is None else max(0, count - last) :]

    try:
        written = path.stat().st_mtime
        progress, (iterations, found) = _read(path, rows)
    except FileNotFoundError:
        return None
    # states saved before there was this checksum have none
    expected = progress.get("trace_checksum")
    if expected is not None and len(found) == iterations and expected != checksum_of_rows(found):
        raise HarnessError(DAMAGED.format(path))
    return SavedTrace(progress, iterations, found, written)


def _progress(about: Mapping[str, str]) -> dict[str, Any]:
    """Read the progress of a state's header, and hold it against its checksum."""
    text = about[PROGRESS]
    # states saved before there was this checksum have none
    sha256 = about.get(PROGRESS_SHA256)
    if sha256 is not None and sha256 != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError(PROGRESS_SHA256)
    progress: dict[str, Any] = json.loads(text)
    _Known.model_validate(progress)
    return progress


def _read(path: Path, take: Callable[[Any], T]) -> tuple[dict[str, Any], T]:
    try:
        with safe_open(path, framework="np") as handle:
            progress = _progress(handle.metadata() or {})
            return progress, take(handle)
    except FileNotFoundError:
        raise
    except (
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        OSError,
        RecursionError,
        ValidationError,
    ) as error:
        raise HarnessError(DAMAGED.format(path)) from error


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


class Piece(_Part):
    """The hardware and software that did a part of some work."""

    began: str = ""
    device: str = ""
    name: str = ""
    processes: int = 1
    versions: dict[str, str] = {}
    commit: str | None = None


class RunPiece(Piece):
    """A part of a training run, from its begin or where it was continued to where it stopped."""

    device: str
    seconds: float
    precision: str | None = None
    """What it computed in: float32 where the settings say tf32 and there is none.  Runs of version
    0.1 do not say it; they computed in what their settings say."""
    compiled: bool | str | None = None
    """Whether the network was compiled; runs of version 0.1 say for what."""

    @property
    def hours(self) -> float:
        """Device hours.  Each process holds a GPU of its own; on a CPU all share the one."""
        return self.seconds * (1 if self.device == "cpu" else self.processes) / 3600


class Published(_Part):
    """What of a finished run was published."""

    name: str
    """The publication, as the runs' users are told it."""
    weights: list[Checkpoint]
    """The checkpoints whose weights were; records can be made again of these alone."""
    every: Annotated[int, Field(ge=1, le=1000)]
    """Which iterations of all epochs but the last its trace holds: every so many."""


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
    """Checksum of epochs.csv; runs made before there was one have none."""
    checkpoint_epochs: dict[Checkpoint, int]
    pieces: list[RunPiece]
    published: Published | None = None
    """None for a run that was trained into this folder."""

    @property
    def precisions(self) -> list[str]:
        """What its pieces computed in, each once, as far as they say it."""
        return sorted({piece.precision for piece in self.pieces if piece.precision})

    @property
    def hours(self) -> float:
        """Device hours: how long the run held its device or devices, pauses not counted.

        Of a run on GPUs these are its GPU-hours, several GPUs at once counted each; of one on
        a CPU the hours of the processor.  Tables, report and results.parquet all mean these.
        """
        return sum(piece.hours for piece in self.pieces)

    @model_validator(mode="after")
    def _published_known(self) -> "RunInfo":
        kept = self.kept
        if not set(kept) <= set(self.models) or len(set(kept)) < len(kept):
            raise ValueError(
                "weights were published of a checkpoint that it does not name, or twice"
            )
        return self

    @property
    def kept(self) -> tuple[Checkpoint, ...]:
        """The checkpoints whose weights lie beside run.json."""
        return tuple(self.models if self.published is None else self.published.weights)


class Found(NamedTuple):
    """How far the run with certain settings is, by its files.

    Attributes
    ----------
    run : RunInfo or None
        What run.json says, of whatever settings it is.
    problem : str or None
        Why that does not serve as the finished run; None if it does.
    saved : SavedTrace or None
        What an unfinished run has saved.
    damage : str or None
        What is damaged, if that keeps one from telling.
    """

    run: RunInfo | None
    problem: str | None
    saved: SavedTrace | None = None
    damage: str | None = None

    @property
    def finished(self) -> RunInfo | None:
        """The finished run, if it can be used."""
        return self.run if self.problem is None and self.damage is None else None


def read_run(folder: Path) -> RunInfo | None:
    """Read a run's run.json; None if there is none.

    Raises
    ------
    HarnessError
        If it is damaged.
    """
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

    Looks at settings, images and presence of the files, not at their bytes.

    Parameters
    ----------
    config : Config
        The configuration.
    spec : TrainingSpec
        What is asked for.
    run : RunInfo or None
        What run.json says; None where there is none.
    folder : Path, optional
        Where its files lie, if not in the cell's own folder.
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
    for path in paths.run_files(folder, kept):
        if not path.is_file():
            return f"has lost {path.name}"
    return None


def find_run(config: Config, spec: TrainingSpec, last: int | None = None) -> Found:
    """Say how far a run is, whatever it does in the meantime.

    Parameters
    ----------
    config : Config
        The configuration.
    spec : TrainingSpec
        What is trained.
    last : int, optional
        Read only so many rows of the saved trace, from the end.
    """
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
