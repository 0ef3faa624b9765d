"""From measured seconds to the hours of a table, by hand."""

from collections.abc import Callable

import pytest

from reproduce.benchmarks.budget import Budget
from reproduce.benchmarks.measured import Case, StepTime, spread
from reproduce.benchmarks.prediction import fit, predict
from reproduce.benchmarks.result import AttackRate
from reproduce.config.schema import Config
from reproduce.experiments.cost import (
    attack_passes,
    forward_operations,
    training_passes,
    validation_passes,
)
from reproduce.experiments.grids import find_experiment
from reproduce.experiments.spec import attack_spec, training_spec
from reproduce.registry import dataset_facts


def _step(architecture: str, seconds: float) -> StepTime:
    case = Case(method="trades", architecture=architecture, batch=100)
    return StepTime(
        case=case,
        seconds=spread([seconds]),
        reference_seconds=None,
        ratio=None,
        counted_ratio=None,
        passes=27,
        images_per_second=1.0,
        epoch_seconds=1.0,
        gflops=1.0,
        of_peak=None,
        memory_bytes=None,
        reference_memory_bytes=None,
        warm_up_seconds=1.0,
    )


def _pass_seconds(architecture: str, latency: float, throughput: float) -> float:
    return latency + forward_operations(architecture, dataset_facts("cifar10")) / throughput


def test_fit_meets_two_networks() -> None:
    took = {name: _pass_seconds(name, 2e-4, 4e13) for name in ("wrn-34-1", "wrn-34-10")}
    assert fit(took) == pytest.approx((2e-4, 4e13))
    took["wrn-34-5"] = _pass_seconds("wrn-34-5", 2e-4, 4e13)
    assert fit(took) == pytest.approx((2e-4, 4e13))


def test_fit_where_a_line_says_little() -> None:
    assert fit({}) is None
    assert fit({"wrn-34-1": _pass_seconds("wrn-34-1", 0, 3e12)}) == pytest.approx((0, 3e12))
    # more than proportional: no negative latency
    latency, _ = fit({"wrn-34-1": 1e-6, "wrn-34-10": 1e-3})
    assert latency == 0
    assert fit({"wrn-34-1": 1e-3, "wrn-34-10": 1e-6}) is None


def test_prediction_by_hand(paper: Callable[..., Config]) -> None:
    config, line, slower = paper(), (2e-4, 4e13), (3e-4, 1e13)
    names = ("wrn-34-1", "wrn-34-10")
    steps_found = [_step(name, 2700 * _pass_seconds(name, *line)) for name in names]
    rate = [1 / (42 * _pass_seconds(name, *slower)) for name in names]
    held = [
        AttackRate(
            architecture=name,
            what="pgd20",
            batch=64,
            passes=42,
            images_per_second=spread([value]),
        )
        for name, value in zip(names, rate, strict=True)
    ]
    (found,) = predict(config, steps_found, held, "hours", Budget(1.0))
    rows = {row.target: row for row in found.hours}
    facts = dataset_facts("cifar10")
    specs = [training_spec(config, cell) for cell in find_experiment(config, "table6").cells]
    passes = sum(training_passes(spec, facts) for spec in specs)
    # the validation within a run is in float32, like an evaluation
    validated = sum(validation_passes(spec, facts) for spec in specs)
    stepped = (passes - validated) * _pass_seconds("wrn-34-10", *line)
    measured = validated * _pass_seconds("wrn-34-10", *slower)
    assert rows["table6"].training == pytest.approx((stepped + measured) / 3600)
    attack = attack_spec(config, "pgd20", 0, "cifar10").attack
    attacked = 3 * 10_000 * attack_passes(attack, 10) * _pass_seconds("wrn-34-10", *slower) / 3600
    assert rows["table6"].evaluation == pytest.approx(attacked)
    assert rows["all"].training < sum(r.training for name, r in rows.items() if name != "all")
    assert found.largest.startswith("fab on cifar100 (")


def test_prediction_that_says_nothing_is_named(paper: Callable[..., Config]) -> None:
    budget = Budget(1.0)
    rows = [_step("wrn-34-1", 9.0), _step("wrn-34-10", 1.0)]
    assert predict(paper(), rows, [], "hours", budget) == []
    assert "more operations took no more time" in budget.missing[0].why
