"""Made-up numbers of every run, kept in memory: a world in which the paper is right, and others."""

from collections.abc import Callable

import numpy as np

from reproduce.claims.evidence import Claim, Evidence, Key, Source, key_of
from reproduce.claims.metrics import METRICS
from reproduce.claims.statements import STATEMENTS, judge_one
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import Metrics
from reproduce.results.statistics import ImageMask

# a metric of a cell: its number, or None where the run is not there yet
World = Callable[[str, Key, int], float | None]


class MadeUp(Evidence):
    """Evidence whose numbers a function gives; of records also so many images, if asked for."""

    def __init__(self, config: Config, world: World, images: int = 0) -> None:
        super().__init__(config)
        self._world, self._images = world, images
        self.records: dict[str, Metrics] = {}

    def measure(self, source: Source, metric: str) -> float | ImageMask:
        key, seed = key_of(source)
        number = self._world(metric, key, seed)
        if number is None:
            raise HarnessError(f"{key} has no seed {seed}")
        if not self._images or METRICS[metric].source != "record":
            return number
        place = np.arange(self._images)
        mask = place < round(self._images * number / 100)
        return ImageMask(str(key), key.dataset, place, place % 10, mask)

    def full_records(self) -> tuple[dict[str, Metrics], tuple[str, ...]]:
        return self.records, ()


def judged(evidence: Evidence, name: str) -> Claim:
    """Judge one statement."""
    return judge_one(evidence, next(one for one in STATEMENTS if one.name == name))


_PLACE = {5.0: 1, 2.0: 2, 10.0: 2, 64.0: 2}
_BEST = {True: (8.0, 12.0, 18.0), False: (18.0, 12.0, 6.0)}
# the lambdas of adversarial training, on the scale of TRADES
_AT = {1.0: 6.0, 1.25: 9.0, 1.5: 12.0, 1.75: 15.0, 2.0: 18.0}


def follows(metric: str, key: Key, seed: int, *, right: bool = True) -> float:
    """Return numbers that follow every statement, or contradict it; a seed is worth a hundredth."""
    noise, sign = seed / 100, 1 if right else -1
    width, place = key.width, _PLACE.get(key.width, 0)
    lam = _AT[key.lam] if key.method == "at" else key.lam
    best = _BEST[right][place]
    if metric == "robust_accuracy" and key.attack == "autoattack":
        of = {"war": 2, "rst-war": 2 + width / 10}.get(key.method, 0)
        return 50 + sign * of + noise
    if metric == "robust_accuracy":
        # at lambda 6 the widest is the worst; or every width is much better than the last
        level = 50 - place if right else 40 + 10 * place
        gain = 0.1 if right else -2.0
        return level + noise + (gain if key.method == "war" else -abs(lam - best) / 3)
    by_metric = {
        "natural_accuracy": 60 + sign * (width / 5 - lam / 2),
        "top5_natural_accuracy": 60 + sign * width,
        "perturbation_stability": 60 + sign * (lam - width / 5),
        "robust_regularization": 10 + sign * width / 10,
        "natural_risk": 10 - sign * width / 10,
        "lipschitz": 10 + sign * width / 10,
        "best_robust_accuracy": 50 - sign * width / 5,
        "late_fall": 1 + sign * (key.method == "trades-step"),
        "final_lambda": best + (0.5 if right else 7),
        "log_ratio": 3.0 if right else 3 + width / 5,
        "hours": width * (6 if not right and key.method == "war" else 1),
    }
    return by_metric.get(metric, sign) + noise
