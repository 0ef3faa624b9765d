"""What a training step asks of an objective."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.attacks.pgd import Loss, PGDResult, cross_entropy, pgd
from reproduce.attacks.target import frozen
from reproduce.config.schema import TrainingAttack


class Terms(NamedTuple):
    """The two terms of equation (1.1), as means over the batch.

    The loss of a step is ``natural + lambda * robust``.
    """

    natural: Tensor
    robust: Tensor


class Objective(ABC):
    """Natural risk, robust regularisation and the loss that the attack maximises."""

    def attack_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        """Return what the attack maximises, the cross entropy unless a method has its own."""
        return cross_entropy(labels)

    @abstractmethod
    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; the network is in train mode and its BatchNorm statistics move."""

    def start(self, images: Tensor, attack: TrainingAttack, stream: torch.Generator) -> Tensor:
        """Draw where the attack on a batch begins: a small Gaussian step from each image."""
        noise = torch.empty_like(images).normal_(generator=stream)
        return images + attack.start_sigma * noise

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        attack: TrainingAttack,
        start: Tensor,
    ) -> PGDResult:
        """Attack a batch by PGD, with the network in eval mode; its mode is restored.

        Parameters
        ----------
        model : torch.nn.Module
            Maps images to logits.
        images, labels : Tensor
            Images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
        attack : TrainingAttack
            The attack's settings.
        start : Tensor
            What `start` drew.
        """
        with frozen(model):
            return pgd(
                model,
                images,
                self.attack_loss(model, images, labels),
                start,
                epsilon=attack.epsilon,
                step_size=attack.step_size,
                steps=attack.steps,
            )
