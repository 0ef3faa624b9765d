"""DenseNet-BC (Huang et al. 2017): bottlenecks, and compression by half."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseNetBC(nn.Module):
    """Densely connected network of three blocks, without dropout.

    Parameters
    ----------
    depth : int
        Number of layers, 6n + 4; every block has n bottlenecks.
    growth_rate : int
        Channels that a bottleneck adds; the stem has twice as many.
    classes, channels : int
        Number of classes and of input channels.
    """

    def __init__(self, depth: int, growth_rate: int, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        bottlenecks = (depth - 4) // 6
        width = 2 * growth_rate
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for last in (False, False, True):
            for _ in range(bottlenecks):
                blocks.append(_Bottleneck(width, growth_rate))
                width += growth_rate
            if not last:
                blocks.append(_Transition(width, width // 2))
                width //= 2
        self.blocks = nn.Sequential(*blocks)
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, channels, H, W) in [0, 1]."""
        out = F.relu(self.bn1(self.blocks(self.conv1(images))))
        logits: Tensor = self.fc(out.mean((2, 3)))
        return logits


class _Bottleneck(nn.Module):
    """A 1 x 1 and a 3 x 3 convolution whose output is concatenated to the input."""

    def __init__(self, inputs: int, growth_rate: int) -> None:
        super().__init__()
        inner = 4 * growth_rate
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


class _Transition(nn.Module):
    """Halve the channels by a 1 x 1 convolution and the map by an average."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)
