"""What is said under a table: protocol, seeds, images, and what is missing."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from reproduce.config.grids import AttackTable, ComparisonTable, Grid, TuningTable
from reproduce.config.schema import AutoAttack, Config
from reproduce.evaluation.records import ALL_METRICS, check_black_box, worst_case
from reproduce.experiments.grids import Experiment, Item
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import checkpoints
from reproduce.paper.published import PublishedModel, published, published_models
from reproduce.registry import METHODS, dataset_facts
from reproduce.results.frames import Results
from reproduce.results.protocol import deviations, table_deviations
from reproduce.results.statistics import subset_interval
from reproduce.tables.checkpoints import CheckpointMetrics, selection_bias
from reproduce.tables.diff import diff_caveats
from reproduce.tables.layout import LONG, Layout, rows_with
from reproduce.tables.tuning import Strategy, saved_hours
from reproduce.zoo.checkpoints import ZooFacts

MISSING = "–"
# lines of one kind under a table; the records hold them all
_MOST = 8


def table_notes(
    config: Config, experiment: Experiment, results: Results, layout: Layout
) -> list[str]:
    """Return all notes under a table of records; `layout.notes` are those of its layout."""
    methods = list(dict.fromkeys(cell.method for cell in experiment.cells))
    items: list[Item] = [*experiment.evaluations, *experiment.published]
    attacks = list(dict.fromkeys(item.attack for item in items))
    chosen = [item.cell.method for item in experiment.evaluations if item.checkpoint != "last"]
    notes = [
        f"Preset {config.preset}: {_protocol(config, experiment, methods, attacks)}.",
        *(f"{name}: {_budget(config, name)}." for name in attacks),
        *layout.notes,
        *_measured(config, chosen),
        *_partial(config, attacks, results),
    ]
    datasets = {item.cell.dataset for item in experiment.evaluations}
    datasets |= {item.dataset for item in experiment.published}
    changed = deviations(config, attacks, methods, datasets)
    changed += table_deviations(config, experiment.name)
    notes += _not_the_papers(changed)
    notes += [f"Note: {caveat}." for caveat in diff_caveats(results)]
    if results.missing:
        notes.append(
            f"{results.missing} of {results.planned} evaluations have no result yet ({MISSING}; "
            "n/N: results there and planned)."
        )
    notes += _shortened("Warning", [*_black_box(config, results), *results.warnings])
    return notes + [f"Left out: {problem}" for problem in results.problems]


def checkpoints_notes(config: Config, choices: CheckpointMetrics, layout: Layout) -> list[str]:
    """Return all notes under the table of checkpoints."""
    methods = list(dict.fromkeys(cell.method for cell in choices.cells))
    changed = deviations(config, [], methods, {cell.dataset for cell in choices.cells})
    notes = [
        f"Preset {config.preset}: {_epochs(config, methods)}.",
        *layout.notes,
        *_measured(config, methods),
        *_not_the_papers(changed),
    ]
    missing = len(choices.cells) - choices.found
    if missing:
        notes.append(
            f"{missing} of {len(choices.cells)} runs have no result yet ({MISSING}; n/N: runs "
            "there and planned)."
        )
    return notes + [f"Left out: {problem}" for problem in choices.problems]


def _not_the_papers(changed: list[str]) -> list[str]:
    return [f"Not the paper's protocol: {'; '.join(changed)}."] if changed else []


def _epochs(config: Config, methods: list[str]) -> str:
    """Say how long the runs of some methods train."""
    epochs = {METHODS[name].title: config.train_of(name).epochs for name in methods}
    if len(set(epochs.values())) == 1:
        return f"{next(iter(epochs.values()))} epochs"
    return ", ".join(f"{title} {count}" for title, count in epochs.items()) + " epochs"


def _measured(config: Config, methods: Iterable[str]) -> list[str]:
    """Say of which epochs checkpoints were chosen, where it was not of all."""
    ranges: dict[range, list[str]] = {}
    for name in dict.fromkeys(methods):
        epochs = measured_epochs(config.train_of(name))
        if epochs[0] > 1:
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
    """Say with which settings an attack runs."""
    attack = config.eval.attacks[name]
    settings = attack.model_dump(exclude={"kind", "images", "clamp_start", *attack.idle})
    parts = [
        f"{key.replace('_', ' ')} {format(value, '.4g') if isinstance(value, float) else value}"
        for key, value in settings.items()
        if value is not None
    ]
    if getattr(attack, "clamp_start", False):
        parts.append("start cut to [0, 1]")
    return f"{attack.kind} with {', '.join(parts)}"


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
    for _, group in subsets.groupby(["images", "test_images"], sort=False):
        images, total = group.iloc[0][["images", "test_images"]]
        interval = subset_interval(50.0, images, total)
        if interval is not None:
            titles = dict.fromkeys(dataset_facts(name).title for name in group["dataset"])
            notes.append(
                f"{', '.join(dict.fromkeys(group['attack']))} on {', '.join(titles)}: {images} of "
                f"{total} test images, every class in its proportion; the 95 % interval of a "
                f"number for all is up to ± {(interval.high - interval.low) / 2:.1f} points (each "
                "in the csv)."
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


def of_grid(grid: Grid) -> list[str]:
    """Return the note of Tables 1, 5 and 6."""
    return [
        f"Mean ± sample standard deviation over {len(grid.seeds)} training seed(s); bold: best "
        "of a column within its method."
    ]


def of_attacks(grid: AttackTable) -> list[str]:
    """Return the notes of Table 2."""
    return [
        f"{METHODS[grid.method].title}, training seed {grid.training_seed}; mean ± sample "
        f"standard deviation over {len(grid.attack_seeds)} random start(s) of each attack; bold: "
        "best of a column within its kind of network.",
        "Worst case: images that hold under every attack and start of the row, the minimum per "
        "example, on the images that all of them saw.",
    ]


def of_tuning(grid: TuningTable, results: Results, strategies: Sequence[Strategy]) -> list[str]:
    """Return the notes of Table 3: what the strategies are, and what they cost."""
    hardware = " and ".join(dict.fromkeys(results.frame["training_hardware"])) or "its hardware"
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
    paper = {
        (found.architecture, found.name): paper_tuning(grid, found, "gpu_hours")
        for found in strategies
    }
    for name, (times, alone) in saved_hours(grid, strategies).items():
        theirs = paper[name, "manual"] / paper[name, "war"]
        printed = "" if math.isnan(theirs) else f" (paper: {theirs:.1f})"
        notes.append(
            f"{name}: the search by hand costs {times:.1f} times WAR's hours{printed}; without the "
            f"thin network's tuning, which all widths share, {alone:.1f} times."
        )
    return notes


def paper_tuning(grid: TuningTable, found: Strategy, metric: str) -> float:
    """Return the paper's number of a strategy in Table 3; NaN where it has none."""
    rows = rows_with(
        published("table3"),
        dataset=grid.dataset,
        architecture=found.architecture,
        method=found.name,
        metric=metric,
    )
    return float(rows["mean"].iloc[0]) if len(rows) else math.nan


