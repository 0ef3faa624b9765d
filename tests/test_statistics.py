"""Statistics against scipy and statsmodels, and by how often intervals hold what they should."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from reproduce.core.errors import HarnessError
from reproduce.results.statistics import (
    Discordant,
    Flags,
    Sample,
    contrast,
    discordant,
    holm,
    image_contrast,
    mcnemar,
    mcnemar_below,
    paired_difference,
    sample,
)

A, B = [47.8, 47.9, 47.7, 48.1], [48.4, 48.1, 48.9]


def _flags(true: list[bool] | np.ndarray, dataset: str = "cifar10", start: int = 0) -> Flags:
    index = np.arange(start, start + len(true))
    return Flags(f"made up on {dataset}", dataset, index, index % 10, np.asarray(true, dtype=bool))


def test_a_contrast_of_two_is_welchs() -> None:
    found = contrast([sample(A), sample(B)], [1, -1])
    test = stats.ttest_ind(A, B, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert found[:3] == pytest.approx((np.mean(A) - np.mean(B), interval.low, interval.high))
    assert found.freedom == pytest.approx(test.df)
    assert found.apart(0) == pytest.approx(test.pvalue)
    below = stats.ttest_ind(A, B, equal_var=False, alternative="less")
    assert found.below(0) == pytest.approx(below.pvalue)


def test_a_contrast_of_one_is_students() -> None:
    found = contrast([sample(A)], [1])
    test = stats.ttest_1samp(A, 47.5)
    assert found[1:3] == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.apart(47.5) == pytest.approx(test.pvalue)


def test_a_weight_scales_a_contrast_and_none_leaves_a_group_out() -> None:
    half = contrast([sample(A), sample(B), sample([1.0])], [0.5, -0.5, 0])
    whole = contrast([sample(A), sample(B)], [1, -1])
    assert [2 * x for x in half[:4]] == pytest.approx(list(whole[:4]))
    assert half.freedom == pytest.approx(whole.freedom)


def test_a_contrast_of_three_holds_the_truth_as_often_as_it_says() -> None:
    stream = np.random.default_rng(0)
    spreads, sizes, weights = (1.0, 0.2, 3.0), (3, 4, 5), (0.5, 0.5, -1.0)
    held = 0
    for _ in range(2000):
        groups = [sample(stream.normal(7, s, n)) for s, n in zip(spreads, sizes, strict=True)]
        found = contrast(groups, weights)
        held += found.low < 0 < found.high
    assert 0.93 < held / 2000 < 0.97


def test_no_interval_without_variance() -> None:
    assert math.isnan(contrast([sample([1.0]), sample(B)], [1, -1]).low)
    still = contrast([Sample(2, 0, 3), Sample(1, 0, 3)], [1, -1])
    assert still.value == 1
    assert math.isnan(still.low)
    assert math.isnan(contrast([sample([]), sample(B)], [1, -1]).value)


def test_holm() -> None:
    stream = np.random.default_rng(1)
    for count in (1, 2, 5, 12):
        p_values = stream.uniform(0, 0.03, count).tolist()
        expected = multipletests(p_values, 0.05, method="holm")[0].tolist()
        assert holm(p_values) == expected
    assert holm([]) == []
    assert holm([0.04, 0.02, 0.01]) == [True, True, True]
    assert holm([0.04, 0.03, 0.01]) == [False, False, True]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 12), (40, 22), (150, 86)])
def test_mcnemar(b: int, c: int) -> None:
    pair = Discordant(b, c, 1600)
    expected = reference_mcnemar([[794, b], [c, 570]], exact=True).pvalue if b + c else 1.0
    assert mcnemar(pair) == pytest.approx(expected)
    assert mcnemar_below(pair) == pytest.approx(stats.binom.cdf(b, b + c, 0.5))


def test_a_paired_difference_is_walds_of_a_table_with_a_half_in_each_cell() -> None:
    b, c, n = 150, 86, 1600
    cells = np.array([794, b, c, 570]) + 0.5
    difference = np.array([0, 1, -1, 0])
    described = DescrStatsW(difference, weights=cells)
    mean, size = described.mean, cells.sum()
    half = 1.959964 * math.sqrt(described.var / size)
    found = paired_difference(Discordant(b, c, n))
    assert found.value == pytest.approx(100 * (b - c) / n)
    assert (found.low, found.high) == pytest.approx((100 * (mean - half), 100 * (mean + half)))


@pytest.mark.parametrize("pair", [Discordant(10, 3, 50), Discordant(90, 40, 1000)])
def test_a_test_says_what_the_interval_says(pair: Discordant) -> None:
    found = paired_difference(pair)
    assert found.apart(found.low) == pytest.approx(0.05)
    assert found.apart(found.high) == pytest.approx(0.05)
    assert found.below(found.high) == pytest.approx(0.025)
    assert found.below(found.low) == pytest.approx(0.975)


def test_a_paired_difference_holds_the_truth_where_few_images_differ() -> None:
    """Plain Wald does not: of four images that differ all are on one side once in eight."""
    stream = np.random.default_rng(2)
    held = 0
    for _ in range(2000):
        b, c, *_ = stream.multinomial(360, [0.006, 0.006, 0.988])
        found = paired_difference(Discordant(int(b), int(c), 360))
        held += found.low < 0 < found.high
    assert held / 2000 > 0.94


def test_discordant_images_are_those_that_both_saw() -> None:
    first = _flags([True, True, False, True, False])
    second = _flags([False, True, True, False], start=1)
    assert discordant(first, second) == Discordant(1, 1, 4)
    first_more = _flags([True, True, True, True, False])
    assert discordant(first_more, second) == Discordant(1, 0, 4)
    backwards = {key: getattr(second, key)[::-1] for key in ("index", "label", "true")}
    assert discordant(first_more, replace(second, **backwards)) == Discordant(1, 0, 4)


def test_other_test_sets_are_not_compared() -> None:
    first = _flags([True] * 5)
    other = replace(first, name="another", label=first.label + 1)
    with pytest.raises(HarnessError, match="disagree about the true classes"):
        discordant(first, other)
    with pytest.raises(HarnessError, match="fewer than two images"):
        discordant(first, _flags([True] * 5, start=100))


def test_a_contrast_over_images_is_of_the_sum_image_by_image() -> None:
    stream = np.random.default_rng(3)
    true = stream.uniform(size=(3, 500)) < np.array([[0.5], [0.6], [0.7]])
    weights = [0.5, 0.5, -1.0]
    found = image_contrast([_flags(row) for row in true], weights)
    sums = 100 * (np.array(weights) @ true)
    assert found.value == pytest.approx(sums.mean())
    assert (found.low, found.high) == pytest.approx(DescrStatsW(sums).zconfint_mean(0.05))


def test_data_sets_are_independent() -> None:
    stream = np.random.default_rng(4)
    a, b, c, d = stream.uniform(size=(4, 400)) < 0.5
    one = image_contrast([_flags(a), _flags(b)], [1, -1])
    other = image_contrast([_flags(c, "cifar100"), _flags(d, "cifar100")], [1, -1])
    networks = [_flags(a), _flags(c, "cifar100"), _flags(b), _flags(d, "cifar100")]
    both = image_contrast(networks, [0.5, 0.5, -0.5, -0.5])
    assert both.value == pytest.approx((one.value + other.value) / 2)
    assert both.error == pytest.approx(math.hypot(one.error, other.error) / 2)
