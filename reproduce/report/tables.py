"""The page's tables: a layout, the paper's numbers for its entries, notes and links."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment
from reproduce.report.format import count, label, with_std
from reproduce.results.frames import collect
from reproduce.tables.checkpoints import checkpoints_layout, checkpoints_notes, read_choices
from reproduce.tables.diff import build_diff
from reproduce.tables.layout import DiffKey, Entry, Layout
from reproduce.tables.layouts import lay_out
from reproduce.tables.notes import table_notes

# characters from which a note is folded, and of the words it may be folded under
_LONG, _HEAD = 320, 60


def table_section(config: Config, experiment: Experiment, damaged: list[str]) -> dict[str, Any]:
    """Read a table's records, lay them out and compare them with the paper's numbers.

    `damaged` takes the records that could not be used.
    """
    results = collect(config, experiment)
    damaged += results.problems
    layout = lay_out(config, experiment, results)
    diff = build_diff(config, experiment, results)
    # the summary names the problems; here they are counted
    notes = table_notes(config, experiment, replace(results, problems=()), layout)
    notes += _unusable(len(results.problems), "record")
    section = _section(config, experiment.name, experiment.title, layout, notes)
    link = _link(config, "comparison as csv", paths.diff_file(config, experiment.name))
    return section | {
        "diff": diff,
        "compared": compared(diff),
        "has_paper": bool(diff["paper"].notna().any()),
        "links": [*section["links"], link],
    }


def checkpoints_section(config: Config, damaged: list[str]) -> dict[str, Any]:
    """Lay out what choosing a checkpoint on the test set is worth; otherwise as `table_section`."""
    choices = read_choices(config)
    damaged += choices.problems
    layout = checkpoints_layout(config, choices)
    notes = checkpoints_notes(config, replace(choices, problems=()))
    notes += _unusable(len(choices.problems), "run")
    title = "What choosing on the test set is worth"
    section = _section(config, "checkpoints", title, layout, notes)
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


def _section(
    config: Config, name: str, title: str, layout: Layout, notes: Sequence[str]
) -> dict[str, Any]:
    """Return what the template needs of any table."""
    numbered = groupby(range(len(layout.rows)), key=lambda number: layout.rows[number].section)
    # without the paper's own columns: the entries show its numbers
    shown = [
        number
        for number, column in enumerate(layout.columns)
        if column.group != "Paper" and column.key != "paper"
    ]
    groups = groupby(layout.columns[number].group for number in shown)
    forms = {"table as csv": "csv", "LaTeX": "tex"}
    return {
        "name": name,
        "title": f"{label(name)}. {title}",
        "layout": layout,
        "shown": shown,
        "groups": [(group, len(list(members))) for group, members in groups],
        "sections": [(section, list(numbers)) for section, numbers in numbered],
        "notes": [_folded(note) for note in notes],
        "links": [
            _link(config, text, paths.table_file(config, name, form))
            for text, form in forms.items()
        ],
    }


def _link(config: Config, text: str, path: Path) -> tuple[str, str]:
    return text, path.relative_to(paths.root(config)).as_posix()


def _folded(note: str) -> tuple[str, str]:
    """Split a long note into the words that it is folded under, and the rest."""
    head, _, rest = note.partition(": ")
    return (head, rest) if len(note) > _LONG and len(head) < _HEAD else ("", note)


def _unusable(number: int, what: str) -> list[str]:
    there = count(number, what)
    return [f"{there} could not be used: the summary says which, and why."] if number else []
