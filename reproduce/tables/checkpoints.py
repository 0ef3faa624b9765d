"""What choosing a checkpoint is worth: the metrics of every run at each of its checkpoints.

Training measures whatever epoch may be chosen on the test images, and the last one too: what a
run's other checkpoints would have scored is known without another attack.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import pandas as pd

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import ALL_METRICS, METRICS
from reproduce.experiments.grids import planned_runs
from reproduce.experiments.runs import load_run
from reproduce.experiments.spec import checkpoints, training_spec
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.protocol import deviations
from reproduce.results.statistics import Estimate, contrast, sample
from reproduce.tables.layout import LONG, Column, Layout, Row, by_seed, entry_of, rows_with
from reproduce.tables.notes import deviations_note, missing_note, training_note

# what an epoch is measured by
_MEASURED = {"attack": METRICS, "natural": ("natural_accuracy", "top5_natural_accuracy")}
_KIND = ("dataset", "architecture", "method", "lambda")


@dataclass(frozen=True)
class CheckpointMetrics:
    """What is known of the checkpoints of a configuration's runs."""

    # a row a run and metric: the columns of `_KIND`, training_seed, metric and those of the table
    frame: pd.DataFrame
    # every run of the configuration, and the number of them that are there
    cells: tuple[Cell, ...]
    found: int
    # runs that exist and could not be used, with the reason
    problems: tuple[str, ...]


def columns_of(config: Config) -> list[Column]:
    """Return the table's columns: checkpoints, differences from best-test, and epochs."""
    kept = checkpoints(config.train)
    listed: list[tuple[str, str, str, str]]
    listed = [(name, name, "Checkpoint (%)", name) for name in kept]
    listed += [
        (f"best-test − {name}", f"best-test minus {name}", "best-test minus, points", name)
        for name in kept[1:]
    ]
    # last is the last epoch of every run
    epochs = [name for name in kept if name != "last"]
    listed += [(f"Epoch of {name}", f"epoch of {name}", "Epoch of", name) for name in epochs]
    return [Column(*names, ranked=False) for names in listed]


def read_choices(config: Config) -> CheckpointMetrics:
    """Read what every finished run scored at its checkpoints; what is damaged is named."""
    cells = planned_runs(config)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for cell in cells:
        try:
            rows += _read_run(config, cell)
        except HarnessError as error:
            problems.append(str(error))
    columns = [*_KIND, "training_seed", "metric", *(column.key for column in columns_of(config))]
    frame = pd.DataFrame(rows, columns=columns)
    found = len(frame.drop_duplicates([*_KIND, "training_seed"]))
    return CheckpointMetrics(frame, cells, found, tuple(problems))


def _read_run(config: Config, cell: Cell) -> list[dict[str, Any]]:
    """Return the rows of a run; none if it is not there."""
    run = load_run(config, cell)
    if run.finished is None:
        if run.info is None and not run.damaged:
            return []
        raise HarnessError(str(run.reason))
    names = checkpoints(training_spec(config, cell).train)
    epoch = run.finished.checkpoint_epochs
    scores: Mapping[Hashable, dict[int, float]] = run.epochs().set_index("epoch").to_dict()
    named = dict(zip((*_KIND, "training_seed"), astuple(cell), strict=True))
    rows = []
    for metric in _MEASURED[METHODS[cell.method].validation]:
        row: dict[str, Any] = {name: scores[f"test_{metric}"][epoch[name]] for name in names}
        row |= {f"best-test minus {name}": row["best-test"] - row[name] for name in names[1:]}
        row |= {f"epoch of {name}": epoch[name] for name in names}
        rows.append({**named, "metric": metric, **row})
    return rows


def selection_bias(choices: CheckpointMetrics, metric: str, other: str) -> tuple[Estimate, int]:
    """Estimate by how many points best-test is above another checkpoint; over how many kinds.

    A kind counts once, by the mean over its seeds: they are more alike than kinds are.  Student's
    95 % interval takes the kinds as independent; they share their test images.
    """
    rows = rows_with(choices.frame, {"metric": metric})
    differences = rows.groupby(list(_KIND))[f"best-test minus {other}"]
    means = differences.mean().dropna().tolist()
    return contrast([sample(means)], [1]), len(means)


def checkpoints_layout(config: Config, choices: CheckpointMetrics) -> Layout:
    """Sections by data set and metric, rows by kind of run, columns by checkpoint."""
    columns = columns_of(config)
    planned = Counter(replace(cell, seed=0) for cell in choices.cells)
    datasets = list(dict.fromkeys(cell.dataset for cell in choices.cells))
    rows = []
    for metric in ALL_METRICS:
        for kind in sorted(planned, key=lambda kind: datasets.index(kind.dataset)):
            method = METHODS[kind.method]
            if metric not in _MEASURED[method.validation]:
                continue
            keys = {**dict(zip(_KIND, astuple(kind), strict=False)), "metric": metric}
            found = rows_with(choices.frame, keys)
            entries = [
                entry_of(
                    by_seed(found, column.key),
                    planned[kind],
                    digits=1 if column.group == "Epoch of" else 2,
                )
                for column in columns
            ]
            lam = f"{kind.lam:g}" if method.lambda_rule == "constant" else "–"
            title = parse_architecture(kind.architecture).title
            labels = (title, width_label(kind.architecture), method.title, lam)
            section = f"{dataset_facts(kind.dataset).title}: {LONG[metric]}"
            rows.append(Row(section, labels, keys, entries))
    return Layout(("Network", "width", "Method", "λ"), columns, rows)


def checkpoints_notes(config: Config, choices: CheckpointMetrics) -> list[str]:
    """Say where the numbers come from, and what choosing is worth over all kinds of run."""
    methods = list(dict.fromkeys(cell.method for cell in choices.cells))
    notes = [
        f"Preset {config.preset}. {training_note(config, methods)}",
        "Mean ± sample standard deviation over the training seeds; differences are taken within "
        "each run, then averaged.",
        "best-test: the epoch of the highest accuracy on the test images; last: the last epoch; "
        "best-val: the epoch of the highest accuracy on held-out training images, if there are "
        "any.",
        "Measured on the test images during training, the numbers that the choice was made by. "
        "Records attack the chosen checkpoint from another start and may differ by that.",
    ]
    for metric in ALL_METRICS:
        for other in checkpoints(config.train)[1:]:
            bias, kinds = selection_bias(choices, metric, other)
            if kinds:
                interval = f", 95 % interval {bias.low:+.2f} to {bias.high:+.2f}"
                notes.append(
                    f"{LONG[metric].removesuffix(' (%)')}, best-test minus {other}: "
                    f"{bias.value:+.2f} points on average over {kinds} row(s)"
                    f"{'' if math.isnan(bias.low) else interval}."
                )
    datasets = {cell.dataset for cell in choices.cells}
    notes += deviations_note(deviations(config, [], methods, datasets))
    planned = len(choices.cells)
    notes += missing_note(planned - choices.found, planned, "runs")
    return notes + [f"Left out: {problem}" for problem in choices.problems]
