"""The claim that the best lambda does not fall with width."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reproduce.catalogue import METHODS, parse_architecture, width_label
from reproduce.claims.claim import Effect, Finding, Verdict
from reproduce.claims.evidence import Evidence, Group
from reproduce.claims.grids import kinds, table_groups
from reproduce.claims.words import listed
from reproduce.config import Grid
from reproduce.rng import derive

DRAWS = 10_000
_SURE = 95.0


@dataclass(frozen=True)
class _Scale:
    """One method on networks of one kind: widths in order, and lambdas that all have."""

    title: str
    widths: list[str]
    lams: list[float]
    cells: list[list[Group]]

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the standard deviation within cells."""
        return sum(max(0, cell.sample.n - 1) for row in self.cells for cell in row)

    @property
    def std(self) -> float:
        """Standard deviation of a run within its cell, of all cells together."""
        groups = [cell.sample for row in self.cells for cell in row if cell.sample.n > 1]
        return math.sqrt(math.fsum(g.std**2 * (g.n - 1) for g in groups) / self.freedom)


def best_lambda(evidence: Evidence) -> Finding:
    """Test that the best lambda does not fall with width (Table 1).

    Best is the lambda of the highest mean robust accuracy.

    Seeds differ by chance, and so may the best lambda.  `DRAWS` times every cell's mean is
    drawn anew, around the one found, with the standard deviation within cells (of all
    cells of a method together, itself drawn from what the data leave of it), and the share
    of draws is counted in which the best lambda does not fall from any width to the next.
    The claim holds if that is 95 % or more for every method, and fails if it is 5 % or
    less for one.
    """
    groups = table_groups(evidence, "table1", "robust_accuracy")
    scales = _scales(evidence, groups)
    judged = [scale for scale in scales if scale.freedom and scale.std > 0]
    effects, shares = [], {}
    for scale in judged:
        best = _draw_best(scale)
        shares[scale.title] = 100 * float((np.diff(best, axis=1) >= 0).all(axis=1).mean())
        effects.append(_share(scale, shares[scale.title]))
        effects += [_found(scale, place, best[:, place]) for place in range(len(scale.widths))]
    missing = tuple(dict.fromkeys(line for group in groups.values() for line in group.missing))
    if not shares:
        return Finding("too little data", _NEEDS, missing=missing)
    verdict: Verdict = "too little data"
    if min(shares.values()) >= _SURE:
        verdict = "holds"
    elif min(shares.values()) <= 100 - _SURE:
        verdict = "fails"
    found = [
        f"{scale.title}: λ = {listed([f'{lam:g}' for lam in _best(scale)])} on "
        f"{listed([width_label(width) for width in scale.widths])}, not falling in "
        f"{shares[scale.title]:.1f} % of draws"
        for scale in judged
    ]
    return Finding(
        verdict,
        f"Best λ by width: {'; '.join(found)}.{_at_the_edge(judged)}",
        effects=tuple(effects),
        missing=missing,
    )


_NEEDS = "Needs two widths and two lambdas with results on each, and two seeds of some."


def _scales(evidence: Evidence, groups: dict[tuple[str, float, str], Group]) -> list[_Scale]:
    """Return what can be judged: of every method and kind of network the cells that are there."""
    grid: Grid = evidence.grid("table1")
    scales = []
    for method, lams in grid.methods.items():
        for kind in kinds(grid.architectures):
            there = [name for name in kind if any(groups[method, lam, name].values for lam in lams)]
            shared = [
                lam for lam in sorted(lams) if all(groups[method, lam, n].values for n in there)
            ]
            if len(there) > 1 and len(shared) > 1:
                cells = [[groups[method, lam, name] for lam in shared] for name in there]
                title = f"{METHODS[method].title}, {parse_architecture(there[0]).title}"
                scales.append(_Scale(title, there, shared, cells))
    return scales


def _best(scale: _Scale) -> list[float]:
    """Return the lambda of the highest mean for each width."""
    means = [[cell.sample.mean for cell in row] for row in scale.cells]
    return [scale.lams[place] for place in np.argmax(means, axis=1)]


def _at_the_edge(scales: list[_Scale]) -> str:
    """Say where the best lambda is the largest of those tried."""
    lines = []
    for scale in scales:
        found = zip(scale.widths, _best(scale), strict=True)
        widths = [width_label(width) for width, lam in found if lam == max(scale.lams)]
        lines += [f"{listed(widths)} ({scale.title})"] * bool(widths)
    if not lines:
        return ""
    return f" It is the largest λ tried on {listed(lines)}: a larger one may be better still."


def _draw_best(scale: _Scale) -> NDArray[np.float64]:
    """Draw which lambda is best, shape (DRAWS, widths)."""
    stream = np.random.default_rng(derive(0, f"claims/best-lambda/{scale.title}"))
    means = np.array([[cell.sample.mean for cell in row] for row in scale.cells])
    counts = np.array([[cell.sample.n for cell in row] for row in scale.cells])
    std = scale.std * np.sqrt(scale.freedom / stream.chisquare(scale.freedom, (DRAWS, 1, 1)))
    drawn = means + std * stream.standard_normal((DRAWS, *means.shape)) / np.sqrt(counts)
    best: NDArray[np.float64] = np.array(scale.lams)[drawn.argmax(axis=2)]
    return best


def _share(scale: _Scale, share: float) -> Effect:
    fewest = min(cell.sample.n for row in scale.cells for cell in row)
    return Effect(
        f"{scale.title}: best λ does not fall with width",
        share,
        unit="% of draws",
        threshold=_SURE,
        seeds=fewest,
        detail=f"{DRAWS:,} draws, standard deviation within cells {scale.std:.2f} points; it "
        f"fails at {100 - _SURE:g} % or less",
    )


def _found(scale: _Scale, place: int, best: NDArray[np.float64]) -> Effect:
    counts = Counter(best.tolist())
    often = ", ".join(f"{lam:g} in {100 * n / DRAWS:.0f} %" for lam, n in counts.most_common(3))
    return Effect(
        f"{scale.title}, {width_label(scale.widths[place])}: best λ",
        _best(scale)[place],
        unit="λ",
        threshold=None,
        seeds=min(cell.sample.n for cell in scale.cells[place]),
        detail=f"best in draws: {often}",
    )
