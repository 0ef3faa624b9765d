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


class Interval(NamedTuple):
    """A confidence interval, in percent."""

    low: float
    high: float


def subset_interval(
    percent: float, images: int, total: int, level: float = 0.95
) -> Interval | None:
    """Return what a random subset leaves open about a percentage of all images.

    Wilson's interval, with the sample size corrected for drawing without replacement.

    Parameters
    ----------
    percent : float
        Share found in the subset.
    images, total : int
        Size of the subset and of the whole.
    level : float
        Confidence.

    Returns
    -------
    Interval or None
        None if nothing is open: all images were seen, or the share is unknown.

    Source: E. B. Wilson, JASA 22, 1927.
    """
    if images >= total or math.isnan(percent):
        return None
    share = percent / 100
    size = images * (total - 1) / (total - images)
    z = float(stats.norm.ppf(0.5 + level / 2))
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(share * (1 - share) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    return Interval(100 * (centre - half), 100 * (centre + half))


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
