"""What the runs and records of a configuration say of themselves: times, hardware, versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, Experiment, PublishedEvaluation
from reproduce.experiments.runs import RunInfo, Session, problem_with, read_run
from reproduce.experiments.spec import evaluation_spec, training_spec
from reproduce.zoo.checkpoints import PublishedAttack

Item = Evaluation | PublishedEvaluation


def items_of(experiments: Sequence[Experiment]) -> tuple[Item, ...]:
    """Return every evaluation of some experiments, each once."""
    found: dict[Item, None] = {}
    for experiment in experiments:
        found |= dict.fromkeys(experiment.evaluations)
        found |= dict.fromkeys(experiment.published)
    return tuple(found)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Images(_Part):
    """The images a result is of, the extra ones aside."""

    sha256: str
    source: str
    official: bool
    train: int
    test: int


class RecordSummary(_Part):
    """The part of a record's summary that says how it was made."""

    digest: str
    model_sha256: str
    record_sha256: str
    seconds: float = 0.0
    data: Images | None = None
    pieces: tuple[Session, ...] = ()

    @property
    def hours(self) -> float:
        """Device hours of all its blocks of images."""
        return self.seconds / 3600


@dataclass(frozen=True)
class Summaries:
    """The runs and records that are there, and what of them cannot be used.

    Attributes
    ----------
    runs : dict
        The finished runs of these settings, by cell.
    records : dict
        The records of these settings, by evaluation.
    problems : tuple of str
        What is damaged, or is of other settings.
    """

    runs: dict[Cell, RunInfo]
    records: dict[Item, RecordSummary]
    problems: tuple[str, ...]


_S = TypeVar("_S", bound=_Part)


def read_summaries(config: Config, experiments: Sequence[Experiment]) -> Summaries:
    """Read run.json of every cell and the summary of every record; damaged ones are named."""
    runs: dict[Cell, RunInfo] = {}
    records: dict[Item, RecordSummary] = {}
    problems: list[str] = []
    for cell in dict.fromkeys(cell for experiment in experiments for cell in experiment.cells):
        try:
            run = _run(config, cell, problems)
        except HarnessError as error:
            problems.append(str(error))
        else:
            runs |= {} if run is None else {cell: run}
    for item in items_of(experiments):
        try:
            record = _record(config, item)
        except HarnessError as error:
            problems.append(str(error))
        else:
            records |= {} if record is None else {item: record}
    return Summaries(runs, records, tuple(dict.fromkeys(problems)))


def _run(config: Config, cell: Cell, problems: list[str]) -> RunInfo | None:
    folder, spec = paths.cell_folder(config, cell), training_spec(config, cell)
    run = read_run(folder)
    if run is None:
        return None
    problem = problem_with(config, spec, run)
    if problem is not None:
        problems.append(f"{cell} {problem}")
    if run.digest != spec.digest:
        return None
    return run


def _record(config: Config, item: Item) -> RecordSummary | None:
    if isinstance(item, PublishedEvaluation):
        attack = PublishedAttack(config, item.dataset, item.name, item.attack, item.seed)
        path, digest = attack.record, attack.spec.digest
    else:
        folder, label = paths.cell_folder(config, item.cell), config.eval.label(item.attack)
        path = paths.record_file(folder, item.checkpoint, label, item.seed)
        spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
        digest = spec.digest
    if not path.is_file():
        return None
    found = _parse(RecordSummary, path.with_suffix(".json"))
    # of other settings: the table that leaves it out says so
    return found if found.digest == digest else None


def _parse(model: type[_S], path: Path) -> _S:
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{path} is damaged at {key!r}; delete it and run again") from error
