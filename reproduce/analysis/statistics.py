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
    estimate = contrast([a, b], [1, -1], level)
    return (estimate.high - estimate.low) / 2


class Estimate(NamedTuple):
    """A number and its confidence interval.

    Attributes
    ----------
    value, low, high : float
        The number and the ends of its interval; NaN where there is none.
    error, freedom : float
        Standard error and degrees of freedom of Student's t behind the interval.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    freedom: float = math.nan

    @property
    def centre(self) -> float:
        """The middle of the interval, which is not the number where zero draws it in."""
        return (self.low + self.high) / 2

    def below(self, threshold: float) -> float:
        """Return the p of a one-sided test: small if the number lies below `threshold`."""
        return float(stats.t.cdf((self.centre - threshold) / self.error, self.freedom))

    def apart(self, threshold: float) -> float:
        """Return the p of the two-sided test that the number is `threshold`."""
        distance = abs(self.centre - threshold) / self.error
        return float(2 * stats.t.sf(distance, self.freedom))


def interval_of(value: float, error: float, freedom: float, level: float = 0.95) -> Estimate:
    """Return a number with its t interval; without one if the error is NaN or zero."""
    if math.isnan(error) or error == 0:
        return Estimate(value)
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    return Estimate(value, value - half, value + half, error, freedom)


def contrast(samples: Sequence[Sample], weights: Sequence[float], level: float = 0.95) -> Estimate:
    """Estimate a weighted sum of the means of independent groups of unequal variances.

    Of one group with weight 1 it is Student's interval of a mean, of two with weights 1
    and -1 Welch's of a difference.  There is no interval if a group has fewer than two
    values or nothing varies.

    Parameters
    ----------
    samples : sequence of Sample
        The groups.
    weights : sequence of float
        The weight of each group's mean.
    level : float
        Confidence.

    Source: F. E. Satterthwaite, Biometrics Bulletin 2, 1946.
    """
    pairs = [(group, weight) for group, weight in zip(samples, weights, strict=True) if weight]
    value = math.fsum(weight * group.mean for group, weight in pairs)
    if any(group.n < 2 for group, _ in pairs):
        return Estimate(value)
    parts = [(weight * group.std) ** 2 / group.n for group, weight in pairs]
    variance = math.fsum(parts)
    if variance == 0:
        return Estimate(value)
    scatter = math.fsum(
        part**2 / (group.n - 1) for part, (group, _) in zip(parts, pairs, strict=True)
    )
    return interval_of(value, math.sqrt(variance), variance**2 / scatter, level)


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Say which of several tests are significant if all together err with `level` at most.

    Source: S. Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    significant = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for done, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - done):
            break
        significant[place] = True
    return significant
