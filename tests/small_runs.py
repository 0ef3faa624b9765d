"""Small runs that tests train, stop and compare."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.evaluation.evaluate import evaluate_model
from reproduce.evaluation.records import Record
from reproduce.experiments import paths
from reproduce.experiments.runs import state_file
from reproduce.experiments.spec import training_spec
from reproduce.models.load import ModelSource
from reproduce.training.train import train_cell

# budgets with which every attack takes a second, on the network of conftest.py
SMALL_ATTACKS = [
    "eval.epsilon=0.1",
    "eval.shard=16",
    "eval.attacks.pgd20={steps: 5, step_size: 0.04}",
    "eval.attacks.cw20={steps: 5, step_size: 0.04}",
    "eval.attacks.fab={steps: 5, restarts: 2}",
    "eval.attacks.square={queries: 20}",
    "eval.attacks.autoattack={steps: 5, targets: 3, queries: 20}",
]
EPOCHS, STEPS = 3, 3  # 80 images of the tiny configuration, 32 a batch


def quiet(_: str) -> None:
    """Say nothing."""


def never() -> None:
    """Give no reason to stop."""


def results(config: Config, cell: Cell) -> dict[str, bytes]:
    """Return every result of a run but run.json, which holds times."""
    folder = paths.cell_folder(config, cell)
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("run.json", ".lock")
    }


def stop_at(asked: int) -> Callable[[], str | None]:
    """Ask to stop once asked more often: before every step, and in validation after a batch."""
    times: list[None] = []

    def stop() -> str | None:
        times.append(None)
        return "stopped by the test" if len(times) > asked else None

    return stop


def stopped(config: Config, cell: Cell, steps: int) -> Path:
    """Train for so many steps and return the saved state."""
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(steps))
    return state_file(paths.cell_folder(config, cell), training_spec(config, cell).digest)


def record_of(config: Config, source: ModelSource, attack: str, seed: int = 0) -> Record:
    """Attack a network that is no cell's."""
    return evaluate_model(config, source, attack, seed, quiet)
