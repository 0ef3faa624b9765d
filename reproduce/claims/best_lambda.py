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
from reproduce.claims.words import counted, listed, so_far
from reproduce.config import Grid
from reproduce.rng import derive

DRAWS = 10_000
_SURE = 95.0
_SHARE = "% of draws"


@dataclass(frozen=True)
class _Scale:
    """One method on networks of one kind: widths and lambdas in order, and their cells."""

    title: str
    widths: list[str]
    lams: list[float]
    cells: list[list[Group]]

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the standard deviation within cells."""
        return sum(max(0, cell.sample.n - 1) for row in self.cells for cell in row)

    @property
    def complete(self) -> bool:
        """Whether every cell has two seeds, and a seed plays any part."""
        return self._ready == len(self.widths) * len(self.lams) and self.std > 0

    @property
    def _ready(self) -> int:
        return sum(cell.sample.n > 1 for row in self.cells for cell in row)

    @property
    def waiting(self) -> str:
        """What it waits for, in words."""
        cells = counted(len(self.widths) * len(self.lams), "cell")
        return f"{self.title} has two seeds that differ in {self._ready} of {cells}."

    @property
    def std(self) -> float:
        """Standard deviation of a run within its cell, of all cells together."""
        groups = [cell.sample for row in self.cells for cell in row if cell.sample.n > 1]
        return math.sqrt(math.fsum(g.std**2 * (g.n - 1) for g in groups) / self.freedom)


def best_lambda(evidence: Evidence) -> Finding:
    """Test that the best lambda does not fall with width (Table 1).

    Best is the lambda of the highest mean robust accuracy.  A scale, one method on
    networks of one kind, is judged when all its cells have two seeds: the best of some of
    the lambdas may be another.

    Seeds differ by chance, and so may the best lambda.  `DRAWS` times every cell's mean is
    drawn anew, around the one found, with the standard deviation within cells (of all
    cells of a method together, itself drawn from what the data leave of it), and it is
    counted in which draws the best lambda falls from no width to the next.  The claim holds
    if that is 95 % or more for every method, and fails if it is 5 % or less for one.  It
    cannot hold where the thinner of two networks is best at the largest lambda tried: its
    best may lie beyond, and the order is not known.
    """
    groups = table_groups(evidence, "table1", "robust_accuracy")
    scales = _scales(evidence, groups)
    judged = [scale for scale in scales if scale.complete]
    effects, verdicts = [], []
    for scale in judged:
        best = _draw_best(scale)
        effects.append(_share(scale, best))
        verdicts.append(_verdict(scale, effects[-1].value))
        effects += [_found(scale, place, best[:, place]) for place in range(len(scale.widths))]
    missing = tuple(dict.fromkeys(line for group in groups.values() for line in group.missing))
    if not scales:
        return Finding("too little data", _NOTHING, missing=missing)
    waiting = "".join(f" {scale.waiting}" for scale in scales if not scale.complete)
    if not judged:
        return Finding("too little data", f"No verdict yet:{waiting}", missing=missing)
    verdict: Verdict = "too little data"
    if "fails" in verdicts:
        verdict = "fails"
    elif set(verdicts) == {"holds"} and not waiting:
        verdict = "holds"
    return Finding(
        verdict,
        _in_words(judged, effects, so_far(len(judged), len(scales), "method")) + waiting,
        effects=tuple(effects),
        missing=missing,
    )


_NOTHING = "Nothing to compare: no method of the configuration has two widths and two lambdas."


def _scales(evidence: Evidence, groups: dict[tuple[str, float, str], Group]) -> list[_Scale]:
    """Return every method and kind of network that has several lambdas and several widths."""
    grid: Grid = evidence.grid("table1")
    return [
        _Scale(
            f"{METHODS[method].title}, {parse_architecture(kind[0]).title}",
            kind,
            sorted(lams),
            [[groups[method, lam, name] for lam in sorted(lams)] for name in kind],
        )
        for method, lams in grid.methods.items()
        for kind in kinds(grid.architectures)
        if len(kind) > 1 and len(lams) > 1
    ]


def _verdict(scale: _Scale, share: float) -> Verdict:
    if share <= 100 - _SURE:
        return "fails"
    return "holds" if share >= _SURE and not _censored(scale) else "too little data"


def _censored(scale: _Scale) -> bool:
    """Whether a network that has a wider one beside it is best at the largest lambda."""
    return max(scale.lams) in _best(scale)[:-1]


def _in_words(scales: list[_Scale], effects: list[Effect], beginning: str) -> str:
    shares = [effect.value for effect in effects if effect.unit == _SHARE]
    found = [
        f"{scale.title}: λ = {listed([f'{lam:g}' for lam in _best(scale)])} on "
        f"{listed([width_label(width) for width in scale.widths])}, not falling in "
        f"{share:.1f} % of draws"
        for scale, share in zip(scales, shares, strict=True)
    ]
    best = "best λ by width" if beginning else "Best λ by width"
    return f"{beginning}{best}: {'; '.join(found)}.{_where_at_edge(scales)}"


def _best(scale: _Scale) -> list[float]:
    """Return the lambda of the highest mean for each width."""
    means = [[cell.sample.mean for cell in row] for row in scale.cells]
    return [scale.lams[place] for place in np.argmax(means, axis=1)]


def _where_at_edge(scales: list[_Scale]) -> str:
    """Say where the best lambda is the largest of those tried."""
    lines = []
    for scale in scales:
        found = zip(scale.widths, _best(scale), strict=True)
        widths = [width_label(width) for width, lam in found if lam == max(scale.lams)]
        lines += [f"{listed(widths)} ({scale.title})"] * bool(widths)
    if not lines:
        return ""
    text = f" It is the largest λ tried on {listed(lines)}: a larger one may be better still"
    if any(map(_censored, scales)):
        text += ", so that the order of the widths is not known"
    return f"{text}."


def _draw_best(scale: _Scale) -> NDArray[np.float64]:
    """Draw which lambda is best, shape (DRAWS, widths)."""
    stream = np.random.default_rng(derive(0, f"claims/best-lambda/{scale.title}"))
    means = np.array([[cell.sample.mean for cell in row] for row in scale.cells])
    counts = np.array([[cell.sample.n for cell in row] for row in scale.cells])
    std = scale.std * np.sqrt(scale.freedom / stream.chisquare(scale.freedom, (DRAWS, 1, 1)))
    drawn = means + std * stream.standard_normal((DRAWS, *means.shape)) / np.sqrt(counts)
    best: NDArray[np.float64] = np.array(scale.lams)[drawn.argmax(axis=2)]
    return best


def _share(scale: _Scale, best: NDArray[np.float64]) -> Effect:
    fewest = min(cell.sample.n for row in scale.cells for cell in row)
    return Effect(
        f"{scale.title}: best λ does not fall with width",
        100 * float((np.diff(best, axis=1) >= 0).all(axis=1).mean()),
        unit=_SHARE,
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
