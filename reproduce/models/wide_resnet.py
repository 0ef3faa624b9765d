"""WideResNet (Zagoruyko and Komodakis 2016) as adversarial training uses it.

Parameter names follow the state dicts published with TRADES, MART, AWP and most
of RobustBench, so those load without translation.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class WideResNet(nn.Module):
    """Pre-activation wide residual network without dropout.

    Parameters
    ----------
    depth : int
        Number of layers, 6n + 4.
    width : float
        Widen factor; the groups have int(16 w), int(32 w) and int(64 w) channels.
    classes, channels : int
        Number of classes and of input channels.
    """

    def __init__(self, depth: int, width: float, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        first, second, third = (int(base * width) for base in (16, 32, 64))
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _Group(blocks, 16, first, stride=1)
        self.block2 = _Group(blocks, first, second, stride=2)
        self.block3 = _Group(blocks, second, third, stride=2)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, channels, H, W) in [0, 1]."""
        out = self.block3(self.block2(self.block1(self.conv1(images))))
        out = F.relu(self.bn1(out))
        # the whole map: the 8 x 8 pool of the published code at 32 x 32 pixels
        logits: Tensor = self.fc(out.mean((2, 3)))
        return logits


class _Group(nn.Module):
    """A row of residual blocks of one width."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            _Block(inputs, outputs, stride),
            *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class _Block(nn.Module):
    """Two 3 x 3 convolutions; where channels change, a 1 x 1 shortcut after bn-relu."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.project = inputs != outputs
        self.stride = stride
        if self.project:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        # The convolution's own stride would be the same function.  But oneDNN's weight gradient of
        # a strided 1 x 1 convolution writes past its workspace when it has fewer input channels
        # than a vector register: 8 with AVX2, 16 with AVX-512 (uxlfoundation/oneDNN issue 6035).
        skip = self.stride
        shortcut = self.convShortcut(activated[:, :, ::skip, ::skip]) if self.project else x
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        summed: Tensor = shortcut + out
        return summed
