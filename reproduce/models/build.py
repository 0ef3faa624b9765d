"""From an architecture's name to an initialised network."""

import math

from torch import nn

from reproduce.catalogue import DatasetFacts, parse_architecture
from reproduce.models.densenet import DenseNetBC
from reproduce.models.resnet50 import ResNet50
from reproduce.models.wide_resnet import WideResNet
from reproduce.rng import seeded


def build_model(architecture: str, facts: DatasetFacts, seed: int = 0) -> nn.Module:
    """Build a network for a data set and initialise it.

    Parameters
    ----------
    architecture : str
        Name such as ``wrn-34-10``.
    facts : DatasetFacts
        Gives the number of classes and of input channels, and the kind of images.
    seed : int
        Picks the initial weights.

    Returns
    -------
    torch.nn.Module
        Maps images in [0, 1], shape (B, channels, H, W), to logits (B, classes).

    Raises
    ------
    HarnessError
        If the architecture is unknown, or made for images of another kind.
    """
    shape = parse_architecture(architecture)
    facts.check_architecture(shape)
    with seeded(seed, "initialisation"):
        model: nn.Module
        if shape.bottleneck:
            # comes with its own initial weights
            return ResNet50(shape.width, facts.classes)
        if shape.family == "wrn":
            model = WideResNet(shape.depth, shape.width, facts.classes, facts.channels)
        else:
            model = DenseNetBC(shape.depth, int(shape.width), facts.classes, facts.channels)
        _initialise(model)
    return model


def _initialise(model: nn.Module) -> None:
    """He initialisation by fan-out, as both papers' code; the linear layer keeps its weight."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
