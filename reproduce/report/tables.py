"""Every table of the configuration, with the paper's numbers beside ours."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment
from reproduce.report.beside import Comparison, is_papers, place_of, seeds_behind
from reproduce.report.exhibits import Link
from reproduce.report.verdicts import SYMBOLS, shade
from reproduce.report.view import Note, Number, Row, Section, Table
from reproduce.report.words import count, label, minus, signed
from reproduce.results.frames import Results, collect
from reproduce.tables.diff import VERDICTS, build_diff
from reproduce.tables.layouts import Entry, Layout, lay_out
from reproduce.tables.write import table_notes

_MISSING = "–"
# characters of a remark that is folded, and of the words that it is folded under
_LONG, _HEAD = 320, 60


@dataclass(frozen=True)
class Collected:
    """One experiment: its records, arranged and compared."""

    experiment: Experiment
    results: Results
    layout: Layout
    diff: pd.DataFrame


def collect_table(config: Config, experiment: Experiment) -> Collected:
    """Read the records of a table, arrange them, and compare them with the paper's numbers."""
    results = collect(config, experiment)
    layout = lay_out(config, experiment, results)
    return Collected(experiment, results, layout, build_diff(config, experiment, results))


def table_view(config: Config, collected: Collected) -> Table:
    """Write a table out: heads, rows, the paper's numbers beside ours, notes and links."""
    experiment, layout = collected.experiment, collected.layout
    grid = getattr(config.experiments, experiment.name)
    comparison = Comparison(collected.diff)

    def number(row: int, column: int) -> Number:
        place = place_of(grid, layout.rows[row], layout.columns[column])
        lam = layout.entries[row][0].sample.mean
        seeds = seeds_behind(grid, place, lam, collected.results)
        return number_of(layout, row, column, seeds, comparison.of(place) or {})

    shown = [place for place, column in enumerate(layout.columns) if not is_papers(column)]
    table = arrange(config, experiment.name, experiment.title, layout, shown, number)
    compared = Link("comparison as csv", _beside(config, paths.diff_file(config, experiment.name)))
    return replace(
        table,
        compared=bool(collected.diff["paper"].notna().any()),
        notes=notes_of(_notes(config, collected)),
        links=(*table.links, compared),
    )


def arrange(
    config: Config,
    name: str,
    title: str,
    layout: Layout,
    shown: Sequence[int],
    number: Callable[[int, int], Number],
) -> Table:
    """Arrange a table as its layout says.

    Parameters
    ----------
    config : Config
        The configuration.
    name, title : str
        The table's name, and its heading without it.
    layout : Layout
        Rows, columns and entries.
    shown : sequence of int
        The columns that are shown.
    number : callable
        Writes out the entry at a row and a column.
    """
    rows = [
        Row(line.labels, tuple(number(place, column) for column in shown))
        for place, line in enumerate(layout.rows)
    ]
    sections = groupby(zip(layout.rows, rows, strict=True), key=lambda pair: pair[0].section)
    columns = [layout.columns[place] for place in shown]
    groups = groupby(columns, key=lambda column: column.group)
    forms = {"table as csv": "csv", "LaTeX": "tex"}
    return Table(
        name,
        f"{label(name)}. {title}",
        layout.labels,
        tuple((group, len(list(members))) for group, members in groups),
        tuple((column.member, column.group) for column in columns),
        tuple(Section(head, tuple(row for _, row in pairs)) for head, pairs in sections),
        compared=False,
        notes=(),
        links=tuple(
            Link(word, _beside(config, paths.table_file(config, name, form)))
            for word, form in forms.items()
        ),
    )


def number_of(
    layout: Layout,
    row: int,
    column: int,
    seeds: Sequence[tuple[str, float]],
    beside: Mapping[Any, Any],
) -> Number:
    """Write one entry out.

    Parameters
    ----------
    layout : Layout
        The table.
    row, column : int
        Where it stands.
    seeds : sequence of (str, float)
        The single values behind it, each with its seed in words.
    beside : mapping
        Its row of the comparison with the paper; empty for none.
    """
    entry = layout.entries[row][column]
    mean, std, n = entry.sample
    written = f".{entry.digits}f"
    verdict, difference = str(beside.get("verdict", "")), beside.get("difference", math.nan)
    return Number(
        value=None if math.isnan(mean) else mean,
        mean=minus(format(mean, written)) if n else _MISSING,
        std="" if math.isnan(std) else format(std, written),
        count="" if entry.complete or not n else f"{n}/{entry.planned}",
        best=layout.best(row, column),
        paper=str(beside.get("printed", "")),
        difference=signed(difference),
        shade=shade(verdict, difference),
        verdict=verdict,
        symbol=SYMBOLS.get(verdict, ""),
        meaning=VERDICTS.get(verdict, ""),
        details=tuple(_details(entry, beside)) if n else (),
        seeds=tuple((word, minus(format(value, written))) for word, value in seeds),
    )


def _details(entry: Entry, beside: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """Say what else is known of a number."""
    details = []
    if not entry.complete:
        details.append(("results that are there", f"{entry.sample.n} of {entry.planned}"))
    if entry.interval is not None:
        low, high = entry.interval
        details.append(("95 % of what the subset leaves", f"{low:.2f} to {high:.2f}"))
    if beside.get("images"):
        details.append(("test images", f"{beside['images']:,}"))
    if not math.isnan(beside.get("interval", math.nan)):
        details.append(("95 % interval of the difference", f"± {beside['interval']:.2f}"))
    if beside.get("note"):
        details.append(("note", str(beside["note"])))
    return details


def _notes(config: Config, collected: Collected) -> list[str]:
    """Return the notes under a table; what could not be used is counted: the summary names it."""
    results = collected.results
    named = replace(results, problems=())
    notes = table_notes(config, collected.experiment, named, collected.layout)
    return [*notes, *unusable(len(results.problems), "record")]


def notes_of(lines: Sequence[str]) -> tuple[Note, ...]:
    """Turn remarks into notes; those of many settings are folded under what they are about."""
    notes = []
    for line in lines:
        head, _, rest = line.partition(": ")
        notes.append(
            Note(head, rest) if len(line) > _LONG and len(head) < _HEAD else Note("", line)
        )
    return tuple(notes)


def unusable(number: int, what: str) -> list[str]:
    """Say under a table how many files could not be used, if there are any."""
    there = count(number, what)
    return [f"{there} could not be used: the summary says which, and why."] if number else []


def _beside(config: Config, path: Path) -> str:
    """Return where a file lies as seen from the page."""
    return path.relative_to(paths.root(config)).as_posix()
