"""What training and attacks compute in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reproduce.config import Precision

# the first generation that has TF32, by its compute capability
_AMPERE = (8, 0)


def computed_in(precision: Precision, device: torch.device) -> Precision:
    """Return what a device makes of a precision: where there is no TF32, it is float32."""
    has = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE
    return "float32" if precision == "tf32" and not has else precision


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let a GPU round the factors in convolutions to TF32's ten bits, or keep it from that.

    Forward and backward.  The linear layer keeps all bits, as PyTorch has it by default.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def forward_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Return what a forward pass is made in: bf16 keeps activations in bfloat16.

    Weights, BatchNorm and the loss stay in float32.
    """
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=precision == "bf16",
        # weights that a perturbation has moved must be cast again
        cache_enabled=False,
    )


@contextmanager
def default_dtype(precision: str) -> Iterator[None]:
    """Let new tensors be of a precision: float64, or float32 for every other one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
