"""Generalised adversarial training (appendix D of the paper; lambda = 1 is Madry et al.)."""

from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.config.schema import Train
from reproduce.objectives.base import Objective, Terms


class AdversarialTraining(Objective):
    """Cross entropy on clean images, its increase under attack as robust regularisation."""

    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; an image whose loss the attack lowered contributes no robust term."""
        # the order matters to BatchNorm's running statistics: adversarial first, then clean
        perturbed = F.cross_entropy(model(adversarial), labels, reduction="none")
        clean = F.cross_entropy(model(images), labels, reduction="none")
        return Terms(clean.mean(), (perturbed - clean).clamp(min=0).mean())


def build(_: Train) -> AdversarialTraining:
    """Return the objective; no training setting touches it."""
    return AdversarialTraining()
