"""What a GPU computes, and how it is used: `make test-gpu`, in three minutes on one card.

Without a GPU they skip; `REPRODUCE_TEST_DEVICE=cpu pytest -m gpu` tries their code on a CPU.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from small_runs import SMALL_ATTACKS, never, quiet, record_of, stop_at
from step_cases import (
    ATTACK,
    CPU,
    KINDS,
    LAM_TENSOR,
    algorithm_of,
    batch,
    network,
    our_step,
    take_steps,
)

from reproduce import doctor
from reproduce.cell import Cell
from reproduce.compute.compilation import Graphs
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.data.batches import ImageStore
from reproduce.data.sources import load_prepared
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.experiments import paths
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import training_spec
from reproduce.models.load import ModelSource, build_model
from reproduce.models.weights import load_weights
from reproduce.objectives.base import Objective
from reproduce.registry import dataset_facts
from reproduce.training.step import build_optimizer, train_step
from reproduce.training.train import train_cell
from reproduce.training.validation import measure

pytestmark = pytest.mark.gpu
NAME = os.environ.get("REPRODUCE_TEST_DEVICE", "cuda")
DEVICE = torch.device(NAME)
MACHINE = f"machine.device={NAME}"
NOISE = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))

of_each_kind = pytest.mark.parametrize("kind", KINDS, ids=["trades", "awp", "war", "at", "mart"])


@pytest.fixture(autouse=True)
def _same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU draws other numbers from the same seed."""

    def start(_: Objective, images: torch.Tensor, *__: object) -> torch.Tensor:
        noise = NOISE.repeat(1, 1, *(side // 16 + 1 for side in images.shape[2:]))
        noise = noise[:, : images.shape[1], : images.shape[2], : images.shape[3]]
        noise = noise.repeat(len(images) // 8 + 1, 1, 1, 1)[: len(images)]
        return images + ATTACK.start_sigma * noise.to(images)

    monkeypatch.setattr(Objective, "start", start)


def _moved(kind: tuple, *given: object) -> torch.Tensor:
    """Return how steps moved the weights."""
    before, (_, model) = network(torch.float64), take_steps(kind, *given)
    ends = zip(before.parameters(), model.parameters(), strict=True)
    return torch.cat([(new.detach().double().cpu() - old.detach()).flatten() for old, new in ends])


@of_each_kind
def test_a_step_is_the_float64_step(kind: tuple) -> None:
    """An attack takes signs, which amplify roundings: those of a CPU say by how much."""
    exact = _moved(kind, "", (8,))
    there = _moved(kind, "", (8,), CPU, torch.float32)
    found = _moved(kind, "", (8,), DEVICE, torch.float32)
    assert (found - exact).norm() <= 3 * (there - exact).norm() + 0.02 * exact.norm()


def _agree_with_plain_steps(kind: tuple, form: str) -> None:
    """In float64, through the smaller batch that ends an epoch."""
    plain, found = (_moved(kind, one, (8, 8, 5, 8), DEVICE) for one in ("", form))
    assert (found - plain).norm() <= 1e-6 * plain.norm()


@of_each_kind
def test_recorded_steps_are_the_steps(kind: tuple) -> None:
    _agree_with_plain_steps(kind, "graph")


@pytest.mark.parametrize("form", ["compiled", "compiled-graph"])
def test_compiled_steps_are_the_steps(form: str) -> None:
    _agree_with_plain_steps(KINDS[0], form)


def test_a_bf16_step_is_near() -> None:
    """Its loss is float32 and its update near that of float64, for as few bits."""
    kind = KINDS[3]
    model = network(torch.float32).to(DEVICE)
    algorithm = replace(algorithm_of(*kind), precision="bf16")
    images, labels = (part.to(DEVICE) for part in batch(torch.float32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    graphs = Graphs(model, {8})
    seen = [
        train_step(
            model, optimizer, algorithm, images, labels, LAM_TENSOR.to(DEVICE),
            torch.Generator(DEVICE), graphs=graphs,
        )
        for _ in range(3)
    ]  # fmt: skip
    assert all(torch.isfinite(value) for step in seen for value in step)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    exact = our_step(network(torch.float64), *kind[:2], *batch(torch.float64))[0]
    assert seen[0].robust.item() == pytest.approx(exact.robust.item(), rel=0.05)


@pytest.mark.parametrize("attack", ["pgd20", "cw20", "fab", "square", "autoattack"])
def test_an_attack_breaks_the_same_images(
    tiny: Callable[..., Config], source: ModelSource, tmp_path: Path, attack: str
) -> None:
    """PGD but for a rounding; the packages draw their numbers on the device."""
    here = record_of(tiny(*SMALL_ATTACKS, MACHINE), source, attack)
    there = record_of(tiny(*SMALL_ATTACKS, f"results={tmp_path / 'cpu'}"), source, attack)
    assert (here.clean == there.clean).all()
    assert (here.robust != there.robust).sum() <= (1 if attack in ("pgd20", "cw20") else 4)


def test_a_stopped_run_is_the_run(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    sets = (MACHINE, "train.precision=float64")
    whole, parts = tiny(*sets, f"results={tmp_path / 'whole'}"), tiny(*sets)
    train_cell(whole, cell, quiet, never)
    for iteration in (2, 5):
        with pytest.raises(Stopped):
            train_cell(parts, cell, quiet, stop_at(iteration))
    train_cell(parts, cell, quiet, never)
    models = []
    for config in (whole, parts):
        model = build_model(cell.architecture, dataset_facts("digits"), 0)
        load_weights(model, paths.model_file(paths.cell_folder(config, cell), "last"))
        models.append(torch.cat([p.flatten() for p in model.parameters()]))
    torch.testing.assert_close(models[0], models[1], rtol=1e-5, atol=1e-7)
    run = read_run(paths.cell_folder(parts, cell))
    assert run is not None
    assert len(run.segments) == 3


def test_a_run_of_a_card_is_verified_on_a_cpu(
    tiny: Callable[..., Config], cell: Cell, run_command: Callable[..., str]
) -> None:
    config = tiny(MACHINE)
    train_cell(config, cell, quiet, never)
    evaluate_cell(config, cell, "pgd20", 0, "best-test", quiet)
    # a record that an attack made again contradicts is an error
    run_command(tiny(), "verify", str(paths.root(config)), "--sample", "1")


def test_the_widest_network_fits_16_gb(paper: Callable[..., Config]) -> None:
    if NAME == "cpu" or torch.cuda.mem_get_info(DEVICE)[1] < 20e9:
        pytest.skip("needs a card of 20 GB")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    spec = training_spec(paper(), Cell("cifar10", "wrn-34-10", "trades", 6.0, 0))
    model = build_model("wrn-34-10", dataset_facts("cifar10"), 0)
    model.to(device=DEVICE, memory_format=torch.channels_last)
    optimizer, algorithm = build_optimizer(model, spec.train), algorithm_of("trades", "ca")
    images = torch.rand(128, 3, 32, 32, device=DEVICE).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(128, dtype=torch.int64, device=DEVICE)
    step = partial(train_step, graphs=Graphs(model, {128}))
    for _ in range(3):
        lam = LAM_TENSOR.to(DEVICE)
        step(model, optimizer, algorithm, images, labels, lam, torch.Generator(DEVICE))
    assert torch.cuda.max_memory_reserved(DEVICE) < 16e9


def test_recorded_validation_is_validation(
    tiny: Callable[..., Config], source: ModelSource
) -> None:
    config = tiny()
    dataset = load_prepared(paths.prepared_file(config, "digits"))
    model = source.load(dataset.facts).to(DEVICE)
    store, how = ImageStore(dataset.test, dataset.facts, DEVICE), config.train.validation
    plain, recorded = (
        measure(model, store, how, (0, "validation", 1), 100, graphs=graphs)
        for graphs in (None, Graphs(model, {100}))
    )
    assert plain["natural_accuracy"] == recorded["natural_accuracy"]
    assert plain["robust_accuracy"] == pytest.approx(recorded["robust_accuracy"], abs=0.5)


def test_doctor_finds_nothing_wrong(tiny: Callable[..., Config]) -> None:
    found = list(doctor.examine(tiny(MACHINE)))
    assert [f for f in found if f.verdict == "error"] == []
