"""The benchmarks: reference formulations against the formulas, statistics, budget, prediction."""

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from step_cases import DECAY, LAM, RATE, batch, network, noise_of, reference_step
from torch import Tensor, nn

from reproduce.benchmarks import attacks, steps, timing, together
from reproduce.benchmarks.budget import Budget
from reproduce.benchmarks.cases import our_passes, out_of_memory, reference_passes
from reproduce.benchmarks.prediction import fit, predict
from reproduce.benchmarks.references import REFERENCES, Constants, make_proxy
from reproduce.benchmarks.references import reference_step as official_step
from reproduce.benchmarks.result import (
    AttackRate,
    Case,
    Peak,
    Peaks,
    Spread,
    StepTime,
    spread,
)
from reproduce.catalogue import dataset_facts
from reproduce.config import Config
from reproduce.costs import attack_passes, forward_operations, training_passes
from reproduce.experiments import find_experiment
from reproduce.planning import PAPER_SPEEDS
from reproduce.rng import generator
from reproduce.specs import attack_spec, training_spec

CPU = torch.device("cpu")
TINY = Case(method="trades", architecture="wrn-10-0.5", batch=8)
PEAK = Peak(operation="product", precision="float32", rate=spread([50.0, 60.0, 100.0]))
PEAKS = Peaks(products=[PEAK], convolutions=[], copy_rate=None)
# the method, and the train-mode forwards of its official code: c clean, a adversarial
ORDERS = {"trades": "cac", "at": "ac", "mart": "ca", "awp-trades": "acc"}


def _official(
    method: str, model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, nn.Module]:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    stream = generator(0, "attack", 1, 0)
    proxy = make_proxy(model) if method == "awp-trades" else None
    loss = official_step(
        REFERENCES[method], model, optimizer, images, labels, Constants(), stream, proxy
    )
    return loss, model


@pytest.mark.parametrize("method", REFERENCES)
def test_references_in_float64(method: str) -> None:
    """Loss, updated weights and BatchNorm statistics are those of the formulas written out."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    loss, trained = _official(method, model, images, labels)
    formula, gamma = ("trades", 0.005) if method == "awp-trades" else (method, 0.0)
    order = ORDERS[method]
    expected = reference_step(model, formula, order, images, labels, noise_of(images), gamma)
    # the official code of MART adds 1e-7 to its weights and 1e-12 to its logarithms' arguments
    limit = 1e-6 if method == "mart" else 1e-10
    whole = expected.natural + LAM * expected.robust
    assert abs(loss - whole) < limit
    for name, value in expected.state.items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=limit, atol=limit)


def test_the_comparison_is_sharp() -> None:
    """Another lambda, or no perturbation of the weights, is far outside those limits."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    plain, awp = (_official(name, model, images, labels)[1] for name in ("trades", "awp-trades"))
    assert max((a - b).abs().max() for a, b in _both(plain, awp)) > 1e-5


