"""Signs that an evaluation says less than it seems to; each is a warning in the record.

Source of most: the automatic checks of AutoAttack (Croce and Hein 2020b) and the
checklist of Carlini et al. 2019, "On Evaluating Adversarial Robustness".
"""

from collections.abc import Iterator

import torch

from reproduce.attacks.parts import Batch
from reproduce.attacks.pgd import Loss, cross_entropy, margin
from reproduce.attacks.target import AttackedNetwork
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
) -> Iterator[str]:
    """Look for flaws on the first images before an attack runs; give a line for each."""
    images, labels = batch.images[:_SAMPLE], batch.labels[:_SAMPLE]
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1 or high - low < 0.1:
        yield f"pixels lie in {low:.3g} to {high:.3g}, attacks expect 0 to 1"
    if not facts.epsilon / _UNUSUAL <= spec.epsilon <= facts.epsilon * _UNUSUAL:
        yield (
            f"epsilon {spec.epsilon:.4g} is unusual for {facts.title}, where {facts.epsilon:.4g} "
            "is; it is in units of pixels in [0, 1]"
        )
    targets = getattr(spec.attack, "targets", None) or 0
    if targets > facts.classes - 1:
        yield f"{targets} target classes are asked for, only {facts.classes - 1} others exist"
    with torch.no_grad():
        logits, again = network(images), network(images)
        halves = torch.cat([network(half) for half in images.split(max(len(images) // 2, 1))])
    limit = _REPEATABLE * logits.abs().max().item()
    difference = (logits - again).abs().max().item()
    if difference > limit:
        yield (
            f"the network's output changes between two calls (by up to {difference:.3g}): attacks "
            "need a deterministic network"
        )
    elif (logits - halves).abs().max().item() > limit:
        yield (
            "the output of an image depends on the other images of its batch (BatchNorm in train "
            "mode?): attacks on it mean little"
        )
    sums = logits.sum(1)
    if logits.min() >= 0 and logits.max() <= 1 and torch.allclose(sums, torch.ones_like(sums)):
        yield "the output looks like probabilities; attacks expect logits"
    right = logits.argmax(1) == labels
    images, labels = images[right], labels[right]
    losses: dict[str, Loss] = {"cross entropy": cross_entropy(labels), "margin": margin(labels)}
    for name, loss in losses.items() if len(labels) else ():
        points = images.clone().requires_grad_(True)
        with torch.enable_grad():
            value = loss(network(points)).sum()
        (gradient,) = torch.autograd.grad(value, points)
        largest = gradient.flatten(1).abs().amax(1)
        for kind, blind in (("of exactly zero", largest == 0), ("with NaN", largest.isnan())):
            if blind.any():
                yield (
                    f"{int(blind.sum())} of {len(labels)} images have a {name} gradient {kind}: "
                    "gradient attacks are blind there"
                )
