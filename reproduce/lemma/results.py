"""From gradient norms to exponents, and from exponents to verdicts on the lemma."""

import math
from dataclasses import asdict, astuple, dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.spec import lemma_digest

# the bound's exponent in m and in H
BOUND = 0.5
# By how much an exponent may pass the bound's and still count as equal, and how narrow an interval
# must be to say so.  Two decades tell 0, 1/2 and 1 apart, not finer things: a factor log m would
# add 0.2, and a finite width, which lowers the mean of the logarithm by about 5 H / (4 m), 0.02.
MARGIN = 0.1

Verdict = Literal["holds", "fails", "too little data"]
Tightness = Literal["tight", "not tight", "exceeded", "too little data"]


@dataclass(frozen=True)
class Exponent:
    """An exponent with its 95 % interval, and whether the bound's is reached."""

    value: float
    low: float
    high: float

    @property
    def bound(self) -> Verdict:
        """Say whether the quantity grows no faster than the bound."""
        if self.high <= BOUND + MARGIN:
            return "holds"
        return "fails" if self.low > BOUND + MARGIN else "too little data"

    @property
    def tightness(self) -> Tightness:
        """Say whether the quantity grows as fast as the bound: its interval holds the bound's."""
        if self.high < BOUND:
            return "not tight"
        if self.low <= BOUND - MARGIN:
            return "too little data"
        return "exceeded" if self.low > BOUND + MARGIN else "tight"

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Fit:
    """log(norm) = constant + width log m + depth log H, for so many networks.

    The largest norm / sqrt(m H) among them is what the O of the bound must hide at least.
    By `growth` (a factor, and its 95 % interval) that ratio changes from the narrowest to the
    widest network.
    """

    width: Exponent
    depth: Exponent
    constant: float
    networks: int
    largest_ratio: float
    growth: tuple[float, float, float]

    @property
    def bound(self) -> Verdict:
        """Say whether O(sqrt(m H)) is consistent with the norms: the worse of both exponents."""
        order: list[Verdict] = ["holds", "too little data", "fails"]
        return max(self.width.bound, self.depth.bound, key=order.index)

    def __str__(self) -> str:
        parts = (
            f"{exponent.tightness} in {name}, exponent {exponent}"
            for name, exponent in (("m", self.width), ("H", self.depth))
        )
        return f"O(sqrt(m H)): {self.bound}; {'; '.join(parts)}"


def fit_exponents(rows: pd.DataFrame, column: str) -> Fit:
    """Fit the exponents in width and depth by least squares, a row a network.

    The intervals are t intervals with the HC3 estimate of the covariance: networks are
    independent draws, also of the same seed, but narrow and deep ones scatter more.

    Raises
    ------
    HarnessError
        If a norm is zero.

    Source: MacKinnon and White, Journal of Econometrics 29, 1985.
    """
    dead = rows[rows[column] <= 0]
    if len(dead):
        first = dead.iloc[0]
        raise HarnessError(
            f"lemma: a network of width {first['m']:g} and depth {first['H']:g} has gradient zero, "
            "all its units are off; take larger lemma.widths"
        )
    width, depth, norm = np.log(rows[["m", "H", column]].to_numpy(float)).T
    design = np.column_stack([np.ones_like(width), width, depth])
    found = OLS(norm, design).fit(cov_type="HC3", use_t=True)
    constant, *exponents = (
        Exponent(*map(float, (value, *interval)))
        for value, interval in zip(found.params, found.conf_int(), strict=True)
    )
    span = float(np.ptp(width))
    value, low, high = (math.exp(span * (x - BOUND)) for x in astuple(exponents[0]))
    return Fit(
        width=exponents[0],
        depth=exponents[1],
        constant=constant.value,
        networks=len(rows),
        largest_ratio=float(np.exp((norm - BOUND * (width + depth)).max())),
        growth=(value, low, high),
    )


# the two ways of the input dimension
WAYS = {"fixed": "d fixed", "growing": "d = m"}


class Quantity(NamedTuple):
    """A gradient norm that is fitted, and whether the lemma speaks of it."""

    title: str
    covered: bool


QUANTITIES = {
    "at_x": Quantity("at x", covered=True),
    "ball": Quantity("in the ball", covered=True),
    "near": Quantity("in the ball, near initialisation", covered=True),
    "wide_ball": Quantity("in the wider ball", covered=False),
    "wide_near": Quantity("in the wider ball, weights moved farther", covered=False),
}
# of a network: allowance is the most that R / sqrt(m) + epsilon may be; not all are fitted
COLUMNS = ("way", "m", "H", "d", "seed", "allowance", "fitted", *QUANTITIES)


@dataclass(frozen=True)
class Examination:
    """The norms of every network drawn (columns `COLUMNS`), and fits by way and quantity."""

    rows: pd.DataFrame
    fits: dict[tuple[str, str], Fit]
    about: dict[str, Any]


def examination(rows: pd.DataFrame, about: dict[str, Any]) -> Examination:
    """Fit every quantity for both ways of the input dimension; raises as `fit_exponents`."""
    fits = {
        (way, quantity): fit_exponents(rows[(rows["way"] == way) & rows["fitted"]], quantity)
        for way, quantity in product(WAYS, QUANTITIES)
    }
    return Examination(rows, fits, about)


def write_examination(config: Config, found: Examination) -> None:
    """Write lemma.json: settings, rows and fits."""
    fits = [
        {
            "way": way,
            "quantity": quantity,
            "covered": QUANTITIES[quantity].covered,
            **asdict(fit),
            "bound": fit.bound,
            "tight_in_width": fit.width.tightness,
            "tight_in_depth": fit.depth.tightness,
            "summary": str(fit),
        }
        for (way, quantity), fit in found.fits.items()
    ]
    content = {
        "digest": lemma_digest(config),
        "settings": config.lemma.model_dump(mode="json"),
        **found.about,
        "fits": fits,
        "rows": found.rows.to_dict("records"),
    }
    write_json(paths.lemma_file(config), content)


def read_examination(config: Config) -> Examination | None:
    """Read lemma.json; None if there is none, or one of other settings; raises if damaged."""
    path = paths.lemma_file(config)
    if not path.exists():
        return None
    value = read_json(path)
    if value.get("digest") != lemma_digest(config):
        return None
    try:
        rows = pd.DataFrame(value["rows"])[list(COLUMNS)]
        about = {key: value[key] for key in ("seconds", "hardware", "versions", "commit")}
        return examination(rows, about)
    except (KeyError, ValueError, TypeError) as error:
        raise HarnessError(f"{path} is damaged, rows or fields are missing; delete it") from error
