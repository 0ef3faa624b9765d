"""One step of adversarial training."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.training.recipe import Recipe
from reproduce.training.weight_perturbation import perturbed_weights


class StepResult(NamedTuple):
    """What a step saw before it moved the weights; scalars on the device.

    Attributes
    ----------
    natural, robust : Tensor
        Natural risk and robust regularisation, batch means.
    lipschitz : Tensor
        Batch mean of the largest l1 norm of the input gradient over the attack steps.
    lam : Tensor
        The lambda of the step, float64.
    """

    natural: Tensor
    robust: Tensor
    lipschitz: Tensor
    lam: Tensor


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    lam: Tensor,
    stream: torch.Generator,
) -> StepResult:
    """Attack a batch and take one optimiser step on natural + lambda * robust.

    Parameters
    ----------
    model : torch.nn.Module
        Left in train mode.
    optimizer : torch.optim.Optimizer
        Over the network's parameters.
    recipe : Recipe
        The method's parts.
    images, labels : Tensor
        Augmented images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
    lam : Tensor
        Lambda of the step before, or the first one; float64 scalar on the device.
    stream : torch.Generator
        Draws the attack's start; on the device of the images.
    """
    objective = recipe.objective
    adversarial, norms = objective.perturb(model, images, labels, recipe.attack, stream)
    model.train()

    def loss() -> Tensor:
        terms = objective.terms(model, images, adversarial, labels)
        return terms.natural + lam.to(terms.natural.dtype) * terms.robust

    with perturbed_weights(model, loss, recipe.gamma) if recipe.gamma else nullcontext():
        terms = objective.terms(model, images, adversarial, labels)
        lam = recipe.rule(lam, terms)
        optimizer.zero_grad(set_to_none=True)
        (terms.natural + lam.to(terms.natural.dtype) * terms.robust).backward()
        optimizer.step()
    return StepResult(terms.natural.detach(), terms.robust.detach(), norms.mean(), lam)
