"""Made-up numbers of every run, kept in memory: a world in which the paper is right, and others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from reproduce.cell import Cell
from reproduce.claims.evidence import Claim, Evidence, Key, Source, key_of, seed_of
from reproduce.claims.metrics import OF_IMAGES
from reproduce.claims.statements import STATEMENTS, judge_one
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import Metrics
from reproduce.registry import parse_architecture
from reproduce.results.statistics import ImageMask

# a metric of a cell: its number, or None where the run is not there yet
World = Callable[[str, Key, int], float | None]
Epochs = Callable[[Cell], pd.DataFrame | str]


class MadeUp(Evidence):
    """Evidence whose numbers a function gives; of records also so many images, if asked for."""

    def __init__(
        self, config: Config, world: World, images: int = 0, epochs: Epochs | None = None
    ) -> None:
        super().__init__(config)
        self._world, self._images, self._epochs = world, images, epochs
        self.records: dict[str, tuple[Metrics, bool] | str] = {}

    def measure(self, source: Source, metric: str) -> float | ImageMask:
        key, seed = key_of(source), seed_of(source)
        number = self._world(metric, key, seed)
        if number is None:
            raise HarnessError(f"{key} has no seed {seed}")
        if not self._images or metric not in OF_IMAGES:
            return number
        place = np.arange(self._images)
        mask = place < round(self._images * number / 100)
        return ImageMask(str(key), key.dataset, place, place % 10, mask)

    def history(self, cell: Cell, kind: str) -> pd.DataFrame:
        found = f"{cell} is not there" if self._epochs is None else self._epochs(cell)
        if isinstance(found, str):
            raise HarnessError(found)
        return found

    def full_records(self) -> tuple[dict[str, Metrics], tuple[str, ...]]:
        found = {k: v[0] for k, v in self.records.items() if not isinstance(v, str) and v[1]}
        return found, tuple(v for v in self.records.values() if isinstance(v, str))


def judged(evidence: Evidence, name: str) -> Claim:
    """Judge one statement."""
    return judge_one(evidence, next(one for one in STATEMENTS if one.name == name))


def width_of(key: Any) -> float:
    return parse_architecture(key.architecture).width


def as_the_paper_says(metric: str, key: Key, seed: int) -> float:
    """Return numbers that follow every statement, a seed worth a hundredth."""
    return _world(metric, key, seed, right=True)


def the_opposite(metric: str, key: Key, seed: int) -> float:
    """Return numbers that contradict every statement."""
    return _world(metric, key, seed, right=False)


_PLACE = {1.0: 0, 2.0: 2, 12.0: 0, 5.0: 1, 10.0: 2, 64.0: 2}
_BEST = {True: (8.0, 12.0, 18.0), False: (18.0, 12.0, 6.0)}
_AT = {6.0: 1.0, 9.0: 1.25, 12.0: 1.5, 18.0: 2.0}


def _world(metric: str, key: Key, seed: int, *, right: bool) -> float:
    noise, sign = seed / 100, 1 if right else -1
    width, lam = width_of(key), key.lam
    place = _PLACE.get(width, 0)
    best = _BEST[right][place]
    if key.method == "at":
        # the same, on its own scale of lambda
        lam = {own: lam for lam, own in _AT.items()}.get(lam, 15.0)
    if metric == "robust_accuracy" and key.attack == "autoattack":
        of = {"war": 2, "rst-war": 2 + width / 10}.get(key.method, 0)
        return 50 + sign * of + noise
    if metric == "robust_accuracy":
        # at lambda 6 the widest is the worst; or every width is much better than the last
        level = 50 - place if right else 40 + 10 * place
        gain = 0.1 if right else -2.0
        return level + noise + (gain if key.method == "war" else -abs(lam - best) / 3)
    by_cell = {
        "natural_accuracy": 60 + sign * (width / 5 - lam / 2),
        "top5_natural_accuracy": 60 + sign * width,
        "perturbation_stability": 60 + sign * (lam - width / 5),
        "robust_regularization": 10 + sign * width / 10,
        "natural_risk": 10 - sign * width / 10,
        "lipschitz": 10 + sign * width / 10,
        "best_robust_accuracy": 50 - sign * width / 5,
        "late_fall": 1 + sign * (key.method == "trades-step"),
        "final_lambda": best + (0.5 if right else 7),
        "ratio": 30 * (1 if right else 1 + width / 5),
        "hours": width * (6 if not right and key.method == "war" else 1),
    }
    return by_cell[metric] + noise


def epochs_of(config: Config, *, right: bool, noise: float = 0.02) -> Epochs:
    """Return what makes up the epochs of Figure 3's runs, as the paper says or the opposite."""

    def epochs(cell: Cell) -> pd.DataFrame:
        last = config.train_of(cell.method).epochs
        epoch = np.arange(1, last + 1)
        late = np.maximum(0, epoch - 75)
        early = np.minimum(epoch, 75)
        pace = 1 + noise * cell.seed
        sign = pace if right else -pace
        return pd.DataFrame(
            {
                "epoch": epoch,
                "robust_accuracy": 30 + sign * (0.2 * early - 0.1 * late),
                "natural_accuracy": 50 + sign * (0.2 * early + 0.1 * late),
                "perturbation_stability": 60 - sign * (0.2 * early + 0.3 * late),
            }
        )

    return epochs
