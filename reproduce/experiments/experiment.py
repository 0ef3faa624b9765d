"""What a table or a figure needs: training runs, and attacks on their checkpoints."""

from collections.abc import Iterable
from dataclasses import dataclass

from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config
from reproduce.specs import thin_cell


@dataclass(frozen=True)
class Evaluation:
    """One attack on one checkpoint."""

    cell: Cell
    checkpoint: Checkpoint
    attack: str
    seed: int


@dataclass(frozen=True)
class PublishedEvaluation:
    """One attack on a published checkpoint of RobustBench's zoo."""

    name: str
    dataset: str
    attack: str
    seed: int


@dataclass(frozen=True)
class Experiment:
    """A table or figure: what it is called, which metrics it shows, what it is made from.

    Attributes
    ----------
    name, title : str
        The name of its target, and its heading.
    metrics : tuple of str
        The metrics of a table.
    evaluations : tuple of Evaluation
        The attacked checkpoints.
    cells : tuple of Cell
        Every training run behind it, those first that others are made from.
    published : tuple of PublishedEvaluation
        The attacked checkpoints that come from elsewhere.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    cells: tuple[Cell, ...]
    published: tuple[PublishedEvaluation, ...] = ()


def training_runs(config: Config, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells and the runs they need trained first, each once, those first."""
    found: dict[Cell, None] = {}
    for cell in cells:
        thin = thin_cell(config, cell)
        found |= {run: None for run in (thin, cell) if run is not None}
    return tuple(found)
