"""A table before it is written: rows, columns, and the numbers where they meet."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.grids import AttackTable, ComparisonTable, Grid, TuningTable
from reproduce.config.schema import AutoAttack, Config, PGDAttack
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import ALL_METRICS, Metrics, worst_case
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
from reproduce.paper.published import PublishedModel, published, published_models
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.frames import Results
from reproduce.results.statistics import Interval, Sample, sample, subset_interval
from reproduce.tables.checkpoints import Choices, measured_metrics, optimism
from reproduce.tables.tuning import STRATEGIES, Strategy, compare_strategies
from reproduce.zoo.checkpoints import UNKNOWN, ZooCheckpoint, ZooFacts, zoo_facts

LONG = {
    "robust_accuracy": "Robust accuracy (%)",
    "natural_accuracy": "Natural accuracy (%)",
    "perturbation_stability": "Perturbation stability (%)",
    "top5_natural_accuracy": "Top-5 natural accuracy (%)",
}
SHORT = {
    "robust_accuracy": "Robust",
    "natural_accuracy": "Natural",
    "perturbation_stability": "Stability",
    "top5_natural_accuracy": "Natural top-5",
}


@dataclass(frozen=True)
class Row:
    """A row: the section it stands in, how it is labelled, and its columns in the CSV."""

    section: str
    labels: tuple[str, ...]
    keys: dict[str, Any]
    # rows among which the best entry of a column is marked
    rivals: str


@dataclass(frozen=True)
class Column:
    """A column: its title, its name in the CSV, and how LaTeX heads it under a common head."""

    title: str
    key: str
    group: str
    member: str
    # whether the highest entry is marked as the best
    ranked: bool = True


# data set, architecture, method, lambda, attack and metric of a row of `tables.diff`
DiffKey = tuple[str, str, str, float | None, str, str]


@dataclass(frozen=True)
class Entry:
    """One number: the sample behind it, how many values were planned, what a subset leaves."""

    sample: Sample
    planned: int
    interval: Interval | None = None
    # decimals in which it is written
    digits: int = 2
    # which row of the comparison with the paper it is; None for what is only ours
    key: DiffKey | None = None
    # the single values behind a mean: "seed 0" or "start 0" and the value
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all values that were planned are there."""
        return self.sample.n == self.planned


@dataclass(frozen=True)
class Layout:
    """A table before it is written; `entries` has a list of entries for every row."""

    labels: tuple[str, ...]
    rows: list[Row]
    columns: list[Column]
    entries: list[list[Entry]]
    notes: list[str] = field(default_factory=list)

    def best(self, row: int, column: int) -> bool:
        """Say whether an entry is the highest of its column among its rivals that are complete."""
        means = [
            entries[column].sample.mean
            for other, entries in zip(self.rows, self.entries, strict=True)
            if other.rivals == self.rows[row].rivals and entries[column].complete
        ]
        known = [mean for mean in means if not math.isnan(mean)]
        entry = self.entries[row][column]
        ranked = self.columns[column].ranked and len(known) > 1
        return ranked and entry.complete and entry.sample.mean == max(known)


def metric_entry(
    frame: pd.DataFrame, planned: int, total: int, key: DiffKey, by: str = "training_seed"
) -> Entry:
    """Return the entry of the metric that `key` ends with from rows of `Results.frame`.

    `planned` is how many there are to be, `total` the images of the whole test set, `by` the
    column of the seed that the mean is over.
    """
    values = frame[key[-1]].tolist()
    found = sample(values)
    images = int(frame["images"].min()) if len(frame) else total
    word = "seed" if by == "training_seed" else "start"
    by_seed = {f"{word} {seed}": value for seed, value in zip(frame[by], values, strict=True)}
    interval = subset_interval(found.mean, images, total)
    return Entry(found, planned, interval, key=key, values=by_seed)


def attack_title(config: Config, name: str) -> str:
    """Head a column with an attack; partial evaluations are marked."""
    attack = config.eval.attacks[name]
    if isinstance(attack, PGDAttack):
        title = "C&W" if attack.loss == "margin" else f"PGD-{attack.steps}"
    else:
        title = {"fab": "FAB", "square": "Square", "autoattack": "AutoAttack"}[attack.kind]
    return title + mark(config, [name])


def mark(config: Config, names: Sequence[str]) -> str:
    """Return what marks numbers that some attack of several makes partial."""
    attacks = [config.eval.attacks[name] for name in names]
    preview = any(isinstance(a, AutoAttack) and a.version == "preview" for a in attacks)
    images = min((a.images for a in attacks if a.images is not None), default=None)
    marks = ["preview"] * preview + ([] if images is None else [f"n={images}"])
    return f" ({', '.join(marks)})" if marks else ""


