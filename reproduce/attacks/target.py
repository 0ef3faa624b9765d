"""A network as an attack sees it: a fixed function from images to logits."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from reproduce.compute.compilation import compiled as compile_network
from reproduce.compute.compilation import compiling
from reproduce.core.errors import HarnessError, named


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a network in eval mode without parameter gradients, and restore both after.

    Input gradients then cost one forward pass instead of two, and no BatchNorm
    statistic moves.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with without_parameter_gradients(model):
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def without_parameter_gradients(model: nn.Module) -> Iterator[None]:
    """Ask for no gradients of the parameters; the network stays in the mode it is in."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@dataclass
class Passes:
    """Forward passes, and input gradients taken, counted in images."""

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
    channels_last : bool
        Whether its convolutions get that memory layout, in which they are faster.
    compiled : bool
        Whether to compile it, for any batch size.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        batch_size: int | None = None,
        *,
        channels_last: bool = True,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            model.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._model, self.compiled = model, compiled
        if compiled:
            from torch._functorch import config as functorch  # seconds to import

            # FAB goes backward several times through one forward pass
            functorch.donated_buffer = False
            self._model = compile_network(model, dynamic=True)
        weights = (p.dtype for p in model.parameters() if p.is_floating_point())
        self._dtype = next(weights, torch.float32)
        self._classes = classes
        self._batch_size = batch_size
        self.passes = Passes()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch, shape (B, classes); HarnessError if it gives others."""
        if self._batch_size is None or len(images) <= self._batch_size:
            return self._counted(images)
        parts = images.split(self._batch_size)
        if torch.is_grad_enabled() and images.requires_grad:
            # its early stop is an exception that passes through the network
            with set_checkpoint_early_stop(enable=False):
                logits = [checkpoint(self._counted, part, use_reentrant=False) for part in parts]
        else:
            logits = [self._counted(part) for part in parts]
        return torch.cat(logits)

    def check_gradient(self, images: Tensor) -> None:
        """Take a gradient at a few images; HarnessError if code from elsewhere fails in it."""
        points = images.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            value = self(points).sum()
        try:
            torch.autograd.grad(value, points)
        except Exception as error:  # backward functions from elsewhere may fail in any way
            raise HarnessError(f"the network's gradient cannot be taken: {named(error)}") from error

    def _counted(self, images: Tensor) -> Tensor:
        """Call the network on one part of a batch, check its answer and count the passes."""
        self.passes.forward += len(images)
        # its own copy: a network that normalises in place must not change the attack's images
        # and in float64 where the network is: packages attack in float32
        dtype = torch.promote_types(images.dtype, self._dtype)
        copy = images.to(dtype, memory_format=self._layout, copy=True)
        try:
            with compiling() if self.compiled else nullcontext():
                logits = self._model(copy)
        except HarnessError:
            raise
        except Exception as error:  # a network from elsewhere may fail in any way
            raise HarnessError(
                f"the network fails on {images.dtype} of shape {list(images.shape)}: {named(error)}"
            ) from error
        shape, found, right = (len(images), self._classes), type(logits).__name__, False
        if isinstance(logits, Tensor):
            found = f"{list(logits.shape)} of {logits.dtype}, {logits.layout}"
            real = logits.is_floating_point() and logits.layout == torch.strided
            right = real and logits.shape == shape
        if not right:
            raise HarnessError(
                f"the network answers {len(images)} images with {found}, expected real logits of "
                f"shape {list(shape)}"
            )
        # what was made in inference mode can be neither changed nor differentiated
        checked: Tensor = (logits.clone() if logits.is_inference() else logits).to(images.dtype)
        if images.requires_grad and torch.is_grad_enabled():
            # of a network that detaches its input the gradient is zero, of which the checks warn
            checked = checked + (0 * images).flatten(1).sum(1, keepdim=True)
            checked.register_hook(self._count_backward)
        return checked

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)

    def predict(self, images: Tensor) -> Tensor:
        """Return the predicted classes, int64 of shape (B,)."""
        return self.logits(images).argmax(1)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits without a gradient, shape (B, classes); fails if one is not finite."""
        with torch.no_grad():
            logits: Tensor = self(images)
        if not torch.isfinite(logits).all():
            raise HarnessError("the network's logits are NaN or infinite")
        return logits
