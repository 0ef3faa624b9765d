"""A network as an attack sees it: a fixed function from images to logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reproduce.errors import HarnessError


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


@dataclass
class Passes:
    """How many images went through a network.

    Attributes
    ----------
    forward, backward : int
        Forward passes, and input gradients taken, counted in images.
    """

    forward: int = 0
    backward: int = 0


class AttackedNetwork(nn.Module):
    """Any network, checked, counted and in its fastest exact form.

    Use it inside `frozen`.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images in [0, 1], shape (B, channels, H, W), to logits (B, classes).
    classes : int
        Number of logits it must give.
    batch_size : int, optional
        Most images at once; larger batches go through in parts, and where a gradient
        is wanted each part is computed again for it, so that memory stays bounded.
    compiled : bool
        Whether to compile it, for any batch size.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        batch_size: int | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._call = torch.compile(model, dynamic=True) if compiled else model
        self._classes = classes
        self._batch_size = batch_size
        self.passes = Passes()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch, shape (B, classes).

        Raises
        ------
        HarnessError
            If the network fails, or answers with anything else.
        """
        # its own copy: a network that normalises in place must not change the attack's images
        images = images.clone(memory_format=torch.channels_last)
        if self._batch_size is None or len(images) <= self._batch_size:
            return self._counted(images)
        parts = images.split(self._batch_size)
        if torch.is_grad_enabled() and images.requires_grad:
            return torch.cat(
                [checkpoint(self._counted, part, use_reentrant=False) for part in parts]
            )
        return torch.cat([self._counted(part) for part in parts])

    def _counted(self, images: Tensor) -> Tensor:
        # before the call: a part that is computed again for its gradient stops on the way
        self.passes.forward += len(images)
        try:
            logits = self._call(images)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise HarnessError(
                f"the network fails on {images.dtype} of shape {list(images.shape)}: {reason}"
            ) from error
        expected = (len(images), self._classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise HarnessError(
                f"the network answers {len(images)} images with {found}, expected logits of "
                f"shape {list(expected)}"
            )
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)

    def predict(self, images: Tensor) -> Tensor:
        """Return the predicted classes, int64 of shape (B,).

        Raises
        ------
        HarnessError
            If a logit is NaN or infinite.
        """
        with torch.no_grad():
            logits = self(images)
        if not torch.isfinite(logits).all():
            raise HarnessError("the network's logits are NaN or infinite")
        predicted: Tensor = logits.argmax(1)
        return predicted
