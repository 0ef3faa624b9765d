"""How lambda is chosen, iteration by iteration."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reproduce.objectives.base import Terms


class LambdaRule(Protocol):
    """Gives the lambda of a step from that of the step before and the two terms."""

    def __call__(self, lam: Tensor, terms: Terms, /) -> Tensor:
        """Return the lambda to take this step with; float64 scalar, without gradient."""


def constant(lam: Tensor, _: Terms) -> Tensor:
    """Keep lambda."""
    return lam


@dataclass(frozen=True)
class WidthAdjusted:
    """Width adjusted regularisation: steer natural / robust towards zeta.

    Parameters
    ----------
    zeta : float
        Ratio of natural risk to robust regularisation of the tuned thin network.
    alpha : float
        How fast lambda follows.

    Source: Wu et al. 2021, Algorithm 1.

    Examples
    --------
    A robust term that is too large for its share raises lambda:

    >>> terms = Terms(torch.tensor(1.0), torch.tensor(0.1))
    >>> WidthAdjusted(zeta=30.0, alpha=0.1)(torch.tensor(6.0), terms)
    tensor(8.)
    """

    zeta: float
    alpha: float

    def __call__(self, lam: Tensor, terms: Terms) -> Tensor:
        """Return max(lambda + alpha (zeta - natural / robust), 0).

        A robust term of exactly zero has the limit of that: lambda 0.
        """
        natural, robust = (term.detach().to(lam.dtype) for term in terms)
        ratio = torch.where(robust > 0, natural / robust, torch.inf)
        return (lam + self.alpha * (self.zeta - ratio)).clamp(min=0)
