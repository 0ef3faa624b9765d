"""Projected gradient descent in an l_inf ball (Madry et al. 2018)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.attacks.losses import Loss


class PGDResult(NamedTuple):
    """What the attack found.

    Attributes
    ----------
    images : Tensor
        The last iterate, shape of the images, in the ball and in [0, 1].
    gradient_norm : Tensor
        Shape (B,): largest l1 norm of the input gradient of the image's loss over
        the steps, the local Lipschitz estimate of the paper's Figure 4.
    """

    images: Tensor
    gradient_norm: Tensor


def pgd(
    model: nn.Module,
    images: Tensor,
    loss: Loss,
    start: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
) -> PGDResult:
    """Maximise a loss over the l_inf ball by signed gradient steps.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images to logits; wrap the call in `frozen` to spare its parameters.
    images : Tensor
        Centres of the balls, in [0, 1], shape (B, channels, H, W).
    loss : Loss
        Maps logits to one value an image.
    start : Tensor
        First iterate.  It is not projected here: only the results of steps are.
    epsilon, step_size : float
        Radius and step in pixel units.
    steps : int
        Number of steps, at least 1.
    """
    # projection to the ball and then to [0, 1] is one clamp between these
    lower = (images - epsilon).clamp_(min=0.0)
    upper = (images + epsilon).clamp_(max=1.0)
    current = start.detach()
    norm = torch.zeros(len(images), dtype=images.dtype, device=images.device)
    for _ in range(steps):
        current.requires_grad_(True)
        with torch.enable_grad():
            # the sum keeps each image's gradient its own
            (gradient,) = torch.autograd.grad(loss(model(current)).sum(), current)
        norm = torch.maximum(norm, gradient.abs().flatten(1).sum(1))
        current = current.detach().add(gradient.sign(), alpha=step_size)
        current = torch.clamp(current, lower, upper)
    return PGDResult(current, norm)
