"""Claims on width adjusted regularisation (Table 3)."""

import math
from collections.abc import Sequence
from itertools import pairwise

from scipy import stats

from reproduce.analysis.results import collect
from reproduce.analysis.statistics import Estimate, contrast, holm
from reproduce.analysis.tuning import Strategy, compare_strategies
from reproduce.catalogue import width_label
from reproduce.cells import Cell
from reproduce.claims.claim import Effect, Finding, Verdict
from reproduce.claims.compare import judge
from reproduce.claims.comparison import SIGNIFICANCE, Comparison
from reproduce.claims.evidence import Evidence, Group
from reproduce.claims.grids import kind
from reproduce.claims.words import finding, so_far
from reproduce.config import TuningTable
from reproduce.experiments import find_experiment, searched_cells, war_cells

# robust accuracy that WAR may lose and still not be called worse, in points
MARGIN = 0.5


def war_lambda(evidence: Evidence) -> Finding:
    """Test that WAR's lambda lies within one step of the best of the search by hand.

    A test of equivalence, width by width: the interval of WAR's lambda must lie within one
    step of the search's grid around the best lambda, for every width; the claim fails if
    for one it lies outside significantly (Holm, 5 % for all widths together).
    """
    grid, strategies = _strategies(evidence)
    effects, verdicts, p_values = [], [], []
    for manual, war in strategies:
        if not manual.robust.n or not war.lam.n:
            continue
        best = manual.lam.mean
        step = _step(grid.lambdas, best)
        found = contrast([war.lam], [1])
        effects.append(
            Effect(
                f"{_network(war.architecture, grid)}: λ of WAR − best λ of the search",
                found.value - best,
                found.low - best,
                found.high - best,
                "λ",
                step,
                war.lam.n,
                detail=f"best of the search {best:g}, WAR {found.value:.2f}; must lie within "
                f"± {step:g}, a step of the search",
            )
        )
        verdicts.append(-step < found.low - best and found.high - best < step)
        p_values.append(_p_outside(found, best, step))
    missing = _missing(evidence)
    if len(grid.lambdas) < 2:
        return Finding("too little data", "The search by hand has a single λ: no step to be near.")
    if not effects:
        return Finding("too little data", "WAR or the search has no results yet.", missing=missing)
    known = [p for p in p_values if not math.isnan(p)]
    verdict: Verdict = "too little data"
    if any(holm(known, SIGNIFICANCE)):
        verdict = "fails"
    elif all(verdicts) and len(verdicts) == len(strategies):
        verdict = "holds"
    return Finding(verdict, _lambdas(effects, len(strategies)), "seeds", tuple(effects), missing)


def war_robustness(evidence: Evidence) -> Finding:
    """Test that WAR's robust accuracy is not below that of the search by hand.

    A test of non-inferiority with a margin of `MARGIN` points.  The lambda of the search is
    the best of several by the accuracy that is compared, which favours the search.
    """
    grid, strategies = _strategies(evidence)
    comparisons = []
    for manual, war in strategies:
        searched = (
            searched_cells(grid, war.architecture, manual.lam.mean) if manual.robust.n else []
        )
        comparisons.append(
            Comparison(
                f"{_network(war.architecture, grid)}, robust accuracy",
                ("WAR", "search by hand"),
                _robust(evidence, war_cells(grid, war.architecture)),
                _robust(evidence, searched),
                threshold=-MARGIN,
                detail=f"must lie above −{MARGIN} points",
            )
        )
    judgement = judge(comparisons, "robust accuracy, WAR − search")
    return finding(
        judgement,
        "WAR's robust accuracy is",
        above="above that of the search by hand",
        below="below that of the search by hand",
        note=f"Up to {MARGIN} points below count as not below.",
    )


def _strategies(evidence: Evidence) -> tuple[TuningTable, list[tuple[Strategy, Strategy]]]:
    """Return Table 3's search by hand and WAR, for every network."""
    grid: TuningTable = evidence.grid("table3")
    results = collect(evidence.config, find_experiment(evidence.config, "table3"))
    found = compare_strategies(evidence.config, grid, results)
    named = {(strategy.architecture, strategy.name): strategy for strategy in found}
    return grid, [(named[a, "manual"], named[a, "war"]) for a in grid.architectures]


def _network(name: str, grid: TuningTable) -> str:
    return width_label(name) + kind(name, grid.architectures)


def _robust(evidence: Evidence, cells: Sequence[Cell]) -> Group:
    items = [
        item
        for item in find_experiment(evidence.config, "table3").evaluations
        if item.cell in cells
    ]
    name = f"{cells[0].architecture}/{cells[0].method}" if cells else "nothing"
    return evidence.group(name, items, "robust_accuracy")


def _missing(evidence: Evidence) -> tuple[str, ...]:
    items = find_experiment(evidence.config, "table3").evaluations
    return evidence.group("table3", items, "robust_accuracy").missing


def _step(lams: Sequence[float], best: float) -> float:
    """Return the step of a grid beside one of its values, the larger of two."""
    gaps = [more - less for less, more in pairwise(sorted(lams)) if best in (less, more)]
    return max(gaps, default=0.0)


def _p_outside(found: Estimate, best: float, step: float) -> float:
    """Return the p of a one-sided test: small if a number lies farther than a step from `best`."""
    beyond = (abs(found.value - best) - step) / found.error
    return float(stats.t.sf(beyond, found.freedom))


def _lambdas(effects: Sequence[Effect], planned: int) -> str:
    lines = []
    for effect in effects:
        interval = f"95 % interval {effect.low:+.2f} to {effect.high:+.2f}"
        if math.isnan(effect.low):
            interval = "no interval: needs two training seeds that differ"
        name = effect.what.partition(":")[0]
        lines.append(f"{effect.value:+.2f} for {name} ({interval}; allowed ± {effect.threshold:g})")
    differences = "; ".join(lines).replace("-", "−")
    text = f"λ of WAR minus the best of the search by hand: {differences}."
    return so_far(len(effects), planned, "network") + text
