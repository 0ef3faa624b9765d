"""Tables in the paper's layout, as CSV, Markdown and LaTeX."""

import math
from collections.abc import Callable
from itertools import groupby

import pandas as pd

from reproduce.config.schema import Config
from reproduce.core.files import write_text
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment
from reproduce.registry import parse_architecture
from reproduce.results.frames import Results
from reproduce.tables.checkpoints import read_choices
from reproduce.tables.layout import Entry, Layout
from reproduce.tables.layouts import checkpoints_layout, lay_out
from reproduce.tables.notes import MISSING, checkpoints_notes, table_notes


def write_table(config: Config, experiment: Experiment, results: Results) -> str:
    """Write a table in its three forms.

    Returns
    -------
    str
        The Markdown form.
    """
    layout = lay_out(config, experiment, results)
    number = experiment.name.removeprefix("table")
    models = dict.fromkeys(parse_architecture(c.architecture).title for c in experiment.cells)
    heading = f"Table {number}. {experiment.title} ({', '.join(models)})"
    notes = table_notes(config, experiment, results, layout)
    return _write(config, experiment.name, heading, layout, notes)


def write_checkpoints(config: Config) -> str:
    """Write the table of what the choice of checkpoint is worth; otherwise as `write_table`."""
    choices = read_choices(config)
    layout = checkpoints_layout(config, choices)
    notes = checkpoints_notes(config, choices, layout)
    return _write(config, "checkpoints", "Checkpoints and what choosing is worth", layout, notes)


def _write(config: Config, name: str, heading: str, layout: Layout, notes: list[str]) -> str:
    markdown = _markdown(heading, layout, notes)
    forms = {"csv": _csv(layout), "md": markdown, "tex": _latex(heading, layout, notes)}
    for suffix, text in forms.items():
        write_text(paths.table_file(config, name, suffix), text)
    return markdown


def _csv(layout: Layout) -> str:
    """Write mean, standard deviation and count of each entry, and the interval of a subset."""
    records = []
    for row, entries in zip(layout.rows, layout.entries, strict=True):
        record: dict[str, object] = dict(row.keys)
        for column, entry in zip(layout.columns, entries, strict=True):
            record |= {
                column.key: _round(entry.sample.mean),
                f"{column.key} std": _round(entry.sample.std),
                f"{column.key} seeds": entry.sample.n,
            }
            if entry.interval is not None:
                record |= {
                    f"{column.key} low": _round(entry.interval.low),
                    f"{column.key} high": _round(entry.interval.high),
                }
        records.append(record)
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n")


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _text(entry: Entry, plus_minus: str) -> str:
    """Write one entry: 47.81 ± 0.09, with the count of values where some are missing."""
    mean, std, n = entry.sample
    if not n:
        return MISSING
    text = f"{mean:.{entry.digits}f}"
    if not math.isnan(std):
        text += f" {plus_minus} {std:.{entry.digits}f}"
    return text if n == entry.planned else f"{text} ({n}/{entry.planned})"


def _texts(layout: Layout, row: int, plus_minus: str, bold: Callable[[str], str]) -> list[str]:
    """Return one row as text, labels first."""
    texts = [_text(entry, plus_minus) for entry in layout.entries[row]]
    marked = [bold(text) if layout.best(row, column) else text for column, text in enumerate(texts)]
    return [*layout.rows[row].labels, *marked]


def _sections(layout: Layout) -> list[tuple[str, list[int]]]:
    """Return the sections in order, each with the numbers of its rows."""
    numbered = groupby(range(len(layout.rows)), key=lambda number: layout.rows[number].section)
    return [(section, list(numbers)) for section, numbers in numbered]


def _markdown(heading: str, layout: Layout, notes: list[str]) -> str:
    parts = [f"# {heading}"]
    heads = [*layout.labels, *(column.title for column in layout.columns)]
    for section, numbers in _sections(layout):
        table = [_texts(layout, number, "±", lambda text: f"**{text}**") for number in numbers]
        frame = pd.DataFrame(table, columns=heads)
        parts += [f"## {section}", frame.to_markdown(index=False, disable_numparse=True)]
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _latex(heading: str, layout: Layout, notes: list[str]) -> str:
    count = len(layout.labels) + len(layout.columns)
    groups = [
        rf"\multicolumn{{{len(list(members))}}}{{c}}{{{_escape(group)}}}"
        for group, members in groupby(layout.columns, key=lambda column: column.group)
    ]
    heads = [*layout.labels, *(column.member for column in layout.columns)]
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(layout.labels)}{'c' * len(layout.columns)}}}",
        r"\toprule",
        " & ".join([*("" for _ in layout.labels), *groups]) + r" \\",
        " & ".join(_escape(head) for head in heads) + r" \\",
    ]
    for section, numbers in _sections(layout):
        lines += [r"\midrule", rf"\multicolumn{{{count}}}{{c}}{{{_escape(section)}}} \\"]
        for number in numbers:
            texts = _texts(layout, number, r"$\pm$", lambda text: rf"\textbf{{{text}}}")
            labels = len(layout.labels)
            texts[:labels] = map(_escape, texts[:labels])
            lines.append(" & ".join(texts).replace(MISSING, "--") + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [f"% {line}" for line in (heading, *notes)]
    return "\n".join([*comments, *lines]) + "\n"


def _escape(text: str) -> str:
    for plain, written in (("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("λ", r"$\lambda$")):
        text = text.replace(plain, written)
    return text
