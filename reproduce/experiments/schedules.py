"""What changes over a run: learning rates, and after which epochs the network is measured.

Epochs count from 1.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from reproduce.config.schema import Train


def learning_rate(train: Train, epoch: int, step: int = 0, of: int = 1) -> float:
    """Return the learning rate of an iteration: step `step` (from 0) of `of` in an epoch.

    The schedule ``exp`` is the paper's, halved every epoch once three quarters are over; ``step``
    divides by 10 at every milestone (at 0.75 and 0.9 it is TRADES' and the paper's Figure 3, at
    0.5 and 0.75 AWP's); ``cosine`` is half a cosine (Table 4).  These hold for a whole epoch;
    ``linear`` goes on by iterations (`piecewise_rate`).
    """
    base, epochs = train.learning_rate, train.epochs
    match train.schedule:
        case "linear":
            return piecewise_rate(train.rates, epoch, step, of)
        case "cosine":
            return base * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
        case "step":
            passed = sum(epoch >= _late(share, epochs) for share in train.milestones)
            return base / float(10**passed)
    late = _late(0.75, epochs)
    if epoch < late:
        return base
    # The authors' code has int((epoch - 0.74 E) / int(E / 100)), which divides by zero below a
    # hundred epochs; there the rate is halved once an epoch, as it is at a hundred.  In
    # hundredths, so that 0.74 E is exact.
    exact = (100 * epoch - 74 * epochs) // (100 * max(1, epochs // 100))
    return base * 0.5 ** (epoch - late + 1 if epochs < 100 else exact)


def _late(share: float, epochs: int) -> int:
    """Return the first epoch after a share of a run: never the first, however short the run."""
    return max(2, _over(share, epochs))


def _over(share: float, epochs: int) -> int:
    """Return how many whole epochs lie in a share of a run."""
    # a product such as 0.29 * 100 lies a little below its whole number
    return int(share * epochs + 1e-9)


def measured_epochs(train: Train) -> range:
    """Return the epochs after which the network is measured, in order; the last is among them."""
    first = _over(train.validation.start, train.epochs) + 1
    return range(min(first, train.epochs), train.epochs + 1)


def piecewise_rate(points: Sequence[tuple[float, float]], epoch: int, step: int, of: int) -> float:
    """Return the learning rate of one iteration, on straight lines between points.

    A point is a number of finished epochs and the rate then; before the first and after the last
    the rate is theirs.  As in Fast-AT's code it is the rate at the end of the step, so the first
    step of a ramp from 0 does move.
    """
    over = epoch - 1 + (step + 1) / of
    if over <= points[0][0]:
        return points[0][1]
    for (begin, low), (end, high) in pairwise(points):
        if over <= end:
            return low + (high - low) * (over - begin) / (end - begin)
    return points[-1][1]
