"""Names of network architectures, such as ``wrn-34-10`` and ``densenet-bc-40-12``."""

import re
from dataclasses import dataclass
from typing import Literal

from reproduce.errors import HarnessError

# not of the form 6n + 4, so no network of the other kind has it
_IMAGENET_DEPTH = 50
_NAME = re.compile(r"(?P<family>wrn|densenet-bc)-(?P<depth>\d{1,4})-(?P<width>\d{1,4}(\.\d{1,4})?)")


@dataclass(frozen=True)
class Architecture:
    """A network's family, depth and width.

    Attributes
    ----------
    family : {"wrn", "densenet-bc"}
        WideResNet (Zagoruyko and Komodakis 2016) or DenseNet-BC (Huang et al. 2017).
    depth : int
        Number of layers: 6n + 4, or 50 for the network of ImageNet.
    width : float
        Widen factor of a WideResNet, growth rate of a DenseNet.
    """

    family: Literal["wrn", "densenet-bc"]
    depth: int
    width: float

    def __str__(self) -> str:
        return f"{self.family}-{self.depth}-{self.width:g}"

    @property
    def model(self) -> str:
        """The name without the width, as the paper's tables head their rows."""
        return f"{self.family}-{self.depth}"

    @property
    def title(self) -> str:
        """The name without the width, written out."""
        kind = {"wrn": "WideResNet", "densenet-bc": "DenseNet-BC"}[self.family]
        return f"{kind}-{self.depth}"

    @property
    def bottleneck(self) -> bool:
        """Whether this is ResNet-50 with wider bottlenecks, the network of ImageNet.

        Width 1 is ResNet-50 and width 2 Wide-ResNet-50-2, as the paper counts.
        """
        return self.family == "wrn" and self.depth == _IMAGENET_DEPTH

    @property
    def blocks(self) -> int:
        """Residual blocks a group, or bottlenecks a dense block."""
        return (self.depth - 4) // 6


def parse_architecture(name: str) -> Architecture:
    """Read an architecture's name.

    Raises
    ------
    HarnessError
        If the name has another form, the depth is none there is, or the width leaves
        a layer without channels.

    Examples
    --------
    >>> parse_architecture("wrn-34-0.5").width
    0.5
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise HarnessError(
            f"unknown architecture {name!r}; expected wrn-DEPTH-WIDTH or densenet-bc-DEPTH-GROWTH, "
            "for example wrn-34-10 or densenet-bc-40-12"
        )
    depth, width = int(match["depth"]), float(match["width"])
    imagenet = match["family"] == "wrn" and depth == _IMAGENET_DEPTH
    if not imagenet and (depth < 10 or (depth - 4) % 6):
        raise HarnessError(
            f"architecture {name!r}: depth {depth} is not 6n + 4 with n >= 1 "
            "(10, 16, 22, 28, 34, 40 ...)"
        )
    if match["family"] == "wrn":
        if int(16 * width) < 1:
            raise HarnessError(
                f"architecture {name!r}: width {width:g} gives int(16 * {width:g}) = 0 channels; "
                "the smallest width is 0.0625"
            )
        return _canonical(Architecture("wrn", depth, width), name)
    if width != int(width) or width < 1:
        raise HarnessError(
            f"architecture {name!r}: the growth rate must be a whole number, 1 or more"
        )
    return _canonical(Architecture("densenet-bc", depth, width), name)


def width_label(name: str) -> str:
    """Write the width of a network as the paper does: w=5, or k=12 for a growth rate.

    Raises
    ------
    HarnessError
        As `parse_architecture`.
    """
    shape = parse_architecture(name)
    return f"{'w' if shape.family == 'wrn' else 'k'}={shape.width:g}"


def _canonical(architecture: Architecture, name: str) -> Architecture:
    """Refuse a second spelling of a network: it would be trained twice."""
    if str(architecture) != name:
        raise HarnessError(f"architecture {name!r} is spelt {str(architecture)!r}")
    return architecture
