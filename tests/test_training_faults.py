"""Everything that can break a run: each ends in one clear line, and nothing is lost."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from small_runs import STEPS, never, quiet, stop_at, stopped

from reproduce.cell import Cell
from reproduce.compute.device import describe
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import exclusive, read_json
from reproduce.core.provenance import provenance
from reproduce.experiments import paths
from reproduce.experiments.runs import read_rows, state_file
from reproduce.experiments.spec import training_spec
from reproduce.training import loop
from reproduce.training.step import StepResult, train_step
from reproduce.training.train import train_cell


def test_a_loss_that_is_not_finite_ends_the_run(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, done = tiny(), []

    def spoilt(*args: object) -> StepResult:
        done.append(train_step(*args))
        spoilt = len(done) == STEPS + 2
        return done[-1]._replace(natural=torch.tensor(float("nan"))) if spoilt else done[-1]

    monkeypatch.setattr(loop, "train_step", spoilt)
    with pytest.raises(HarnessError) as caught:
        train_cell(config, cell, quiet, never)
    folder = paths.cell_folder(config, cell)
    state = state_file(folder, training_spec(config, cell).digest)
    assert "NaN or infinite at iteration 5 (epoch 2)" in str(caught.value)
    assert f"the last good checkpoint is {state}" in str(caught.value)
    assert not paths.run_file(folder).exists()
    saved = read_rows(state)
    assert saved is not None
    assert (saved.progress["epoch"], saved.progress["step"], saved.iterations) == (2, 0, STEPS)


def test_spoilt_weights_are_never_saved(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss whose step ruins the weights, just before a stop."""

    def ruinous(model: torch.nn.Module, *args: object) -> StepResult:
        result = train_step(model, *args)
        with torch.no_grad():
            next(model.parameters()).fill_(float("inf"))
        return result

    monkeypatch.setattr(loop, "train_step", ruinous)
    config = tiny()
    with pytest.raises(HarnessError, match=r"NaN .* at iteration 1 .*before the first checkpoint"):
        train_cell(config, cell, quiet, stop_at(1))
    assert list(paths.cell_folder(config, cell).glob("*.safetensors")) == []


def test_two_runs_of_a_cell_at_once(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    # another thread has no part in this one's lock, as another process has none
    with exclusive(paths.cell_folder(config, cell) / ".lock", "x"), ThreadPoolExecutor(1) as pool:
        error = pool.submit(train_cell, config, cell, quiet, never).exception()
    assert isinstance(error, HarnessError)
    assert "is being worked on by another process" in str(error)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_where_there_is_none(tiny: Callable[..., Config], cell: Cell) -> None:
    with pytest.raises(HarnessError, match="finds no GPU here"):
        train_cell(tiny("machine.device=cuda"), cell, quiet, never)


def _foreign_state() -> bytes:
    header = json.dumps({"__metadata__": {"progress": "[]"}}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[: len(whole) // 2], lambda _: _foreign_state()],
    ids=["truncated", "garbled"],
)
def test_a_damaged_state_is_named(
    tiny: Callable[..., Config], cell: Cell, damage: Callable[[bytes], bytes]
) -> None:
    """The line says how to start over, and what it says works."""
    config = tiny()
    state = stopped(config, cell, 1)
    state.write_bytes(damage(state.read_bytes()))
    left = state.read_bytes()
    with pytest.raises(HarnessError, match="is damaged; delete it to start this run again"):
        train_cell(config, cell, quiet, never)
    assert state.read_bytes() == left
    state.unlink()
    with pytest.raises(Stopped, match="in epoch 1"):
        train_cell(config, cell, quiet, stop_at(1))


def test_a_run_continued_otherwise_says_and_records_it(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads, smaller batches in evaluation, other software."""
    room = "reproduce.training.loop"
    ours = {**provenance(), "commit": "a" * 40}
    theirs = {"versions": {**ours["versions"], "torch": "9.9.0"}, "commit": "f" * 40}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{room}.provenance", lambda: theirs)
        patch.setattr(f"{room}.describe", lambda device: {**describe(device), "threads": 2})
        stopped(tiny("machine.eval_batch=7"), cell, 4)
    monkeypatch.setattr(f"{room}.provenance", lambda: ours)
    config, said = tiny(), list[str]()
    train_cell(config, cell, said.append, never)
    bits = "the last bits may differ"
    assert said[1:] == [
        f"{cell}: begun with threads 2, now 1: {bits}",
        f"{cell}: begun with eval_batch 7, now 500: {bits}",
        f"{cell}: begun with commit {'f' * 40}, now {'a' * 40}: {bits}",
        f"{cell}: begun with torch 9.9.0, now {ours['versions']['torch']}: {bits}",
    ]
    first, second = read_json(paths.run_file(paths.cell_folder(config, cell)))["pieces"]
    assert [segment["threads"] for segment in (first, second)] == [2, 1]
    assert [segment["eval_batch"] for segment in (first, second)] == [7, 500]
    assert (first["commit"], second["commit"]) == ("f" * 40, "a" * 40)
