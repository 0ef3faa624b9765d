"""Learning rates by epoch; epochs count from 1 and a rate holds for a whole epoch."""

import math
from typing import Literal

Schedule = Literal["exp", "step", "cosine"]


def learning_rate(schedule: Schedule, base: float, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch.

    Parameters
    ----------
    schedule : {"exp", "step", "cosine"}
        ``exp``: the paper's, halved every epoch once three quarters are over;
        ``step``: divided by 10 after three quarters and by 100 after nine tenths
        (TRADES; the paper's Figure 3); ``cosine``: half a cosine (Table 4).
    base : float
        Initial learning rate.
    epoch, epochs : int
        The epoch, from 1, and their number.

    Examples
    --------
    >>> [learning_rate("exp", 0.1, epoch, 100) for epoch in (74, 75, 76)]
    [0.1, 0.05, 0.025]
    """
    if not 1 <= epoch <= epochs:
        raise ValueError(f"epoch {epoch} is not between 1 and {epochs}")
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
    # at least the first epoch runs at the full rate, however short the run
    late = max(2, int(0.75 * epochs))
    if schedule == "step":
        latest = max(late, int(0.9 * epochs))
        return base / (100 if epoch >= latest else 10 if epoch >= late else 1)
    return base * 0.5 ** (_halvings(epoch, epochs, late) if epoch >= late else 0)


def _halvings(epoch: int, epochs: int, first: int) -> int:
    """Count the halvings up to an epoch, from the `first` epoch that is late on.

    The authors' code has int((epoch - 0.74 E) / int(E / 100)), which divides by zero
    below a hundred epochs; there the rate is halved once an epoch, as it is at a
    hundred.
    """
    if epochs < 100:
        return epoch - first + 1
    # in hundredths, so that 0.74 E is exact
    return (100 * epoch - 74 * epochs) // (100 * (epochs // 100))
