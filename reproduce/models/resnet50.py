"""ResNet-50 and wider ones, the networks of ImageNet, as torchvision builds them."""

import torch
from torch import Tensor, nn

from reproduce.core.vision import torchvision

# of the training images' pixels in [0, 1], red, green, blue: the usual ones of ImageNet
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class ResNet50(nn.Module):
    """torchvision's ResNet-50 behind the usual normalisation: it takes pixels in [0, 1].

    Parameters have torchvision's names, and published state dicts load.  Initial
    weights are torchvision's too; they come from PyTorch's global generator.

    Parameters
    ----------
    width : float
        Factor on the inner channels of the bottlenecks: 1 is ResNet-50 (He et al.
        2016), 2 Wide-ResNet-50-2 (Zagoruyko and Komodakis 2016).
    classes : int
        Number of classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: float, classes: int = 1000) -> None:
        super().__init__()
        resnet = torchvision("torchvision.models.resnet")
        layers = resnet.ResNet(
            resnet.Bottleneck, [3, 4, 6, 3], num_classes=classes, width_per_group=int(64 * width)
        )
        for name, layer in layers.named_children():
            self.add_module(name, layer)
        # constants, not weights: published state dicts do not hold them
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, H, W) in [0, 1]."""
        out = (images - self.mean) / self.std
        *layers, last = self.children()
        for layer in layers:
            out = layer(out)
        logits: Tensor = last(out.flatten(1))
        return logits
