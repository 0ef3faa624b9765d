"""Training steps as the published codes formulate them, to measure ours against.

Each does what its official code does and nothing more: images as they come (contiguous), clean
logits computed wherever they are used, the parameters' graph kept through the attack, plain SGD.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reproduce.benchmarks.reference_losses import (
    cross_entropy_ascent,
    generalised,
    kl_ascent,
    mart,
    trades,
    trades_adversarial_first,
)

# constants of the official code of AWP
_PROXY_RATE, _AWP_TINY = 0.01, 1e-20

AttackLoss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
StepLoss = Callable[[nn.Module, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Constants:
    """Numbers of a step.

    Attributes
    ----------
    epsilon, step_size, start_sigma : float
        Of the attack on the images, pixels in [0, 1].
    steps : int
        Steps of that attack.
    lam : float
        Weight of the second term.
    gamma : float
        Size of the perturbation of the weights, as a fraction of their norm.
    """

    epsilon: float = 0.031
    step_size: float = 0.007
    start_sigma: float = 0.001
    steps: int = 10
    lam: float = 6.0
    gamma: float = 0.005


@dataclass(frozen=True)
class Reference:
    """A published formulation of a step.

    Attributes
    ----------
    source : str
        The code it follows.
    attack_loss : callable
        What the attack ascends: (network, x', x, labels) -> scalar.
    loss : callable
        What the step descends: (network, x, x', labels, lambda) -> scalar.
    attack_passes, loss_passes : int
        Forward-pass equivalents of an attack step, and of the loss with its gradient.
    proxy_loss : callable, optional
        What the copy of the network ascends, of adversarial weight perturbation.
    """

    source: str
    attack_loss: AttackLoss
    loss: StepLoss
    attack_passes: int
    loss_passes: int
    proxy_loss: StepLoss | None = None

    def passes(self, steps: int) -> int:
        """Return the forward-pass equivalents of a step, an image; a full backward is two."""
        twice = 1 if self.proxy_loss is None else 2
        return self.attack_passes * steps + twice * self.loss_passes


def reference_step(
    reference: Reference,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    constants: Constants,
    stream: torch.Generator,
    proxy: nn.Module | None = None,
) -> Tensor:
    """Take one step as a published code does.

    Parameters
    ----------
    reference : Reference
        Which.
    model : torch.nn.Module
        Left in train mode.
    optimizer : torch.optim.Optimizer
        Over its parameters.
    images, labels : Tensor
        Images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
    constants : Constants
        Numbers of the step.
    stream : torch.Generator
        Draws the attack's start; on the device of the images.
    proxy : torch.nn.Module, optional
        A copy of the network, for adversarial weight perturbation.

    Returns
    -------
    Tensor
        The loss before the update.
    """
    lam = constants.lam
    adversarial = _attack(reference.attack_loss, model, images, labels, constants, stream)
    model.train()
    moves: dict[str, Tensor] = {}
    proxy_loss = reference.proxy_loss
    if proxy_loss is not None and proxy is not None:
        moves = _weight_moves(
            model, proxy, lambda copied: -proxy_loss(copied, images, adversarial, labels, lam)
        )
    _add(model, moves, constants.gamma)
    optimizer.zero_grad()
    loss = reference.loss(model, images, adversarial, labels, lam)
    loss.backward()
    optimizer.step()
    _add(model, moves, -constants.gamma)
    return loss.detach()


def make_proxy(model: nn.Module) -> nn.Module:
    """Return the copy that adversarial weight perturbation keeps beside a network."""
    return copy.deepcopy(model)


def _attack(
    loss: AttackLoss,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    constants: Constants,
    stream: torch.Generator,
) -> Tensor:
    """Signed gradient ascent in eval mode; the ball first, then the range of pixels."""
    model.eval()
    current = images + constants.start_sigma * torch.empty_like(images).normal_(generator=stream)
    low, high = images - constants.epsilon, images + constants.epsilon
    for _ in range(constants.steps):
        current = current.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(model, current, images, labels), [current])
        current = current.detach() + constants.step_size * slope.sign()
        current = torch.min(torch.max(current, low), high).clamp(0.0, 1.0)
    return current


def _weight_moves(
    model: nn.Module, proxy: nn.Module, loss: Callable[[nn.Module], Tensor]
) -> dict[str, Tensor]:
    """Let the copy take one step of plain SGD down `loss`; scale how far each tensor went."""
    proxy.load_state_dict(model.state_dict())
    proxy.train()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=_PROXY_RATE)
    optimizer.zero_grad()
    loss(proxy).backward()
    optimizer.step()
    moved = dict(proxy.named_parameters())
    moves = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                difference = moved[name] - weight
                moves[name] = weight.norm() / (difference.norm() + _AWP_TINY) * difference
    return moves


def _add(model: nn.Module, moves: dict[str, Tensor], factor: float) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in moves:
                weight.add_(moves[name], alpha=factor)


# an attack step of TRADES is two forwards and an input gradient; each train-mode forward is
# followed by a full backward
REFERENCES = {
    "trades": Reference("official TRADES code", kl_ascent, trades, 3, 9),
    "awp-trades": Reference(
        "official AWP code", kl_ascent, trades_adversarial_first, 3, 9, proxy_loss=trades
    ),
    "at": Reference(
        "the paper's authors' code and appendix D", cross_entropy_ascent, generalised, 2, 6
    ),
    "mart": Reference("official MART code", cross_entropy_ascent, mart, 2, 6),
}
