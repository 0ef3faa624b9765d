"""The objectives and the attack written out plainly, in whatever precision the tensors have.

Straight from the formulas: no shared code with the package, one line for one step, the
clean prediction computed again wherever it is used, BatchNorm and SGD spelt out.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


@dataclass
class Step:
    """Everything a training step leaves behind."""

    natural: Tensor
    robust: Tensor
    lipschitz: Tensor
    adversarial: Tensor
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]
    momentum: dict[str, Tensor]


def training_step(
    model: nn.Module,
    method: str,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    *,
    lam: float,
    bn_forwards: int,
    epsilon: float,
    step_size: float,
    steps: int,
    rate: float,
    weight_decay: float,
) -> Step:
    """One step of TRADES ("trades") or generalised adversarial training ("at") from rest."""
    model = copy.deepcopy(model).eval()
    loss = {
        "trades": lambda x: kl(model(images).detach(), model(x)),
        "at": lambda x: cross_entropy(model(x), labels),
    }[method]
    start = images + 0.001 * noise
    adversarial, norms = attack(loss, images, start, epsilon, step_size, steps)
    model.train()
    if method == "trades":
        clean = model(images)
        perturbed = model(adversarial)
        target = clean if bn_forwards == 2 else model(images)
        natural = cross_entropy(clean, labels).mean()
        robust = kl(target, perturbed).mean()
    else:
        perturbed = cross_entropy(model(adversarial), labels)
        clean = cross_entropy(model(images), labels)
        natural = clean.mean()
        robust = torch.max(perturbed - clean, torch.zeros_like(clean)).mean()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(natural + lam * robust, parameters)
    velocity = {}
    with torch.no_grad():
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
            velocity[name] = gradient + weight_decay * parameter
            parameter -= rate * velocity[name]
    return Step(
        natural.detach(),
        robust.detach(),
        norms.mean(),
        adversarial,
        dict(zip(names, gradients, strict=True)),
        model.state_dict(),
        velocity,
    )


def batch_norm_after(
    mean: Tensor, variance: Tensor, batches: list[Tensor], momentum: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Running mean and variance after BatchNorm has seen batches (N, C, H, W) in this order."""
    for batch in batches:
        channels = batch.transpose(0, 1).flatten(1)
        mean = (1 - momentum) * mean + momentum * channels.mean(1)
        variance = (1 - momentum) * variance + momentum * channels.var(1, unbiased=True)
    return mean, variance


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
