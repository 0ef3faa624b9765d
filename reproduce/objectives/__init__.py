"""Training objectives: natural risk, robust regularisation, and the attack between them."""

from reproduce.objectives.adversarial_training import AdversarialTraining
from reproduce.objectives.base import Objective, Terms
from reproduce.objectives.trades import Trades

__all__ = ["AdversarialTraining", "Objective", "Terms", "Trades", "build_objective"]


def build_objective(name: str, bn_forwards: int) -> Objective:
    """Return the objective that a row of ``catalogue.methods`` names."""
    if name == "trades":
        return Trades(bn_forwards)
    if name == "adversarial_training":
        return AdversarialTraining()
    raise KeyError(name)
