"""Finished training runs on disk: whether one can be used for what the configuration asks."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce import paths
from reproduce.config import Checkpoint, Config
from reproduce.errors import HarnessError
from reproduce.files import read_json, sha256_of_file
from reproduce.specs import TrainingSpec, checkpoints


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


class RunInfo(_Part):
    """The part of run.json that says whether a run can be used."""

    digest: str
    data: ImagesInfo
    final_lambda: float
    zeta: float | None = None
    hardware: list[str]
    seconds: float
    models: dict[Checkpoint, str]
    trace: str
    checkpoint_epochs: dict[Checkpoint, int]


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
        raise HarnessError(f"{path} is damaged at {key!r}; delete it and train again") from error


def problem_with(config: Config, spec: TrainingSpec, run: RunInfo | None) -> str | None:
    """Say why a run does not serve as the one that `spec` asks for; None if it does.

    Looks at settings, images and presence of the files, not at their bytes.
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
    folder = paths.cell_folder(config, spec.parsed)
    for path in paths.run_files(folder, checkpoints(spec.train)):
        if not path.is_file():
            return f"has lost {path.name}"
    return None


def damaged_file(folder: Path, run: RunInfo) -> Path | None:
    """Return the first checkpoint, or the trace, whose bytes are not those run.json speaks of."""
    expected = {paths.model_file(folder, choice): sha256 for choice, sha256 in run.models.items()}
    expected[paths.trace_file(folder)] = run.trace
    for path, checksum in expected.items():
        if not path.is_file() or sha256_of_file(path) != checksum:
            return path
    return None
