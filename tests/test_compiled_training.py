"""Training on a compiled network, and in other precisions than float32."""

import json
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from small_runs import never, quiet, results, stop_at
from step_cases import KINDS, algorithm_of, batch, network, take_steps

from reproduce.cell import Cell
from reproduce.compute import compilation
from reproduce.compute.compilation import compiled, compiling, wants_compiling
from reproduce.compute.device import autocast, conv_precision, effective_precision
from reproduce.compute.distributed import Group
from reproduce.config.schema import Config, Machine
from reproduce.core.errors import HarnessError, Stopped
from reproduce.experiments import paths
from reproduce.experiments.spec import training_spec
from reproduce.training import state as state_module
from reproduce.training import step as step_module
from reproduce.training.speed import training_compiles
from reproduce.training.state import Trace
from reproduce.training.step import StepResult, step_modules
from reproduce.training.train import train_cell


@pytest.mark.slow
def test_a_compiled_step_leaves_the_same_weights() -> None:
    """In float64 no sign of a gradient turns by rounding, so all must agree to the last bits."""
    plain, found = (take_steps(KINDS[0], form, (8, 8))[1] for form in ("", "compiled"))
    expected = plain.state_dict()
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.slow
def test_a_compiled_run_continues_with_the_same_bits(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun uncompiled; stopped before the smaller batch that ends an epoch.

    Traced, but without kernels of its own: so it is also the run that is not compiled.
    """
    tiny = partial(tiny, "train.epochs=1")
    monkeypatch.setattr(step_module, "compiled", partial(torch.compile, backend="eager"))
    always, never_ = "machine.compile=always", "machine.compile=never"
    train_cell(tiny(never_), cell, quiet, never)
    place, said = f"results={tmp_path / 'other'}", list[str]()
    with pytest.raises(Stopped):
        train_cell(tiny(never_, place), cell, quiet, stop_at(1))
    with pytest.raises(Stopped):
        train_cell(tiny(always, place), cell, said.append, stop_at(1))
    assert any("begun with compiled False, now True" in line for line in said)
    # none of what an earlier segment compiled is there in the next
    torch.compiler.reset()
    train_cell(tiny(always, place), cell, quiet, never)
    other = tiny(place)
    assert results(other, cell) == results(tiny(), cell)
    about = json.loads(paths.run_file(paths.cell_folder(other, cell)).read_text())
    assert [segment["compiled"] for segment in about["pieces"]] == [False, True, True]
    # not a setting of the network: the run counts for any
    assert about["digest"] == training_spec(tiny(never_), cell).digest


@pytest.mark.parametrize(
    ("sets", "passes", "seconds", "wanted"),
    [
        ({"compile": "never"}, 1e12, 1e6, False),
        ({"compile": "always"}, 1, 0, True),
        ({"device": "cpu"}, 999_999, 1e6, False),
        ({"device": "cpu"}, 1_000_001, 0, True),
        ({"device": "cuda"}, 1e12, 599, False),
        ({"device": "cuda"}, 1, 601, True),
    ],
)
def test_compiled_where_it_pays(
    monkeypatch: pytest.MonkeyPatch,
    sets: dict[str, str],
    passes: float,
    seconds: float,
    wanted: bool,
) -> None:
    monkeypatch.setattr(compilation, "find_spec", lambda _: True)
    assert wants_compiling(Machine.model_validate(sets), passes, seconds) is wanted


@pytest.mark.parametrize("lacking", ["g++", "Python.h"])
def test_not_compiled_where_nothing_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "g++":
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert not wants_compiling(Machine(device="cpu"), 1e12)


@pytest.mark.slow
def test_without_a_compiler_one_line() -> None:
    none_there = {"cpp.cxx": ("/no/such/compiler",), "fx_graph_cache": False}
    # a function that nothing compiled before, or its kernels would be in the cache
    layer = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Softplus(beta=1.2345))
    refused = pytest.raises(HarnessError, match=r"machine\.compile=never")
    with torch._inductor.config.patch(none_there), refused as caught, compiling():
        compiled(layer)(torch.ones(3, 7))
    assert "\n" not in str(caught.value)


def test_several_processes_do_not_compile(tiny: Callable[..., Config], cell: Cell) -> None:
    always, auto = tiny("machine.compile=always"), tiny("machine.compile=auto")
    work = (training_spec(always, cell), 1e12, torch.device("cpu"), Group(rank=0, count=2))
    with pytest.raises(HarnessError, match=r"2 processes train .* not done compiled"):
        training_compiles(always.machine, *work)
    assert not training_compiles(auto.machine, *work)


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [("cpu", None, "float32"), ("cuda", (7, 0), "float32"), ("cuda", (8, 0), "tf32")],
)
def test_tf32_is_float32_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    capability: tuple[int, int] | None,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert effective_precision("tf32", torch.device(device)) == expected
    assert effective_precision("bf16", torch.device(device)) == "bf16"


def test_rows_that_arrive_late_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: fetched three at a time."""

    def step(value: float) -> StepResult:
        return StepResult(*(torch.tensor(value + index) for index in range(4)))

    monkeypatch.setitem(state_module._FETCHED_TOGETHER, "cpu", 3)
    trace, plain = Trace(), []
    for index in range(8):
        trace.add(1, 0.1, step(float(index)))
        plain.append([1, index, index + 1.0, index + 3.0, 0.1, index + 2.0])
        assert len(trace.rows) == (index + 1) // 3 * 3
    trace.flush()
    assert trace.rows == plain
    trace.add(2, 0.1, step(float("nan")))
    trace.add(2, 0.1, step(1.0))
    with pytest.raises(HarnessError, match=r"NaN or infinite at iteration 9 \(epoch 2\)"):
        trace.flush()


@pytest.mark.parametrize(("precision", "rounds"), [("float32", False), ("tf32", True)])
def test_products_are_rounded_for_the_step_alone(precision: str, rounds: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(ZeroDivisionError), conv_precision(precision):
        assert torch.backends.cudnn.allow_tf32 is rounds
        assert not torch.backends.cuda.matmul.allow_tf32
        _ = 1 / 0
    assert torch.backends.cudnn.allow_tf32 is before


def test_bf16_keeps_the_loss_in_float32() -> None:
    """The processor's autocast would take it in bfloat16."""
    (images, labels), model = batch(torch.float32), network(torch.float32)
    modules = step_modules(model, algorithm_of("trades", "ca").objective)
    with autocast("bf16", images.device):
        assert model(images).dtype == torch.bfloat16
        assert modules.network(images).dtype == torch.float32
        terms = modules.terms(images, images + 0.01, labels)
    assert [term.dtype for term in terms] == [torch.float32, torch.float32]
    with torch.no_grad():
        exact = modules.terms(images, images + 0.01, labels)
    torch.testing.assert_close(terms.natural, exact.natural, rtol=0.02, atol=0)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
