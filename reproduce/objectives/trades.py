"""TRADES (Zhang et al. 2019): cross entropy plus the divergence of the two predictions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.attacks import Loss, kl_divergence
from reproduce.objectives.base import Terms


class Trades:
    """Cross entropy on clean images, KL(f(x) || f(x')) as robust regularisation.

    Parameters
    ----------
    bn_forwards : {2, 3}
        Train-mode forwards of a step.  2: clean and adversarial, the clean logits
        serve both terms (the paper's authors).  3: clean, adversarial, clean again
        (official TRADES code), which moves the BatchNorm statistics twice on the
        clean batch.
    """

    def __init__(self, bn_forwards: int = 2) -> None:
        self.bn_forwards = bn_forwards

    def attack_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        """Return the KL divergence from the clean prediction, which is computed once."""
        with torch.no_grad():
            return kl_divergence(model(images))

    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; gradients flow through both arguments of the divergence."""
        # never one concatenated batch: that would change the BatchNorm statistics
        clean = model(images)
        perturbed = model(adversarial)
        target = clean if self.bn_forwards == 2 else model(images)
        return Terms(F.cross_entropy(clean, labels), kl_divergence(target)(perturbed).mean())
