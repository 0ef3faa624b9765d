"""How a run's steps are taken: the parts that its method combines, built from its spec."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reproduce.catalogue import METHODS
from reproduce.config import Precision, Train, TrainingAttack
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
    precision : {"float32", "float64", "tf32", "bf16"}
        Of forward and backward passes.
    """

    objective: Objective
    attack: TrainingAttack
    rule: LambdaRule = constant
    gamma: float = 0.0
    precision: Precision = "float32"


def build_recipe(spec: TrainingSpec, zeta: float | None) -> Recipe:
    """Return the parts of a run's steps.

    Parameters
    ----------
    spec : TrainingSpec
        What to compute.
    zeta : float or None
        The ratio that WAR steers to; None if lambda is constant.

    Raises
    ------
    ValueError
        If lambda is WAR's and there is no zeta: it would stay where it starts.
    """
    rule: LambdaRule = constant
    if spec.war is not None:
        if zeta is None:
            raise ValueError(f"{spec.cell} needs a zeta")
        rule = WidthAdjusted(zeta, spec.war.alpha)
    return Recipe(
        build_objective(METHODS[spec.parsed.method].objective, spec.train),
        spec.train.attack,
        rule,
        0.0 if spec.awp is None else spec.awp.gamma,
        spec.train.precision,
    )


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.SGD:
    """Return SGD over a network's parameters; BatchNorm's may be spared the weight decay.

    Not PyTorch's fused SGD: it takes weight and gradient by their places in memory and so
    updates wrongly, without a word, where their layouts differ.  A GPU's default updates
    all tensors together as well.
    """
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if not train.decay_norm:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        spared = [parameter for norm in norms for parameter in norm.parameters()]
        known = {id(parameter) for parameter in spared}
        decayed = [parameter for parameter in model.parameters() if id(parameter) not in known]
        groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD(
        groups,
        lr=train.learning_rate,
        momentum=train.momentum,
        nesterov=train.nesterov,
        weight_decay=train.weight_decay,
    )
