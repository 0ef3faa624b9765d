"""Statistics against scipy and statsmodels, and by how often intervals hold what they should."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.weightstats import DescrStatsW

from reproduce.core.errors import HarnessError
from reproduce.results.statistics import (
    DiscordantPairs,
    ImageMask,
    Sample,
    contrast,
    discordant_pairs,
    holm,
    image_contrast,
    mcnemar,
    paired_difference,
    sample,
)

A, B = [47.8, 47.9, 47.7, 48.1], [48.4, 48.1, 48.9]


def _mask(true: list[bool] | np.ndarray, dataset: str = "cifar10", start: int = 0) -> ImageMask:
    index = np.arange(start, start + len(true))
    name = f"made up on {dataset}"
    return ImageMask(name, dataset, index, index % 10, np.asarray(true, dtype=bool))


def test_a_contrast_of_two_is_welchs_and_of_one_students() -> None:
    found = contrast([sample(A), sample(B)], [1, -1])
    test = stats.ttest_ind(A, B, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert found[:3] == pytest.approx((np.mean(A) - np.mean(B), interval.low, interval.high))
    assert found.freedom == pytest.approx(test.df)
    assert found.apart(0) == pytest.approx(test.pvalue)
    # a weight of 0 leaves a group out
    alone, students = contrast([sample(A), sample(B)], [1, 0]), stats.ttest_1samp(A, 47.5)
    assert alone[1:3] == pytest.approx(tuple(students.confidence_interval(0.95)))
    assert alone.apart(47.5) == pytest.approx(students.pvalue)


def test_a_contrast_of_three_holds_the_truth_as_often_as_it_says() -> None:
    stream = np.random.default_rng(0)
    spreads, sizes, weights = (1.0, 0.2, 3.0), (3, 4, 5), (0.5, 0.5, -1.0)
    held = 0
    for _ in range(1000):
        groups = [sample(stream.normal(7, s, n)) for s, n in zip(spreads, sizes, strict=True)]
        found = contrast(groups, weights)
        held += found.low < 0 < found.high
    assert 0.93 < held / 1000 < 0.97


def test_no_interval_without_variance() -> None:
    assert math.isnan(contrast([sample([1.0]), sample(B)], [1, -1]).low)
    still = contrast([Sample(2, 0, 3), Sample(1, 0, 3)], [1, -1])
    assert still.value == 1
    assert math.isnan(still.low)
    assert math.isnan(contrast([sample([]), sample(B)], [1, -1]).value)


def test_holm() -> None:
    assert holm([]) == []
    assert holm([0.04, 0.02, 0.01]) == [True, True, True]
    assert holm([0.04, 0.03, 0.01]) == [False, False, True]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (150, 86)])
def test_mcnemar(b: int, c: int) -> None:
    pairs = DiscordantPairs(b, c, 1600)
    expected = reference_mcnemar([[794, b], [c, 570]], exact=True).pvalue if b + c else 1.0
    assert mcnemar(pairs) == pytest.approx(expected)


def test_a_paired_difference_is_walds_of_a_table_with_a_half_in_each_cell() -> None:
    b, c, n = 150, 86, 1600
    cells = np.array([794, b, c, 570]) + 0.5
    described = DescrStatsW(np.array([0, 1, -1, 0]), weights=cells)
    half = 1.959964 * math.sqrt(described.var / cells.sum())
    found = paired_difference(DiscordantPairs(b, c, n))
    assert found.value == pytest.approx(100 * (b - c) / n)
    interval = (100 * (described.mean - half), 100 * (described.mean + half))
    assert (found.low, found.high) == pytest.approx(interval)
    # the test says what the interval says
    assert found.apart(found.low) == pytest.approx(0.05)


def test_discordant_images_are_those_that_both_saw() -> None:
    first = _mask([True, True, True, True, False])
    second = _mask([False, True, True, False], start=1)
    assert discordant_pairs(first, second) == DiscordantPairs(1, 0, 4)
    backwards = {key: getattr(second, key)[::-1] for key in ("index", "label", "mask")}
    assert discordant_pairs(first, replace(second, **backwards)) == DiscordantPairs(1, 0, 4)


def test_other_test_sets_are_not_compared() -> None:
    first = _mask([True] * 5)
    other = replace(first, name="another", label=first.label + 1)
    with pytest.raises(HarnessError, match="disagree about the true classes"):
        discordant_pairs(first, other)
    with pytest.raises(HarnessError, match="fewer than two images"):
        discordant_pairs(first, _mask([True] * 5, start=100))


def test_a_contrast_over_images_is_of_the_sum_image_by_image() -> None:
    stream = np.random.default_rng(3)
    true = stream.uniform(size=(3, 500)) < np.array([[0.5], [0.6], [0.7]])
    weights = [0.5, 0.5, -1.0]
    found = image_contrast([_mask(row) for row in true], weights)
    sums = 100 * (np.array(weights) @ true)
    assert found.value == pytest.approx(sums.mean())
    assert (found.low, found.high) == pytest.approx(DescrStatsW(sums).zconfint_mean(0.05))


def test_data_sets_are_independent() -> None:
    a, b, c, d = np.random.default_rng(4).uniform(size=(4, 400)) < 0.5
    one = image_contrast([_mask(a), _mask(b)], [1, -1])
    other = image_contrast([_mask(c, "cifar100"), _mask(d, "cifar100")], [1, -1])
    networks = [_mask(a), _mask(c, "cifar100"), _mask(b), _mask(d, "cifar100")]
    both = image_contrast(networks, [0.5, 0.5, -0.5, -0.5])
    assert both.value == pytest.approx((one.value + other.value) / 2)
    assert both.error == pytest.approx(math.hypot(one.error, other.error) / 2)
