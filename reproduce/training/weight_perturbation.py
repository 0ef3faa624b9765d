"""Adversarial weight perturbation (Wu, Xia and Wang 2020), around any objective's step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def perturb_weights(model: nn.Module, loss: Callable[[], Tensor], gamma: float) -> list[Tensor]:
    """Move the weights up the loss, and return by how much each was moved.

    Every tensor w of more than one dimension (convolutions and linear layers) is moved
    by gamma ||w|| g / ||g||, g its gradient.  The official code finds g as a step of
    plain gradient ascent of a copy, whose length cancels.  BatchNorm's statistics do
    not see the forward passes this takes.

    Parameters
    ----------
    model : torch.nn.Module
        In train mode.
    loss : callable
        Computes the whole loss of the step with the network as it is.
    gamma : float
        Size of the perturbation as a fraction of the norm of the weights.

    Source: Wu, Xia and Wang 2020, equation (8), with the constants of the official code.
    """
    weights = _perturbed(model)
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = torch.autograd.grad(loss(), weights)
    with torch.no_grad():
        for buffer, before in statistics:
            buffer.copy_(before)
        moves = [
            gamma * weight.norm() / (gradient.norm() + 1e-20) * gradient
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
        for weight, move in zip(weights, moves, strict=True):
            weight.add_(move)
    return moves


@torch.no_grad()
def restore_weights(model: nn.Module, moves: Sequence[Tensor]) -> None:
    """Take the moves of `perturb_weights` off the weights, which may have been updated since."""
    for weight, move in zip(_perturbed(model), moves, strict=True):
        weight.sub_(move)


def _perturbed(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
