"""MART (Wang et al. 2020): adversarial training aware of what is misclassified already."""

from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.attacks.pgd import kl_divergence
from reproduce.config.schema import Train
from reproduce.objectives.base import Objective, Terms

# keeps the logarithm below finite where the network is certain; the official code's
_SLACK = 1.0001


class Mart(Objective):
    """Boosted cross entropy on x', and a divergence weighted by the doubt about x.

    Source: Wang et al. 2020, equations (7) to (11).
    """

    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms, with p the prediction on x and p' the one on x'.

        First the boosted cross entropy, -log p'_y - log(1.0001 - max p'_k over the
        other classes k), which looks at x' alone; then KL(p || p') (1 - p_y).
        """
        clean, perturbed = model(images), model(adversarial)
        column = labels[:, None]
        other = perturbed.softmax(1).scatter(1, column, 0.0).amax(1)
        boosted = F.cross_entropy(perturbed, labels) - (_SLACK - other).log().mean()
        doubt = 1 - clean.softmax(1).gather(1, column)[:, 0]
        return Terms(boosted, (kl_divergence(clean)(perturbed) * doubt).mean())


def build(_: Train) -> Mart:
    """Return the objective; no training setting touches it."""
    return Mart()
