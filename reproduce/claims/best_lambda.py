"""The claim that the best lambda increases with width, and what a grid can decide of it."""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reproduce.claims.evidence import (
    Effect,
    Evidence,
    Finding,
    Group,
    Key,
    Unit,
    Verdict,
    missing_of,
)
from reproduce.claims.wording import OVER_IMAGES, capitalised, counted, listed, so_far, where_of
from reproduce.config.grids import AttackTable
from reproduce.core.rng import derive
from reproduce.registry import parse_architecture, width_label
from reproduce.results.statistics import common_masks

# how often every cell's mean is drawn anew, and the percentage of draws that decides
DRAWS = 10_000
_SURE = 95.0


class _Scale(NamedTuple):
    """One method on networks of one kind: widths and lambdas in order, and their cells.

    Draws are over training seeds, or over images of the one `seed` where no cell has two
    seeds.  `std` is the standard deviation of a run within its cell, of all cells together,
    with so many degrees of `freedom`; `ready` counts the cells that have what draws take.
    """

    title: str
    widths: list[str]
    lams: list[float]
    cells: list[list[Group]]
    seed: int | None
    std: float
    freedom: int
    ready: int

    @classmethod
    def of(cls, title: str, groups: Mapping[Key, Group]) -> "_Scale":
        """Order the cells of a scale."""
        names = {key.architecture for key in groups}
        widths = sorted(names, key=lambda name: parse_architecture(name).width)
        lams = sorted({key.lam for key in groups})
        by_place = {(key.architecture, key.lam): group for key, group in groups.items()}
        cells = [[by_place[width, lam] for lam in lams] for width in widths]
        several = [group.sample for group in groups.values() if len(group.by_seed) > 1]
        freedom = sum(one.n - 1 for one in several)
        squares = math.fsum(one.std**2 * (one.n - 1) for one in several)
        std = math.sqrt(squares / freedom) if several else 0.0
        seeds = set.intersection(*(set(group.images) for group in groups.values()))
        if several or not seeds:
            return cls(title, widths, lams, cells, None, std, freedom, len(several) * (std > 0))
        return cls(title, widths, lams, cells, min(seeds), std, freedom, len(groups))

    @property
    def flat(self) -> list[Group]:
        """Every cell."""
        return [cell for row in self.cells for cell in row]

    @property
    def best(self) -> list[float]:
        """The lambda of the highest mean for each width."""
        return [self.lams[int(np.argmax([c.sample.mean for c in row]))] for row in self.cells]

    def draw(self) -> NDArray[np.intp]:
        """Draw which lambda is best, by its place, shape (DRAWS, widths)."""
        stream = np.random.default_rng(derive(0, f"claims/best-lambda/{self.title}"))
        shape = (len(self.widths), len(self.lams))
        if self.seed is not None:
            masks = 100.0 * np.array(common_masks([cell.images[self.seed] for cell in self.flat]))
            spread = np.atleast_2d(np.cov(masks)) / masks.shape[1]
            drawn = stream.multivariate_normal(masks.mean(axis=1), spread, DRAWS, method="eigh")
            return np.asarray(drawn.reshape(DRAWS, *shape).argmax(axis=2))
        means = np.reshape([cell.sample.mean for cell in self.flat], shape)
        counts = np.reshape([cell.sample.n for cell in self.flat], shape)
        std = self.std * np.sqrt(self.freedom / stream.chisquare(self.freedom, (DRAWS, 1, 1)))
        drawn = means + std * stream.standard_normal((DRAWS, *shape)) / np.sqrt(counts)
        return np.asarray(drawn.argmax(axis=2))


