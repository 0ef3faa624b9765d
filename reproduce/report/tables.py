"""The page's tables: a layout, the paper's numbers for its entries, notes and links."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from reproduce.config.schema import Config
from reproduce.experiments.grids import Experiment
from reproduce.report.format import label, with_std
from reproduce.results.frames import collect
from reproduce.tables.checkpoints import checkpoints_layout, checkpoints_notes, read_choices
from reproduce.tables.diff import build_diff
from reproduce.tables.layout import DiffKey, Entry, Layout
from reproduce.tables.layouts import lay_out
from reproduce.tables.notes import table_notes

# characters from which a note is folded, and of the words it may be folded under
_LONG, _HEAD = 320, 60


def table_section(config: Config, experiment: Experiment) -> dict[str, Any]:
    """Read a table's records, lay them out and compare them with the paper's numbers."""
    results = collect(config, experiment)
    layout = lay_out(config, experiment, results)
    diff = build_diff(config, experiment, results)
    notes = table_notes(config, experiment, results, layout)
    section = _section(experiment.name, experiment.title, layout, notes)
    return section | {
        "diff": diff,
        "compared": compared(diff),
        "has_paper": bool(diff["paper"].notna().any()),
        "links": [*section["links"], ("comparison as csv", f"diff/{experiment.name}.csv")],
    }


def checkpoints_section(config: Config, damaged: list[str]) -> dict[str, Any]:
    """Lay out what choosing on the test set is worth; `damaged` takes runs that cannot be used."""
    choices = read_choices(config)
    damaged += choices.problems
    layout = checkpoints_layout(config, choices)
    notes = checkpoints_notes(config, choices)
    title = "What choosing on the test set is worth"
    section = _section("checkpoints", title, layout, notes)
    return section | {"compared": {}, "has_paper": False}


def compared(diff: pd.DataFrame) -> dict[DiffKey, dict[str, Any]]:
    """Return the rows of a comparison by the key of their entries; `printed` is the paper's number.

    Two readings of a number are one row, with both in `printed` and no difference.
    """
    rows: dict[DiffKey, dict[str, Any]] = {}
    for row in diff.to_dict("records"):
        lam = None if math.isnan(row["lambda"]) else row["lambda"]
        named = row["dataset"], row["architecture"], row["method"]
        key = (*named, lam, row["attack"], row["metric"])
        row["printed"] = with_std(row["paper"], row["paper_std"])
        if key in rows:
            row["printed"] = f"{rows[key]['printed']} or {row['printed']}"
            row["difference"] = math.nan
        rows[key] = {str(name): value for name, value in row.items()}
    return rows


def details(entry: Entry, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what else is known of a number; `row` is its row of the comparison, if there is one."""
    if not entry.sample.n:
        return []
    lines = []
    if not entry.complete:
        lines.append(("results that are there", f"{entry.sample.n} of {entry.planned}"))
    if entry.interval is not None:
        low, high = entry.interval
        lines.append(("95 % of what the subset leaves", f"{low:.2f} to {high:.2f}"))
    if row.get("images"):
        lines.append(("test images", f"{row['images']:,}"))
    if not math.isnan(row.get("interval", math.nan)):
        lines.append(("95 % interval of the difference", f"± {row['interval']:.2f}"))
    if row.get("note"):
        lines.append(("note", str(row["note"])))
    return lines


def _section(name: str, title: str, layout: Layout, notes: Sequence[str]) -> dict[str, Any]:
    """Return what the template needs of any table."""
    numbered = groupby(range(len(layout.rows)), key=lambda number: layout.rows[number].section)
    # without the paper's own columns: the entries show its numbers
    shown = [
        number
        for number, column in enumerate(layout.columns)
        if column.group != "Paper" and column.key != "paper"
    ]
    groups = groupby(layout.columns[number].group for number in shown)
    return {
        "name": name,
        "title": f"{label(name)}. {title}",
        "layout": layout,
        "shown": shown,
        "groups": [(group, len(list(members))) for group, members in groups],
        "sections": [(section, list(numbers)) for section, numbers in numbered],
        "notes": [_folded(note) for note in notes],
        "links": [("table as csv", f"tables/{name}.csv"), ("LaTeX", f"tables/{name}.tex")],
    }


def _folded(note: str) -> tuple[str, str]:
    """Split a long note into what it is folded under, and the rest."""
    head, _, rest = note.partition(": ")
    return (head, rest) if len(note) > _LONG and len(head) < _HEAD else ("", note)
