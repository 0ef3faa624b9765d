"""Steps and validation that are recorded, through the code that a GPU takes.

A CPU has no graphs; there a recorded function is called again on the same memory.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import never, quiet, results, stop_at
from step_cases import KINDS, LAM_TENSOR, algorithm_of, batch, network

from reproduce.cell import parse_cell
from reproduce.compute.compilation import Graphs, wants_graphs
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.core.rng import generator
from reproduce.experiments import paths
from reproduce.training import train as run
from reproduce.training.step import train_step
from reproduce.training.train import train_cell


def _state_after(graphs_of: Callable[[torch.nn.Module], Graphs | None], *kind: object) -> list:
    """Take steps on batches of 8, 8, 5 (the end of an epoch) and 8 images."""
    model = copy.deepcopy(network(torch.float64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    algorithm, graphs, lam, seen = algorithm_of(*kind), graphs_of(model), LAM_TENSOR, []
    for index, size in enumerate((8, 8, 5, 8)):
        images, labels = (part[:size] for part in batch(torch.float64, seed=index))
        stream = generator(0, "attack", 1, index)
        result = train_step(model, optimizer, algorithm, images, labels, lam, stream, graphs=graphs)
        lam = result.lam
        seen.append(result)
    return [*(v for step in seen for v in step), *model.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_recorded_steps_are_the_steps(kind: tuple) -> None:
    plain = _state_after(lambda _: None, *kind)
    recorded = _state_after(lambda model: Graphs(model, {8}), *kind)
    for expected, found in zip(plain, recorded, strict=True):
        assert torch.equal(expected, found)


def test_recording_leaves_the_network_as_it_was() -> None:
    model = network(torch.float64).train()
    before = copy.deepcopy(model.state_dict())
    images, labels = batch(torch.float64)

    def moves_statistics(images: torch.Tensor) -> tuple[torch.Tensor]:
        return (model(images),)

    graphs = Graphs(model, {8})
    with torch.no_grad():
        graphs("y", moves_statistics, images)
    moved = model.state_dict()["bn1.num_batches_tracked"] - before["bn1.num_batches_tracked"]
    assert moved == 1
    assert len(labels) == 8


def test_results_are_overwritten_by_the_next_call() -> None:
    """As on a GPU: who keeps a result without a copy is found out here."""
    graphs = Graphs(torch.nn.Identity(), {2})
    (first,) = graphs("double", lambda x: (2 * x,), torch.ones(2))
    (second,) = graphs("double", lambda x: (2 * x,), torch.zeros(2))
    assert first is second
    assert first.tolist() == [0, 0]
    (other,) = graphs("double", lambda x: (2 * x,), torch.ones(3))
    assert other.tolist() == [2, 2, 2]


@pytest.mark.parametrize("method", ["trades", "awp-trades"])
def test_a_recorded_run_is_the_run(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Whole, and stopped in an epoch; with validation, and AWP from the second epoch on."""
    cell = parse_cell(f"digits/wrn-10-0.25/{method}/lam-2/seed-0")
    sets = ("awp.first_epoch=2", "machine.eval_batch=16")
    plain = tiny(*sets)
    train_cell(plain, cell, quiet, never)
    monkeypatch.setattr(run, "wants_graphs", lambda *_: True)
    recorded = tiny(*sets, f"results={tmp_path / 'recorded'}")
    with pytest.raises(Stopped):
        train_cell(recorded, cell, quiet, stop_at(5))
    train_cell(recorded, cell, quiet, never)
    assert results(recorded, cell) == results(plain, cell)
    about = json.loads(paths.run_file(paths.cell_folder(recorded, cell)).read_text())
    assert [piece["graphs"] for piece in about["pieces"]] == [True, True]


@pytest.mark.parametrize(
    ("graphs", "device", "processes", "wanted"),
    [
        ("auto", "cuda", 1, True),
        ("auto", "cpu", 1, False),
        ("never", "cuda", 1, False),
        ("auto", "cuda", 2, False),
    ],
)
def test_recorded_where_it_can_be(
    tiny: Callable[..., Config], graphs: str, device: str, processes: int, wanted: bool
) -> None:
    machine = tiny(f"machine.graphs={graphs}").machine
    assert wants_graphs(machine, torch.device(device), processes) is wanted
