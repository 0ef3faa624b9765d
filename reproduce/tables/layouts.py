"""The six tables: which rows and columns each has, and the number where they meet.

To change a column of a table, change `columns` and the entries of its function here.  What is said
under a table is in `notes`; how it is written, in `write`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.cell import Cell
from reproduce.config.grids import AttackTable, ComparisonTable, Grid, TuningTable
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import ALL_METRICS, worst_case
from reproduce.experiments import paths
from reproduce.experiments.grids import (
    Evaluation,
    Experiment,
    PublishedEvaluation,
    attack_table_cells,
    comparison_evaluations,
    published_evaluations,
)
from reproduce.experiments.spec import checkpoints
from reproduce.paper.published import published
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.frames import Results
from reproduce.results.statistics import Sample, subset_interval
from reproduce.tables import notes
from reproduce.tables.checkpoints import CheckpointMetrics, measured_metrics
from reproduce.tables.layout import (
    LONG,
    SHORT,
    Column,
    DiffKey,
    Entry,
    Layout,
    Row,
    attack_title,
    entry_of,
    mark,
    metric_entry,
    rows_with,
    single,
)
from reproduce.tables.tuning import STRATEGIES, Strategy, compare_strategies
from reproduce.zoo.checkpoints import UNKNOWN, ZooCheckpoint, ZooFacts, zoo_facts


def lay_out(config: Config, experiment: Experiment, results: Results) -> Layout:
    """Arrange an experiment's numbers as the paper's table does."""
    match getattr(config.experiments, experiment.name):
        case Grid() as grid:
            return grid_layout(config, grid, experiment.metrics, results)
        case AttackTable() as table:
            return attacks_layout(config, table, results)
        case TuningTable() as tuning:
            return tuning_layout(config, tuning, results)
        case ComparisonTable() as comparison:
            return comparison_layout(config, comparison, results)
    raise HarnessError(f"there is no layout of {experiment.name!r}")


def grid_layout(config: Config, grid: Grid, metrics: Sequence[str], results: Results) -> Layout:
    """Tables 1, 5 and 6: sections by method, rows by lambda, columns by metric and width."""
    total, seeds = dataset_facts(grid.dataset).test, len(grid.seeds)
    numbers = [(metric, name) for metric in metrics for name in grid.architectures]
    columns = []
    for metric, name in numbers:
        width = f"{width_label(name)}{mark(config, [grid.attack])}"
        columns.append(Column(f"{SHORT[metric]} {width}", f"{metric} {name}", LONG[metric], width))
    rows, entries = [], []
    for method, lams in grid.methods.items():
        title = METHODS[method].title
        for lam in lams:
            rows.append(Row(title, (f"{lam:g}",), {"method": method, "lambda": lam}, title))
            frame = rows_with(results.frame, method=method, lam=lam)
            entries.append(
                [
                    metric_entry(
                        rows_with(frame, architecture=name),
                        seeds,
                        total,
                        (grid.dataset, name, method, lam, grid.attack, metric),
                    )
                    for metric, name in numbers
                ]
            )
    return Layout(("λ",), rows, columns, entries, notes.of_grid(grid))


def attacks_layout(config: Config, grid: AttackTable, results: Results) -> Layout:
    """Table 2: sections by data set, rows by network and lambda, columns by attack, worst case."""
    titles = {name: attack_title(config, name) for name in grid.attacks}
    titles["worst case"] = f"Worst case{mark(config, grid.attacks)}"
    group = LONG["robust_accuracy"]
    columns = [Column(title, name, group, title) for name, title in titles.items()]
    starts = len(grid.attack_seeds)
    rows, entries = [], []
    for cell in attack_table_cells(grid):
        facts, shape = dataset_facts(cell.dataset), parse_architecture(cell.architecture)
        keys = {
            "dataset": cell.dataset,
            "architecture": cell.architecture,
            "method": cell.method,
            "lambda": cell.lam,
        }
        labels = (shape.title, width_label(cell.architecture), f"{cell.lam:g}")
        rows.append(Row(facts.title, labels, keys, f"{cell.dataset} {shape.model}"))
        frame = rows_with(results.frame, model=cell.id)
        line = [
            metric_entry(
                rows_with(frame, attack=name),
                starts,
                facts.test,
                (*_named(cell), name, "robust_accuracy"),
                "attack_seed",
            )
            for name in grid.attacks
        ]
        entries.append([*line, _worst_case(results, cell, starts * len(grid.attacks), facts.test)])
    return Layout(("Network", "width", "λ"), rows, columns, entries, notes.of_attacks(grid))


def _named(cell: Cell) -> tuple[str, str, str, float]:
    """Return the begin of the `DiffKey` of a cell's numbers."""
    return cell.dataset, cell.architecture, cell.method, cell.lam


