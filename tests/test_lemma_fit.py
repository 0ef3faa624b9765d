"""Exponents of gradient norms against statsmodels, and verdicts that are known beforehand."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from reproduce.core.errors import HarnessError
from reproduce.lemma.results import Exponent, fit_exponents, in_words


def _power_law(
    width: float, depth: float, noise: float, scale: float = 3.0, seeds: int = 6
) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {"m": m, "H": depths, "norm": scale * m**width * depths**depth * math.exp(error)}
        for m in (20, 60, 200, 600, 2000)
        for depths in (1, 2, 4, 8)
        for error in noise * random.standard_normal(seeds)
    ]
    return pd.DataFrame(rows)


def test_the_fit_is_that_of_statsmodels() -> None:
    rows = _power_law(0.3, -0.1, noise=0.2)
    # narrow and deep networks scatter more
    rows["norm"] *= np.exp(np.random.default_rng(1).standard_normal(len(rows)) * rows["H"] / 40)
    design = sm.add_constant(np.log(rows[["m", "H"]]))
    expected = sm.OLS(np.log(rows["norm"]), design).fit(cov_type="HC3", use_t=True)
    found = fit_exponents(rows, "norm")
    intervals = expected.conf_int().to_numpy()
    assert found.constant == pytest.approx(expected.params["const"])
    for exponent, name, (low, high) in zip(
        (found.width, found.depth), ("m", "H"), intervals[1:], strict=True
    ):
        assert exponent.value == pytest.approx(expected.params[name])
        assert (exponent.low, exponent.high) == (pytest.approx(low), pytest.approx(high))
    assert found.networks == len(rows)
    ratios = rows["norm"] / np.sqrt(rows["m"] * rows["H"])
    assert found.largest_ratio == pytest.approx(ratios.max())
    assert found.growth[0] == pytest.approx(100 ** (found.width.value - 0.5))


def test_known_exponents_are_found() -> None:
    found = fit_exponents(_power_law(0.37, -0.21, noise=0), "norm")
    assert found.width.value == pytest.approx(0.37)
    assert found.depth.value == pytest.approx(-0.21)
    assert found.constant == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("width", "depth", "noise", "bound", "tightness"),
    [
        (0.5, 0.5, 0.2, "holds", ("tight", "tight")),
        (0.0, 0.0, 0.2, "holds", ("not tight", "not tight")),
        (0.5, 0.0, 0.2, "holds", ("tight", "not tight")),
        (1.0, 0.0, 0.2, "fails", ("exceeded", "not tight")),
        (0.0, 1.0, 0.2, "fails", ("not tight", "exceeded")),
        (0.5, 0.5, 4.0, "too little data", ("too little data", "too little data")),
    ],
)
def test_verdicts_on_known_laws(
    width: float, depth: float, noise: float, bound: str, tightness: tuple[str, str]
) -> None:
    found = fit_exponents(_power_law(width, depth, noise), "norm")
    assert found.bound == bound
    assert (found.width.tightness, found.depth.tightness) == tightness
    assert in_words(found).startswith(f"O(sqrt(m H)): {bound}; {tightness[0]}")
    if tightness[1] == "not tight":
        assert f"not tight in H; exponent {found.depth.value:.3f}" in in_words(found)


@pytest.mark.parametrize(
    ("low", "high", "bound", "tightness"),
    [
        (0.45, 0.55, "holds", "tight"),
        (0.30, 0.39, "holds", "not tight"),
        (0.44, 0.49, "holds", "not tight"),
        (0.30, 0.55, "holds", "too little data"),
        (0.52, 0.58, "holds", "tight"),
        (0.45, 0.65, "too little data", "tight"),
        (0.30, 0.65, "too little data", "too little data"),
        (0.61, 0.65, "fails", "exceeded"),
    ],
)
def test_intervals_decide(low: float, high: float, bound: str, tightness: str) -> None:
    exponent = Exponent((low + high) / 2, low, high)
    assert (exponent.bound, exponent.tightness) == (bound, tightness)


def test_what_cannot_be_fitted() -> None:
    rows = _power_law(0.5, 0, noise=0.1)
    for part in (rows[rows["m"] == 20], rows[rows["H"] == 1]):
        with pytest.raises(HarnessError, match="leave nothing to fit; two of each"):
            fit_exponents(part, "norm")
    rows.loc[7, "norm"] = 0
    with pytest.raises(HarnessError, match="width 20 and depth 2 has gradient zero"):
        fit_exponents(rows, "norm")