def best_lambda(evidence: Evidence, experiment: str) -> Finding:
    """Test that the best lambda increases from every width to the next.

    Best is the lambda of the highest mean robust accuracy of those tried, under the first
    attack of the table.  Seeds, or images, differ by chance, and so may the best lambda:
    `DRAWS` times every cell's mean is drawn anew, and it is counted in which draws the best
    lambda increases over all widths, and in which it does not: it falls between two
    neighbours, or is the same inside the grid.  Two that are the same at an end of the grid
    tell nothing: the best may lie beyond.  The claim holds if the first share is 95 % or
    more for every scale (a method on networks of one kind), and fails if the second is 95 %
    for one.
    """
    grid = evidence.grid(experiment)
    groups = evidence.groups(experiment, "robust_accuracy")
    if isinstance(grid, AttackTable):
        groups = {key: group for key, group in groups.items() if key.attack == grid.attacks[0]}
    kinds: dict[str, dict[Key, Group]] = {}
    for key, group in groups.items():
        kinds.setdefault(where_of(key, groups, "scale"), {})[key] = group
    scales = [
        _Scale.of(title, kind)
        for title, kind in kinds.items()
        if min(len({key.lam for key in kind}), len({key.architecture for key in kind})) > 1
    ]
    if not scales:
        text = "Not in this configuration: no method has two widths and two lambdas."
        return Finding(text)
    effects: list[Effect] = []
    verdicts: list[Verdict] = []
    found: list[str] = []
    judged = [scale for scale in scales if scale.ready == len(scale.flat)]
    for scale in judged:
        best = scale.draw()
        steps = np.diff(best, axis=1)
        at_end = (best[:, 1:] == 0) | (best[:, 1:] == len(scale.lams) - 1)
        rises = 100 * float((steps > 0).all(axis=1).mean())
        contradicted = ((steps < 0) | ((steps == 0) & ~at_end)).any(axis=1)
        against = 100 * float(contradicted.mean())
        verdicts.append(
            "holds" if rises >= _SURE else "fails" if against >= _SURE else "too little data"
        )
        effects += _effects_of(scale, best, rises, against)
        found.append(
            f"{scale.title}: λ = {listed([f'{lam:g}' for lam in scale.best])} on "
            f"{listed([width_label(width) for width in scale.widths])}, increasing in "
            f"{rises:.1f} % of draws, not increasing in {against:.1f} %{_left_open(scale)}"
        )
    waiting = "".join(
        f" {scale.title} has two seeds that differ in {scale.ready} of "
        f"{counted(len(scale.flat), 'cell')}."
        for scale in scales
        if scale not in judged
    )
    missing = missing_of(groups.values())
    if not judged:
        return Finding(f"No verdict yet:{waiting}", missing=missing)
    verdict: Verdict = "fails" if "fails" in verdicts else "too little data"
    if set(verdicts) == {"holds"} and not waiting:
        verdict = "holds"
    text = so_far(len(judged), len(scales), "scale") + f"best λ by width: {'; '.join(found)}."
    unit: Unit = "seeds" if any(scale.seed is None for scale in judged) else "images"
    waiting += OVER_IMAGES * (unit == "images")
    return Finding(capitalised(text) + waiting, verdict, unit, tuple(effects), missing)


def _effects_of(
    scale: _Scale, best: NDArray[np.intp], rises: float, against: float
) -> list[Effect]:
    images, spread = 0, f"standard deviation within cells {scale.std:.2f} points"
    if scale.seed is not None:
        images = min(len(cell.images[scale.seed].mask) for cell in scale.flat)
        spread = "over images"
    effects = [
        Effect(
            f"{scale.title}: best λ increases with width",
            rises,
            unit="% of draws",
            threshold=_SURE,
            seeds=min(len(cell.by_seed) for cell in scale.flat),
            images=images,
            detail=f"{DRAWS:,} draws, {spread}; it fails where it does not increase in "
            f"{_SURE:g} %, here in {against:.1f} %",
        )
    ]
    for place, width in enumerate(scale.widths):
        counts = Counter(best[:, place].tolist()).most_common(3)
        often = ", ".join(f"{scale.lams[k]:g} in {100 * n / DRAWS:.0f} %" for k, n in counts)
        effects.append(
            Effect(
                f"{scale.title}, {width_label(width)}: best λ",
                scale.best[place],
                unit="λ",
                threshold=None,
                seeds=min(len(cell.by_seed) for cell in scale.cells[place]),
                images=images,
                detail=f"best in draws: {often}",
            )
        )
    return effects


def _left_open(scale: _Scale) -> str:
    """Say what the grid cannot decide."""
    same = [one for one, other in pairwise(scale.best) if one == other]
    if any(lam in (scale.lams[0], scale.lams[-1]) for lam in same):
        return " (two widths share an end of the grid: the order beyond it is not known)"
    if same:
        return " (two widths share a λ: an increase of less than a step of the grid is not seen)"
    if scale.best[-1] == scale.lams[-1]:
        return " (the last is the largest λ tried: a larger one may be better still)"
    return ""
