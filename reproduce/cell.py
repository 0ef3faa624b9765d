"""A cell: one training run, named by what it is."""

import re
from dataclasses import dataclass

from reproduce.core.errors import HarnessError
from reproduce.registry import dataset_facts, find_method, parse_architecture

EXAMPLE = "cifar10/wrn-34-5/trades/lam-12/seed-0"

_ID = re.compile(r"([^/]+)/([^/]+)/([^/]+)/lam-(\d{1,6}(?:\.\d{1,4})?)/seed-(\d{1,6})")


@dataclass(frozen=True, order=True)
class Cell:
    """One training run.

    `lam` is the robust regularisation parameter lambda, or where it starts if the method adapts it;
    `seed` is that of initialisation, order of the images, augmentation and attack noise.
    """

    dataset: str
    architecture: str
    method: str
    lam: float
    seed: int

    @property
    def id(self) -> str:
        """The name of the run and its path under ``results/<preset>/cells``."""
        run = f"lam-{self.lam:.10g}/seed-{self.seed}"
        return f"{self.dataset}/{self.architecture}/{self.method}/{run}"

    def __str__(self) -> str:
        return self.id


def check_cell(cell: Cell) -> None:
    """Refuse a network that is not made for such images, or a lambda that a method has not."""
    dataset_facts(cell.dataset).check_architecture(parse_architecture(cell.architecture))
    only = find_method(cell.method).only_lambda
    if only is not None and cell.lam != only:
        raise HarnessError(f"{cell.method} has no second term to weigh; its lambda is {only:g}")


def parse_cell(cell_id: str) -> Cell:
    """Read a cell id such as ``cifar10/wrn-34-5/trades/lam-12/seed-0``."""
    match = _ID.fullmatch(cell_id)
    if match is None:
        raise HarnessError(
            f"unknown cell id {cell_id!r}; expected DATASET/ARCHITECTURE/METHOD/"
            f"lam-LAMBDA/seed-SEED, for example {EXAMPLE} "
            "(`reproduce status` lists the planned ones)"
        )
    dataset, architecture, method, lam, seed = match.groups()
    cell = Cell(dataset, architecture, method, float(lam), int(seed))
    check_cell(cell)
    if cell.id != cell_id:
        raise HarnessError(f"unknown cell id {cell_id!r}; that cell is spelt {cell.id!r}")
    return cell
