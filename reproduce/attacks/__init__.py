"""Attacks within an l_inf ball around images in [0, 1]."""

from reproduce.attacks.frozen import frozen
from reproduce.attacks.losses import Loss, cross_entropy, kl_divergence
from reproduce.attacks.pgd import PGDResult, pgd

__all__ = ["Loss", "PGDResult", "cross_entropy", "frozen", "kl_divergence", "pgd"]
