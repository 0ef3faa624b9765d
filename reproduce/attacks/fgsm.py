"""One signed step from a random start, as Fast-AT makes its examples (Wong et al. 2020)."""

import torch
from torch import Tensor, nn

from reproduce.attacks.losses import Loss
from reproduce.attacks.pgd import PGDResult


def fgsm(
    model: nn.Module,
    images: Tensor,
    loss: Loss,
    noise: Tensor,
    *,
    epsilon: float,
    step_size: float,
) -> PGDResult:
    """Move a perturbation by one signed gradient step and keep it in the l_inf ball.

    Two things differ from one step of `pgd`, and follow the code of Fast-AT for
    ImageNet: it is the perturbation that moves and is clamped, so the images are cut
    to [0, 1] only where the network sees them; and the gradient is taken through
    that cut, so that pixels which the start pushed out of [0, 1] stay where it put
    them.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images to logits.  It stays in its mode: in train mode, as Fast-AT has it,
        BatchNorm normalises by the batch, and its running statistics move.
    images : Tensor
        Centres of the balls, in [0, 1], shape (B, channels, H, W).
    loss : Loss
        Maps logits to one value an image.
    noise : Tensor
        The perturbation to start from, in the ball, shape of the images.
    epsilon, step_size : float
        Radius and step in pixel units.

    Returns
    -------
    PGDResult
        The images under attack, in [0, 1] and in the ball, and for each the l1 norm
        of the gradient of the summed loss.  With BatchNorm in train mode that
        gradient holds what the image does to the others of its batch.
    """
    start = noise.detach().requires_grad_(True)
    with torch.enable_grad():
        value = loss(model((images + start).clamp(0, 1))).sum()
        (gradient,) = torch.autograd.grad(value, start)
    norm = gradient.abs().flatten(1).sum(1)
    moved = start.detach().add(gradient.sign(), alpha=step_size).clamp_(-epsilon, epsilon)
    return PGDResult((images + moved).clamp_(0, 1), norm)
