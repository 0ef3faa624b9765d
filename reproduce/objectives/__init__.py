"""Training objectives: natural risk, robust regularisation, and the attack between them.

A module an objective; its function ``build`` makes it from the training settings.
"""

from importlib import import_module

from reproduce.config.schema import Train
from reproduce.objectives.base import Objective, Terms

__all__ = ["Objective", "Terms", "build_objective"]


def build_objective(name: str, train: Train) -> Objective:
    """Return the objective of a module of this package, which a row of the methods names.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module.
    """
    objective: Objective = import_module(f"reproduce.objectives.{name}").build(train)
    return objective
