"""Tables in the paper's layout, as CSV, Markdown and LaTeX."""

import math
from collections.abc import Callable
from itertools import groupby

import numpy as np
import pandas as pd

from reproduce.config.schema import AutoAttack, Config
from reproduce.core.files import write_text
from reproduce.evaluation.records import check_black_box, worst_case
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment
from reproduce.experiments.schedules import measured_epochs
from reproduce.registry import METHODS, dataset_facts, parse_architecture
from reproduce.results.frames import Results
from reproduce.results.protocol import deviations, table_deviations
from reproduce.results.statistics import subset_interval
from reproduce.tables.checkpoints import Choices, read_choices
from reproduce.tables.diff import diff_caveats
from reproduce.tables.layouts import Entry, Layout, checkpoints_layout, lay_out

_MISSING = "–"
# lines of one kind under a table; the records hold them all
_MOST = 8


def write_table(config: Config, experiment: Experiment, results: Results) -> str:
    """Write a table in its three forms.

    Returns
    -------
    str
        The Markdown form.
    """
    layout = lay_out(config, experiment, results)
    notes = table_notes(config, experiment, results, layout)
    return _write(config, experiment.name, _heading(experiment), layout, notes)


def write_checkpoints(config: Config) -> str:
    """Write the table of what the choice of checkpoint is worth; otherwise as `write_table`."""
    choices = read_choices(config)
    layout = checkpoints_layout(config, choices)
    notes = checkpoints_notes(config, choices, layout)
    return _write(config, "checkpoints", "Checkpoints and what choosing is worth", layout, notes)


def checkpoints_notes(config: Config, choices: Choices, layout: Layout) -> list[str]:
    """Say under the table of checkpoints what its numbers are, and what is missing."""
    methods = list(dict.fromkeys(cell.method for cell in choices.cells))
    changed = deviations(config, [], methods, {cell.dataset for cell in choices.cells})
    notes = [
        f"Preset {config.preset}: {_epochs(config, methods)}.",
        *layout.notes,
        *_measured(config, methods),
    ]
    if changed:
        notes.append(f"Not the paper's protocol: {'; '.join(changed)}.")
    missing = len(choices.cells) - choices.found
    if missing:
        notes.append(
            f"{missing} of {len(choices.cells)} runs have no result yet ({_MISSING}; n/N: runs "
            "there and planned)."
        )
    return notes + [f"Left out: {problem}" for problem in choices.problems]


def _write(config: Config, name: str, heading: str, layout: Layout, notes: list[str]) -> str:
    markdown = _markdown(heading, layout, notes)
    forms = {"csv": _csv(layout), "md": markdown, "tex": _latex(heading, layout, notes)}
    for suffix, text in forms.items():
        write_text(paths.table_file(config, name, suffix), text)
    return markdown


def table_notes(
    config: Config, experiment: Experiment, results: Results, layout: Layout
) -> list[str]:
    """Say under a table what its numbers are: protocol, seeds, images, and what is missing."""
    methods = list(dict.fromkeys(cell.method for cell in experiment.cells))
    named = [item.attack for item in experiment.evaluations]
    attacks = list(dict.fromkeys([*named, *(item.attack for item in experiment.published)]))
    notes = [
        f"Preset {config.preset}: {_protocol(config, experiment, methods, attacks)}.",
        *(f"{name}: {_budget(config, name)}." for name in attacks),
        *layout.notes,
        *_measured(config, _choosing(experiment)),
        *_partial(config, attacks, results),
    ]
    datasets = {item.cell.dataset for item in experiment.evaluations}
    datasets |= {item.dataset for item in experiment.published}
    changed = deviations(config, attacks, methods, datasets)
    changed += table_deviations(config, experiment.name)
    if changed:
        notes.append(f"Not the paper's protocol: {'; '.join(changed)}.")
    notes += [f"Note: {caveat}." for caveat in diff_caveats(results)]
    if results.missing:
        notes.append(
            f"{results.missing} of {results.planned} evaluations have no result yet ({_MISSING}; "
            "n/N: results there and planned)."
        )
    notes += _shortened("Warning", [*_black_box(config, results), *results.warnings])
    notes += [f"Left out: {problem}" for problem in results.problems]
    return notes


def _epochs(config: Config, methods: list[str]) -> str:
    """Say how long the runs of some methods train."""
    epochs = {METHODS[name].title: config.train_of(name).epochs for name in methods}
    if len(set(epochs.values())) == 1:
        return f"{next(iter(epochs.values()))} epochs"
    return ", ".join(f"{title} {count}" for title, count in epochs.items()) + " epochs"


def _choosing(experiment: Experiment) -> list[str]:
    """Name the methods of which a table shows checkpoints that were chosen."""
    chosen = (item for item in experiment.evaluations if item.checkpoint != "last")
    return list(dict.fromkeys(item.cell.method for item in chosen))


