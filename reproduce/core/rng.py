"""Every random stream is a function of a seed, a purpose and a place in the run.

Nothing draws from a generator that lives longer than one use, so a run that was
stopped needs no generator state to continue exactly, and the noise of an image
depends neither on its batch nor on what was computed before it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def derive(seed: int, purpose: str, *place: int) -> int:
    """Hash a seed, a purpose and a place (epoch, step ...) to 63 bits."""
    name = "/".join([str(seed), purpose, *map(str, place)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(
    seed: int, purpose: str, *place: int, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """Return a fresh generator for one stream; CPU and CUDA draw other numbers from a seed."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, purpose, *place))


@contextmanager
def own_random_numbers(device: "torch.device", seed: int) -> Iterator[None]:
    """Let other code draw from PyTorch's global generators, from `seed` on; put them back after."""
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def uniform_per_image(
    seed: int, purpose: str, indices: Sequence[int], shape: tuple[int, ...]
) -> "Tensor":
    """Draw uniform noise in [-1, 1), every image from a stream of its own.

    The images' `indices` in their data set pick the streams; `shape` is that of one image.  Returns
    float32 of shape (len(indices), *shape), on the CPU.
    """
    import torch

    key = derive(seed, purpose)
    noise = np.empty((len(indices), *shape), dtype=np.float32)
    for row, index in zip(noise, indices, strict=True):
        stream = np.random.Generator(np.random.Philox(key=[key, index]))
        stream.random(dtype=np.float32, out=row)
    return torch.from_numpy(noise).mul_(2).sub_(1)
