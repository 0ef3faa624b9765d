"""Training on a compiled network, and in other precisions than float32."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import EPOCHS, STEPS, never, quiet, results, stop_at
from step_cases import LAM_TENSOR, batch, network, recipe_of

from reproduce import paths
from reproduce.cells import Cell, parse_cell
from reproduce.config import Config, Machine
from reproduce.distributed import Group
from reproduce.errors import HarnessError, Stopped
from reproduce.models import compiled, compiling, wants_compiling
from reproduce.rng import generator
from reproduce.specs import training_spec
from reproduce.training import loop, run, train_cell
from reproduce.training.precision import check_precision, forward_in, products_in
from reproduce.training.step import compiled_calls, plain_calls, train_step


@pytest.mark.parametrize(("method", "order", "gamma"), [("trades", "acc", 0.01), ("mart", "ca", 0)])
def test_a_compiled_step_leaves_the_same_weights(method: str, order: str, gamma: float) -> None:
    """In float64 no sign of a gradient turns by rounding, so all must agree to the last bits."""
    images, labels = batch(torch.float64)
    images = images.contiguous(memory_format=torch.channels_last)
    states = []
    for mode in (None, "reduce-overhead"):
        model = copy.deepcopy(network(torch.float64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        recipe = recipe_of(method, order, gamma)
        calls = None if mode is None else compiled_calls(model, recipe.objective, mode)
        for index in range(2):
            stream = generator(0, "attack", 1, index)
            train_step(model, optimizer, recipe, images, labels, LAM_TENSOR, stream, calls)
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_a_compiled_run_continues_with_the_same_bits(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its epochs end with a smaller batch, which is taken as it is."""
    taken: list[tuple[int, bool]] = []

    def seen(*args: object) -> object:
        images, calls = args[3], args[7]
        taken.append((len(images), isinstance(calls.terms, torch._dynamo.OptimizedModule)))
        return train_step(*args)

    monkeypatch.setattr(loop, "train_step", seen)
    config = tiny("machine.compile=always")
    train_cell(config, cell, quiet, never)
    assert taken == [(32, True), (32, True), (16, False)] * EPOCHS
    assert len(taken) == EPOCHS * STEPS
    other = tiny("machine.compile=always", f"results={tmp_path / 'other'}")
    with pytest.raises(Stopped):
        train_cell(other, cell, quiet, stop_at(4))
    train_cell(other, cell, quiet, never)
    assert results(other, cell) == results(config, cell)
    about = json.loads(paths.run_file(paths.cell_folder(other, cell)).read_text())
    assert [piece["compiled"] for piece in about["pieces"]] == ["default", "default"]
    # not a setting of the network: the run counts for any
    assert about["digest"] == training_spec(tiny("machine.compile=never"), cell).digest


def test_a_run_that_goes_on_uncompiled_says_so(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        train_cell(tiny("machine.compile=never"), cell, quiet, stop_at(4))
    said: list[str] = []
    # what it would compile is not the question here
    monkeypatch.setattr(
        loop, "compiled_calls", lambda model, objective, _: loop.plain_calls(model, objective)
    )
    train_cell(tiny("machine.compile=always"), cell, said.append, never)
    assert any("begun not compiled, now compiled (default)" in line for line in said)


@pytest.mark.parametrize(
    ("sets", "passes", "wanted"),
    [
        ({"compile": "never"}, 1e12, False),
        ({"compile": "always"}, 1, True),
        ({"device": "cpu"}, 999_999, False),
        ({"device": "cpu"}, 1_000_001, True),
        ({"device": "cuda:1"}, 1_000_001, False),
        ({"device": "cuda"}, 135_000_000, True),
    ],
)
def test_compiled_where_it_pays(sets: dict[str, str], passes: float, wanted: bool) -> None:
    assert wants_compiling(Machine.model_validate(sets), passes) is wanted


def test_without_a_compiler_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(torch._inductor.config, "fx_graph_cache", False)
    # a function that nothing compiled before, or its kernels would lie ready
    layer = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Softplus(beta=1.2345))
    with pytest.raises(HarnessError, match=r"machine\.compile=never") as caught, compiling():
        compiled(layer)(torch.ones(3, 7))
    assert "\n" not in str(caught.value)


def test_several_processes_do_not_compile(tiny: Callable[..., Config]) -> None:
    config = tiny("machine.compile=always")
    spec = training_spec(config, parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0"))
    facts = run.dataset_facts("digits")
    with pytest.raises(HarnessError, match=r"2 processes train .* not done compiled"):
        run._compile_mode(config.machine, spec, facts, Group(rank=0, count=2))
    auto = tiny("machine.compile=auto")
    assert run._compile_mode(auto.machine, spec, facts, Group(rank=0, count=2)) is None


def test_tf32_is_of_gpus(tiny: Callable[..., Config], cell: Cell) -> None:
    with pytest.raises(HarnessError, match="'tf32', a format of NVIDIA GPUs"):
        train_cell(tiny("train.precision=tf32"), cell, quiet, never)
    check_precision("tf32", torch.device("cuda"))


@pytest.mark.parametrize(("precision", "rounds"), [("float32", False), ("tf32", True)])
def test_products_are_rounded_for_the_step_alone(precision: str, rounds: bool) -> None:
    def now() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = now()
    with pytest.raises(ZeroDivisionError), products_in(precision):
        assert now() == (rounds, rounds)
        _ = 1 / 0
    assert now() == before


def test_bf16_keeps_the_loss_in_float32() -> None:
    """The processor's autocast would take it in bfloat16."""
    images, labels = batch(torch.float32)
    model = network(torch.float32)
    recipe = recipe_of("trades", "ca")
    with forward_in("bf16", images.device):
        assert model(images).dtype == torch.bfloat16
        calls = plain_calls(model, recipe.objective)
        assert calls.network(images).dtype == torch.float32
        terms = calls.terms(images, images + 0.01, labels)
    assert [term.dtype for term in terms] == [torch.float32, torch.float32]
    # two nearly equal predictions, whose divergence eight bits would lose
    with torch.no_grad():
        exact = calls.terms(images, images + 0.01, labels)
    torch.testing.assert_close(terms.natural, exact.natural, rtol=0.02, atol=0)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