def _worst_case(results: Results, cell: Cell, planned: int, total: int) -> Entry:
    """Return the share of images that no attack broke: one number, without a deviation."""
    held = list(results.of_cell(cell).values())
    if not held:
        return entry_of({}, planned)
    _, robust = worst_case(held)
    mean = 100 * float(robust.mean())
    interval = subset_interval(mean, len(robust), total)
    return Entry(Sample(mean, math.nan, len(held)), planned, interval)


def tuning_layout(config: Config, grid: TuningTable, results: Results) -> Layout:
    """Table 3: rows by network and strategy; ours and the paper's lambda, accuracy and hours."""
    attack, total = attack_title(config, "pgd20"), dataset_facts(grid.dataset).test
    columns = [
        Column("λ", "lambda", "Ours", "λ", ranked=False),
        Column(attack, "robust_accuracy", "Ours", attack),
        Column("Runs (h)", "run_hours", "Ours", "Runs (h)", ranked=False),
        Column("Thin net (h)", "thin_hours", "Ours", "Thin net (h)", ranked=False),
        Column("Hours", "hours", "Ours", "Hours", ranked=False),
        Column("λ (paper)", "paper lambda", "Paper", "λ", ranked=False),
        Column(f"{attack} (paper)", "paper robust_accuracy", "Paper", attack),
        Column("GPU-hours (paper)", "paper gpu_hours", "Paper", "GPU-hours", ranked=False),
    ]
    strategies = compare_strategies(config, grid, results)
    # the hours of small networks need more decimals
    longest = max((found.hours for found in strategies if found.hours == found.hours), default=1.0)
    digits = 2 if longest >= 1 else 4
    rows, entries = [], []
    for found in strategies:
        shape = parse_architecture(found.architecture)
        keys = {"architecture": found.architecture, "tuning": found.name}
        labels = (width_label(found.architecture), STRATEGIES[found.name])
        rows.append(Row(shape.title, labels, keys, found.architecture))
        entries.append(_strategy_entries(grid, found, total, digits))
    if not any(entry.sample.n for line in entries for entry in line[5:]):
        # the paper has no such networks
        columns, entries = columns[:5], [line[:5] for line in entries]
    remarks = notes.of_tuning(grid, results, strategies)
    return Layout(("width", "Tuning"), rows, columns, entries, remarks)


def _strategy_entries(grid: TuningTable, found: Strategy, total: int, digits: int) -> list[Entry]:
    """Return the numbers of one strategy: ours, then the paper's."""
    seeds, metrics = len(grid.seeds), ("lambda", "robust_accuracy", "gpu_hours")
    lam, robust, hours = (
        (grid.dataset, found.architecture, found.name, None, "pgd20", metric) for metric in metrics
    )
    reached = entry_of(found.accuracies, seeds)
    interval = subset_interval(reached.sample.mean, found.images or total, total)
    return [
        Entry(entry_of(found.lambdas, seeds).sample, seeds, key=lam, values=found.lambdas),
        Entry(reached.sample, seeds, interval, 2, robust, found.accuracies),
        single(found.run_hours, None, digits),
        single(found.thin_hours, None, digits),
        single(found.hours, hours, digits),
        *(single(notes.paper_tuning(grid, found, metric)) for metric in metrics),
    ]


# by whether a network was trained with extra images; in this order
_SECTIONS = {
    False: "Without extra images",
    True: "With extra images",
    None: "Extra images unknown",
}


def comparison_layout(config: Config, grid: ComparisonTable, results: Results) -> Layout:
    """Table 4: sections by training images, rows by network; measured and reported accuracy."""
    attack = attack_title(config, grid.attack)
    columns = [
        Column("Natural", "natural_accuracy", "Measured (%)", "Natural", ranked=False),
        Column(attack, grid.attack, "Measured (%)", attack),
        Column("Paper", "paper", "Reported (%)", "Paper", ranked=False),
        Column("Leaderboard", "leaderboard", "Reported (%)", "Leaderboard", ranked=False),
        Column("Own attack", "reported", "Reported (%)", "Own attack", ranked=False),
    ]
    zoo = paths.zoo_folder(config.data)
    about = {name: zoo_facts(ZooCheckpoint(name, grid.dataset, zoo)) for name in grid.published}
    lines = [
        _published_line(item, about[item.name], results) for item in published_evaluations(grid)
    ]
    lines += [_trained_line(item, results) for item in comparison_evaluations(config, grid)]
    # published ones first in each section, as the paper has them
    lines.sort(key=lambda line: list(_SECTIONS.values()).index(line[0].section))
    return Layout(
        ("Method", "Network"),
        [row for row, _ in lines],
        columns,
        [entries for _, entries in lines],
        notes.of_comparison(config, grid, about, results),
    )


