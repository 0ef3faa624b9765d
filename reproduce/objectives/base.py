"""What a training step asks of an objective."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from reproduce.attacks import Loss


class Terms(NamedTuple):
    """The two terms of equation (1.1), as means over the batch.

    The loss of a step is ``natural + lambda * robust``.
    """

    natural: Tensor
    robust: Tensor


class Objective(Protocol):
    """Natural risk, robust regularisation and the loss that the attack maximises."""

    def attack_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        """Return what the attack maximises; the network is in eval mode."""

    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; the network is in train mode and its BatchNorm statistics move."""
