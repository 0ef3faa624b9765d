"""Claims on what a larger lambda does at equal width."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from reproduce.catalogue import METHODS, width_label
from reproduce.claims.claim import Finding
from reproduce.claims.compare import judge
from reproduce.claims.comparison import Comparison
from reproduce.claims.evidence import Evidence, Group
from reproduce.claims.grids import kind, kinds, larger_lambda, table_groups
from reproduce.claims.words import finding
from reproduce.config import AttackTable, Grid
from reproduce.experiments import Evaluation, find_experiment


def lambda_stability(evidence: Evidence) -> Finding:
    """Test that at equal width a larger lambda gives higher stability (Table 1)."""
    networks = evidence.grid("table1").architectures
    comparisons = _larger_and_smaller(
        evidence,
        "table1",
        "perturbation_stability",
        lambda lams: pairwise(sorted(lams)),
        lambda network: f"{kind(network, networks)}, {width_label(network)}",
    )
    judgement = judge(comparisons, "perturbation stability, larger − smaller λ")
    return finding(
        judgement,
        "perturbation stability is",
        above="higher at the larger λ",
        below="lower at the larger λ",
    )


def awp_lambda(evidence: Evidence) -> Finding:
    """Test that weight perturbation gains robust accuracy from a larger lambda (Table 6)."""
    comparisons = _larger_and_smaller(
        evidence, "table6", "robust_accuracy", larger_lambda, lambda network: f", {network}"
    )
    return _robust(comparisons)


def _larger_and_smaller(
    evidence: Evidence,
    table: str,
    metric: str,
    pairs: Callable[[Sequence[float]], Iterable[tuple[float, float]]],
    name: Callable[[str], str],
) -> list[Comparison]:
    """Compare a metric at a larger and a smaller lambda, for every method and network."""
    grid: Grid = evidence.grid(table)
    groups = table_groups(evidence, table, metric)
    return [
        Comparison(
            f"{METHODS[method].title}{name(network)}",
            (f"λ={more:g}", f"λ={less:g}"),
            groups[method, more, network],
            groups[method, less, network],
        )
        for method, lams in grid.methods.items()
        for network in grid.architectures
        for less, more in pairs(lams)
    ]


def lambda_transfers(evidence: Evidence) -> Finding:
    """Test that every kind's widest network gains from a larger lambda (Table 2).

    An image counts as robust if it survives every random start of an attack.
    """
    grid: AttackTable = evidence.grid("table2")
    comparisons = [
        Comparison(
            f"{dataset} {family[-1]}, {attack}",
            (f"λ={more:g}", f"λ={less:g}"),
            _survivors(evidence, dataset, family[-1], more, attack),
            _survivors(evidence, dataset, family[-1], less, attack),
        )
        for dataset, architectures in grid.architectures.items()
        for family in kinds(architectures)
        for attack in grid.attacks
        for less, more in larger_lambda(grid.lambdas)
    ]
    return _robust(comparisons)


def _robust(comparisons: list[Comparison]) -> Finding:
    judgement = judge(comparisons, "robust accuracy, larger − smallest λ")
    held = {pair.sides for pair in comparisons}
    where = "at " + " than at ".join(held.pop()) if len(held) == 1 else "at the larger λ"
    return finding(judgement, "robust accuracy is", above=f"higher {where}", below=f"lower {where}")


def _survivors(
    evidence: Evidence, dataset: str, architecture: str, lam: float, attack: str
) -> Group:
    """Return the robust accuracy of a network of Table 2 over all random starts of an attack."""

    def belongs(item: Evaluation) -> bool:
        cell = item.cell
        named = (cell.dataset, cell.architecture, cell.lam, item.attack)
        return named == (dataset, architecture, lam, attack)

    items = [i for i in find_experiment(evidence.config, "table2").evaluations if belongs(i)]
    return evidence.survivors(f"{dataset} {architecture} {attack} {lam:g}", items)
