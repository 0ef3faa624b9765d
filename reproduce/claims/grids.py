"""The grids of tables as claims see them: neighbours in width, rows of lambda."""

from collections.abc import Iterable
from itertools import pairwise

from reproduce.catalogue import METHODS, parse_architecture
from reproduce.claims.evidence import Evidence, Group
from reproduce.experiments import Evaluation, find_experiment

# the lambda that the paper holds against the smallest, 6
_LARGER = 12.0


def table_groups(
    evidence: Evidence, table: str, metric: str
) -> dict[tuple[str, float, str], Group]:
    """Return one metric of every cell of a table, by method, lambda and network."""
    seeds: dict[tuple[str, float, str], list[Evaluation]] = {}
    for item in find_experiment(evidence.config, table).evaluations:
        key = (item.cell.method, item.cell.lam, item.cell.architecture)
        seeds.setdefault(key, []).append(item)
    return {
        (method, lam, network): evidence.group(row(method, lam) + network, items, metric)
        for (method, lam, network), items in seeds.items()
    }


def row(method: str, lam: float) -> str:
    """Name a row of a table."""
    return f"{METHODS[method].title}, λ={lam:g}"


def neighbours(architectures: Iterable[str]) -> list[tuple[str, str]]:
    """Return networks of one kind and of neighbouring widths, the thinner first."""
    return [pair for kind in kinds(architectures) for pair in pairwise(kind)]


def ends(architectures: Iterable[str]) -> list[tuple[str, str]]:
    """Return the thinnest and the widest network of every kind that has several."""
    return [(kind[0], kind[-1]) for kind in kinds(architectures) if len(kind) > 1]


def kinds(architectures: Iterable[str]) -> list[list[str]]:
    """Group networks that differ in nothing but their width, in its order."""
    found: dict[str, list[str]] = {}
    for name in sorted(architectures, key=lambda name: parse_architecture(name).width):
        found.setdefault(parse_architecture(name).model, []).append(name)
    return list(found.values())


def kind(name: str, among: Iterable[str]) -> str:
    """Return what to add to a network's width where there are several kinds, to tell them apart."""
    return f", {parse_architecture(name).title}" if len(kinds(among)) > 1 else ""


def larger_lambda(lams: Iterable[float]) -> list[tuple[float, float]]:
    """Return the smallest lambda and the larger one that it is held against; none of one.

    The larger is the paper's 12 where there is one, else the next above the smallest.  To
    take whichever is best would be to choose by the numbers that are judged.
    """
    first, *others = sorted(lams)
    if not others:
        return []
    return [(first, _LARGER if _LARGER in others else others[0])]
