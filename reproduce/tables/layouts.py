"""Which rows and columns the six tables have, and the number where they meet.

To change a column of a table, change `columns` and the entries of its function here; Table 3 is in
`tuning`.  What is said under a table is in `notes`; how it is written, in `write`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.cell import Cell
from reproduce.config.grids import AttackTable, ComparisonTable, Grid, TuningTable
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import worst_case
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment, attack_table_cells
from reproduce.paper.published import published_models
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.frames import Results
from reproduce.results.statistics import Sample
from reproduce.tables.layout import (
    KEYS,
    LONG,
    SHORT,
    Column,
    DiffKey,
    Entry,
    Layout,
    Row,
    attack_title,
    mark,
    metric_entries,
    paper_number,
    rows_with,
    single,
)
from reproduce.tables.tuning import tuning_layout
from reproduce.zoo.checkpoints import UNKNOWN, ZooCheckpoint, ZooFacts, zoo_facts


def lay_out(config: Config, experiment: Experiment, results: Results) -> Layout:
    """Arrange an experiment's numbers as the paper's table does."""
    match getattr(config.experiments, experiment.name):
        case Grid() as grid:
            return _grid(config, grid, experiment.metrics, results)
        case AttackTable() as grid:
            return _attacks(config, grid, results)
        case TuningTable() as grid:
            return tuning_layout(config, grid, results)
        case ComparisonTable() as grid:
            return _comparison(config, grid, experiment, results)
    raise HarnessError(f"there is no layout of {experiment.name!r}")


def _grid(config: Config, grid: Grid, metrics: Sequence[str], results: Results) -> Layout:
    """Tables 1, 5 and 6: sections by method, rows by lambda, columns by metric and width."""
    numbers = [(metric, name) for metric in metrics for name in grid.architectures]
    columns = []
    for metric, name in numbers:
        width = f"{width_label(name)}{mark(config, [grid.attack])}"
        columns.append(Column(f"{SHORT[metric]} {width}", f"{metric} {name}", LONG[metric], width))
    rows = []
    for method, lams in grid.methods.items():
        for lam in lams:
            keys = [(grid.dataset, name, method, lam, grid.attack, m) for m, name in numbers]
            entries = metric_entries(results.frame, keys, len(grid.seeds))
            named = {"method": method, "lambda": lam}
            rows.append(Row(METHODS[method].title, (f"{lam:g}",), named, entries))
    return Layout(("λ",), columns, rows)


def _attacks(config: Config, grid: AttackTable, results: Results) -> Layout:
    """Table 2: sections by data set, rows by network and lambda, columns by attack, worst case."""
    titles = {name: attack_title(config, name) for name in grid.attacks}
    titles["worst case"] = f"Worst case{mark(config, grid.attacks)}"
    group, starts = LONG["robust_accuracy"], len(grid.attack_seeds)
    rows = []
    for cell in attack_table_cells(grid):
        shape = parse_architecture(cell.architecture)
        keys = [(*_named(cell), name, "robust_accuracy") for name in grid.attacks]
        entries = metric_entries(results.frame, keys, starts, "attack_seed")
        entries.append(_worst_case(results, cell, starts * len(grid.attacks)))
        named = dict(zip(KEYS, _named(cell), strict=False))
        labels = (shape.title, width_label(cell.architecture), f"{cell.lam:g}")
        section = dataset_facts(cell.dataset).title
        rows.append(Row(section, labels, named, entries, f"{cell.dataset} {shape.model}"))
    columns = [Column(title, name, group, title) for name, title in titles.items()]
    return Layout(("Network", "width", "λ"), columns, rows)


def _named(cell: Cell) -> tuple[str, str, str, float]:
    """Return the begin of the `DiffKey` of a cell's numbers."""
    return cell.dataset, cell.architecture, cell.method, cell.lam


