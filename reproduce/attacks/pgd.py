"""PGD and FGSM, and the losses that they maximise: functions from logits to a value an image."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Loss = Callable[[Tensor], Tensor]


def cross_entropy(labels: Tensor) -> Loss:
    """Return the cross entropy of the true labels, shape (B,) -> loss of shape (B,)."""
    return lambda logits: F.cross_entropy(logits, labels, reduction="none")


def kl_divergence(clean_logits: Tensor) -> Loss:
    """Return KL(softmax(clean) || softmax(logits)), summed over the classes.

    Parameters
    ----------
    clean_logits : Tensor
        Logits of the unperturbed images, shape (B, classes); gradients flow
        through them if they carry any.
    """
    target = F.log_softmax(clean_logits, 1)

    def loss(logits: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(logits, 1), target, reduction="none", log_target=True).sum(1)

    return loss


def margin(labels: Tensor, mask: Literal["proper", "zero"] = "proper") -> Loss:
    """Return the C&W loss min(max z_j - z_y over the other classes j, 0), shape (B,).

    It is 0, and so is its gradient, wherever the attack has succeeded: PGD then stays.

    Parameters
    ----------
    labels : Tensor
        True classes y, shape (B,).
    mask : {"proper", "zero"}
        How y is kept out of the maximum; "zero" puts 0 in its place, so that the best
        other logit is never below 0.

    Source: Carlini and Wagner 2017, with confidence 0; "zero" is the paper's authors' code.
    """
    hidden = 0.0 if mask == "zero" else float("-inf")
    column = labels[:, None]

    def loss(logits: Tensor) -> Tensor:
        true = logits.gather(1, column)[:, 0]
        other = logits.scatter(1, column, hidden).amax(1)
        return (other - true).clamp(max=0)

    return loss


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

    Source: Madry et al. 2018.

    Examples
    --------
    >>> noise = 2 * torch.rand_like(images) - 1  # doctest: +SKIP
    >>> with frozen(model):  # doctest: +SKIP
    ...     start, loss = images + 8 / 255 * noise, cross_entropy(labels)
    ...     found = pgd(model, images, loss, start, epsilon=8 / 255, step_size=0.007, steps=20)
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

    Two things differ from one step of `pgd`: it is the perturbation that moves and is
    clamped, so the images are clamped to [0, 1] only where the network sees them; and the
    gradient is taken through that clamp, so that pixels which the start pushed out of
    [0, 1] stay where it put them.

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

    Source: Wong, Rice and Kolter 2020, and their code for ImageNet.
    """
    start = noise.detach().requires_grad_(True)
    with torch.enable_grad():
        value = loss(model((images + start).clamp(0, 1))).sum()
        (gradient,) = torch.autograd.grad(value, start)
    norm = gradient.abs().flatten(1).sum(1)
    moved = start.detach().add(gradient.sign(), alpha=step_size).clamp_(-epsilon, epsilon)
    return PGDResult((images + moved).clamp_(0, 1), norm)
