"""What single methods need beside the training settings that all share."""

from typing import Annotated

from pydantic import Field

from reproduce.config.fields import (
    ArchitectureName,
    Count,
    Lambda,
    Positive,
    Section,
    Seed,
    Zeta,
)


class WAR(Section):
    """Width adjusted regularisation (Algorithm 1 of the paper)."""

    zeta: Zeta = "measured"
    """Ratio of natural risk to robust regularisation that lambda is steered to: a number, or
    measured, over the last epoch of the tuned thin network. Paper: measured, about 30."""
    alpha: Positive = 0.1
    """How fast lambda follows the ratio. Paper: 0.1."""
    thin_architecture: ArchitectureName = "wrn-34-0.5"
    """The thin network that lambda was tuned on, trained with TRADES on the same data set."""
    thin_lambda: Lambda = 6.0
    """Its tuned lambda."""
    thin_seed: Seed = 0
    """Its training seed."""


class AWP(Section):
    """Adversarial weight perturbation (Wu, Xia and Wang 2020)."""

    gamma: Positive = 0.005
    """Size of the perturbation of a weight tensor as a fraction of its norm. Official: 0.005."""
    first_epoch: Count = 10
    """Epoch, from 1, with which the perturbation begins. Official: 10."""


class Mixed(Section):
    """Batches of labelled and of pseudo-labelled extra images (RST, Carmon et al. 2019)."""

    extra_fraction: Annotated[Positive, Field(lt=1)] = 0.5
    """Part of a batch that comes from the extra images. Official: 0.5."""
