"""Claims on what width does at equal lambda."""

from collections.abc import Iterable

from reproduce.catalogue import width_label
from reproduce.claims.claim import Finding
from reproduce.claims.compare import judge
from reproduce.claims.comparison import Comparison
from reproduce.claims.evidence import Evidence
from reproduce.claims.grids import kind, neighbours, row, table_groups
from reproduce.claims.words import finding
from reproduce.config import Grid


def wider_natural(evidence: Evidence) -> Finding:
    """Test that at equal lambda a wider network has higher natural accuracy (Table 1)."""
    return _wider_accuracy(evidence, "table1", "natural_accuracy", "natural accuracy")


def imagenet_natural(evidence: Evidence) -> Finding:
    """Test the same of Fast-AT on ImageNet, of top-5 accuracy (Table 5)."""
    return _wider_accuracy(evidence, "table5", "top5_natural_accuracy", "top-5 natural accuracy")


def wider_stability(evidence: Evidence, table: str = "table1") -> Finding:
    """Test that at equal lambda a wider network has lower stability (Table 1 or 5)."""
    pairs = _pairs(evidence, table)
    comparisons = _first_and_second(evidence, table, "perturbation_stability", pairs)
    judgement = judge(comparisons, "perturbation stability, thinner − wider")
    return finding(
        judgement,
        "perturbation stability is",
        above="lower on the wider network",
        below="higher on the wider network",
    )


def imagenet_stability(evidence: Evidence) -> Finding:
    """Test the same of Fast-AT on ImageNet (Table 5)."""
    return wider_stability(evidence, "table5")


def _wider_accuracy(evidence: Evidence, table: str, metric: str, name: str) -> Finding:
    pairs = ((method, lam, wide, thin) for method, lam, thin, wide in _pairs(evidence, table))
    comparisons = _first_and_second(evidence, table, metric, pairs)
    judgement = judge(comparisons, f"{name}, wider − thinner")
    return finding(
        judgement,
        f"{name} is",
        above="higher on the wider network",
        below="lower on the wider network",
    )


def _pairs(evidence: Evidence, table: str) -> list[tuple[str, float, str, str]]:
    """Return every row of a table with every two networks of neighbouring widths."""
    grid: Grid = evidence.grid(table)
    return [
        (method, lam, thin, wide)
        for method, lams in grid.methods.items()
        for lam in sorted(lams)
        for thin, wide in neighbours(grid.architectures)
    ]


def _first_and_second(
    evidence: Evidence, table: str, metric: str, pairs: Iterable[tuple[str, float, str, str]]
) -> list[Comparison]:
    """Compare a metric of two networks, for every method, lambda, first and second network."""
    groups = table_groups(evidence, table, metric)
    networks = evidence.grid(table).architectures
    return [
        Comparison(
            row(method, lam) + kind(first, networks),
            (width_label(first), width_label(second)),
            groups[method, lam, first],
            groups[method, lam, second],
        )
        for method, lam, first, second in pairs
    ]
