"""Training objectives: natural risk, robust regularisation, and the attack between them.

To add an objective, write a module here with a subclass of `Objective` and a function ``build``
that makes it from the training settings, and name the module in a row of
`reproduce.registry.METHODS`.
"""

from importlib import import_module

from reproduce.config.schema import Train
from reproduce.objectives.base import Objective, Terms

__all__ = ["Objective", "Terms", "build_objective"]


def build_objective(name: str, train: Train) -> Objective:
    """Return the objective of the module `name` of this package."""
    objective: Objective = import_module(f"reproduce.objectives.{name}").build(train)
    return objective
