"""The objectives and the attack written out plainly, in whatever precision the tensors have.

Straight from the formulas: no shared code with the package, one line for one step, the
clean prediction computed again wherever it is used, BatchNorm and SGD spelt out.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def kl(clean_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(p || q) of each image, p of the clean logits: sum over classes of p (log p - log q)."""
    p, q = torch.softmax(clean_logits, 1), torch.softmax(logits, 1)
    return (p * (p.log() - q.log())).sum(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the logarithm of the true class's probability, of each image."""
    return -torch.softmax(logits, 1)[range(len(labels)), labels].log()


def attack(
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    start: Tensor,
    epsilon: float,
    step_size: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Signed ascent on the sum of `loss`; also the largest l1 gradient norm of each image."""
    current, norms = start.clone(), []
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        gradient = torch.autograd.grad(loss(current).sum(), current)[0]
        norms.append(gradient.abs().sum((1, 2, 3)))
        current = current.detach() + step_size * torch.sign(gradient)
        current = torch.min(torch.max(current, images - epsilon), images + epsilon)
        current = torch.clamp(current, 0.0, 1.0)
    return current, torch.stack(norms).max(0).values


def cw_margin(logits: Tensor, labels: Tensor, mask: str) -> Tensor:
    """The C&W loss of each image by loops: -max(z_y - best other, 0)."""
    values = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        if mask == "zero":
            best = max(value * (0 if j == label else 1) for j, value in enumerate(row))
        else:
            best = max(value for j, value in enumerate(row) if j != label)
        values.append(-torch.clamp(row[label] - best, min=0))
    return torch.stack(values)
