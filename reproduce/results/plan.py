"""What an experiment asks for, what of it exists, and what the rest will cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.evaluation.records import is_current
from reproduce.experiments import cost as costs
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, PublishedEvaluation, find_experiment
from reproduce.experiments.runs import problem_with, read_run
from reproduce.experiments.spec import (
    AttackSpec,
    TrainingSpec,
    attack_spec,
    evaluation_spec,
    training_spec,
)
from reproduce.paper.published import published_models
from reproduce.registry import dataset_facts
from reproduce.zoo.checkpoints import PublishedAttack


@dataclass(frozen=True)
class Speeds:
    """Seconds of one forward pass of one image, by data set and architecture.

    Attributes
    ----------
    measured : dict
        Seconds by "dataset/architecture", from `reproduce plan --measure`.
    stated : str
        The hardware the speeds are of, in words.
    line : costs.Speed
        What those that were not measured are estimated by.
    """

    measured: dict[str, float]
    stated: str
    line: costs.Speed = costs.PAPER_V100

    def seconds(self, dataset: str, architecture: str) -> float:
        """Return the seconds of a pass, by the line where none was measured."""
        key = f"{dataset}/{architecture}"
        if key in self.measured:
            return self.measured[key]
        facts = dataset_facts(dataset)
        return self.line.seconds(costs.forward_operations(architecture, facts))


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
    """Counts and costs of one experiment; hours and bytes of all its parts, done or not.

    Attributes
    ----------
    cells, trained : int
        Training runs, and how many of them are finished.
    evaluations, evaluated : int
        Attacked checkpoints, and how many of them have a record.
    hours, hours_left : float
        Estimated device hours in all and of what is not done.
    size : int
        Bytes of the finished results.
    """

    name: str
    cells: int
    trained: int
    evaluations: int
    evaluated: int
    hours: float
    hours_left: float
    size: int


def plan(config: Config, names: Sequence[str], speeds: Speeds | None = None) -> list[Plan]:
    """Plan experiments, and where there are several also their union as "all".

    Speeds are those of `load_speeds` unless given.
    """
    speeds = load_speeds(config) if speeds is None else speeds
    experiments = [find_experiment(config, name) for name in names]
    plans = [
        _plan(config, e.name, e.cells, [*e.evaluations, *e.published], speeds) for e in experiments
    ]
    if len(experiments) > 1:
        cells = dict.fromkeys(cell for e in experiments for cell in e.cells)
        items: dict[Evaluation | PublishedEvaluation, None] = {}
        for e in experiments:
            items |= dict.fromkeys((*e.evaluations, *e.published))
        plans.append(_plan(config, "all", list(cells), list(items), speeds))
    return plans


def _plan(
    config: Config,
    name: str,
    cells: Sequence[Cell],
    evaluations: Sequence[Evaluation | PublishedEvaluation],
    speeds: Speeds,
) -> Plan:
    hours = left = 0.0
    size = trained = evaluated = 0
    for cell in cells:
        spec, facts = training_spec(config, cell), dataset_facts(cell.dataset)
        cost = training_hours(spec, speeds)
        done = is_finished(config, spec)
        hours, left = hours + cost, left + (0 if done else cost)
        size, trained = size + costs.training_bytes(spec, facts), trained + done
    for item in evaluations:
        dataset, _, wanted = _attacked(config, item)
        facts = dataset_facts(dataset)
        cost = evaluation_hours(config, item, speeds)
        done = is_evaluated(config, item)
        hours, left = hours + cost, left + (0 if done else cost)
        size, evaluated = size + costs.evaluation_bytes(wanted, facts), evaluated + done
    return Plan(name, len(cells), trained, len(evaluations), evaluated, hours, left, size)


def training_hours(spec: TrainingSpec, speeds: Speeds) -> float:
    """Estimate the device hours of a training run, validation included."""
    return sum(epoch_hours(spec, speeds))


def epoch_hours(spec: TrainingSpec, speeds: Speeds) -> tuple[float, ...]:
    """Estimate the device hours of each epoch of a training run, with its validation."""
    cell = spec.parsed
    pace = speeds.seconds(cell.dataset, cell.architecture) / 3600
    return tuple(passes * pace for passes in costs.epoch_passes(spec, dataset_facts(cell.dataset)))


def evaluation_hours(
    config: Config, item: Evaluation | PublishedEvaluation, speeds: Speeds
) -> float:
    """Estimate the device hours of an evaluation, as if every image held to the end."""
    dataset, architecture, wanted = _attacked(config, item)
    passes = costs.evaluation_passes(wanted, dataset_facts(dataset))
    # of a published network of another family nobody knows the speed
    pace = 0.0 if architecture is None else speeds.seconds(dataset, architecture)
    return passes * pace / 3600


def _attacked(
    config: Config, item: Evaluation | PublishedEvaluation
) -> tuple[str, str | None, AttackSpec]:
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
    try:
        return problem_with(config, spec, read_run(paths.cell_folder(config, spec.parsed))) is None
    except HarnessError:  # damaged: `status` and `train` say so
        return False


def is_evaluated(config: Config, item: Evaluation | PublishedEvaluation) -> bool:
    """Say whether an evaluation has a record of these settings and the run's weights."""
    if isinstance(item, PublishedEvaluation):
        return _is_published_evaluated(config, item)
    folder = paths.cell_folder(config, item.cell)
    label = config.eval.label(item.attack)
    record = paths.record_file(folder, item.checkpoint, label, item.seed)
    if not record.is_file():
        return False
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    try:
        run, info = read_run(folder), read_json(record.with_suffix(".json"))
    except HarnessError:  # damaged: `table` says so
        return False
    weights = None if run is None else run.models.get(item.checkpoint)
    return weights is not None and is_current(record, info, spec.digest, weights)


def _is_published_evaluated(config: Config, item: PublishedEvaluation) -> bool:
    attack = PublishedAttack(config, item.dataset, item.name, item.attack, item.seed)
    try:
        return attack.record.is_file() and (
            attack.problem_with(read_json(attack.record.with_suffix(".json"))) is None
        )
    except HarnessError:  # damaged: `table` says so
        return False


def representative_cells(config: Config, names: Sequence[str]) -> list[Cell]:
    """Return one cell for every data set and architecture of some experiments."""
    found: dict[tuple[str, str], Cell] = {}
    for name in names:
        for cell in find_experiment(config, name).cells:
            found.setdefault((cell.dataset, cell.architecture), cell)
    return list(found.values())