def grid_layout(config: Config, grid: Grid, metrics: Sequence[str], results: Results) -> Layout:
    """Sections by method, rows by lambda, columns by metric and width."""
    total = dataset_facts(grid.dataset).test
    marked = mark(config, [grid.attack])
    columns = [
        Column(
            f"{SHORT[metric]} {width_label(name)}{marked}",
            f"{metric} {name}",
            LONG[metric],
            f"{width_label(name)}{marked}",
        )
        for metric in metrics
        for name in grid.architectures
    ]
    rows, entries = [], []
    for method, lams in grid.methods.items():
        title = METHODS[method].title
        for lam in lams:
            rows.append(Row(title, (f"{lam:g}",), {"method": method, "lambda": lam}, title))
            chosen = results.frame[
                (results.frame["method"] == method) & (results.frame["lambda"] == lam)
            ]
            entries.append(
                [
                    metric_entry(
                        chosen[chosen["architecture"] == name],
                        len(grid.seeds),
                        total,
                        (grid.dataset, name, method, lam, grid.attack, metric),
                    )
                    for metric in metrics
                    for name in grid.architectures
                ]
            )
    note = (
        f"Mean ± sample standard deviation over {len(grid.seeds)} training seed(s); bold: best "
        "of a column within its method."
    )
    return Layout(("λ",), rows, columns, entries, [note])


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
        named = cell.dataset, cell.architecture, cell.method, cell.lam
        line = [
            metric_entry(
                frame[frame["attack"] == name],
                seeds,
                facts.test,
                (*named, name, "robust_accuracy"),
                "attack_seed",
            )
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
        digits = _digits(strategies)

        def key(metric: str, found: Strategy = found) -> DiffKey:
            return grid.dataset, found.architecture, found.name, None, "pgd20", metric

        line = [
            Entry(found.lam, seeds, key=key("lambda"), values=found.lambdas),
            Entry(found.robust, seeds, interval, 2, key("robust_accuracy"), found.accuracies),
            Entry(_single(found.run_hours), 1, digits=digits),
            Entry(_single(found.thin_hours), 1, digits=digits),
            Entry(_single(found.hours), 1, digits=digits, key=key("gpu_hours")),
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


# by whether a network was trained with extra images; in this order
_SECTIONS = {
    False: "Without extra images",
    True: "With extra images",
    None: "Extra images unknown",
}


def comparison_layout(config: Config, grid: ComparisonTable, results: Results) -> Layout:
    """Sections by training images, rows by network; measured beside what others report."""
    attack = attack_title(config, grid.attack)
    columns = [
        Column("Natural", "natural_accuracy", "Measured (%)", "Natural", ranked=False),
        Column(attack, grid.attack, "Measured (%)", attack),
        Column("Paper", "paper", "Reported (%)", "Paper", ranked=False),
        Column("Leaderboard", "leaderboard", "Reported (%)", "Leaderboard", ranked=False),
        Column("Own attack", "reported", "Reported (%)", "Own attack", ranked=False),
    ]
    about = {name: _facts(config, grid, name) for name in grid.published}
    items = published_evaluations(grid)
    lines = [_published(grid, item, about[item.name], results) for item in items]
    lines += [_trained(item, results) for item in comparison_evaluations(config, grid)]
    # published ones first in each section, as the paper has them
    lines.sort(key=lambda line: list(_SECTIONS.values()).index(line[0].section))
    return Layout(
        ("Method", "Network"),
        [row for row, _ in lines],
        columns,
        [entries for _, entries in lines],
        _notes_comparison(config, grid, about, results),
    )


def _facts(config: Config, grid: ComparisonTable, name: str) -> ZooFacts:
    return zoo_facts(ZooCheckpoint(name, grid.dataset, paths.zoo_folder(config.data)))


def _published(
    grid: ComparisonTable, item: PublishedEvaluation, about: ZooFacts, results: Results
) -> tuple[Row, list[Entry]]:
    """Return the row of a published checkpoint, of which nothing may be known here."""
    card = _on_leaderboard(grid, item.name)
    section = _SECTIONS[about.extra_data]
    title = item.name if card is None else f"{card.method}, {card.source}"
    network = about.architecture or UNKNOWN
    keys = {"method": item.name, "architecture": network, "extra_images": about.extra_data}
    record = results.published.get(item)
    metrics = None if record is None else record.metrics
    reported = () if card is None else (card.autoattack, card.reported)
    paper = _paper_comparison(grid.dataset, item.name, None)
    key = (grid.dataset, about.network or UNKNOWN, item.name, None, item.attack, "robust_accuracy")
    entries = [
        *_measured(metrics, key),
        *(Entry(sample([value]), 1) for value in (paper, *reported)),
    ]
    return Row(section, (title, network), keys, section), _filled(entries)


def _on_leaderboard(grid: ComparisonTable, name: str) -> PublishedModel | None:
    """Return the leaderboard's numbers of a checkpoint, if they are kept here."""
    card = published_models().get(name)
    return card if card is not None and card.dataset == grid.dataset else None


def _trained(item: Evaluation, results: Results) -> tuple[Row, list[Entry]]:
    """Return the row of a run of this harness."""
    cell, shape = item.cell, parse_architecture(item.cell.architecture)
    method = METHODS[cell.method]
    extra = method.batches == "mixed"
    section = _SECTIONS[extra]
    keys = {"method": cell.id, "architecture": cell.architecture, "extra_images": extra}
    # WAR chooses lambda itself
    lam = "" if method.lambda_rule == "war" else f", λ={cell.lam:g}"
    labels = (f"{method.title}{lam} ({item.checkpoint})", f"{shape.title}-{shape.width:g}")
    frame = results.frame
    frame = frame[
        (frame["architecture"] == cell.architecture)
        & (frame["method"] == cell.method)
        & (frame["lambda"] == cell.lam)
        & (frame["training_seed"] == cell.seed)
    ]
    metrics = None
    if len(frame):
        found = frame.iloc[0]
        metrics = Metrics(
            found["robust_accuracy"], found["natural_accuracy"], None, 0, int(found["images"])
        )
    paper = _paper_comparison(cell.dataset, cell.method, cell.architecture)
    named = cell.dataset, cell.architecture, cell.method, cell.lam
    key = (*named, item.attack, "robust_accuracy")
    entries = [*_measured(metrics, key), Entry(sample([paper]), 1)]
    return Row(section, labels, keys, section), _filled(entries)


def _measured(metrics: Metrics | None, key: DiffKey) -> list[Entry]:
    """Return natural accuracy and accuracy under attack; empty where nothing is measured."""
    if metrics is None:
        return [_empty(), _empty(key)]
    total = dataset_facts(key[0]).test
    return [
        Entry(sample([value]), 1, subset_interval(value, metrics.images, total), key=compared)
        for value, compared in ((metrics.natural_accuracy, None), (metrics.robust_accuracy, key))
    ]


def _filled(entries: list[Entry]) -> list[Entry]:
    """Put empty entries where a row has no number, and behind the last it has."""
    known = [_empty(entry.key) if math.isnan(entry.sample.mean) else entry for entry in entries]
    return known + [_empty() for _ in range(5 - len(known))]


def _empty(key: DiffKey | None = None) -> Entry:
    return Entry(Sample(math.nan, math.nan, 0), 1, key=key)


def _paper_comparison(dataset: str, method: str, architecture: str | None) -> float:
    """Return the paper's number of a row; NaN where it has none."""
    table = published("table4")
    rows = table[(table["dataset"] == dataset) & (table["method"] == method)]
    if architecture is not None:
        rows = rows[rows["architecture"] == architecture]
    return float(rows["mean"].iloc[0]) if len(rows) else math.nan


def _notes_comparison(
    config: Config, grid: ComparisonTable, about: dict[str, ZooFacts], results: Results
) -> list[str]:
    """Say what the columns are, where radii differ, and which checkpoints could not be had."""
    notes = [
        "Published checkpoints are RobustBench's, attacked here; the others are runs of this "
        "harness, with their checkpoint in brackets. Paper: Table 4, which takes the published "
        "ones from the leaderboard. Leaderboard: RobustBench's AutoAttack. Own attack: what their "
        "own papers report, under attacks of their own. Bold: best of a section.",
    ]
    radii = {name: facts.epsilon for name, facts in about.items() if facts.epsilon is not None}
    epsilon = config.eval.epsilon_of(grid.attack)
    notes += [
        f"{name}: {_whose(grid, name)} at epsilon {radius:.4g}; measured here at {epsilon:.4g}."
        for name, radius in radii.items()
        if not math.isclose(radius, epsilon)
    ]
    unknown = {name: ", ".join(facts.unknown) for name, facts in about.items()}
    notes += [
        f"{name}: not known here, and no card in the zoo says it: {fields}."
        for name, fields in unknown.items()
        if fields
    ]
    return notes + [_unavailable(item.name, reason) for item, reason in results.unavailable.items()]


def _whose(grid: ComparisonTable, name: str) -> str:
    """Say which numbers a checkpoint's radius belongs to."""
    if _on_leaderboard(grid, name) is None:
        return "the numbers of its card in the zoo are"
    return "the leaderboard's number, and so the paper's, is"


def _unavailable(name: str, reason: str) -> str:
    """Say why a checkpoint could not be had; its name is said once."""
    return f"{name} could not be had: {reason.removeprefix(name).lstrip(': ')}."


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
    return Layout(labels, rows, columns, entries, _notes_choices(config, choices, others))


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
    if not len(found):
        return [Entry(sample([]), planned) for _ in range(3 * len(kept) - 2)]
    percent, epoch = found["percent"], found["epoch"]
    columns = [percent[name] for name in kept]
    columns += [percent["best-test"] - percent[name] for name in kept[1:]]
    line = [_over_seeds(values, planned, 2) for values in columns]
    return line + [_over_seeds(epoch[name], planned, 1) for name in kept if name != "last"]


def _over_seeds(values: "pd.Series[float]", planned: int, digits: int) -> Entry:
    """Return the entry of one value a seed, which is the index."""
    by_seed = {f"seed {seed}": float(value) for seed, value in values.items()}
    return Entry(sample([*by_seed.values()]), planned, digits=digits, values=by_seed)


def _notes_choices(config: Config, choices: Choices, others: tuple[Checkpoint, ...]) -> list[str]:
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