def _measured(config: Config, methods: list[str]) -> list[str]:
    """Say of which epochs checkpoints were chosen, where it was not of all."""
    ranges: dict[range, list[str]] = {}
    for name in methods:
        train = config.train_of(name)
        if (epochs := measured_epochs(train))[0] > 1:
            ranges.setdefault(epochs, []).append(METHODS[name].title)
    return [
        f"{', '.join(titles)}: checkpoints are chosen among epochs {epochs[0]} to {epochs[-1]}, "
        "the only ones measured; the paper chooses among all."
        for epochs, titles in ranges.items()
    ]


def _protocol(
    config: Config, experiment: Experiment, methods: list[str], attacks: list[str]
) -> str:
    """Say how long the networks were trained, which of them is shown, and the radius."""
    shown = dict.fromkeys(item.checkpoint for item in experiment.evaluations)
    radii = dict.fromkeys(f"{config.eval.epsilon_of(name):.4g}" for name in attacks)
    clean = [METHODS[m].title for m in methods if METHODS[m].validation == "natural"]
    by = f" (of {', '.join(clean)}: by natural accuracy)" if clean else ""
    return (
        f"{_epochs(config, methods)}, checkpoint {' or '.join(shown)}{by}, "
        f"epsilon {' or '.join(radii)}"
    )


def _budget(config: Config, name: str) -> str:
    attack = config.eval.attacks[name]
    settings = attack.model_dump(exclude={"kind", "images", "clamp_start", *attack.idle})
    words = [
        f"{key.replace('_', ' ')} {value:.4g}"
        if isinstance(value, float)
        else f"{key.replace('_', ' ')} {value}"
        for key, value in settings.items()
        if value is not None
    ]
    words += ["start cut to [0, 1]"] * getattr(attack, "clamp_start", False)
    return f"{attack.kind} with {', '.join(words)}"


def _partial(config: Config, attacks: list[str], results: Results) -> list[str]:
    """Say which attacks ran in part, or saw a part of the images, and what that leaves."""
    notes = []
    for name in attacks:
        attack = config.eval.attacks[name]
        if isinstance(attack, AutoAttack) and attack.version == "preview":
            notes.append(f"{name} is a preview: the two APGD attacks, an upper bound.")
    columns = ["dataset", "attack", "images", "test_images"]
    seen = list(results.frame[columns].itertuples(index=False, name=None))
    seen += [
        (item.dataset, item.attack, len(record.index), record.info["data"]["test"])
        for item, record in results.published.items()
    ]
    subsets = pd.DataFrame(seen, columns=columns)
    subsets["dataset"] = [dataset_facts(name).title for name in subsets["dataset"]]
    for _, group in subsets.groupby(["images", "test_images"], sort=False):
        images, total = group.iloc[0][["images", "test_images"]]
        interval = subset_interval(50.0, images, total)
        if interval is not None:
            notes.append(
                f"{', '.join(group['attack'].unique())} on {', '.join(group['dataset'].unique())}: "
                f"{images} of {total} test images, every class in its proportion; the 95 % "
                "interval of a number for all is up to "
                f"± {(interval.high - interval.low) / 2:.1f} points (each in the csv)."
            )
    return notes


def _black_box(config: Config, results: Results) -> list[str]:
    """Name the networks on which Square, without gradients, beats every white-box attack.

    Robust accuracies are means over the attacks' seeds, on the images all of them saw.
    """
    found = []
    for cell in dict.fromkeys(item.cell for item in results.held):
        items = results.of_cell(cell)
        common, _ = worst_case(list(items.values()))
        accuracy: dict[str, list[float]] = {}
        for item, (index, robust) in items.items():
            share = 100 * float(robust[np.isin(index, common)].mean())
            accuracy.setdefault(item.attack, []).append(share)
        means = {name: float(np.mean(values)) for name, values in accuracy.items()}
        black = [m for name, m in means.items() if config.eval.attacks[name].kind == "square"]
        white = [m for name, m in means.items() if config.eval.attacks[name].kind != "square"]
        if black and white:
            found += [f"{cell}: {line}" for line in check_black_box(min(white), min(black))]
    return found


def _shortened(kind: str, lines: list[str]) -> list[str]:
    shown = [f"{kind}: {line}." for line in lines[:_MOST]]
    more = len(lines) - _MOST
    return [*shown, f"{kind}: {more} more, in the records."] if more > 0 else shown


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
        return _MISSING
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
            lines.append(" & ".join(texts).replace(_MISSING, "--") + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [f"% {line}" for line in (heading, *notes)]
    return "\n".join([*comments, *lines]) + "\n"


def _heading(experiment: Experiment) -> str:
    number = experiment.name.removeprefix("table")
    models = dict.fromkeys(parse_architecture(c.architecture).title for c in experiment.cells)
    return f"Table {number}. {experiment.title} ({', '.join(models)})"


def _escape(text: str) -> str:
    for plain, written in (("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("λ", r"$\lambda$")):
        text = text.replace(plain, written)
    return text
