"""What experiments ask for, what of it exists, and what the rest will cost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.experiments import cost as costs
from reproduce.experiments import paths
from reproduce.experiments.grids import PublishedEvaluation, find_experiment
from reproduce.experiments.runs import find_run
from reproduce.experiments.spec import (
    AttackSpec,
    TrainingSpec,
    attack_spec,
    evaluation_spec,
    training_spec,
)
from reproduce.paper.published import published_models
from reproduce.registry import dataset_facts
from reproduce.results.reader import Item, find_record


@dataclass(frozen=True)
class Speeds:
    """Seconds of one forward pass of one image, and the hardware they are of."""

    # by "dataset/architecture", from `reproduce plan --measure`
    measured: dict[str, float]
    stated: str

    def seconds(self, dataset: str, architecture: str) -> float:
        """Return the seconds of a pass, as on the paper's V100 where none was measured."""
        key = f"{dataset}/{architecture}"
        if key in self.measured:
            return self.measured[key]
        operations = costs.forward_operations(architecture, dataset_facts(dataset))
        return costs.PAPER_V100.seconds(operations)


PAPER_SPEEDS = Speeds({}, "the paper's V100 (12, 20, 32 GPU-hours a WRN-34-1, -5, -10 run)")


def load_speeds(config: Config) -> Speeds:
    """Return what was measured on this machine, or the paper's V100."""
    path = paths.throughput_file(config)
    if not path.is_file():
        return PAPER_SPEEDS
    saved = read_json(path)
    found = saved.get("seconds_per_pass")
    if (
        not isinstance(found, dict)
        or not all(isinstance(value, int | float) and value > 0 for value in found.values())
        or "hardware" not in saved
    ):
        raise HarnessError(f"{path} is not a measurement; delete it and measure again")
    return Speeds(found, f"{saved['hardware']}, measured")


@dataclass(frozen=True)
class Plan:
    """Counts and costs of one experiment."""

    name: str
    cells: int
    trained: int
    evaluations: int
    evaluated: int
    # device hours in all and of what is not done, and bytes of the finished results
    hours: float
    hours_left: float
    size: int


def plan(config: Config, names: Sequence[str], speeds: Speeds | None = None) -> list[Plan]:
    """Plan experiments, and where there are several also their union as "all".

    Speeds are those of `load_speeds` unless given.
    """
    speeds = load_speeds(config) if speeds is None else speeds
    runs: dict[Cell, _Part] = {}
    items: dict[Item, _Part] = {}
    plans = []
    for experiment in (find_experiment(config, name) for name in names):
        cells = experiment.cells
        asked: list[Item] = [*experiment.evaluations, *experiment.published]
        runs |= {cell: _run_part(config, cell, speeds) for cell in cells if cell not in runs}
        items |= {item: _item_part(config, item, speeds) for item in asked if item not in items}
        plans.append(
            _sum(experiment.name, [runs[cell] for cell in cells], [items[item] for item in asked])
        )
    return plans if len(plans) < 2 else [*plans, _sum("all", runs.values(), items.values())]


class _Part(NamedTuple):
    """The costs of one run or evaluation, and whether it is done."""

    hours: float
    size: int
    done: bool


def _run_part(config: Config, cell: Cell, speeds: Speeds) -> _Part:
    spec = training_spec(config, cell)
    size = costs.training_bytes(spec, dataset_facts(cell.dataset))
    return _Part(training_hours(spec, speeds), size, is_finished(config, spec))


def _item_part(config: Config, item: Item, speeds: Speeds) -> _Part:
    dataset, _, attack = _attacked(config, item)
    size = costs.evaluation_bytes(attack, dataset_facts(dataset))
    return _Part(evaluation_hours(config, item, speeds), size, is_evaluated(config, item))


def _sum(name: str, runs: Collection[_Part], items: Collection[_Part]) -> Plan:
    parts = [*runs, *items]
    return Plan(
        name,
        cells=len(runs),
        trained=sum(part.done for part in runs),
        evaluations=len(items),
        evaluated=sum(part.done for part in items),
        hours=sum(part.hours for part in parts),
        hours_left=sum(part.hours for part in parts if not part.done),
        size=sum(part.size for part in parts),
    )


def training_hours(spec: TrainingSpec, speeds: Speeds) -> float:
    """Estimate the device hours of a training run, validation included."""
    return sum(epoch_hours(spec, speeds))


def epoch_hours(spec: TrainingSpec, speeds: Speeds) -> tuple[float, ...]:
    """Estimate the device hours of each epoch of a training run, with its validation."""
    cell = spec.parsed
    hours = speeds.seconds(cell.dataset, cell.architecture) / 3600
    return tuple(passes * hours for passes in costs.epoch_passes(spec, dataset_facts(cell.dataset)))


def evaluation_hours(config: Config, item: Item, speeds: Speeds) -> float:
    """Estimate the device hours of an evaluation, as if every image held to the end."""
    dataset, architecture, attack = _attacked(config, item)
    if architecture is None:
        return 0.0  # nobody knows the speed of a published network of another family
    passes = costs.evaluation_passes(attack, dataset_facts(dataset))
    return passes * speeds.seconds(dataset, architecture) / 3600


def _attacked(config: Config, item: Item) -> tuple[str, str | None, AttackSpec]:
    """Return data set, architecture and attack of an evaluation."""
    if isinstance(item, PublishedEvaluation):
        network = published_architecture(item.name)
        return item.dataset, network, attack_spec(config, item.attack, item.seed, item.dataset)
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    return item.cell.dataset, item.cell.architecture, spec


def published_architecture(name: str) -> str | None:
    """Return the architecture of a published checkpoint; None for one of another family."""
    card = published_models().get(name)
    return None if card is None else card.network


def is_finished(config: Config, spec: TrainingSpec) -> bool:
    """Say whether a cell has a finished run, trained here or imported, of these settings."""
    return find_run(config, spec, 1).finished is not None


def is_evaluated(config: Config, item: Item) -> bool:
    """Say whether an evaluation has a record of these settings and the run's weights."""
    return find_record(config, item).status == "ok"


def representative_cells(config: Config, names: Sequence[str]) -> list[Cell]:
    """Return one cell for every data set and architecture of some experiments."""
    found: dict[tuple[str, str], Cell] = {}
    for name in names:
        for cell in find_experiment(config, name).cells:
            found.setdefault((cell.dataset, cell.architecture), cell)
    return list(found.values())