def _published_line(
    item: PublishedEvaluation, about: ZooFacts, results: Results
) -> tuple[Row, list[Entry]]:
    """Return the row of a published checkpoint, of which nothing may be known here."""
    card = notes.on_leaderboard(item.dataset, item.name)
    section = _SECTIONS[about.extra_data]
    title = item.name if card is None else f"{card.method}, {card.source}"
    network = about.architecture or UNKNOWN
    keys = {"method": item.name, "architecture": network, "extra_images": about.extra_data}
    key = (item.dataset, about.network or UNKNOWN, item.name, None, item.attack, "robust_accuracy")
    record = results.published.get(item)
    measured: dict[str, float] = {} if record is None else dict(record.metrics.as_dict())
    entries = [
        *_measured(measured, key),
        single(_paper_comparison(item.dataset, item.name)),
        single(math.nan if card is None else card.autoattack),
        single(math.nan if card is None else card.reported),
    ]
    return Row(section, (title, network), keys, section), entries


def _trained_line(item: Evaluation, results: Results) -> tuple[Row, list[Entry]]:
    """Return the row of a run of this harness."""
    cell, shape = item.cell, parse_architecture(item.cell.architecture)
    method = METHODS[cell.method]
    extra = method.batches == "mixed"
    section = _SECTIONS[extra]
    keys = {"method": cell.id, "architecture": cell.architecture, "extra_images": extra}
    # WAR chooses lambda itself
    lam = "" if method.lambda_rule == "war" else f", λ={cell.lam:g}"
    labels = (f"{method.title}{lam} ({item.checkpoint})", f"{shape.title}-{shape.width:g}")
    frame = rows_with(results.frame, model=cell.id, checkpoint=item.checkpoint)
    measured = {name: values.iloc[0] for name, values in frame.items() if len(values)}
    entries = [
        *_measured(measured, (*_named(cell), item.attack, "robust_accuracy")),
        single(_paper_comparison(cell.dataset, cell.method, cell.architecture)),
        single(math.nan),
        single(math.nan),
    ]
    return Row(section, labels, keys, section), entries


def _measured(metrics: Mapping[Any, Any], key: DiffKey) -> list[Entry]:
    """Return natural accuracy and accuracy under attack; empty where nothing is measured."""
    if not metrics:
        return [single(math.nan), single(math.nan, key)]
    total, images = dataset_facts(key[0]).test, int(metrics["images"])
    entries = []
    for metric, compared in (("natural_accuracy", None), ("robust_accuracy", key)):
        found = single(metrics[metric]).sample
        entries.append(Entry(found, 1, subset_interval(found.mean, images, total), key=compared))
    return entries


def _paper_comparison(dataset: str, method: str, architecture: str | None = None) -> float:
    """Return the paper's number of a row; NaN where it has none."""
    rows = rows_with(published("table4"), dataset=dataset, method=method)
    rows = rows if architecture is None else rows_with(rows, architecture=architecture)
    return float(rows["mean"].iloc[0]) if len(rows) else math.nan


def checkpoints_layout(config: Config, choices: CheckpointMetrics) -> Layout:
    """Sections by data set and metric, rows by kind of run, columns by checkpoint."""
    kept = checkpoints(config.train)
    columns = [Column(name, name, "Checkpoint (%)", name, ranked=False) for name in kept]
    columns += [
        Column(
            f"best-test − {name}",
            f"best-test minus {name}",
            "best-test minus, points",
            name,
            ranked=False,
        )
        for name in kept[1:]
    ]
    # last is the last epoch of every run
    timed = [name for name in kept if name != "last"]
    columns += [
        Column(f"Epoch of {name}", f"epoch of {name}", "Epoch of", name, ranked=False)
        for name in timed
    ]
    datasets = list(dict.fromkeys(cell.dataset for cell in choices.cells))
    planned = choices.planned()
    rows, entries = [], []
    for metric in ALL_METRICS:
        for kind in sorted(planned, key=lambda kind: datasets.index(kind.dataset)):
            if metric not in measured_metrics(kind.method):
                continue
            rows.append(_checkpoint_row(kind, metric))
            seeds = planned[kind]
            percent = [choices.percent.get((kind, metric, name), {}) for name in kept]
            percent += [choices.differences(kind, metric, name) for name in kept[1:]]
            epochs = [choices.epoch.get((kind, metric, name), {}) for name in timed]
            line = [entry_of(values, seeds) for values in percent]
            entries.append([*line, *(entry_of(values, seeds, digits=1) for values in epochs)])
    labels = ("Network", "width", "Method", "λ")
    return Layout(labels, rows, columns, entries, notes.of_checkpoints(config, choices))


def _checkpoint_row(kind: Cell, metric: str) -> Row:
    shape, method = parse_architecture(kind.architecture), METHODS[kind.method]
    section = f"{dataset_facts(kind.dataset).title}: {LONG[metric]}"
    lam = f"{kind.lam:g}" if method.lambda_rule == "constant" else "–"
    labels = (shape.title, width_label(kind.architecture), method.title, lam)
    keys = {
        "dataset": kind.dataset,
        "architecture": kind.architecture,
        "method": kind.method,
        "lambda": kind.lam,
        "metric": metric,
    }
    return Row(section, labels, keys, section)
