"""How figures name networks and runs."""

from collections.abc import Iterable

from reproduce.catalogue import METHODS, dataset_facts, parse_architecture
from reproduce.config import Curves


def models(architectures: Iterable[str]) -> str:
    """Name networks without their widths."""
    return ", ".join(dict.fromkeys(parse_architecture(name).title for name in architectures))


def runs_of(grid: Curves) -> str:
    """Say which runs a figure shows: networks, data set, method, number of seeds."""
    lams = ", ".join(f"{lam:g}" for lam in grid.lambdas)
    seeds = f"{len(grid.seeds)} seed{'s' if len(grid.seeds) > 1 else ''}"
    data, method = dataset_facts(grid.dataset).title, METHODS[grid.method].title
    return f"{models(grid.architectures)} on {data}, {method}, λ = {lams}, {seeds}"
