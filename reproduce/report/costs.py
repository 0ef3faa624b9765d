"""What the runs cost: hours planned and spent, by table and by cell."""

from collections.abc import Iterable, Sequence

from reproduce.cell import Cell as Run
from reproduce.config.schema import Config
from reproduce.experiments.grids import Experiment, PublishedEvaluation
from reproduce.experiments.runs import Session
from reproduce.experiments.spec import training_spec
from reproduce.report.exhibits import Cell, Plain
from reproduce.report.summaries import Item, Summaries, items_of
from reproduce.report.view import Costs
from reproduce.report.words import label
from reproduce.results.plan import Speeds, evaluation_hours, training_hours

_HEADS = (
    "Training planned",
    "Training spent",
    "Attacks planned",
    "Attacks spent",
    "Spent in all",
)
# what the hours are of, and what was held for as long
_DEVICES = {
    "GPU-hours": "GPUs, several at once counted each",
    "Hours of a processor": "processor",
    "Device-hours": "GPUs or its processor",
}


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
    hours = _Hours(config, experiments, found, speeds)
    parts = tuple((Cell(label(e.name)), *hours.of(e.cells, items_of([e]))) for e in experiments)
    by_cell: dict[str, tuple[list[Run], list[Item]]] = {c.id: ([c], []) for c in hours.runs}
    for item in hours.items:
        name = item.name if isinstance(item, PublishedEvaluation) else item.cell.id
        by_cell.setdefault(name, ([], []))[1].append(item)
    rows = tuple(
        (Cell(name, code=True), *hours.of(cells, attacks))
        for name, (cells, attacks) in by_cell.items()
    )
    total = (Cell("All, each run once"), *hours.of(hours.runs, hours.items))
    kind = _kind(found)
    caption, heads = f"{kind} by table and figure", ("Table or figure", *_HEADS)
    return Costs(
        Plain("cost-tables", caption, heads, parts, total),
        Plain("cost-cells", f"{kind} by cell", ("Cell", *_HEADS), rows),
        f"{kind}, as each run measured them: how long it held its {_DEVICES[kind]}. Planned is "
        f"by the speed of {speeds.stated}; attacks are planned as if every image held to the "
        "end, real ones take less. Tables and figures share runs, so their sum is more than "
        "what all took.",
    )


class _Hours:
    """Hours planned and spent of any runs and evaluations."""

    def __init__(
        self, config: Config, experiments: Sequence[Experiment], found: Summaries, speeds: Speeds
    ) -> None:
        self.found = found
        self.runs = {
            cell: training_hours(training_spec(config, cell), speeds)
            for experiment in experiments
            for cell in experiment.cells
        }
        self.items = {
            item: evaluation_hours(config, item, speeds) for item in items_of(experiments)
        }

    def of(self, cells: Iterable[Run], attacks: Iterable[Item]) -> tuple[Cell, ...]:
        """Return training planned and spent, attacks planned and spent, and spent in all."""
        wanted, attacked = dict.fromkeys(cells), dict.fromkeys(attacks)
        runs, records = self.found.runs, self.found.records
        trained = sum(runs[cell].hours for cell in wanted if cell in runs)
        spent = sum(records[item].hours for item in attacked if item in records)
        planned = sum(self.runs[cell] for cell in wanted), sum(self.items[i] for i in attacked)
        values = (planned[0], trained, planned[1], spent, trained + spent)
        return tuple(Cell(_hours(value), value) for value in values)


def _kind(found: Summaries) -> str:
    """Say what the hours are of, from what the runs and records say that they held."""
    pieces: list[Session] = [piece for run in found.runs.values() for piece in run.sessions]
    pieces += [piece for record in found.records.values() for piece in record.pieces]
    devices = {piece.device for piece in pieces if piece.device}
    if devices == {"cuda"}:
        return "GPU-hours"
    return "Hours of a processor" if devices == {"cpu"} else "Device-hours"


def _hours(value: float) -> str:
    """Write hours: to a tenth where they are many, to four digits where they are few."""
    if not value:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"
