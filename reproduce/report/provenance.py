"""What runs and records say of themselves: hours, hardware, versions, images, checksums."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reproduce.cell import Cell as Run
from reproduce.config.load import resolved
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.experiments.cost import Speeds, epoch_hours, evaluation_hours
from reproduce.experiments.grids import Experiment, Item, PublishedEvaluation
from reproduce.experiments.runs import RunInfo, Segment, problem_with, read_run
from reproduce.experiments.spec import attack_spec, evaluation_spec, training_spec
from reproduce.registry import dataset_facts
from reproduce.report.format import Cell, count, hours, label
from reproduce.results.reader import record_path

_HOURS = ("Training planned", "Training spent", "Attacks planned", "Attacks spent", "Spent in all")
# the name of the hours, and the devices that were held for as long
_DEVICES = {
    "GPU-hours": "GPUs, several at once counted each",
    "Hours of a processor": "processor",
    "Device-hours": "GPUs or its processor",
}
_NO_CHECKOUT = "not a checkout"


class Images(BaseModel):
    """The images a result is of, the extra ones aside."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    source: str
    official: bool
    train: int
    test: int


class RecordInfo(BaseModel):
    """The part of a record's summary that says how it was made."""

    digest: str
    seconds: float = 0.0
    data: Images | None = None
    segments: tuple[Segment, ...] = Field((), alias="pieces")


def items_of(experiments: Iterable[Experiment]) -> list[Item]:
    """Return every evaluation of some experiments, each once."""
    items: dict[Item, None] = {}
    for experiment in experiments:
        items |= dict.fromkeys((*experiment.evaluations, *experiment.published))
    return list(items)


def read_runs(config: Config, cells: Iterable[Run], damaged: list[str]) -> dict[Run, RunInfo]:
    """Read run.json of every finished run of these settings; `damaged` takes what is wrong."""
    runs = {}
    for cell in dict.fromkeys(cells):
        spec = training_spec(config, cell)
        try:
            run = read_run(paths.cell_folder(config, cell))
            problem = None if run is None else problem_with(config, spec, run)
        except HarnessError as error:
            damaged.append(str(error))
            continue
        if problem is not None:
            damaged.append(f"{cell} {problem}")
        if run is not None and run.digest == spec.digest:
            runs[cell] = run
    return runs


def read_records(
    config: Config, items: Iterable[Item], damaged: list[str]
) -> dict[Item, RecordInfo]:
    """Read the summary of every record of these settings; `damaged` takes what is wrong."""
    records = {}
    for item in items:
        path = record_path(config, item)
        if not path.is_file():
            continue
        if isinstance(item, PublishedEvaluation):
            digest = attack_spec(config, item.attack, item.seed, item.dataset).digest
        else:
            spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
            digest = spec.digest
        summary = path.with_suffix(".json")
        try:
            record = RecordInfo.model_validate(read_json(summary))
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            damaged.append(f"{summary} is damaged at {key!r}; delete it and run again")
        except HarnessError as error:
            damaged.append(str(error))
        else:
            # of other settings: the table that leaves it out says so
            if record.digest == digest:
                records[item] = record
    return records


def costs_section(
    config: Config,
    experiments: Sequence[Experiment],
    runs: Mapping[Run, RunInfo],
    records: Mapping[Item, RecordInfo],
    speeds: Speeds,
) -> dict[str, Any]:
    """Add up the hours planned and spent of every table and figure, of every cell, and of all."""
    cells = list(dict.fromkeys(cell for experiment in experiments for cell in experiment.cells))
    items = items_of(experiments)
    planned: dict[Any, float] = {
        cell: sum(epoch_hours(training_spec(config, cell), speeds)) for cell in cells
    }
    planned |= {item: evaluation_hours(config, item, speeds) for item in items}

    def row(cells: Iterable[Run], items: Sequence[Item]) -> list[Cell]:
        trained = sum(runs[cell].hours for cell in cells if cell in runs)
        attacked = sum(records[item].seconds / 3600 for item in items if item in records)
        expected = sum(planned[cell] for cell in cells), sum(planned[item] for item in items)
        values = expected[0], trained, expected[1], attacked, trained + attacked
        return [Cell(hours(value), value) for value in values]

    by_cell: dict[str, tuple[list[Run], list[Item]]] = {cell.id: ([cell], []) for cell in cells}
    for item in items:
        name = item.name if isinstance(item, PublishedEvaluation) else item.cell.id
        by_cell.setdefault(name, ([], []))[1].append(item)
    devices = {segment.device for segment in _segments(runs, records) if segment.device}
    kind = "Device-hours"
    if len(devices) == 1:
        kind = {"cuda": "GPU-hours", "cpu": "Hours of a processor"}.get(devices.pop(), kind)
    return {
        "by_table": {
            "name": "cost-tables",
            "caption": f"{kind} by table and figure",
            "heads": ("Table or figure", *_HOURS),
            "rows": [[Cell(label(e.name)), *row(e.cells, items_of([e]))] for e in experiments],
            "total": [Cell("All, each run once"), *row(cells, items)],
        },
        "by_cell": {
            "name": "cost-cells",
            "caption": f"{kind} by cell",
            "heads": ("Cell", *_HOURS),
            "rows": [[Cell(name, code=True), *row(*of_it)] for name, of_it in by_cell.items()],
        },
        "note": f"{kind}, as each run measured them: how long it held its {_DEVICES[kind]}. "
        f"Planned is by the speed of {speeds.stated}; attacks are planned as if every image held "
        "to the end, real ones take less. Tables and figures share runs, so their sum is more "
        "than what all took.",
    }