def _both(one: nn.Module, other: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(one.parameters(), other.parameters(), strict=True)


class _Counter(nn.Module):
    """Counts the images that pass forward."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.inner(images)


@pytest.mark.parametrize(("method", "passes"), [("trades", 39), ("at", 26), ("mart", 26)])
def test_passes_of_references(method: str, passes: int) -> None:
    """F: forwards, an input gradient for each attack step, two for each train-mode forward."""
    model = _Counter(network(torch.float32))
    images, labels = batch(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    reference = REFERENCES[method]
    official_step(reference, model, optimizer, images, labels, Constants(), generator(0, "a"))
    trained = len(ORDERS[method])
    assert model.images / len(images) + 10 + 2 * trained == passes == reference.passes(10)


def test_passes_of_the_paper_preset(paper: Callable[..., Config]) -> None:
    counts = {}
    for method in ("trades", "awp-trades", "at", "mart"):
        case = TINY.model_copy(update={"method": method})
        counts[method] = (our_passes(paper(), case), reference_passes(paper(), case))
    # the preset trains AWP as its official code does, with three train-mode forwards
    assert counts == {"trades": (27, 39), "awp-trades": (39, 48), "at": (26, 26), "mart": (26, 26)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still unless moved."""
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


def test_pairs_are_taken_in_turn(clock: SimpleNamespace) -> None:
    called: list[str] = []
    takes = {"a": iter([1.0, 2.0, 4.0]), "b": iter([3.0, 4.0, 20.0])}

    def call(name: str) -> None:
        called.append(name)
        clock.now += next(takes[name])

    pairs = timing.timed_pairs(lambda: call("a"), lambda: call("b"), CPU, 3, lambda _: True)
    assert "".join(called) == "ababab"
    # pair by pair 3, 2, 5: neither the ratio of medians, 2, nor of sums
    assert timing.ratios(pairs) == Spread(median=3.0, low=2.0, high=5.0, runs=3)


def test_no_pair_is_begun_without_time(clock: SimpleNamespace) -> None:
    def move() -> None:
        clock.now += 1.0

    told: list[float] = []
    pairs = timing.timed_pairs(move, move, CPU, 9, lambda seconds: told.append(seconds) or False)
    assert (len(pairs), told) == (1, [2.0])


def test_rates_are_of_many_calls(clock: SimpleNamespace) -> None:
    calls = [0]

    def call() -> None:
        calls[0] += 1
        clock.now += 0.01

    found = timing.rate(call, 5.0, CPU, runs=3, seconds=0.1)
    assert found.median == pytest.approx(500.0)
    assert calls == [1 + 1 + 3 * 10]


def test_budget_names_what_does_not_fit() -> None:
    now = [0.0]
    budget = Budget(100.0, clock=lambda: now[0])
    part = budget.part(0.25)
    assert part.fits("a", 25.0)
    assert not part.fits("b", 26.0)
    now[0] = 30.0
    assert not part.fits("c", 0.0)
    assert budget.fits("d", 70.0)
    assert [(m.what, "raise --minutes" in m.why) for m in budget.missing] == [
        ("b", True),
        ("c", True),
    ]
    assert "needs about 26 s, 25 s are left" in budget.missing[0].why


def test_steps_without_time_are_named(tiny: Callable[..., Config]) -> None:
    cases = [TINY, TINY.model_copy(update={"method": "at"})]
    budget = Budget(0.0)
    assert steps.measure_steps(tiny(), cases, 3, PEAKS, CPU, budget, lambda _: None) == []
    assert [missing.what for missing in budget.missing] == [str(case) for case in cases]
    assert attacks.measure_attacks(tiny(), ["wrn-10-1"], CPU, budget, lambda _: None) == []
    assert together.measure_together(tiny(), TINY, [2], CPU, budget, lambda _: None) == []
    assert "2 cells at once" in budget.missing[-1].what


def test_fewer_pairs_are_named(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "our_step", lambda *_: lambda _: None)
    monkeypatch.setattr(steps, "their_step", lambda *_: lambda _: None)
    now = [0.0]

    def later() -> float:
        # looking at the clock takes a second, so time runs out
        now[0] += 1.0
        return now[0]

    budget = Budget(10.0, clock=later)
    (row,) = steps.measure_steps(tiny(), [TINY], 50, PEAKS, CPU, budget, lambda _: None)
    left_out = 50 - row.seconds.runs
    assert 0 < left_out < 50
    assert budget.missing[-1].what == f"{TINY}: {left_out} of 50 pairs"


def test_a_step_beside_its_reference(tiny: Callable[..., Config]) -> None:
    config = tiny()
    (row,) = steps.measure_steps(config, [TINY], 2, PEAKS, CPU, Budget(60.0), lambda _: None)
    assert (row.seconds.runs, row.ratio.runs) == (2, 2)
    assert row.images_per_second == pytest.approx(8 / row.seconds.median)
    assert row.epoch_seconds == pytest.approx(50_000 * row.seconds.median / 8)
    # two attack steps: 1 + 2 x 2 + 6 passes, 3 x 2 + 9 of the reference
    assert (row.passes, row.counted_ratio) == (11, pytest.approx(15 / 11))
    operations = forward_operations("wrn-10-0.5", dataset_facts("cifar10"))
    assert row.gflops == pytest.approx(11 * operations * row.images_per_second / 1e9)
    assert row.of_peak == pytest.approx(row.gflops / 60.0)
    assert row.memory_bytes is None


@pytest.mark.parametrize("measure", [steps.measure_steps, steps.measure_scaling])
def test_out_of_memory_is_a_row_that_says_so(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, measure: Callable
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(steps, "our_step", full)
    budget = Budget(60.0)
    assert measure(tiny(), [TINY], 2, PEAKS, CPU, budget, lambda _: None) == []
    assert [(m.what, m.why) for m in budget.missing] == [(str(TINY), "out of memory")]


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert out_of_memory(error.value)
    assert not out_of_memory(RuntimeError("shapes do not fit"))


def test_cells_at_once(tiny: Callable[..., Config]) -> None:
    found = together._at_once(tiny(), TINY, 2, CPU, alone=10.0, window=0.2)
    assert found.note == ""
    assert found.images_per_second > 0
    assert found.against_one == pytest.approx(found.images_per_second / 10.0)


def test_a_cell_that_fails_gives_the_reason(tiny: Callable[..., Config]) -> None:
    case = TINY.model_copy(update={"architecture": "wrn-50-1"})
    found = together._at_once(tiny(), case, 2, CPU, alone=None, window=0.2)
    assert found.images_per_second is None
    assert "is the one for ImageNet" in found.note


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
    trained = sum(
        training_passes(training_spec(config, cell), facts)
        for cell in find_experiment(config, "table6").cells
    )
    assert rows["table6"].training == pytest.approx(
        trained * _pass_seconds("wrn-34-10", *line) / 3600
    )
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


def test_results_refuse_nan() -> None:
    with pytest.raises(ValidationError):
        spread([float("nan")])


def test_planning_stays_with_the_papers_speed_by_default() -> None:
    expected = 191e-6 + forward_operations("wrn-34-10", dataset_facts("cifar10")) / 40.5e12
    assert PAPER_SPEEDS.seconds("cifar10", "wrn-34-10") == pytest.approx(expected)
