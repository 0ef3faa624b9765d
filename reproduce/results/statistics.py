"""Means over seeds, and how far two of them lie apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reproduce.core.errors import HarnessError


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


@dataclass(frozen=True, eq=False)
class Flags:
    """What is true of each image for one network: that it is right on it, say.

    Attributes
    ----------
    name : str
        What they come from, for messages.
    dataset : str
        Data set of the images.
    index, label : ndarray
        Positions in the test set, each once, and true classes; shape (N,).
    true : ndarray
        bool, shape (N,).
    """

    name: str
    dataset: str
    index: NDArray[np.integer]
    label: NDArray[np.integer]
    true: NDArray[np.bool_]


class Discordant(NamedTuple):
    """How two networks differ on the images that both saw.

    Attributes
    ----------
    only_first, only_second : int
        Images of which it is true for one network only: McNemar's b and c.
    images : int
        Images that both saw.
    """

    only_first: int
    only_second: int
    images: int


def discordant(first: Flags, second: Flags) -> Discordant:
    """Count the images on which two networks differ, among those that both saw.

    Raises
    ------
    HarnessError
        If the two are not of the same images.
    """
    a, b = shared_flags([first, second])
    return Discordant(int((a & ~b).sum()), int((b & ~a).sum()), len(a))


def mcnemar(pair: Discordant) -> float:
    """Return the p of McNemar's exact test that both networks do equally well, two-sided.

    Source: Q. McNemar, Psychometrika 12, 1947; exact by the binomial distribution.
    """
    differing = pair.only_first + pair.only_second
    return float(stats.binomtest(pair.only_first, differing).pvalue) if differing else 1.0


def mcnemar_below(pair: Discordant) -> float:
    """Return the p of the same test one-sided: small if the first does worse."""
    differing = pair.only_first + pair.only_second
    test = stats.binomtest(pair.only_first, max(1, differing), alternative="less")
    return float(test.pvalue) if differing else 1.0


def paired_difference(pair: Discordant, level: float = 0.95) -> Estimate:
    """Estimate the difference of two shares of the same images, first minus second, in points.

    Wald's interval after half an image was added to each of the four cells: plain Wald is
    too narrow where few images differ.

    Source: A. Agresti and Y. Min, Statistics in Medicine 24, 2005.
    """
    b, c, n = pair
    size, total = n + 2, b + c + 1
    centre = (b - c) / size
    error = math.sqrt(total - (b - c) ** 2 / size) / size
    half = float(stats.norm.ppf(0.5 + level / 2)) * error
    low, high = 100 * (centre - half), 100 * (centre + half)
    return Estimate(100 * (b - c) / n, low, high, 100 * error, math.inf)


def image_contrast(
    networks: Sequence[Flags], weights: Sequence[float], level: float = 0.95
) -> Estimate:
    """Estimate a weighted sum of shares of the same images, in points.

    The sum is taken image by image, so networks that do well on the same images, and a
    network that enters twice, are accounted for.  Of each data set it is made on the
    images that all its networks saw; data sets are independent.  The interval is the
    normal one, of the mean over images: it speaks of these networks on other images.

    Raises
    ------
    HarnessError
        If networks of one data set are not of the same images.
    """
    value, variance = 0.0, 0.0
    for dataset in dict.fromkeys(flags.dataset for flags in networks):
        chosen = [
            (flags, weight)
            for flags, weight in zip(networks, weights, strict=True)
            if flags.dataset == dataset
        ]
        shared = shared_flags([flags for flags, _ in chosen])
        sums = 100 * np.sum([w * x for (_, w), x in zip(chosen, shared, strict=True)], axis=0)
        value += float(sums.mean())
        variance += float(sums.var(ddof=1)) / len(sums)
    return interval_of(value, math.sqrt(variance), math.inf, level)


def shared_flags(networks: Sequence[Flags]) -> list[NDArray[np.bool_]]:
    """Return the flags of the images that all networks saw, in the same order."""
    first = networks[0]
    common = reduce(np.intersect1d, [flags.index for flags in networks])
    if len(common) < 2:
        raise HarnessError(f"{first.name} and {networks[-1].name} share fewer than two images")
    found, labels = [], None
    for flags in networks:
        order = np.argsort(flags.index)
        places = order[np.searchsorted(flags.index, common, sorter=order)]
        labels = flags.label[places] if labels is None else labels
        if not np.array_equal(labels, flags.label[places]):
            raise HarnessError(
                f"{first.name} and {flags.name} disagree about the true classes of the images: "
                "they are not of the same test set; evaluate both again"
            )
        found.append(flags.true[places])
    return found