def provenance_section(
    config: Config, runs: Mapping[Run, RunInfo], records: Mapping[Item, RecordInfo]
) -> dict[str, Any]:
    """Gather where the numbers come from: commits, versions, hardware, checksums, commands."""
    segments = _segments(runs, records)
    commits = Counter(segment.commit or _NO_CHECKOUT for segment in segments).most_common()
    dates = sorted(segment.began for segment in segments if segment.began)
    facts = {
        "Preset": [config.preset],
        "Training runs": [f"{len(runs)}"],
        "Records": [f"{len(records)}, each with the checksum of its own bytes"],
        "Commits": [_commit(name, number) for name, number in commits],
        "Hardware": list(dict.fromkeys(_hardware(segment) for segment in segments if segment.name)),
        "Runs began": list(dict.fromkeys((dates[0], dates[-1]))) if dates else [],
    }
    return {
        "facts": {name: lines or ["no run yet"] for name, lines in facts.items()},
        "versions": _versions(segments),
        "data": _images(runs, records),
        "models": {
            "name": "models",
            "caption": "Checkpoints",
            "heads": ("Cell", "Checkpoint", "SHA-256"),
            "rows": [
                (Cell(cell.id, code=True), Cell(checkpoint), Cell(sha256, code=True))
                for cell, run in runs.items()
                for checkpoint, sha256 in run.models.items()
            ],
        },
        "configuration": yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True),
        "commands": _commands(commits[0][0] if commits else _NO_CHECKOUT, segments),
    }


def _segments(runs: Mapping[Run, RunInfo], records: Mapping[Item, RecordInfo]) -> list[Segment]:
    """Return every part of the work that one process did at one go."""
    segments: list[Segment] = [segment for run in runs.values() for segment in run.segments]
    return segments + [segment for record in records.values() for segment in record.segments]


def _commit(name: str, number: int) -> str:
    plain = name.removesuffix("-dirty")
    changed = "" if plain == name else " with changes that were not committed"
    return f"{plain}{changed} ({count(number, 'piece')} of work)"


def _hardware(segment: Segment) -> str:
    several = f"{segment.processes} × " if segment.processes > 1 else ""
    return f"{several}{segment.name} ({segment.device})"


def _versions(segments: Sequence[Segment]) -> dict[str, Any]:
    """Return a row a library: the versions that computed something."""
    seen: dict[str, dict[str, None]] = {}
    for segment in segments:
        for name, number in segment.versions.items():
            seen.setdefault(name, {})[number] = None
    return {
        "name": "versions",
        "caption": "Versions that computed the results",
        "heads": ("Library", "Version"),
        "rows": [(Cell(name), Cell(", ".join(numbers))) for name, numbers in seen.items()],
    }


def _images(runs: Mapping[Run, RunInfo], records: Mapping[Item, RecordInfo]) -> dict[str, Any]:
    """Return a row for every set of images that a run or a record is of."""
    seen = {
        (cell.dataset, Images.model_validate(run.data.model_dump())): None
        for cell, run in runs.items()
    }
    for item, record in records.items():
        name = item.dataset if isinstance(item, PublishedEvaluation) else item.cell.dataset
        if record.data is not None:
            seen[name, record.data] = None
    return {
        "name": "data",
        "caption": "Images, as prepared",
        "heads": ("Data set", "Source", "Verified", "Training images", "Test images", "SHA-256"),
        "rows": [
            (
                Cell(dataset_facts(name).title),
                Cell(images.source),
                Cell("yes" if images.official else "no"),
                Cell(f"{images.train:,}", images.train),
                Cell(f"{images.test:,}", images.test),
                Cell(images.sha256, code=True),
            )
            for name, images in seen
        ],
    }


def _commands(commit: str, segments: Sequence[Segment]) -> str:
    """Return the commands that make these results again."""
    checkout = [f"git checkout {commit.removesuffix('-dirty')}"] if commit != _NO_CHECKOUT else []
    gpus = " --resources gpu=1" if any(segment.device == "cuda" for segment in segments) else ""
    lines = [
        *checkout,
        "make environment && source .venv/bin/activate",
        "# config.yaml: the configuration below, as resolved",
        f"snakemake all --cores 2{gpus}",
        "reproduce report",
    ]
    return "\n".join(lines)
