"""How lambda is chosen, iteration by iteration, and the zeta that WAR steers to."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.runs import require_run
from reproduce.experiments.spec import training_spec, zeta_source
from reproduce.objectives.base import Terms

# gives the lambda of a step, a float64 scalar without gradient, from the one before and both terms
LambdaRule = Callable[[Tensor, Terms], Tensor]


def constant(lam: Tensor, _: Terms) -> Tensor:
    """Keep lambda."""
    return lam


@dataclass(frozen=True)
class WidthAdjusted:
    """Width adjusted regularisation: steer natural / robust towards zeta.

    Parameters
    ----------
    zeta : float
        Ratio of natural risk to robust regularisation of the tuned narrow network.
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


def find_zeta(config: Config, cell: Cell) -> float | None:
    """Return the ratio that a cell's lambda is steered to; None if its lambda is constant.

    Measured, it is the mean natural risk over the mean robust regularisation in the last
    epoch of the narrow network's training; HarnessError if it cannot be.
    """
    spec, source = training_spec(config, cell), zeta_source(config, cell)
    if spec.war is None:
        return None
    if source is None:
        return float(spec.war.zeta)
    folder = paths.cell_folder(config, source)
    try:
        run = require_run(config, source)
    except HarnessError as error:
        raise HarnessError(f"{cell} measures zeta from another run: {error}") from error
    path = paths.trace_file(folder)
    if sha256_of_file(path) != run.trace:
        raise HarnessError(f"{path} is damaged; `reproduce train {source}` makes it anew")
    trace = pd.read_parquet(path)
    last = trace[trace["epoch"] == trace["epoch"].max()].mean()
    if not last["robust_regularization"] > 0:
        raise HarnessError(f"{cell}: the robust regularisation of {source} vanished; set war.zeta")
    return float(last["natural_risk"] / last["robust_regularization"])
