"""BatchNorm statistics as they would be had a batch passed through the network twice."""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.attacks.pgd import Loss, kl_divergence
from reproduce.config.schema import Train
from reproduce.objectives.base import Objective, Terms


class RepeatedBatch:
    """Remembers how a forward pass moved the BatchNorm statistics, to move them so again.

    With momentum m a batch of statistics b moves r to (1 - m) r + m b.  If it once moved
    r to s, it moves a later value t to s + (1 - m) (t - r): no second forward pass is needed.

    Use it as a context around the forward pass of a model in train mode, then call `again`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []

    def __enter__(self) -> None:
        self._before = [value.clone() for value in self._statistics()]

    def __exit__(self, *_: object) -> None:
        self._after = [value.clone() for value in self._statistics()]

    def again(self) -> None:
        """Move the statistics as a second pass of the batch would."""
        keep = [1 - (norm.momentum or 0.0) for norm in self._norms for _ in range(2)]
        with torch.no_grad():
            for value, before, after, rest in zip(
                self._statistics(), self._before, self._after, keep, strict=True
            ):
                value.sub_(before).mul_(rest).add_(after)
            for norm in self._norms:
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.add_(1)

    def _statistics(self) -> list[Tensor]:
        pairs = [(norm.running_mean, norm.running_var) for norm in self._norms]
        # `data`, since autograd keeps them for a backward pass in eval mode and would object
        return [value.data for pair in pairs for value in pair if value is not None]


class Trades(Objective):
    """Cross entropy on clean images, KL(f(x) || f(x')) as robust regularisation.

    Parameters
    ----------
    bn_forwards : {2, 3}
        Train-mode forwards of a step that the BatchNorm statistics see.  2: clean and
        adversarial, the clean logits serve both terms (the paper's authors).  3: the
        clean batch once more for the divergence (official TRADES code).  That third
        forward would give the same logits again, so it is not made: its statistics are
        moved alone.
    bn_first : {"clean", "adversarial"}
        Which batch those statistics see first.  The official codes of RST and AWP
        begin with the adversarial one.
    """

    def __init__(
        self, bn_forwards: int = 2, bn_first: Literal["clean", "adversarial"] = "clean"
    ) -> None:
        self.bn_forwards = bn_forwards
        self.bn_first = bn_first

    def attack_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        """Return the KL divergence from the clean prediction, which is computed once."""
        with torch.no_grad():
            return kl_divergence(model(images))

    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; gradients flow through both arguments of the divergence."""
        # never one concatenated batch: that would change the BatchNorm statistics
        seen = RepeatedBatch(model) if self.bn_forwards == 3 else None
        if self.bn_first == "adversarial":
            perturbed = model(adversarial)
        with seen or nullcontext():
            clean = model(images)
        if self.bn_first == "clean":
            perturbed = model(adversarial)
        if seen is not None:
            seen.again()
        return Terms(F.cross_entropy(clean, labels), kl_divergence(clean)(perturbed).mean())


def build(train: Train) -> Trades:
    """Return the objective with the settings of a run."""
    return Trades(train.bn_forwards, train.bn_first)
