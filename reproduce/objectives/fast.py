"""Fast-AT (Wong, Rice and Kolter 2020): cross entropy under one signed step from a random start."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.attacks.pgd import PGDResult, fgsm
from reproduce.attacks.target import without_parameter_gradients
from reproduce.config.schema import Train, TrainingAttack
from reproduce.core.errors import HarnessError
from reproduce.objectives.base import Objective, Terms


class Fast(Objective):
    """Cross entropy under attack and nothing else; clean images are never looked at."""

    def start(self, images: Tensor, attack: TrainingAttack, stream: torch.Generator) -> Tensor:
        """Draw the first perturbation: uniform in the ball, shape of the images."""
        return torch.empty_like(images).uniform_(-attack.epsilon, attack.epsilon, generator=stream)

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        attack: TrainingAttack,
        start: Tensor,
    ) -> PGDResult:
        """Attack a batch in train mode.

        BatchNorm's running statistics see this forward pass too, as in the official
        code.  Parameters as in `Objective.perturb`.
        """
        model.train()
        with without_parameter_gradients(model):
            return fgsm(
                model,
                images,
                self.attack_loss(model, images, labels),
                start,
                epsilon=attack.epsilon,
                step_size=attack.step_size,
            )

    def terms(self, model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return the risk under attack as robust term; there is no natural one."""
        risk = F.cross_entropy(model(adversarial), labels)
        return Terms(torch.zeros_like(risk), risk)


def build(train: Train) -> Fast:
    """Return the objective.

    Raises
    ------
    HarnessError
        If the attack is to take more than the one step it has.
    """
    if train.attack.steps != 1:
        raise HarnessError(
            f"fast-at attacks with one step, train.attack.steps is {train.attack.steps}; "
            "set train_for.fast-at, as the paper preset does"
        )
    return Fast()
