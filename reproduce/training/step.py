"""One step of adversarial training."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.attacks import PGDResult, frozen, pgd
from reproduce.config import TrainingAttack
from reproduce.objectives import Objective


class StepResult(NamedTuple):
    """What a step saw before it moved the weights; scalars on the device.

    Attributes
    ----------
    natural, robust : Tensor
        Natural risk and robust regularisation, batch means.
    lipschitz : Tensor
        Batch mean of the largest l1 norm of the input gradient over the attack steps.
    """

    natural: Tensor
    robust: Tensor
    lipschitz: Tensor


def perturb(
    model: nn.Module,
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    attack: TrainingAttack,
    stream: torch.Generator,
) -> PGDResult:
    """Attack a batch in eval mode, from a small Gaussian start around each image."""
    noise = torch.empty_like(images).normal_(generator=stream)
    with frozen(model):
        return pgd(
            model,
            images,
            objective.attack_loss(model, images, labels),
            images + attack.start_sigma * noise,
            epsilon=attack.epsilon,
            step_size=attack.step_size,
            steps=attack.steps,
        )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    lam: float,
    attack: TrainingAttack,
    stream: torch.Generator,
) -> StepResult:
    """Attack a batch and take one optimiser step on natural + lambda * robust.

    Parameters
    ----------
    model : torch.nn.Module
        Left in train mode.
    optimizer : torch.optim.Optimizer
        Over the network's parameters.
    objective : Objective
        Gives the two terms and the attack's loss.
    images, labels : Tensor
        Augmented images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
    lam : float
        Robust regularisation parameter lambda.
    attack : TrainingAttack
        The attack's settings.
    stream : torch.Generator
        Draws the attack's start; on the device of the images.
    """
    found = perturb(model, objective, images, labels, attack, stream)
    model.train()
    terms = objective.terms(model, images, found.images, labels)
    loss = terms.natural + lam * terms.robust
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return StepResult(terms.natural.detach(), terms.robust.detach(), found.gradient_norm.mean())
