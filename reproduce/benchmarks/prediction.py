"""From measured steps to the hours of every table and figure, on a device like this one."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np
from scipy.optimize import nnls

from reproduce.benchmarks.budget import Budget
from reproduce.benchmarks.measured import Form, StepTime
from reproduce.benchmarks.result import AttackRate, FittedSpeed, Hours, Prediction
from reproduce.benchmarks.settings import DATASET
from reproduce.config.schema import Config, Precision
from reproduce.experiments.cost import Speed, forward_operations, validation_passes
from reproduce.experiments.grids import (
    Evaluation,
    PublishedEvaluation,
    experiment_names,
    find_experiment,
)
from reproduce.experiments.spec import TrainingSpec, training_spec
from reproduce.registry import dataset_facts
from reproduce.results.plan import Speeds, evaluation_hours, training_hours

_TERA = 1e12


def fit(seconds: dict[str, float]) -> Speed | None:
    """Fit seconds of a pass = latency + operations / throughput through networks.

    Parameters
    ----------
    seconds : dict
        Seconds of one forward pass of one image, by architecture, on CIFAR's images.

    Returns
    -------
    Speed or None
        The non-negative pair with the least squares of relative errors: it meets two
        networks exactly where it can.  Through one network the latency is 0.  None if
        there is no network, or more operations took no more time.
    """
    if not seconds:
        return None
    facts = dataset_facts(DATASET)
    took = np.array(list(seconds.values()))
    operations = np.array([forward_operations(name, facts) for name in seconds])
    if len(took) == 1:
        return Speed(0.0, float(operations[0] / took[0]))
    # relative to each time, and in units that make both columns of one size
    columns = np.stack([np.ones_like(took), operations / _TERA], 1) / took[:, None]
    (latency, per_tera), _ = nnls(columns, np.ones_like(took))
    return Speed(float(latency), float(_TERA / per_tera)) if per_tera > 0 else None


def predict(
    config: Config,
    steps: Sequence[StepTime],
    attacks: Sequence[AttackRate],
    unit: str,
    budget: Budget,
) -> list[Prediction]:
    """Predict the hours of the configuration's experiments, for each way of training measured.

    Parameters
    ----------
    config : Config
        The experiments.
    steps, attacks : sequence
        What was measured.
    unit : str
        What the hours are of, in words.
    budget : Budget
        Ways of training that predict nothing are noted there.
    """
    held = _attack_seconds(attacks)
    evaluation, evaluation_from = fit(held), f"attacks on {', '.join(held)}"
    if held and evaluation is None:
        budget.leave_out(
            "hours from attacks", f"more operations took no more time on {', '.join(held)}"
        )
    found = []
    for precision, form in dict.fromkeys((s.case.precision, s.case.form) for s in steps):
        took = _step_seconds(steps, precision, form)
        training = fit(took)
        if training is None:
            words = f"hours from steps in {precision}, {form}"
            budget.leave_out(words, f"more operations took no more time on {', '.join(took)}")
            continue
        hours, largest = _hours(config, training, evaluation or training)
        found.append(
            Prediction(
                unit=unit,
                precision=precision,
                form=form,
                networks=list(took),
                training=FittedSpeed(**training._asdict()),
                evaluation=FittedSpeed(**(evaluation or training)._asdict()),
                evaluation_from=evaluation_from if evaluation else "the same training steps",
                hours=hours,
                largest=largest,
            )
        )
    return found


def _step_seconds(steps: Sequence[StepTime], precision: Precision, form: Form) -> dict[str, float]:
    """Return seconds of a pass by architecture, the median over methods."""
    found: dict[str, list[float]] = {}
    for step in steps:
        if (step.case.precision, step.case.form) == (precision, form):
            one = step.seconds.median / (step.case.batch * step.passes)
            found.setdefault(step.case.architecture, []).append(one)
    return {name: median(values) for name, values in found.items()}


def _attack_seconds(attacks: Sequence[AttackRate]) -> dict[str, float]:
    """Return seconds of a pass by architecture: those of PGD, forward and backward."""
    return {
        row.architecture: 1 / (row.images_per_second.median * row.passes)
        for row in attacks
        if row.passes > 1
    }


def _run_hours(spec: TrainingSpec, train: Speeds, attack: Speeds) -> float:
    """Return the hours of a run, whose validation is an attack in float32 like an evaluation."""
    cell = spec.parsed
    validation = validation_passes(spec, dataset_facts(cell.dataset)) / 3600
    pace = (line.seconds(cell.dataset, cell.architecture) for line in (attack, train))
    return training_hours(spec, train) + validation * (next(pace) - next(pace))


def _hours(config: Config, training: Speed, evaluation: Speed) -> tuple[list[Hours], str]:
    """Return the hours of every experiment and of all, and what takes most of all."""
    experiments = [find_experiment(config, name) for name in experiment_names(config)]
    train, attack = (Speeds({}, "measured", line) for line in (training, evaluation))
    runs = {
        cell: _run_hours(training_spec(config, cell), train, attack)
        for e in experiments
        for cell in e.cells
    }
    attacked: dict[str, list[Evaluation | PublishedEvaluation]] = {
        e.name: [*e.evaluations, *e.published] for e in experiments
    }
    items = {
        item: evaluation_hours(config, item, attack)
        for several in attacked.values()
        for item in several
    }
    rows = [
        Hours(
            target=e.name,
            training=sum(runs[cell] for cell in e.cells),
            evaluation=sum(items[item] for item in attacked[e.name]),
        )
        for e in experiments
    ]
    # what tables share is trained and attacked once
    whole = Hours(target="all", training=sum(runs.values()), evaluation=sum(items.values()))
    kinds: defaultdict[str, float] = defaultdict(float)
    for cell, cost in runs.items():
        kinds[f"training of {cell.architecture} on {cell.dataset}"] += cost
    for item, cost in items.items():
        dataset = item.dataset if isinstance(item, PublishedEvaluation) else item.cell.dataset
        kinds[f"{item.attack} on {dataset}"] += cost
    total = whole.training + whole.evaluation
    largest, cost = max(kinds.items(), key=lambda kind: kind[1], default=("nothing", 0.0))
    share = cost / total if total else 0.0
    return [*rows, whole], f"{largest} ({100 * share:.0f} %)"
