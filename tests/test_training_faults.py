"""Everything that can break a run: each ends in one clear line, and nothing is lost."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import STEPS, never, quiet, results, stop_at, stopped

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import exclusive
from reproduce.data.sources import load_prepared
from reproduce.experiments import paths
from reproduce.experiments.runs import previous_file, read_progress, state_file
from reproduce.experiments.spec import training_spec
from reproduce.training import loop
from reproduce.training.step import StepResult, train_step
from reproduce.training.train import train_cell


def _spoil(monkeypatch: pytest.MonkeyPatch, iteration: int, value: float) -> None:
    """Make the natural risk of one iteration NaN or infinite."""
    done: list[None] = []

    def spoilt(*args: object) -> StepResult:
        result = train_step(*args)
        done.append(None)
        if len(done) == iteration:
            return result._replace(natural=torch.tensor(value))
        return result

    monkeypatch.setattr(loop, "train_step", spoilt)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    config = tiny()
    _spoil(monkeypatch, 5, value)
    with pytest.raises(HarnessError) as caught:
        train_cell(config, cell, quiet, never)
    folder = paths.cell_folder(config, cell)
    state = state_file(folder, training_spec(config, cell).digest)
    message = str(caught.value)
    assert "NaN or infinite at iteration 5 (epoch 2)" in message
    assert f"the last good checkpoint is {state}" in message
    assert not paths.run_file(folder).exists()
    monkeypatch.undo()
    said: list[str] = []
    train_cell(config, cell, said.append, never)
    assert "continuing in epoch 2 after step 0" in said[0]


def test_a_learning_rate_that_explodes(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny("train.learning_rate=1e30")
    with pytest.raises(HarnessError, match=r"NaN or infinite.*before the first checkpoint"):
        train_cell(config, cell, quiet, never)
    assert list(paths.cell_folder(config, cell).glob("*.safetensors")) == []


def test_spoilt_weights_arenever_saved(
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
    with pytest.raises(HarnessError, match="NaN or infinite at iteration 1"):
        train_cell(config, cell, quiet, stop_at(1))
    assert list(paths.cell_folder(config, cell).glob("*.safetensors")) == []


def test_two_runs_of_a_cell_at_once(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    with (
        exclusive(paths.cell_folder(config, cell) / ".lock", "the test"),
        pytest.raises(HarnessError, match="is being worked on by another process"),
    ):
        # another thread has no part in this one's lock, as another process has none
        _in_thread(lambda: train_cell(config, cell, quiet, never))


def _in_thread(call: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except HarnessError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_no_data(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="run `reproduce prepare digits` first"):
        train_cell(tiny(f"data.folder={tmp_path / 'none'}"), cell, quiet, never)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_where_there_is_none(tiny: Callable[..., Config], cell: Cell) -> None:
    with pytest.raises(HarnessError, match="finds no GPU here"):
        train_cell(tiny("machine.device=cuda"), cell, quiet, never)


def test_a_damaged_state_is_named(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(6))
    state = state_file(paths.cell_folder(config, cell), training_spec(config, cell).digest)
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    header = {"__metadata__": {"progress": "[]"}}
    foreign = json.dumps(header).encode()
    damaged = [
        whole[: len(whole) // 2],
        whole[:20],
        b"not a state",
        bytes(flipped),
        len(foreign).to_bytes(8, "little") + foreign,
    ]
    for part in damaged:
        state.write_bytes(part)
        # the one before it is no better
        previous_file(state).write_bytes(part)
        with pytest.raises(HarnessError, match="is damaged; delete it"):
            train_cell(config, cell, quiet, never)
        assert state.read_bytes() == part
        previous_file(state).unlink()
        with pytest.raises(HarnessError, match="is damaged; delete it"):
            train_cell(config, cell, quiet, never)


def test_after_a_damaged_state_comes_the_one_before(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path
) -> None:
    config, other = tiny(), tiny(f"results={tmp_path / 'other'}")
    train_cell(other, cell, quiet, never)
    state = stopped(config, cell, 2 * STEPS + 1)
    previous = previous_file(state)
    assert read_progress(previous) != read_progress(state)
    good = previous.read_bytes()
    state.write_bytes(state.read_bytes()[:-1])
    said: list[str] = []
    with pytest.raises(Stopped):
        train_cell(config, cell, said.append, stop_at(1))
    assert f"{state} is damaged: continuing from {previous.name}" in said[0]
    # the damaged one did not take the place of the one that was good
    assert previous.read_bytes() == good
    train_cell(config, cell, quiet, never)
    assert results(config, cell) == results(other, cell)


def test_a_state_of_other_images_is_refused(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(6))
    with monkeypatch.context() as patch:
        original = load_prepared

        def other(path: Path) -> object:
            dataset = original(path)
            object.__setattr__(dataset, "sha256", "f" * 64)
            return dataset

        patch.setattr("reproduce.training.train.load_prepared", other)
        with pytest.raises(HarnessError, match="was made with other images"):
            train_cell(config, cell, quiet, never)


def test_a_state_from_another_kind_of_device_is_said(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    with monkeypatch.context() as patch:
        about = {"device": "cuda", "name": "a GPU"}
        patch.setattr("reproduce.training.train.describe", lambda _: about)
        with pytest.raises(Stopped):
            train_cell(config, cell, quiet, stop_at(6))
    said: list[str] = []
    train_cell(config, cell, said.append, never)
    assert "begun on cuda; cpu draws other random numbers" in said[1]
