"""Attacks within an l_inf ball around images in [0, 1]."""

from reproduce.attacks.fgsm import fgsm
from reproduce.attacks.losses import Loss, cross_entropy, kl_divergence, margin
from reproduce.attacks.network import (
    AttackedNetwork,
    Passes,
    frozen,
    without_parameter_gradients,
)
from reproduce.attacks.package import package_attacks
from reproduce.attacks.parts import Batch, Part, attack_parts, pgd_loss, pgd_start
from reproduce.attacks.pgd import PGDResult, pgd

__all__ = [
    "AttackedNetwork",
    "Batch",
    "Loss",
    "PGDResult",
    "Part",
    "Passes",
    "attack_parts",
    "cross_entropy",
    "fgsm",
    "frozen",
    "kl_divergence",
    "margin",
    "package_attacks",
    "pgd",
    "pgd_loss",
    "pgd_start",
    "without_parameter_gradients",
]
