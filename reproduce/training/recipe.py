"""How a run's steps are taken: the parts that its method combines, built from its spec."""

from dataclasses import dataclass

import torch
from torch import nn

from reproduce.catalogue import METHODS
from reproduce.config import Train, TrainingAttack
from reproduce.objectives import Objective, build_objective
from reproduce.specs import TrainingSpec
from reproduce.training.lambda_rules import LambdaRule, WidthAdjusted, constant


@dataclass(frozen=True)
class Recipe:
    """The parts of a step.

    Attributes
    ----------
    objective : Objective
        Gives the two terms and the attack on the images.
    attack : TrainingAttack
        That attack's settings.
    rule : LambdaRule
        Gives the lambda of each step.
    gamma : float
        Size of the perturbation of the weights as a fraction of their norm; 0 for none.
    """

    objective: Objective
    attack: TrainingAttack
    rule: LambdaRule = constant
    gamma: float = 0.0


def build_recipe(spec: TrainingSpec, zeta: float | None) -> Recipe:
    """Return the parts of a run's steps.

    Parameters
    ----------
    spec : TrainingSpec
        What to compute.
    zeta : float or None
        The ratio that WAR steers to; None if lambda is constant.
    """
    return Recipe(
        build_objective(METHODS[spec.parsed.method].objective, spec.train),
        spec.train.attack,
        constant if spec.war is None or zeta is None else WidthAdjusted(zeta, spec.war.alpha),
        0.0 if spec.awp is None else spec.awp.gamma,
    )


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.SGD:
    """Return SGD over a network's parameters."""
    return torch.optim.SGD(
        model.parameters(),
        lr=train.learning_rate,
        momentum=train.momentum,
        nesterov=train.nesterov,
        weight_decay=train.weight_decay,
    )
