"""What runs and records say of themselves: hours, hardware, versions, images, checksums."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from reproduce.cell import Cell
from reproduce.config.load import resolved
from reproduce.config.schema import Config
from reproduce.evaluation.records import RecordInfo
from reproduce.experiments.cost import Speeds
from reproduce.experiments.grids import Experiment, Item
from reproduce.experiments.runs import RunInfo, Segment, load_run
from reproduce.registry import dataset_facts
from reproduce.report.format import count, label
from reproduce.results.reader import find_record

_NO_CHECKOUT = "not a checkout"


def read_runs(config: Config, cells: Iterable[Cell], damaged: list[str]) -> dict[Cell, RunInfo]:
    """Read run.json of every finished run of these settings; `damaged` takes what is wrong."""
    runs = {}
    for cell in cells:
        run = load_run(config, cell, 1)
        if run.damaged or (run.info is not None and run.reason is not None):
            damaged.append(str(run.reason))
        if run.info is not None and run.info.digest == run.spec.digest:
            runs[cell] = run.info
    return runs


def read_records(
    config: Config, items: Iterable[Item], damaged: list[str]
) -> dict[Item, RecordInfo]:
    """Read what every record that counts says of itself; `damaged` takes the others' faults."""
    found = [find_record(config, item) for item in items]
    damaged += [one.reason for one in found if one.status == "unusable"]
    return {one.item: one.record.about for one in found if one.record is not None}


def costs_section(
    experiments: Sequence[Experiment],
    status: pd.DataFrame,
    runs: Mapping[Cell, RunInfo],
    records: Mapping[Item, RecordInfo],
    speeds: Speeds,
) -> dict[str, Any]:
    """Add up the hours planned and spent of every table and figure, of every cell, and of all.

    `status` is the frame of the same name, by which hours are planned.
    """
    found: dict[Any, float] = {cell: run.hours for cell, run in runs.items()}
    found |= {item: (record.seconds or 0.0) / 3600 for item, record in records.items()}
    planned, is_run = status["hours"], status["kind"] == "run"
    spent = pd.Series([found.get(part, 0.0) for part in status.index], status.index, dtype=float)
    columns = {
        "Training planned": planned.where(is_run, 0.0),
        "Training spent": spent.where(is_run, 0.0),
        "Attacks planned": planned.where(~is_run, 0.0),
        "Attacks spent": spent.where(~is_run, 0.0),
        "Spent in all": spent,
    }
    hours = pd.DataFrame(columns)
    by_table = {
        label(each.name): hours.loc[[*each.cells, *each.items]].sum() for each in experiments
    }
    by_table["All, each run once"] = hours.sum()
    devices = {segment.device for segment in _segments(runs, records) if segment.device}
    names = {"cuda": "GPU-hours", "cpu": "Hours of a processor"}
    kind = names.get(" and ".join(devices), "Device-hours")
    return {
        "kind": kind,
        "by_table": pd.DataFrame(by_table).T.rename_axis("Table or figure").reset_index(),
        "by_cell": hours.groupby(status["model"], sort=False)
        .sum()
        .rename_axis("Cell")
        .reset_index(),
        "note": f"{kind}, as each run measured them: how long it held its device, several GPUs at "
        f"once counted each. Planned is by the speed of {speeds.stated}; attacks are planned as if "
        "every image held to the end, real ones take less. Tables and figures share runs, so their "
        "sum is more than what all took.",
    }


def provenance_section(
    config: Config, runs: Mapping[Cell, RunInfo], records: Mapping[Item, RecordInfo]
) -> dict[str, Any]:
    """Gather where the numbers come from: commits, versions, hardware, checksums, commands."""
    segments = _segments(runs, records)
    commits = Counter(segment.commit or _NO_CHECKOUT for segment in segments).most_common()
    dates = sorted(segment.began for segment in segments if segment.began)
    versions: dict[str, dict[str, None]] = {}
    for name, number in (pair for segment in segments for pair in segment.versions.items()):
        versions.setdefault(name, {})[number] = None
    used = [(cell.dataset, run.data) for cell, run in runs.items()]
    used += [(item.dataset, record.data) for item, record in records.items() if record.data]
    images = [
        {
            "Data set": dataset_facts(name).title,
            "Source": data.source,
            "Verified": "yes" if data.official else "no",
            "Training images": data.train,
            "Test images": data.test,
            "SHA-256": data.sha256,
        }
        for name, data in used
    ]
    models = [
        {"Cell": cell.id, "Checkpoint": checkpoint, "SHA-256": sha256}
        for cell, run in runs.items()
        for checkpoint, sha256 in run.models.items()
    ]
    facts: dict[str, list[str]] = {
        "Preset": [config.preset],
        "Training runs": [f"{len(runs)}"],
        "Records": [f"{len(records)}, each with the checksum of its own bytes"],
        "Commits": [_commit(name, number) for name, number in commits],
        "Hardware": [
            f"{f'{one.processes} × ' if one.processes > 1 else ''}{one.name} ({one.device})"
            for one in segments
            if one.name
        ],
        "Runs began": [*dates[:1], *dates[-1:]],
    }
    return {
        "facts": {name: [*dict.fromkeys(lines)] or ["no run yet"] for name, lines in facts.items()},
        "versions": pd.DataFrame(
            [{"Library": name, "Version": ", ".join(numbers)} for name, numbers in versions.items()]
        ),
        "data": pd.DataFrame(images).drop_duplicates(),
        "models": pd.DataFrame(models),
        "configuration": yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True),
        "commands": _commands(commits[0][0] if commits else _NO_CHECKOUT, segments),
    }


def _segments(runs: Mapping[Cell, RunInfo], records: Mapping[Item, RecordInfo]) -> list[Segment]:
    """Return every part of the work that one process did at one go."""
    infos: list[RunInfo | RecordInfo] = [*runs.values(), *records.values()]
    return [part for info in infos for part in info.segments]


def _commit(name: str, number: int) -> str:
    plain = name.removesuffix("-dirty")
    changed = "" if plain == name else " with changes that were not committed"
    return f"{plain}{changed} ({count(number, 'piece')} of work)"


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
