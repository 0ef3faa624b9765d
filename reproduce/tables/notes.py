"""What is said under a table: protocol, seeds, images, and what is missing."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from reproduce.config.grids import AttackTable, ComparisonTable, Grid, TuningTable
from reproduce.config.schema import Config
from reproduce.evaluation.records import check_black_box, worst_case
from reproduce.experiments.grids import Experiment, Item
from reproduce.experiments.schedules import measured_epochs
from reproduce.registry import METHODS
from reproduce.results.frames import Results
from reproduce.results.statistics import subset_interval
from reproduce.tables.diff import diff_caveats, diff_notes
from reproduce.tables.layout import MISSING, Layout
from reproduce.tables.layouts import facts_of


def table_notes(
    config: Config, experiment: Experiment, results: Results, layout: Layout
) -> list[str]:
    """Return all notes under a table of records."""
    items: list[Item] = [*experiment.evaluations, *experiment.published]
    attacks = list(dict.fromkeys(item.attack for item in items))
    shown = dict.fromkeys(item.checkpoint for item in experiment.evaluations)
    radii = dict.fromkeys(f"{config.eval.epsilon_of(name):.4g}" for name in attacks)
    notes = [
        f"Preset {config.preset}: checkpoint {' or '.join(shown)}, epsilon {' or '.join(radii)}.",
        training_note(config, (cell.method for cell in experiment.cells)),
        *(f"{name}: {_budget(config, name)}." for name in attacks),
        *_entries(config, experiment, results),
        *_subsets(layout),
        *deviations_note(diff_notes(config, experiment, results)),
        *(f"Note: {caveat}." for caveat in diff_caveats(results)),
        *missing_note(results.missing, results.planned, "evaluations"),
    ]
    notes += [f"Warning: {line}." for line in [*_black_box(config, results), *results.warnings]]
    return notes + [f"Left out: {problem}" for problem in results.problems]


def training_note(config: Config, methods: Iterable[str]) -> str:
    """Say how long the runs of some methods train, and among which epochs the best is chosen."""
    titles: dict[str, list[str]] = {}
    for name in dict.fromkeys(methods):
        epochs = measured_epochs(config.train_of(name))
        text = f"{epochs[-1]} epochs"
        if epochs[0] > 1:
            text += (
                f", the best chosen among epochs {epochs[0]} to {epochs[-1]} (the paper: of all)"
            )
        if METHODS[name].validation == "natural":
            text += ", by natural accuracy alone"
        titles.setdefault(text, []).append(METHODS[name].title)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in titles.items()) + "."


def deviations_note(changed: list[str]) -> list[str]:
    """Name the settings that are not the paper's; empty if there are none."""
    return [f"Not the paper's protocol: {'; '.join(changed)}."] if changed else []


def missing_note(missing: int, planned: int, what: str) -> list[str]:
    """Say how many results are missing; empty if none is."""
    text = f"{missing} of {planned} {what} have no result yet ({MISSING}; n/N: there and planned)."
    return [text] if missing else []


def _budget(config: Config, name: str) -> str:
    """Say with which settings an attack runs."""
    attack = config.eval.attacks[name]
    settings = attack.model_dump(exclude={"kind", "images", *attack.idle}, exclude_none=True)
    parts = [
        f"{key.replace('_', ' ')} {format(value, '.4g') if isinstance(value, float) else value}"
        for key, value in settings.items()
    ]
    return f"{attack.kind} with {', '.join(parts)}"


def _entries(config: Config, experiment: Experiment, results: Results) -> list[str]:
    """Say what the numbers of a table are."""
    mean = "Mean ± sample standard deviation over"
    match getattr(config.experiments, experiment.name):
        case Grid() as grid:
            seeds = f"{mean} {len(grid.seeds)} training seed(s)"
            return [f"{seeds}; bold: best of a column within its method."]
        case AttackTable() as grid:
            return [
                f"{mean} {len(grid.attack_seeds)} random start(s) of each attack on the run of "
                f"{METHODS[grid.method].title} with training seed {grid.training_seed}; bold: "
                "best of a column within its kind of network.",
                "Worst case: images that hold under every attack and start of the row, among "
                "those that all of them saw.",
            ]
        case TuningTable() as grid:
            hardware = dict.fromkeys(results.frame["training_hardware"])
            return [
                f"{mean} {len(grid.seeds)} training seed(s); bold: best of a network.",
                f"untuned: λ = {grid.untuned:g}, tuned on the thin network; manual: the best of λ "
                f"= {', '.join(f'{lam:g}' for lam in grid.lambdas)}; WAR: Algorithm 1 of the "
                "paper, its λ the mean over the last epoch.",
                f"Hours as each run measured them on {' and '.join(hardware) or 'its hardware'} "
                "(the paper: NVIDIA V100). One run for untuned and WAR, all trials for manual. The "
                f"tuning of the thin network, its run times {len(grid.lambdas)}, is added to "
                "untuned and WAR.",
            ]
        case ComparisonTable() as grid:
            return _comparison(config, grid, results)
    return []


def _comparison(config: Config, grid: ComparisonTable, results: Results) -> list[str]:
    """Return the notes of Table 4: its columns, other radii, and checkpoints not to be had."""
    notes = [
        "Published checkpoints are RobustBench's, attacked here; the others are runs of this "
        "harness, with their checkpoint in brackets. Paper: Table 4. Leaderboard: RobustBench's "
        "AutoAttack. Own attack: what their own papers report. Bold: best of a section.",
    ]
    epsilon = config.eval.epsilon_of(grid.attack)
    for name in grid.published:
        facts = facts_of(config, grid, name)
        if facts.epsilon is not None and not math.isclose(facts.epsilon, epsilon):
            notes.append(
                f"{name}: reported at epsilon {facts.epsilon:.4g}, measured here at {epsilon:.4g}."
            )
        if facts.unknown:
            notes.append(f"{name}: no card says its {', '.join(facts.unknown)}.")
    reasons = results.unavailable.items()
    return notes + [f"{item.name} could not be had: {reason}." for item, reason in reasons]


def _subsets(layout: Layout) -> list[str]:
    """Say which attacks saw a part of the test images, and what that leaves."""
    attacks: dict[tuple[int, int], dict[str, None]] = {}
    for entry in (entry for row in layout.rows for entry in row.entries):
        if entry.interval is not None and entry.key is not None:
            attacks.setdefault((entry.images, entry.total), {})[entry.key[4]] = None
    notes = []
    for (images, total), names in attacks.items():
        widest = subset_interval(50.0, images, total)
        half = 0.0 if widest is None else (widest.high - widest.low) / 2
        notes.append(
            f"{', '.join(names)}: {images} of {total} test images, every class in its proportion; "
            f"95 % interval of a number for all: up to ± {half:.1f} points (each in the csv)."
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
        shares = pd.Series(
            [100 * robust[np.isin(index, common)].mean() for index, robust in items.values()],
            [item.attack for item in items],
        )
        means = shares.groupby(level=0).mean()
        square = np.array([config.eval.attacks[name].kind == "square" for name in means.index])
        if square.any() and not square.all():
            lines = check_black_box(means[~square].min(), means[square].min())
            found += [f"{cell}: {line}" for line in lines]
    return found
