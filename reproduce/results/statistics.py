"""Means over seeds, intervals of differences, and tests of pairs of networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

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
    """A 95 % confidence interval, in percent."""

    low: float
    high: float


def subset_interval(percent: float, images: int, total: int) -> Interval | None:
    """Return Wilson's interval for the percentage of all images that a random subset estimates.

    The sample size is corrected for drawing without replacement.

    Parameters
    ----------
    percent : float
        Share found in the subset.
    images, total : int
        Size of the subset and of the whole.

    Returns
    -------
    Interval or None
        None if nothing is open: all images were seen, or the share is unknown.

    Source: E. B. Wilson, JASA 22, 1927.
    """
    if images >= total or math.isnan(percent):
        return None
    size = images * (total - 1) / (total - images)
    low, high = proportion_confint(size * percent / 100, size, 0.05, "wilson")
    return Interval(100 * float(low), 100 * float(high))


class Estimate(NamedTuple):
    """A number and its 95 % confidence interval.

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

    def apart(self, threshold: float) -> float:
        """Return the p of the two-sided test that the number is `threshold`."""
        # the middle of Agresti and Min's interval lies nearer to zero than the number
        distance = ((self.low + self.high) / 2 - threshold) / self.error
        return float(2 * stats.t.sf(abs(distance), self.freedom))


def _t_interval(value: float, error: float, freedom: float) -> Estimate:
    if error == 0:
        return Estimate(value)
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Estimate(value, value - half, value + half, error, freedom)


def contrast(samples: Sequence[Sample], weights: Sequence[float]) -> Estimate:
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
    return _t_interval(value, math.sqrt(variance), variance**2 / scatter)


def difference_interval(a: Sample, b: Sample) -> float:
    """Return the half width of Welch's 95 % interval for the difference of two means.

    NaN if either sample has no standard deviation or neither varies.

    Source: B. L. Welch, Biometrika 34, 1947.
    """
    estimate = contrast([a, b], [1, -1])
    return (estimate.high - estimate.low) / 2


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Say which of several tests are significant if all together err with `level` at most.

    Source: S. Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    # statsmodels' multipletests collects garbage at every call, half a second where much is loaded
    order = np.argsort(p_values)
    small = np.sort(p_values) <= level / np.arange(len(p_values), 0, -1)
    significant = np.empty(len(p_values), bool)
    significant[order] = np.logical_and.accumulate(small)
    return significant.tolist()


@dataclass(frozen=True, eq=False)
class ImageMask:
    """What is true of each image for one network: that it is right on it, say.

    Attributes
    ----------
    name : str
        What it comes from, for messages.
    dataset : str
        Data set of the images.
    index, label : ndarray
        Positions in the test set, each once, and true classes; shape (N,).
    mask : ndarray
        bool, shape (N,).
    """

    name: str
    dataset: str
    index: NDArray[np.integer]
    label: NDArray[np.integer]
    mask: NDArray[np.bool_]


def common_masks(networks: Sequence[ImageMask]) -> list[NDArray[np.bool_]]:
    """Return the masks of the images that all networks saw, in the same order.

    Raises
    ------
    HarnessError
        If the networks did not see the same test set, or share fewer than two images.
    """
    first = networks[0]
    shared = partial(np.intersect1d, assume_unique=True)
    common = reduce(shared, [network.index for network in networks])
    if len(common) < 2:
        raise HarnessError(f"{first.name} and {networks[-1].name} share fewer than two images")
    masks, labels = [], None
    for network in networks:
        order = np.argsort(network.index)
        places = order[np.searchsorted(network.index, common, sorter=order)]
        labels = network.label[places] if labels is None else labels
        if not np.array_equal(labels, network.label[places]):
            raise HarnessError(
                f"{first.name} and {network.name} disagree about the true classes of the images: "
                "they are not of the same test set; evaluate both again"
            )
        masks.append(network.mask[places])
    return masks


class DiscordantPairs(NamedTuple):
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


def discordant_pairs(first: ImageMask, second: ImageMask) -> DiscordantPairs:
    """Count the images on which two networks differ; raises as `common_masks`."""
    a, b = common_masks([first, second])
    return DiscordantPairs(int((a & ~b).sum()), int((b & ~a).sum()), len(a))


def mcnemar(pairs: DiscordantPairs) -> float:
    """Return the p of McNemar's exact test that both networks do equally well.

    Source: Q. McNemar, Psychometrika 12, 1947; exact by the binomial distribution.
    """
    differing = pairs.only_first + pairs.only_second
    if not differing:
        return 1.0
    return float(stats.binomtest(pairs.only_first, differing).pvalue)


def paired_difference(pairs: DiscordantPairs) -> Estimate:
    """Estimate the difference of two shares of the same images, first minus second, in points.

    Wald's interval after half an image was added to each of the four cells: plain Wald is
    too narrow where few images differ.

    Source: A. Agresti and Y. Min, Statistics in Medicine 24, 2005.
    """
    b, c, n = pairs
    size, total = n + 2, b + c + 1
    centre = 100 * (b - c) / size
    error = 100 * math.sqrt(total - (b - c) ** 2 / size) / size
    interval = _t_interval(centre, error, math.inf)
    return interval._replace(value=100 * (b - c) / n)


def image_contrast(networks: Sequence[ImageMask], weights: Sequence[float]) -> Estimate:
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
    for dataset in dict.fromkeys(network.dataset for network in networks):
        places = [i for i, network in enumerate(networks) if network.dataset == dataset]
        masks = common_masks([networks[i] for i in places])
        sums = 100 * np.array([weights[i] for i in places]) @ np.array(masks)
        value += float(sums.mean())
        variance += float(sums.var(ddof=1)) / len(sums)
    return _t_interval(value, math.sqrt(variance), math.inf)
