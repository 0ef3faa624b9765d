"""What the published codes ascend in their attacks and descend in their steps.

Each is a scalar of a network, clean images x and perturbed ones x', shape (B, channels, H, W), and
classes, shape (B,).  The order in which the network is called is that of the codes: BatchNorm's
statistics depend on it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
