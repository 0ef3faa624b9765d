"""Means over seeds, and how far two of them lie apart."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Sample(NamedTuple):
    """Mean and sample standard deviation (n - 1) of n values; NaN where there are too few."""

    mean: float
    std: float
    n: int


def sample(values: Sequence[float]) -> Sample:
    """Summarise values; one value has a mean and no standard deviation."""
    n = len(values)
    if not n:
        return Sample(math.nan, math.nan, 0)
    return Sample(float(np.mean(values)), float(np.std(values, ddof=1)) if n > 1 else math.nan, n)


def difference_interval(a: Sample, b: Sample, level: float = 0.95) -> float:
    """Return the half width of Welch's interval for the difference of two means.

    NaN if either sample has no standard deviation or neither varies.

    Source: B. L. Welch, Biometrika 34, 1947.
    """
    if math.isnan(a.std) or math.isnan(b.std):
        return math.nan
    va, vb = a.std**2 / a.n, b.std**2 / b.n
    if va + vb == 0:
        return math.nan
    freedom = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    return float(stats.t.ppf(0.5 + level / 2, freedom) * math.sqrt(va + vb))
