"""Best-test, last and best-val side by side: what the choice of checkpoint is worth."""

import pandas as pd

from reproduce.analysis.checkpoints import (
    Choices,
    measured_metrics,
    optimism,
    paired_differences,
)
from reproduce.analysis.layouts.layout import LONG, Column, Entry, Layout, Row
from reproduce.analysis.statistics import sample
from reproduce.catalogue import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config
from reproduce.records import ALL_METRICS
from reproduce.specs import checkpoints

_POINTS = "best-test minus, points"


def checkpoints_layout(config: Config, choices: Choices) -> Layout:
    """Sections by data set and metric, rows by kind of run, columns by checkpoint."""
    kept = checkpoints(config.train)
    others = kept[1:]
    columns = [Column(name, name, "Checkpoint (%)", name, ranked=False) for name in kept]
    columns += [
        Column(f"best-test − {name}", f"best-test minus {name}", _POINTS, name, ranked=False)
        for name in others
    ]
    # last is the last epoch of every run
    columns += [
        Column(f"Epoch of {name}", f"epoch of {name}", "Epoch of", name, ranked=False)
        for name in kept
        if name != "last"
    ]
    rows, entries = [], []
    for metric in ALL_METRICS:
        for kind, planned in _kinds(choices):
            if metric in measured_metrics(kind.method):
                rows.append(_row(kind, metric))
                entries.append(_entries(choices, kind, metric, kept, planned))
    labels = ("Network", "width", "Method", "λ")
    return Layout(labels, rows, columns, entries, _notes(config, choices, others))


def _kinds(choices: Choices) -> list[tuple[Cell, int]]:
    """Return a run of every kind and how many seeds are planned, data set by data set."""
    kinds: dict[Cell, int] = {}
    for cell in choices.cells:
        kind = Cell(cell.dataset, cell.architecture, cell.method, cell.lam, 0)
        kinds[kind] = kinds.get(kind, 0) + 1
    datasets = list(dict.fromkeys(kind.dataset for kind in kinds))
    return sorted(kinds.items(), key=lambda item: datasets.index(item[0].dataset))


def _row(kind: Cell, metric: str) -> Row:
    shape = parse_architecture(kind.architecture)
    section = f"{dataset_facts(kind.dataset).title}: {LONG[metric]}"
    labels = (
        shape.title,
        width_label(kind.architecture),
        METHODS[kind.method].title,
        f"{kind.lam:g}" if METHODS[kind.method].lambda_rule == "constant" else "–",
    )
    keys = {
        "dataset": kind.dataset,
        "architecture": kind.architecture,
        "method": kind.method,
        "lambda": kind.lam,
        "metric": metric,
    }
    return Row(section, labels, keys, section)


def _entries(
    choices: Choices, kind: Cell, metric: str, kept: tuple[Checkpoint, ...], planned: int
) -> list[Entry]:
    found = choices.of(kind, metric)
    line = [Entry(sample(_values(found, "percent", name)), planned) for name in kept]
    line += [
        Entry(sample(paired_differences(choices, kind, metric, name)), planned) for name in kept[1:]
    ]
    line += [
        Entry(sample(_values(found, "epoch", name)), planned, digits=1)
        for name in kept
        if name != "last"
    ]
    return line


def _values(found: pd.DataFrame, what: str, checkpoint: Checkpoint) -> list[float]:
    return [float(value) for value in found[what][checkpoint]] if len(found) else []


def _notes(config: Config, choices: Choices, others: tuple[Checkpoint, ...]) -> list[str]:
    """Say where the numbers come from, and what choosing is worth over all kinds of run."""
    methods = dict.fromkeys(cell.method for cell in choices.cells)
    attacked = [name for name in methods if METHODS[name].validation == "attack"]
    steps = dict.fromkeys(config.train_of(name).validation.attack.steps for name in attacked)
    by = f", with {' or '.join(f'PGD-{n}' for n in steps)} from a start of its own" if steps else ""
    notes = [
        "Mean ± sample standard deviation over the training seeds; differences are taken within "
        "each run, then averaged.",
        f"Measured on the test images during training{by}: the numbers that the choice was made "
        "by. Records attack the chosen checkpoint from another start, so a table of records may "
        "differ by that.",
        "best-test: the epoch of the highest accuracy on the test images themselves; last: the "
        "last epoch, without any choice."
        + (
            f" best-val: the epoch of the highest accuracy on {config.train.holdout} held-out "
            "training images."
            if "best-val" in others
            else ""
        ),
    ]
    clean = [METHODS[name].title for name in methods if METHODS[name].validation == "natural"]
    if clean:
        notes.append(
            f"{', '.join(clean)}: epochs are chosen, and measured, by natural accuracy alone."
        )
    for metric in ALL_METRICS:
        notes += _overall(choices, metric, others)
    return notes


def _overall(choices: Choices, metric: str, others: tuple[Checkpoint, ...]) -> list[str]:
    """Say what choosing on the test set is worth in one metric, over all kinds of run."""
    lines = []
    for other in others:
        found = optimism(choices, metric, other)
        if found.n:
            open_to = ""
            if found.interval is not None:
                low, high = found.interval
                open_to = f", 95 % interval {low:+.2f} to {high:+.2f}"
            lines.append(
                f"{LONG[metric].removesuffix(' (%)')}, best-test minus {other}: {found.mean:+.2f} "
                f"points on average over {found.n} row(s){open_to}."
            )
    return lines
