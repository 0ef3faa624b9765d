"""One step of adversarial training."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.objectives import Objective, Terms
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


class TermsOf(nn.Module):
    """A network and the objective's terms on a batch as one module.

    However often the terms call the network, several processes then average its
    gradients once.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    objective : Objective
        Gives the terms.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; the network is in train mode."""
        return self._objective.terms(self.model, images, adversarial, labels)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    lam: Tensor,
    stream: torch.Generator,
    terms_of: nn.Module | None = None,
    weight: float = 1.0,
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
    terms_of : torch.nn.Module, optional
        `TermsOf` the network, in what averages gradients over processes.
    weight : float
        Of this batch among those of the other processes: 1 if all have one size.
    """
    terms_of = TermsOf(model, recipe.objective) if terms_of is None else terms_of
    low = torch.autocast(
        images.device.type,
        torch.bfloat16,
        enabled=recipe.precision == "bf16",
        # weights that a perturbation has moved must be cast again
        cache_enabled=False,
    )
    with low:
        found = recipe.objective.perturb(model, images, labels, recipe.attack, stream)
    model.train()

    def terms() -> Terms:
        with low:
            natural, robust = terms_of(images, found.images, labels)
        return Terms(weight * natural, weight * robust)

    def loss() -> Tensor:
        natural, robust = terms()
        return natural + lam.to(natural.dtype) * robust

    with perturbed_weights(model, loss, recipe.gamma) if recipe.gamma else nullcontext():
        natural, robust = step = terms()
        lam = recipe.rule(lam, step)
        optimizer.zero_grad(set_to_none=True)
        (natural + lam.to(natural.dtype) * robust).backward()
        optimizer.step()
    norm = weight * found.gradient_norm.mean()
    return StepResult(natural.detach(), robust.detach(), norm, lam)
