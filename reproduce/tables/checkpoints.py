"""What choosing a checkpoint is worth: the metrics of every run at each of its checkpoints.

Training measures whatever epoch may be chosen on the test images, and the last one too: what a
run's other checkpoints would have scored is known without another attack.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import METRICS
from reproduce.experiments import paths
from reproduce.experiments.grids import planned_runs
from reproduce.experiments.runs import load_run
from reproduce.experiments.spec import checkpoints, training_spec
from reproduce.registry import METHODS
from reproduce.results.statistics import Estimate, contrast, sample

# what an epoch is measured by, first the metric that chooses
_MEASURED = {
    "attack": METRICS,
    "natural": ("natural_accuracy", "top5_natural_accuracy"),
}
# a cell of seed 0 that stands for all seeds, a metric and a checkpoint
Key = tuple[Cell, str, Checkpoint]


@dataclass(frozen=True)
class CheckpointMetrics:
    """What is known of the checkpoints of a configuration's runs."""

    # the metric on the test images and the epoch (from 1) of each seed that is there
    percent: Mapping[Key, Mapping[str, float]]
    epoch: Mapping[Key, Mapping[str, float]]
    # number of runs behind them
    found: int
    # every run of the configuration, whether it is there or not
    cells: tuple[Cell, ...]
    # runs that exist and could not be used, with the reason
    problems: tuple[str, ...]

    def planned(self) -> dict[Cell, int]:
        """Return how many seeds of each kind of run are planned; the kind has seed 0."""
        return dict(Counter(replace(cell, seed=0) for cell in self.cells))

    def differences(self, kind: Cell, metric: str, other: Checkpoint) -> dict[str, float]:
        """Return best-test minus another checkpoint in points, for each seed that is there."""
        best = self.percent.get((kind, metric, "best-test"), {})
        others = self.percent.get((kind, metric, other), {})
        return {seed: best[seed] - value for seed, value in others.items()}


def measured_metrics(method: str) -> tuple[str, ...]:
    """Return the metrics that a method's epochs are measured by, first the one that chooses."""
    return _MEASURED[METHODS[method].validation]


def read_choices(config: Config) -> CheckpointMetrics:
    """Read what every finished run scored at its checkpoints; what is damaged is named."""
    percent: dict[Key, dict[str, float]] = defaultdict(dict)
    epoch: dict[Key, dict[str, float]] = defaultdict(dict)
    cells, problems, found = planned_runs(config), [], 0
    for cell in cells:
        kind, seed = replace(cell, seed=0), f"seed {cell.seed}"
        try:
            numbers = _read_run(config, cell)
        except HarnessError as error:
            problems.append(str(error))
            continue
        found += bool(numbers)
        for (metric, checkpoint), (number, value) in numbers.items():
            percent[kind, metric, checkpoint][seed] = value
            epoch[kind, metric, checkpoint][seed] = number
    return CheckpointMetrics(percent, epoch, found, cells, tuple(problems))


def _read_run(config: Config, cell: Cell) -> dict[tuple[str, Checkpoint], tuple[int, float]]:
    """Return epoch and percent by metric and checkpoint; nothing of a run that is not there.

    Raises
    ------
    HarnessError
        If the run, or its epochs.csv, cannot be used.
    """
    run = load_run(config, cell)
    if run.finished is None:
        if run.info is None and not run.damaged:
            return {}
        raise HarnessError(str(run.reason))
    chosen = run.finished.checkpoint_epochs
    epochs: Mapping[Hashable, dict[int, float]] = run.epochs().set_index("epoch").to_dict()
    try:
        return {
            (metric, name): (chosen[name], epochs[f"test_{metric}"][chosen[name]])
            for metric in measured_metrics(cell.method)
            for name in checkpoints(training_spec(config, cell).train)
        }
    except LookupError as error:
        path = paths.epochs_file(paths.cell_folder(config, cell))
        raise HarnessError(
            f"{path} is damaged or not of this run; delete it, and `reproduce train {cell}` "
            "makes it again"
        ) from error


def selection_bias(
    choices: CheckpointMetrics, metric: str, other: Checkpoint
) -> tuple[Estimate, int]:
    """Estimate by how many points best-test is above another checkpoint, over kinds of run.

    A kind is a data set, network, method and lambda, and counts once however many seeds
    it has: seeds of a kind are more alike than kinds are.  Student's 95 % interval takes the
    kinds as independent; they share their test images.

    Returns
    -------
    Estimate, int
        The mean over kinds, each the mean over its seeds, and the number of kinds; without an
        interval if there are too few kinds, or all are alike.
    """
    means = [
        sample([*differences.values()]).mean
        for kind in choices.planned()
        if (differences := choices.differences(kind, metric, other))
    ]
    return contrast([sample(means)], [1]), len(means)
