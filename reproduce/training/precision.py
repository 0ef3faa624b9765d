"""The precision that a training step computes in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reproduce.config import Precision
from reproduce.devices import describe
from reproduce.errors import HarnessError

# the first generation that has TF32, by its compute capability
_AMPERE = (8, 0)


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that a device does not have.

    Raises
    ------
    HarnessError
        If TF32 is asked for where there is none, which would compute in float32.
    """
    if precision == "tf32" and (
        device.type == "cpu" or torch.cuda.get_device_capability(device) < _AMPERE
    ):
        raise HarnessError(
            "train.precision is 'tf32', a format of NVIDIA GPUs from Ampere on, which "
            f"{describe(device)['name']} does not have; set float32 or bf16"
        )


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Let a GPU round the factors of every product to TF32's ten bits, or keep it from that.

    Holds for convolutions and linear layers, forward and backward.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


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
