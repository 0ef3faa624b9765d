"""A network as an attack sees it: a fixed function of its input."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a network in eval mode without parameter gradients, and restore both after.

    Input gradients then cost one forward pass instead of two, and no BatchNorm
    statistic moves.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
