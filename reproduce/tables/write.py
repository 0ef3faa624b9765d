"""Tables in the paper's layout, as CSV, Markdown and LaTeX."""

from collections.abc import Callable
from itertools import groupby

import pandas as pd

from reproduce.config.schema import Config
from reproduce.core.files import write_text
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment
from reproduce.registry import parse_architecture
from reproduce.results.frames import Results
from reproduce.tables.checkpoints import checkpoints_layout, checkpoints_notes, read_choices
from reproduce.tables.layout import MISSING, Layout, Row
from reproduce.tables.layouts import lay_out
from reproduce.tables.notes import table_notes


def write_table(config: Config, experiment: Experiment, results: Results) -> str:
    """Write a table in its three forms, and return the Markdown form."""
    layout = lay_out(config, experiment, results)
    number = experiment.name.removeprefix("table")
    models = dict.fromkeys(parse_architecture(c.architecture).title for c in experiment.cells)
    heading = f"Table {number}. {experiment.title} ({', '.join(models)})"
    notes = table_notes(config, experiment, results, layout)
    return _write(config, experiment.name, heading, layout, notes)


def write_checkpoints(config: Config) -> str:
    """Write the table of what the choice of checkpoint is worth; otherwise as `write_table`."""
    choices = read_choices(config)
    layout, notes = checkpoints_layout(config, choices), checkpoints_notes(config, choices)
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
    for row in layout.rows:
        record = dict(row.keys)
        for column, entry in zip(layout.columns, row.entries, strict=True):
            numbers = {"": entry.sample.mean, " std": entry.sample.std, " seeds": entry.sample.n}
            if entry.interval is not None:
                numbers |= {" low": entry.interval.low, " high": entry.interval.high}
            record |= {column.key + what: round(value, 4) for what, value in numbers.items()}
        records.append(record)
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n")


def _texts(layout: Layout, row: Row, plus_minus: str, bold: Callable[[str], str]) -> list[str]:
    """Return the entries of a row as text."""
    texts = [entry.text(plus_minus) for entry in row.entries]
    return [bold(text) if layout.best(row, place) else text for place, text in enumerate(texts)]


def _markdown(heading: str, layout: Layout, notes: list[str]) -> str:
    parts = [f"# {heading}"]
    heads = [*layout.labels, *(column.title for column in layout.columns)]
    for section, rows in groupby(layout.rows, key=lambda row: row.section):
        table = [[*row.labels, *_texts(layout, row, "±", "**{}**".format)] for row in rows]
        frame = pd.DataFrame(table, columns=heads)
        parts += [f"## {section}", frame.to_markdown(index=False, disable_numparse=True)]
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _latex(heading: str, layout: Layout, notes: list[str]) -> str:
    labels, count = len(layout.labels), len(layout.labels) + len(layout.columns)
    groups = [
        rf"\multicolumn{{{len(list(members))}}}{{c}}{{{_escape(group)}}}"
        for group, members in groupby(layout.columns, key=lambda column: column.group)
    ]
    heads = [*layout.labels, *(column.member for column in layout.columns)]
    lines = [
        *(f"% {line}" for line in (heading, *notes)),
        rf"\begin{{tabular}}{{{'l' * labels}{'c' * len(layout.columns)}}}",
        r"\toprule",
        " & ".join([""] * labels + groups) + r" \\",
        " & ".join(map(_escape, heads)) + r" \\",
    ]
    for section, rows in groupby(layout.rows, key=lambda row: row.section):
        lines += [r"\midrule", rf"\multicolumn{{{count}}}{{c}}{{{_escape(section)}}} \\"]
        for row in rows:
            texts = _texts(layout, row, r"$\pm$", r"\textbf{{{}}}".format)
            cells = " & ".join([*map(_escape, row.labels), *texts])
            lines.append(cells.replace(MISSING, "--") + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escape(text: str) -> str:
    for plain, written in (("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("λ", r"$\lambda$")):
        text = text.replace(plain, written)
    return text
