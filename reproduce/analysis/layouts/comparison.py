"""Published checkpoints and our runs under AutoAttack: Table 4."""

import math

from reproduce import paths
from reproduce.analysis.layouts.layout import Column, Entry, Layout, Row
from reproduce.analysis.layouts.partial import attack_title
from reproduce.analysis.results import Results
from reproduce.analysis.statistics import Sample, sample, subset_interval
from reproduce.catalogue import METHODS, dataset_facts, parse_architecture
from reproduce.config import ComparisonTable, Config
from reproduce.experiments import (
    Evaluation,
    PublishedEvaluation,
    comparison_evaluations,
    published_evaluations,
)
from reproduce.paper import PublishedModel, published, published_models
from reproduce.records import Metrics
from reproduce.zoo import ZooCheckpoint
from reproduce.zoo.cards import UNKNOWN, ZooFacts, zoo_facts

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
        _notes(config, grid, about, results),
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
    paper = _paper(grid.dataset, item.name, None)
    entries = [
        *_measured(metrics, grid.dataset),
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
    paper = _paper(cell.dataset, cell.method, cell.architecture)
    entries = [*_measured(metrics, cell.dataset), Entry(sample([paper]), 1)]
    return Row(section, labels, keys, section), _filled(entries)


def _measured(metrics: Metrics | None, dataset: str) -> list[Entry]:
    """Return natural accuracy and accuracy under attack; empty where nothing is measured."""
    if metrics is None:
        return [_empty(), _empty()]
    total = dataset_facts(dataset).test
    return [
        Entry(sample([value]), 1, subset_interval(value, metrics.images, total))
        for value in (metrics.natural_accuracy, metrics.robust_accuracy)
    ]


def _filled(entries: list[Entry]) -> list[Entry]:
    """Put empty entries where a row has no number, and behind the last it has."""
    known = [_empty() if math.isnan(entry.sample.mean) else entry for entry in entries]
    return known + [_empty() for _ in range(5 - len(known))]


def _empty() -> Entry:
    return Entry(Sample(math.nan, math.nan, 0), 1)


def _paper(dataset: str, method: str, architecture: str | None) -> float:
    """Return the paper's number of a row; NaN where it has none."""
    table = published("table4")
    rows = table[(table["dataset"] == dataset) & (table["method"] == method)]
    if architecture is not None:
        rows = rows[rows["architecture"] == architecture]
    return float(rows["mean"].iloc[0]) if len(rows) else math.nan


def _notes(
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
