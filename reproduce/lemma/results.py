"""What was found when the lemma was examined: rows, fits, and the file that holds both."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from reproduce import paths
from reproduce.config import Config, Lemma
from reproduce.errors import HarnessError
from reproduce.files import read_json
from reproduce.lemma.fit import Fit, fit_exponents, in_words
from reproduce.specs import lemma_digest

# the two ways of the input dimension
WAYS = {"fixed": "d fixed", "growing": "d = m"}


@dataclass(frozen=True)
class Quantity:
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
# a row a network: which, how far points and weights may move by the condition, and the norms
COLUMNS = ("way", "m", "H", "d", "seed", "allowance", "fitted", *QUANTITIES)


@dataclass(frozen=True)
class Examination:
    """The norms of every network drawn, and what was fitted to them.

    Attributes
    ----------
    rows : pandas.DataFrame
        Columns `COLUMNS`, a row a network.  `allowance` is the most that
        R / sqrt(m) + epsilon may be; only rows with `fitted` enter the fits.
    fits : dict
        By way and quantity.
    about : dict
        Seconds, hardware, versions and commit.
    """

    rows: pd.DataFrame
    fits: dict[tuple[str, str], Fit]
    about: dict[str, Any]


def examination(rows: pd.DataFrame, about: dict[str, Any]) -> Examination:
    """Fit every quantity for both ways of the input dimension.

    Raises
    ------
    HarnessError
        If a norm is zero or there are too few networks.
    """
    fits = {
        (way, quantity): fit_exponents(rows[(rows["way"] == way) & rows["fitted"]], quantity)
        for way in WAYS
        for quantity in QUANTITIES
    }
    return Examination(rows, fits, about)


def to_json(lemma: Lemma, digest: str, found: Examination) -> dict[str, Any]:
    """Return the content of lemma.json."""
    fits = [
        {
            "way": way,
            "quantity": quantity,
            "covered": QUANTITIES[quantity].covered,
            **asdict(fit),
            "bound": fit.bound,
            "tight_in_width": fit.width.tightness,
            "tight_in_depth": fit.depth.tightness,
            "summary": in_words(fit),
        }
        for (way, quantity), fit in found.fits.items()
    ]
    return {
        "digest": digest,
        "settings": lemma.model_dump(mode="json"),
        **found.about,
        "fits": fits,
        "rows": found.rows.to_dict("records"),
    }


def read_examination(config: Config) -> Examination | None:
    """Read lemma.json; None if there is none, or one of other settings.

    Raises
    ------
    HarnessError
        If the file is damaged.
    """
    path = paths.lemma_file(config)
    if not path.exists():
        return None
    value = read_json(path)
    if value.get("digest") != lemma_digest(config):
        return None
    try:
        rows = pd.DataFrame(value["rows"])[list(COLUMNS)]
        possible = bool((rows[["m", "H"]] >= 1).all(axis=None))
        about = {key: value[key] for key in ("seconds", "hardware", "versions", "commit")}
        if possible:
            return examination(rows, about)
    except (KeyError, ValueError, TypeError) as error:
        raise HarnessError(f"{path} is damaged, rows or fields are missing; delete it") from error
    raise HarnessError(f"{path} is damaged, it has networks without units; delete it")
