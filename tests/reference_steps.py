"""Whole training steps written out plainly, in whatever precision the tensors have.

No shared code with the package: BatchNorm's batches in their order, the perturbation of
the weights, SGD with momentum and weight decay spelt out.
"""

import copy
from dataclasses import dataclass

import torch
from references import attack, cross_entropy, kl
from torch import Tensor, nn


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
    lam: float


def terms(
    method: str, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor, order: str
) -> tuple[Tensor, Tensor]:
    """Both terms of TRADES ("trades"), generalised adversarial training ("at") or MART.

    `order` names the train-mode forwards: c a clean batch, a an adversarial one; the
    last clean one is the target of the divergence.
    """
    outputs: dict[str, list[Tensor]] = {"a": [], "c": []}
    for letter in order:
        outputs[letter].append(model(images if letter == "c" else adversarial))
    (perturbed,), clean, rows = outputs["a"], outputs["c"][0], range(len(labels))
    if method == "trades":
        target = outputs["c"][-1]
        return cross_entropy(clean, labels).mean(), kl(target, perturbed).mean()
    if method == "at":
        rise = cross_entropy(perturbed, labels) - cross_entropy(clean, labels)
        return cross_entropy(clean, labels).mean(), torch.max(rise, torch.zeros_like(rise)).mean()
    boosted, weighted = [], []
    for row, label in zip(rows, labels.tolist(), strict=True):
        p, q = torch.softmax(clean[row], 0), torch.softmax(perturbed[row], 0)
        other = max(q[k] for k in range(len(q)) if k != label)
        boosted.append(-torch.log(q[label]) - torch.log(1.0001 - other))
        weighted.append((p * (p.log() - q.log())).sum() * (1 - p[label]))
    return torch.stack(boosted).mean(), torch.stack(weighted).mean()


def training_step(
    model: nn.Module,
    method: str,
    order: str,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    gamma: float = 0.0,
    zeta: float | None = None,
    *,
    lam: float,
    epsilon: float,
    step_size: float,
    steps: int,
    rate: float,
    weight_decay: float,
) -> Step:
    """One step from rest.

    With `gamma` at adversarially perturbed weights; with `zeta` lambda follows
    Algorithm 1 (alpha 0.1) from `lam`, and the step is taken with the new one.
    """
    model = copy.deepcopy(model).eval()
    loss = {
        "trades": lambda x: kl(model(images).detach(), model(x)),
        "at": lambda x: cross_entropy(model(x), labels),
        "mart": lambda x: cross_entropy(model(x), labels),
    }[method]
    start = images + 0.001 * noise
    adversarial, norms = attack(loss, images, start, epsilon, step_size, steps)
    model.train()
    move = weight_move(model, method, images, adversarial, labels, lam, order, gamma)
    names, parameters = zip(*model.named_parameters(), strict=True)
    with torch.no_grad():
        for name, parameter in zip(names, parameters, strict=True):
            parameter += move[name]
    natural, robust = terms(method, model, images, adversarial, labels, order)
    if zeta is not None:
        lam = max(lam + 0.1 * (zeta - natural.item() / robust.item()), 0.0)
    gradients = torch.autograd.grad(natural + lam * robust, parameters)
    velocity = {}
    with torch.no_grad():
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
            velocity[name] = gradient + weight_decay * parameter
            parameter -= rate * velocity[name]
            parameter -= move[name]
    return Step(
        natural.detach(),
        robust.detach(),
        norms.mean(),
        adversarial,
        dict(zip(names, gradients, strict=True)),
        model.state_dict(),
        velocity,
        lam,
    )


def weight_move(
    model: nn.Module,
    method: str,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    lam: float,
    order: str,
    gamma: float,
) -> dict[str, Tensor]:
    """AWP: a proxy takes a step of plain ascent; its difference, scaled tensor by tensor."""
    proxy = copy.deepcopy(model).train()
    natural, robust = terms(method, proxy, images, adversarial, labels, order)
    gradients = torch.autograd.grad(natural + lam * robust, list(proxy.parameters()))
    moves = {}
    for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
        difference = (weight + 0.01 * gradient) - weight
        if weight.dim() > 1:
            moves[name] = gamma * weight.norm() / difference.norm() * difference
        else:
            moves[name] = torch.zeros_like(weight)
    return {name: move.detach() for name, move in moves.items()}


def fast_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    epsilon: float,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    """Fast-AT's attack (Wong et al. 2020) and the gradient of its mean loss, in train mode."""
    delta = noise.clone().requires_grad_(True)
    loss = cross_entropy(model(torch.clamp(images + delta, 0, 1)), labels).mean()
    gradient = torch.autograd.grad(loss, delta)[0]
    delta = noise + step_size * torch.sign(gradient)
    delta = torch.clamp(delta, -epsilon, epsilon)
    return torch.clamp(images + delta, 0, 1), gradient


class FastAT:
    """Fast-AT's training step with SGD spelt out; BatchNorm's parameters do not decay."""

    def __init__(self, model: nn.Module, momentum: float, weight_decay: float) -> None:
        self.model, self.momentum = model.train(), momentum
        self.velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        kind = {name: type(module).__name__ for name, module in model.named_modules()}
        self.decay = {
            name: 0.0 if "BatchNorm" in kind[name.rpartition(".")[0]] else weight_decay
            for name in self.velocity
        }

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        epsilon: float,
        step_size: float,
        rate: float,
    ) -> Tensor:
        """One attack and one update; returns the loss under attack before the update."""
        adversarial, _ = fast_attack(self.model, images, labels, noise, epsilon, step_size)
        loss = cross_entropy(self.model(adversarial), labels).mean()
        named = dict(self.model.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
                whole = gradient + self.decay[name] * parameter
                self.velocity[name] = self.momentum * self.velocity[name] + whole
                parameter -= rate * self.velocity[name]
        return loss.detach()
