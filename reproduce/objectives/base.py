"""What a training step asks of an objective."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.attacks import Loss, PGDResult, frozen, pgd
from reproduce.config import TrainingAttack


class Terms(NamedTuple):
    """The two terms of equation (1.1), as means over the batch.

    The loss of a step is ``natural + lambda * robust``.
    """

    natural: Tensor
    robust: Tensor


class Objective(ABC):
    """Natural risk, robust regularisation and the loss that the attack maximises."""

    @abstractmethod
    def attack_loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        """Return what the attack maximises; the network is in eval mode."""

    @abstractmethod
    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; the network is in train mode and its BatchNorm statistics move."""

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        attack: TrainingAttack,
        stream: torch.Generator,
    ) -> PGDResult:
        """Attack a batch in eval mode, from a small Gaussian start around each image.

        Parameters
        ----------
        model : torch.nn.Module
            The network; its mode is restored.
        images, labels : Tensor
            Images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
        attack : TrainingAttack
            The attack's settings.
        stream : torch.Generator
            Draws the start; on the device of the images.
        """
        noise = torch.empty_like(images).normal_(generator=stream)
        with frozen(model):
            return pgd(
                model,
                images,
                self.attack_loss(model, images, labels),
                images + attack.start_sigma * noise,
                epsilon=attack.epsilon,
                step_size=attack.step_size,
                steps=attack.steps,
            )
