"""What an attack maximises: a function from logits to one value an image."""

from collections.abc import Callable
from typing import Literal

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


def margin(labels: Tensor, mask: Literal["proper", "zero"] = "proper") -> Loss:
    """Return the C&W loss min(max z_j - z_y over the other classes j, 0), shape (B,).

    It is 0, and so is its gradient, wherever the attack has succeeded: PGD then stays.

    Parameters
    ----------
    labels : Tensor
        True classes y, shape (B,).
    mask : {"proper", "zero"}
        How y is kept out of the maximum; "zero" puts 0 in its place, so that the best
        other logit is never below 0.

    Source: Carlini and Wagner 2017, with confidence 0; "zero" is the paper's authors' code.
    """
    hidden = 0.0 if mask == "zero" else float("-inf")
    column = labels[:, None]

    def loss(logits: Tensor) -> Tensor:
        true = logits.gather(1, column)[:, 0]
        other = logits.scatter(1, column, hidden).amax(1)
        return (other - true).clamp(max=0)

    return loss
