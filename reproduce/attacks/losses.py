"""What an attack maximises: a function from logits to one value an image."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor], Tensor]


def cross_entropy(labels: Tensor) -> Loss:
    """Return the cross entropy of the true labels, shape (B,) -> loss of shape (B,)."""
    return lambda logits: F.cross_entropy(logits, labels, reduction="none")


def kl_divergence(clean_logits: Tensor) -> Loss:
    """Return KL(softmax(clean) || softmax(logits)), summed over the classes.

    Parameters
    ----------
    clean_logits : Tensor
        Logits of the unperturbed images, shape (B, classes); gradients flow
        through them if they carry any.
    """
    target = F.log_softmax(clean_logits, 1)

    def loss(logits: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(logits, 1), target, reduction="none", log_target=True).sum(1)

    return loss
