"""What the runs cost: hours planned and spent, by table and by cell."""

from collections.abc import Iterable, Sequence

from reproduce.cells import Cell as Run
from reproduce.config import Config
from reproduce.experiments import Experiment, PublishedEvaluation
from reproduce.planning import Speeds, evaluation_hours, training_hours
from reproduce.report.exhibits import Cell, Plain
from reproduce.report.summaries import Item, Summaries, items_of
from reproduce.report.view import Costs
from reproduce.report.words import label
from reproduce.specs import training_spec

_HEADS = (
    "Training planned",
    "Training spent",
    "Attacks planned",
    "Attacks spent",
    "Spent in all",
)


def costs_view(
    config: Config, experiments: Sequence[Experiment], found: Summaries, speeds: Speeds
) -> Costs:
    """Add up the hours of every table and every cell.

    Parameters
    ----------
    config : Config
        The configuration.
    experiments : sequence of Experiment
        Its tables and figures.
    found : Summaries
        What its runs and records say of themselves.
    speeds : Speeds
        What planned hours are estimated from.
    """
    runs = {
        cell: training_hours(training_spec(config, cell), speeds)
        for e in experiments
        for cell in e.cells
    }
    items = {item: evaluation_hours(config, item, speeds) for item in items_of(experiments)}

    def hours(cells: Iterable[Run], attacks: Iterable[Item]) -> tuple[Cell, ...]:
        wanted, attacked = dict.fromkeys(cells), dict.fromkeys(attacks)
        trained = sum(found.runs[cell].hours for cell in wanted if cell in found.runs)
        spent = sum(found.records[item].hours for item in attacked if item in found.records)
        planned = sum(runs[cell] for cell in wanted), sum(items[item] for item in attacked)
        values = (planned[0], trained, planned[1], spent, trained + spent)
        return tuple(Cell(_hours(value), value) for value in values)

    parts = tuple((Cell(label(e.name)), *hours(e.cells, items_of([e]))) for e in experiments)
    by_cell: dict[str, tuple[list[Run], list[Item]]] = {cell.id: ([cell], []) for cell in runs}
    for item in items:
        name = item.name if isinstance(item, PublishedEvaluation) else item.cell.id
        by_cell.setdefault(name, ([], []))[1].append(item)
    rows = tuple(
        (Cell(name, code=True), *hours(cells, attacks))
        for name, (cells, attacks) in by_cell.items()
    )
    total = (Cell("All, each run once"), *hours(runs, items))
    kind = "GPU-hours" if config.machine.device != "cpu" else "Hours of a processor"
    note = (
        f"{kind}, as each run measured them. Planned is by the speed of {speeds.stated}; attacks "
        "are planned as if every image held to the end, real ones take less. Tables and figures "
        "share runs, so their sum is more than what all took."
    )
    heads = tuple(_HEADS)
    return Costs(
        Plain(
            "cost-tables", f"{kind} by table and figure", ("Table or figure", *heads), parts, total
        ),
        Plain("cost-cells", f"{kind} by cell", ("Cell", *heads), rows),
        note,
    )


def _hours(value: float) -> str:
    """Write hours: to a tenth where they are many, to four digits where they are few."""
    if not value:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"