def _worst_case(results: Results, cell: Cell, planned: int) -> Entry:
    """Return the share of images that no attack broke: one number, without a deviation."""
    held = list(results.of_cell(cell).values())
    if not held:
        return single(math.nan, planned=planned)
    _, robust = worst_case(held)
    found = Sample(100 * float(robust.mean()), math.nan, len(held))
    return Entry(found, planned, images=len(robust), total=dataset_facts(cell.dataset).test)


# by whether a network was trained with extra images; in this order
_SECTIONS = {
    False: "Without extra images",
    True: "With extra images",
    None: "Extra images unknown",
}


def _comparison(
    config: Config, grid: ComparisonTable, experiment: Experiment, results: Results
) -> Layout:
    """Table 4: sections by training images, rows by network; measured and reported accuracy."""
    attack = attack_title(config, grid.attack)
    columns = [
        Column("Natural", "natural_accuracy", "Measured (%)", "Natural", ranked=False),
        Column(attack, grid.attack, "Measured (%)", attack),
        Column("Paper", "paper", "Reported (%)", "Paper", ranked=False),
        Column("Leaderboard", "leaderboard", "Reported (%)", "Leaderboard", ranked=False),
        Column("Own attack", "reported", "Reported (%)", "Own attack", ranked=False),
    ]
    cards = {name: c for name, c in published_models().items() if c.dataset == grid.dataset}
    rows = []
    for network in experiment.published:
        card, about = cards.get(network.name), facts_of(config, grid, network.name)
        named = (grid.dataset, about.network or UNKNOWN, network.name, None)
        record = results.published.get(network)
        found: Mapping[Any, Any] = {} if record is None else record.metrics.as_dict()
        measured = _measured(found, (*named, grid.attack, "robust_accuracy"))
        reported = (math.nan, math.nan) if card is None else (card.autoattack, card.reported)
        title = network.name if card is None else f"{card.method}, {card.source}"
        architecture, extra = about.architecture or UNKNOWN, about.extra_data
        keys = {"method": network.name, "architecture": architecture, "extra_images": extra}
        paper = paper_number("table4", dataset=grid.dataset, method=network.name)
        entries = [*measured, *map(single, (paper, *reported))]
        rows.append(Row(_SECTIONS[extra], (title, architecture), keys, entries))
    for item in experiment.evaluations:
        cell, shape = item.cell, parse_architecture(item.cell.architecture)
        method = METHODS[cell.method]
        extra = method.batches == "mixed"
        found = next(iter(rows_with(results.frame, {"model": cell.id}).to_dict("records")), {})
        measured = _measured(found, (*_named(cell), grid.attack, "robust_accuracy"))
        keys = {"method": cell.id, "architecture": cell.architecture, "extra_images": extra}
        # WAR chooses lambda itself
        lam = "" if method.lambda_rule == "war" else f", λ={cell.lam:g}"
        labels = (f"{method.title}{lam} ({item.checkpoint})", f"{shape.title}-{shape.width:g}")
        trained = {"method": cell.method, "architecture": cell.architecture}
        paper = paper_number("table4", dataset=grid.dataset, **trained)
        entries = [*measured, single(paper), single(math.nan), single(math.nan)]
        rows.append(Row(_SECTIONS[extra], labels, keys, entries))
    rows.sort(key=lambda row: list(_SECTIONS.values()).index(row.section))
    return Layout(("Method", "Network"), columns, rows)


def _measured(metrics: Mapping[Any, Any], key: DiffKey) -> list[Entry]:
    """Return natural accuracy and accuracy under attack; empty where nothing is measured."""
    about = {"images": metrics.get("images", 0), "total": dataset_facts(key[0]).test}
    natural, robust = (
        metrics.get(name, math.nan) for name in ("natural_accuracy", "robust_accuracy")
    )
    return [single(natural, **about), single(robust, key=key, **about)]


def facts_of(config: Config, grid: ComparisonTable, name: str) -> ZooFacts:
    """Return what is known of a published checkpoint."""
    return zoo_facts(ZooCheckpoint(name, grid.dataset, paths.zoo_folder(config.data)))
