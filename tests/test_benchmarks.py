"""The benchmarks: timing in pairs, the budget, steps, cells at once."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from reproduce.benchmarks import attacks, cases, steps, timing, together
from reproduce.benchmarks.budget import Budget, out_of_memory
from reproduce.benchmarks.cases import our_passes, reference_passes
from reproduce.benchmarks.measured import Case, Peak, Peaks, Spread, spread
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.cost import forward_operations
from reproduce.objectives.base import Objective
from reproduce.registry import dataset_facts
from reproduce.results.plan import PAPER_SPEEDS
from reproduce.training.step import StepModules, plain_modules

CPU = torch.device("cpu")
TINY = Case(method="trades", architecture="wrn-10-0.5", batch=8)
PEAK = Peak(operation="product", precision="float32", rate=spread([50.0, 60.0, 100.0]))
PEAKS = Peaks(products=[PEAK], convolutions=[], copy_rate=None)


def test_passes_of_the_paper_preset(paper: Callable[..., Config]) -> None:
    counts = {}
    for method in ("trades", "awp-trades", "at", "mart"):
        case = TINY.model_copy(update={"method": method})
        counts[method] = (our_passes(paper(), case), reference_passes(paper(), case))
    assert counts == {"trades": (27, 39), "awp-trades": (33, 48), "at": (26, 26), "mart": (26, 26)}


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
    asked = [TINY, TINY.model_copy(update={"method": "at"})]
    budget = Budget(0.0)
    assert steps.measure_steps(tiny(), asked, 3, PEAKS, CPU, budget, lambda _: None) == []
    assert [missing.what for missing in budget.missing] == [str(case) for case in asked]
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
    assert row.of_peak == pytest.approx(row.gflops / 100.0)
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
    (missing,) = budget.missing
    assert missing.what.endswith(str(TINY))
    assert missing.why == "out of memory"


def test_what_the_peak_has_no_time_for_is_not_begun(tiny: Callable[..., Config]) -> None:
    """A first step alone would take minutes; at 100 GFLOP/s the whole needs a known time."""
    case = Case(method="trades", architecture="wrn-34-10", batch=512)
    budget = Budget(20.0)
    found = steps.measure_scaling(tiny(), [case], 1, PEAKS, CPU, budget, lambda _: None)
    least = 11 * 512 * forward_operations("wrn-34-10", dataset_facts("cifar10")) / 100e9
    assert found == []
    assert f"needs about {least:.0f} s" in budget.missing[0].why


def test_a_network_that_cannot_be_compiled_is_named(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise HarnessError("the network cannot be compiled here")

    monkeypatch.setattr(steps, "our_step", fails)
    budget = Budget(60.0)
    assert steps.measure_steps(tiny(), [TINY], 1, PEAKS, CPU, budget, lambda _: None) == []
    assert budget.missing[0].why == "the network cannot be compiled here"


def test_steps_are_compiled_as_asked(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[set[int]] = []

    def calls(model: torch.nn.Module, objective: Objective, sizes: set[int]) -> StepModules:
        compiled.append(sizes)
        return plain_modules(model, objective)

    monkeypatch.setattr(cases, "compiled_modules", calls)
    forms = ["eager", "graph", "compiled-graph"]
    asked = [TINY.model_copy(update={"form": form}) for form in forms]
    found = steps.measure_steps(tiny(), asked, 1, PEAKS, CPU, Budget(60.0), lambda _: None)
    assert [row.case.form for row in found] == forms
    assert compiled == [{TINY.batch}]


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


def test_results_refuse_nan() -> None:
    with pytest.raises(ValidationError):
        spread([float("nan")])


def test_planning_stays_with_the_papers_speed_by_default() -> None:
    expected = 191e-6 + forward_operations("wrn-34-10", dataset_facts("cifar10")) / 40.5e12
    assert PAPER_SPEEDS.seconds("cifar10", "wrn-34-10") == pytest.approx(expected)
