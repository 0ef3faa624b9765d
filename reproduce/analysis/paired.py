"""Networks compared on the same images: what single images tell beside the means over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reproduce.analysis.statistics import Estimate, interval_of
from reproduce.errors import HarnessError


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
