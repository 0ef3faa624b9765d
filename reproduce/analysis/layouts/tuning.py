"""Strategies of tuning lambda, and what they cost: Table 3."""

import math
from collections.abc import Iterable

from reproduce.analysis.layouts.layout import Column, Entry, Layout, Row
from reproduce.analysis.layouts.partial import attack_title
from reproduce.analysis.results import Results
from reproduce.analysis.statistics import Sample, subset_interval
from reproduce.analysis.tuning import STRATEGIES, Strategy, compare_strategies
from reproduce.catalogue import dataset_facts, parse_architecture, width_label
from reproduce.config import Config, TuningTable
from reproduce.paper import published

_PAPER = ("lambda", "robust_accuracy", "gpu_hours")


def tuning_layout(config: Config, grid: TuningTable, results: Results) -> Layout:
    """Rows by network and strategy; ours and the paper's lambda, accuracy and hours."""
    attack, total = attack_title(config, "pgd20"), dataset_facts(grid.dataset).test
    strategies = compare_strategies(config, grid, results)
    printed = [_paper(grid, found) for found in strategies]
    columns = [
        Column("λ", "lambda", "Ours", "λ", ranked=False),
        Column(attack, "robust_accuracy", "Ours", attack),
        Column("Runs (h)", "run_hours", "Ours", "Runs (h)", ranked=False),
        Column("Thin net (h)", "thin_hours", "Ours", "Thin net (h)", ranked=False),
        Column("Hours", "hours", "Ours", "Hours", ranked=False),
    ]
    if any(number.n for numbers in printed for number in numbers):
        columns += [
            Column("λ (paper)", "paper lambda", "Paper", "λ", ranked=False),
            Column(f"{attack} (paper)", "paper robust_accuracy", "Paper", attack),
            Column("GPU-hours (paper)", "paper gpu_hours", "Paper", "GPU-hours", ranked=False),
        ]
    rows, entries = [], []
    for found, numbers in zip(strategies, printed, strict=True):
        shape = parse_architecture(found.architecture)
        keys = {"architecture": found.architecture, "tuning": found.name}
        labels = (width_label(found.architecture), STRATEGIES[found.name])
        rows.append(Row(shape.title, labels, keys, found.architecture))
        seeds = found.planned
        interval = subset_interval(found.robust.mean, found.images or total, total)
        costs = (found.run_hours, found.thin_hours, found.hours)
        line = [
            Entry(found.lam, seeds),
            Entry(found.robust, seeds, interval),
            *(Entry(_single(hours), 1, digits=_digits(strategies)) for hours in costs),
            *(Entry(number, 1) for number in numbers),
        ]
        entries.append(line[: len(columns)])
    return Layout(("width", "Tuning"), rows, columns, entries, _notes(grid, results, strategies))


def _single(value: float) -> Sample:
    return Sample(value, math.nan, 0 if math.isnan(value) else 1)


def _digits(strategies: Iterable[Strategy]) -> int:
    """Return decimals of hours: enough to tell small networks' apart."""
    hours = [found.hours for found in strategies if not math.isnan(found.hours)]
    return 2 if max(hours, default=1.0) >= 1 else 4


def _paper(grid: TuningTable, found: Strategy) -> list[Sample]:
    """Return the paper's numbers for a strategy; without them where it has none."""
    table = published("table3")
    table = table[
        (table["dataset"] == grid.dataset)
        & (table["architecture"] == found.architecture)
        & (table["method"] == found.name)
    ]
    means = dict(zip(table["metric"], table["mean"], strict=True))
    return [_single(means.get(name, math.nan)) for name in _PAPER]


def _notes(grid: TuningTable, results: Results, strategies: list[Strategy]) -> list[str]:
    hardware = " and ".join(dict.fromkeys(results.frame["hardware"])) or "its hardware"
    tried = ", ".join(f"{lam:g}" for lam in grid.lambdas)
    notes = [
        f"untuned: λ = {grid.untuned:g}, tuned on the thin network; manual: the best of λ = "
        f"{tried}; WAR: Algorithm 1 of the paper, its λ the mean over the last epoch. Mean ± "
        f"sample standard deviation over {len(grid.seeds)} training seed(s); bold: best of a "
        "network.",
        f"Hours as each run measured them on {hardware}, counted as the paper does: one run for "
        f"untuned and WAR, all {len(grid.lambdas)} trials of the search for manual; the tuning of "
        "the thin network is added to untuned and WAR, as its one run here times "
        f"{len(grid.lambdas)} (the paper: 18 hours). The paper's hours are of an NVIDIA V100.",
    ]
    manual = {found.architecture: found for found in strategies if found.name == "manual"}
    for found in strategies:
        by_hand = manual[found.architecture].hours
        if found.name == "war" and not math.isnan(by_hand / (found.hours or math.nan)):
            paper = [_paper(grid, one)[-1].mean for one in (manual[found.architecture], found)]
            beside = "" if math.isnan(paper[0]) else f" (paper: {paper[0] / paper[1]:.1f})"
            notes.append(
                f"{found.architecture}: the search by hand costs {by_hand / found.hours:.1f} times "
                f"WAR's hours{beside}; without the thin network's tuning, which all widths share, "
                f"{by_hand / found.run_hours:.1f} times."
            )
    return notes
