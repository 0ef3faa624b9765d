"""What came of testing a statement of the paper."""

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "fails", "too little data"]
Unit = Literal["seeds", "images"]


@dataclass(frozen=True)
class Effect:
    """One number behind a claim.

    Attributes
    ----------
    what : str
        What it is, so that the claim says it lies above `threshold`.
    value, low, high : float
        The number and its 95 % interval; NaN where there is none.
    unit : str
        Of the number: "points" of percent, "nats" ...
    threshold : float or None
        What the claim holds it against; None for what is shown and not judged.
    seeds, images : int
        Training seeds behind each side (the fewest), and images that all its records
        have; 0 where they play no part.
    p_value : float or None
        Of the two-sided test that the number is `threshold`: t over seeds, McNemar's
        over images.
    detail : str
        What else there is to say.
    """

    what: str
    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = "points"
    threshold: float | None = 0.0
    seeds: int = 0
    images: int = 0
    p_value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """What a test of a claim found.

    Attributes
    ----------
    verdict : {"holds", "fails", "too little data"}
        Whether the results show what the claim says.
    summary : str
        The effect in numbers, in a sentence or two.
    unit : {"seeds", "images"}
        What the intervals speak of: other training seeds, or other images for these
        very networks.
    effects : tuple of Effect
        The numbers behind it, the one that decides first.
    missing : tuple of str
        Runs and records that belong to it and are not there, or cannot be used.
    """

    verdict: Verdict
    summary: str
    unit: Unit = "seeds"
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, tested.

    Attributes
    ----------
    name : str
        What it goes by.
    statement, source : str
        What the paper says, in other words, and where.
    verdict, summary, unit, effects, missing
        As `Finding` has them.
    """

    name: str
    statement: str
    source: str
    verdict: Verdict
    summary: str
    unit: Unit
    effects: tuple[Effect, ...]
    missing: tuple[str, ...]


def verdict_of(low: float, high: float, threshold: float) -> Verdict:
    """Judge a number that is said to lie above a threshold by its interval, NaN for none."""
    if low > threshold:
        return "holds"
    return "fails" if high < threshold else "too little data"
