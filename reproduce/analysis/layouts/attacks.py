"""Robust accuracy under several attacks: Table 2."""

import math

from reproduce.analysis.layouts.layout import LONG, Column, Entry, Layout, Row, metric_entry
from reproduce.analysis.layouts.partial import attack_title, mark
from reproduce.analysis.results import Results
from reproduce.analysis.statistics import Sample, subset_interval
from reproduce.catalogue import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.cells import Cell
from reproduce.config import AttackTable, Config
from reproduce.experiments import attack_table_cells
from reproduce.records import worst_case


def attacks_layout(config: Config, grid: AttackTable, results: Results) -> Layout:
    """Sections by data set, rows by network and lambda, columns by attack, then the worst case."""
    titles = {name: attack_title(config, name) for name in grid.attacks}
    titles["worst case"] = f"Worst case{mark(config, grid.attacks)}"
    group = LONG["robust_accuracy"]
    columns = [Column(title, name, group, title) for name, title in titles.items()]
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
        frame = results.frame[
            (results.frame["dataset"] == cell.dataset)
            & (results.frame["architecture"] == cell.architecture)
            & (results.frame["lambda"] == cell.lam)
        ]
        seeds = len(grid.attack_seeds)
        line = [
            metric_entry(frame[frame["attack"] == name], "robust_accuracy", seeds, facts.test)
            for name in grid.attacks
        ]
        planned = seeds * len(grid.attacks)
        entries.append([*line, _worst_case(results, cell, planned, facts.test)])
    notes = [
        f"{METHODS[grid.method].title}, training seed {grid.training_seed}; mean ± sample "
        f"standard deviation over {len(grid.attack_seeds)} random start(s) of each attack; bold: "
        "best of a column within its kind of network.",
        "Worst case: images that hold under every attack and start of the row, the minimum per "
        "example, on the images that all of them saw.",
    ]
    return Layout(("Network", "width", "λ"), rows, columns, entries, notes)


def _worst_case(results: Results, cell: Cell, planned: int, total: int) -> Entry:
    """Return the share of images that no attack broke: one number, without a deviation."""
    held = list(results.of_cell(cell).values())
    if not held:
        return Entry(Sample(math.nan, math.nan, 0), planned)
    _, robust = worst_case(held)
    mean = 100 * float(robust.mean())
    found = Sample(mean, math.nan, len(held))
    return Entry(found, planned, subset_interval(mean, len(robust), total))