def of_comparison(
    config: Config, grid: ComparisonTable, about: Mapping[str, ZooFacts], results: Results
) -> list[str]:
    """Return the notes of Table 4: its columns, other radii, and checkpoints not to be had."""
    notes = [
        "Published checkpoints are RobustBench's, attacked here; the others are runs of this "
        "harness, with their checkpoint in brackets. Paper: Table 4, which takes the published "
        "ones from the leaderboard. Leaderboard: RobustBench's AutoAttack. Own attack: what their "
        "own papers report, under attacks of their own. Bold: best of a section.",
    ]
    epsilon = config.eval.epsilon_of(grid.attack)
    for name, facts in about.items():
        if facts.epsilon is not None and not math.isclose(facts.epsilon, epsilon):
            whose = (
                "the numbers of its card in the zoo are"
                if on_leaderboard(grid.dataset, name) is None
                else "the leaderboard's number, and so the paper's, is"
            )
            notes.append(
                f"{name}: {whose} at epsilon {facts.epsilon:.4g}; measured here at {epsilon:.4g}."
            )
    notes += [
        f"{name}: not known here, and no card in the zoo says it: {', '.join(facts.unknown)}."
        for name, facts in about.items()
        if facts.unknown
    ]
    return notes + [
        # the reason may begin with the name
        f"{item.name} could not be had: {reason.removeprefix(item.name).lstrip(': ')}."
        for item, reason in results.unavailable.items()
    ]


def on_leaderboard(dataset: str, name: str) -> PublishedModel | None:
    """Return the leaderboard's numbers of a checkpoint, if they are kept here."""
    card = published_models().get(name)
    return card if card is not None and card.dataset == dataset else None


def of_checkpoints(config: Config, choices: CheckpointMetrics) -> list[str]:
    """Say where the numbers come from, and what choosing is worth over all kinds of run."""
    methods = dict.fromkeys(cell.method for cell in choices.cells)
    attacked = [name for name in methods if METHODS[name].validation == "attack"]
    steps = dict.fromkeys(config.train_of(name).validation.attack.steps for name in attacked)
    by = f", with {' or '.join(f'PGD-{n}' for n in steps)} from a start of its own" if steps else ""
    others = checkpoints(config.train)[1:]
    held_out = (
        f" best-val: the epoch of the highest accuracy on {config.train.holdout} held-out "
        "training images."
    )
    notes = [
        "Mean ± sample standard deviation over the training seeds; differences are taken within "
        "each run, then averaged.",
        f"Measured on the test images during training{by}: the numbers that the choice was made "
        "by. Records attack the chosen checkpoint from another start, so a table of records may "
        "differ by that.",
        "best-test: the epoch of the highest accuracy on the test images themselves; last: the "
        f"last epoch, without any choice.{held_out if 'best-val' in others else ''}",
    ]
    clean = [METHODS[name].title for name in methods if METHODS[name].validation == "natural"]
    if clean:
        notes.append(
            f"{', '.join(clean)}: epochs are chosen, and measured, by natural accuracy alone."
        )
    for metric in ALL_METRICS:
        for other in others:
            bias, kinds = selection_bias(choices, metric, other)
            if not kinds:
                continue
            interval = (
                ""
                if math.isnan(bias.low)
                else f", 95 % interval {bias.low:+.2f} to {bias.high:+.2f}"
            )
            notes.append(
                f"{LONG[metric].removesuffix(' (%)')}, best-test minus {other}: {bias.value:+.2f} "
                f"points on average over {kinds} row(s){interval}."
            )
    return notes
