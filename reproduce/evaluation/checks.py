"""Signs that an evaluation says less than it seems to; each is a warning in the record.

Source of most: the automatic checks of AutoAttack (Croce and Hein 2020b) and the
checklist of Carlini et al. 2019, "On Evaluating Adversarial Robustness".
"""

import torch
from torch import Tensor

from reproduce.attacks.parts import Batch
from reproduce.attacks.pgd import Loss, cross_entropy, margin
from reproduce.attacks.target import AttackedNetwork
from reproduce.config.schema import AutoAttack, FABAttack
from reproduce.experiments.spec import AttackSpec
from reproduce.registry import DatasetFacts

# number of images that the checks use
_SAMPLE = 64
# relative to the largest logit; two calls on a GPU differ by rounding
_REPEATABLE = 1e-4
# an epsilon this many times the usual one, or a fraction of it, is worth a question
_UNUSUAL = 4.0


def check_network(
    network: AttackedNetwork, batch: Batch, spec: AttackSpec, facts: DatasetFacts
) -> list[str]:
    """Look for flaws on the first images before an attack runs; return a line for each."""
    images, labels = batch.images[:_SAMPLE], batch.labels[:_SAMPLE]
    return [
        *_check_images(images, spec.epsilon, facts),
        *_check_targets(spec, facts.classes),
        *_check_logits(network, images),
        *_check_gradients(network, images, labels),
    ]


def _check_images(images: Tensor, epsilon: float, facts: DatasetFacts) -> list[str]:
    found = []
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1 or high - low < 0.1:
        found.append(f"pixels lie in {low:.3g} to {high:.3g}, attacks expect 0 to 1")
    if not facts.epsilon / _UNUSUAL <= epsilon <= facts.epsilon * _UNUSUAL:
        found.append(
            f"epsilon {epsilon:.4g} is unusual for {facts.title}, where {facts.epsilon:.4g} is; "
            "it is in units of pixels in [0, 1]"
        )
    return found


def _check_targets(spec: AttackSpec, classes: int) -> list[str]:
    attack = spec.attack
    targets = attack.targets if isinstance(attack, AutoAttack | FABAttack) else None
    if targets is not None and targets > classes - 1:
        return [f"{targets} target classes are asked for, only {classes - 1} others exist"]
    return []


def _check_logits(network: AttackedNetwork, images: Tensor) -> list[str]:
    found = []
    with torch.no_grad():
        first, second = network(images), network(images)
    largest = first.abs().max().item()
    difference = (first - second).abs().max().item()
    if difference > _REPEATABLE * largest:
        found.append(
            f"the network's output changes between two calls (by up to {difference:.3g}): attacks "
            "need a deterministic network"
        )
    halves = images.split(max(len(images) // 2, 1))
    with torch.no_grad():
        apart = torch.cat([network(half) for half in halves])
    if not found and (first - apart).abs().max().item() > _REPEATABLE * largest:
        found.append(
            "the output of an image depends on the other images of its batch (BatchNorm in train "
            "mode?): attacks on it mean little"
        )
    sums = first.sum(1)
    if first.min() >= 0 and first.max() <= 1 and torch.allclose(sums, torch.ones_like(sums)):
        found.append("the output looks like probabilities; attacks expect logits")
    return found


def _check_gradients(network: AttackedNetwork, images: Tensor, labels: Tensor) -> list[str]:
    right = network.predict(images) == labels
    images, labels = images[right], labels[right]
    if not len(labels):
        return []
    found = []
    losses: dict[str, Loss] = {"cross entropy": cross_entropy(labels), "margin": margin(labels)}
    for name, loss in losses.items():
        points = images.clone().requires_grad_(True)
        with torch.enable_grad():
            value = loss(network(points)).sum()
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, points)
        else:
            gradient = torch.zeros_like(points)
        largest = gradient.flatten(1).abs().amax(1)
        for kind, blind in (("of exactly zero", largest == 0), ("with NaN", largest.isnan())):
            if blind.any():
                found.append(
                    f"{int(blind.sum())} of {len(labels)} images have a {name} gradient {kind}: "
                    "gradient attacks are blind there"
                )
    return found
