"""Training steps as the published codes take them, to time ours beside.

Each does what its official code does and nothing more: contiguous images, clean logits computed
wherever they are used, the parameters' graph kept through the attack, plain SGD.  The order in
which the network is called is the codes' own, because BatchNorm's statistics depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# constants of the official code of AWP
_PROXY_RATE, _AWP_TINY = 0.01, 1e-20
# constants of the official code of MART
_MART_SLACK, _MART_TINY, _MART_DOUBT = 1.0001, 1e-12, 1.0000001


def _divergence(clean: Tensor, perturbed: Tensor, reduction: str) -> Tensor:
    return F.kl_div(F.log_softmax(perturbed, 1), F.softmax(clean, 1), reduction=reduction)


def kl_ascent(model: nn.Module, adversarial: Tensor, images: Tensor, _: Tensor) -> Tensor:
    """Return what the attack of TRADES ascends; the clean prediction is made anew."""
    perturbed = model(adversarial)
    return _divergence(model(images), perturbed, "sum")


def cross_entropy_ascent(
    model: nn.Module, adversarial: Tensor, _: Tensor, labels: Tensor
) -> Tensor:
    """Return what the attacks of MART and of adversarial training ascend."""
    return F.cross_entropy(model(adversarial), labels)


def trades(
    model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor, lam: float
) -> Tensor:
    """Return the loss of TRADES; train-mode forwards: clean, adversarial, clean."""
    natural = F.cross_entropy(model(images), labels)
    perturbed = model(adversarial)
    return natural + lam * _divergence(model(images), perturbed, "batchmean")


def trades_adversarial_first(
    model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor, lam: float
) -> Tensor:
    """Return it as the AWP code has it; forwards: adversarial, clean, clean."""
    perturbed = model(adversarial)
    robust = _divergence(model(images), perturbed, "batchmean")
    return F.cross_entropy(model(images), labels) + lam * robust


def generalised(
    model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor, lam: float
) -> Tensor:
    """Return the paper's generalised loss; train-mode forwards: adversarial, clean."""
    perturbed = F.cross_entropy(model(adversarial), labels, reduction="none")
    clean = F.cross_entropy(model(images), labels, reduction="none")
    return clean.mean() + lam * F.relu(perturbed - clean).mean()


def mart(
    model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor, lam: float
) -> Tensor:
    """Return the loss of MART; train-mode forwards: clean, adversarial."""
    clean, perturbed = F.softmax(model(images), 1), model(adversarial)
    likely = F.softmax(perturbed, 1)
    first, second = likely.topk(2, dim=1).indices.unbind(1)
    rival = torch.where(first == labels, second, first)
    margin = F.nll_loss((_MART_SLACK - likely + _MART_TINY).log(), rival)
    boosted = F.cross_entropy(perturbed, labels) + margin
    doubt = _MART_DOUBT - clean.gather(1, labels[:, None])[:, 0]
    divergence = F.kl_div((likely + _MART_TINY).log(), clean, reduction="none").sum(1)
    return boosted + lam * (divergence * doubt).mean()


AttackLoss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
StepLoss = Callable[[nn.Module, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Constants:
    """Numbers of a step: the attack in pixels of [0, 1], lambda, and AWP's gamma."""

    epsilon: float = 0.031
    step_size: float = 0.007
    start_sigma: float = 0.001
    steps: int = 10
    lam: float = 6.0
    gamma: float = 0.005


@dataclass(frozen=True)
class Reference:
    """A published step: what its attack ascends and it descends, and forward passes of each.

    `proxy_loss` is what AWP's copy of the network ascends.
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
    """Take one step as a published code does; return the loss before the update.

    The network stays in train mode.  `stream`, on the device of the images, draws the start of
    the attack; `proxy` is the copy of the network that AWP perturbs.
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
