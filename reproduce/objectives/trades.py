"""TRADES (Zhang et al. 2019): cross entropy plus the divergence of the two predictions."""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.attacks import Loss, kl_divergence
from reproduce.config import Train
from reproduce.objectives.base import Objective, Terms
from reproduce.objectives.batch_norm import RepeatedBatch


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
