"""On which networks and how thoroughly Lemma 4.2 is examined."""

import math
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, model_validator

from reproduce.config.fields import Count, Positive, Section, Seed

T = TypeVar("T")


def _several(values: list[T]) -> list[T]:
    """Accept at least two values, none of them twice: a slope or a spread needs as many."""
    if len(set(values)) < 2:
        raise ValueError("it needs at least two different values")
    if len(set(values)) < len(values):
        raise ValueError("it lists a value twice")
    return values


class Lemma(Section):
    """Lemma 4.2 on random fully connected networks, on the CPU."""

    widths: Annotated[list[Annotated[Count, Field(ge=2)]], AfterValidator(_several)] = Field(
        default=[20, 50, 100, 200, 500, 1000, 2000]
    )
    """Widths m of the hidden layers."""
    depths: Annotated[list[Count], AfterValidator(_several)] = Field(default=[1, 2, 4, 8])
    """Numbers H of hidden layers."""
    seeds: Annotated[list[Seed], AfterValidator(_several)] = Field(default=[0, 1, 2, 3, 4])
    """Seeds; each draws every network anew."""
    dimension: Count = 20
    """Input dimension d where it is fixed; not above the smallest width, as the lemma wants. Where
    it grows it is m."""
    constant: Positive = 1.0
    """The c of the lemma's condition R/sqrt(m) + epsilon <= c / (H^6 log(m)^3). The paper says only
    that it is sufficiently small."""
    wide_enough: Positive = 8.0
    """Constant k of the lemma's other condition, m >= Omega(H log H), read as m >= k H (1 + log H).
    Narrower networks are drawn and shown, but not fitted. The paper leaves it open; with 8 a finite
    width lowers the mean logarithm of the norm, by about 5 H / (4 m), by less than 0.1 on the
    default widths."""
    candidates: Count = 32
    """Points that are tried at once in the search for the largest gradient."""
    rounds: Count = 3
    """Rounds of the search that follow the first, each around the best point so far."""
    wide_epsilon: Positive = 0.5
    """Radius of a wider ball around x, outside the lemma's condition; x has norm 1."""
    wide_radius: Positive = 0.1
    """How far the weights of a layer may move beside that, Frobenius norm, outside it as well."""

    @model_validator(mode="after")
    def _in_the_lemma(self) -> "Lemma":
        if self.dimension > min(self.widths):
            raise ValueError(
                f"lemma.dimension is {self.dimension}, above {min(self.widths)}, the smallest of "
                "lemma.widths; the lemma holds for m >= d"
            )
        for depth in self.depths:
            if sum(self.is_wide_enough(width, depth) for width in self.widths) < 2:
                raise ValueError(
                    f"lemma.depths has {depth}, for which fewer than two of lemma.widths "
                    f"{self.widths} reach wide_enough x H (1 + log H) = {self.narrowest(depth):.0f}"
                )
        return self

    def allowance(self, width: int, depth: int) -> float:
        """Return the most that R / sqrt(m) + epsilon may be by the lemma's condition."""
        return self.constant / (depth**6 * math.log(width) ** 3)

    def narrowest(self, depth: int) -> float:
        """Return the least width at which networks of a depth are fitted."""
        return self.wide_enough * depth * (1 + math.log(depth))

    def is_wide_enough(self, width: int, depth: int) -> bool:
        """Say whether networks of a width and depth are fitted."""
        return width >= self.narrowest(depth)
