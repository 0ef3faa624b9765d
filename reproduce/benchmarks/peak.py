"""What the machine does at best: products of matrices, the networks' own convolutions, copies."""

from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F

from reproduce.benchmarks.budget import Budget
from reproduce.benchmarks.measured import Peak, Peaks
from reproduce.benchmarks.timing import rate
from reproduce.compute.device import products_in
from reproduce.config.schema import Precision
from reproduce.core.rng import generator
from reproduce.registry import Architecture, parse_architecture

_RUNS = 5
_GIGA = 1e9
# seconds a run of one measurement takes
_RUN_SECONDS = {"cpu": 0.1, "cuda": 0.05}
# rows of the square matrices, and images of the convolutions: enough to keep all of a device busy
_ROWS = {"cpu": 1024, "cuda": 8192}
_IMAGES = {"cpu": 32, "cuda": 256}
_COPY_BYTES = {"cpu": 2**27, "cuda": 2**30}


def measure_peaks(
    precisions: Sequence[Precision],
    architectures: Iterable[str],
    device: torch.device,
    budget: Budget,
) -> Peaks:
    """Measure the peaks of each precision.

    Parameters
    ----------
    precisions : sequence of str
        "tf32" needs a GPU.
    architectures : iterable of str
        The convolutions are those of these networks.
    device : torch.device
        What to measure.
    budget : Budget
        Convolutions that do not fit in are noted there.
    """
    products = [_product(precision, device) for precision in precisions]
    convolutions = []
    for channels, size in _shapes(architectures):
        for precision in precisions:
            what = f"peak of 3 x 3 convolutions {channels} -> {channels} at {size} x {size}"
            if budget.fits(f"{what}, {precision}", 0.0):
                convolutions.append(_convolution(channels, size, precision, device))
    return Peaks(products=products, convolutions=convolutions, copy_rate=_copy(device))


def _shapes(architectures: Iterable[str]) -> list[tuple[int, int]]:
    """Return channels and sizes of the 3 x 3 convolutions that repeat in some networks."""
    found: dict[tuple[int, int], None] = {}
    for shape in map(parse_architecture, architectures):
        found |= dict.fromkeys(_repeated(shape))
    return list(found)


def _repeated(shape: Architecture) -> list[tuple[int, int]]:
    if shape.family == "densenet-bc":
        # bottlenecks have four growth rates of channels; their convolutions shrink those to one
        return [(4 * int(shape.width), size) for size in (32, 16, 8)]
    return [(int(base * shape.width), size) for base, size in ((16, 32), (32, 16), (64, 8))]


def _product(precision: Precision, device: torch.device) -> Peak:
    rows = _ROWS[device.type]
    stream = generator(0, "benchmark product", device=device)
    left, right = (
        torch.rand(rows, rows, generator=stream, device=device).to(_type(precision))
        for _ in range(2)
    )
    out = torch.empty_like(left)
    # training has TF32 in convolutions alone
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        found = rate(
            lambda: torch.mm(left, right, out=out),
            2 * rows**3 / _GIGA,
            device,
            _RUNS,
            _RUN_SECONDS[device.type],
        )
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    return Peak(operation=f"product {rows} x {rows}", precision=precision, rate=found)


def _convolution(channels: int, size: int, precision: Precision, device: torch.device) -> Peak:
    count = _IMAGES[device.type]
    stream = generator(0, "benchmark convolution", device=device)
    images = torch.rand(count, channels, size, size, generator=stream, device=device)
    weight = torch.rand(channels, channels, 3, 3, generator=stream, device=device)
    images, weight = (
        part.to(_type(precision)).contiguous(memory_format=torch.channels_last)
        for part in (images, weight)
    )
    operations = 2 * count * channels**2 * 9 * size**2
    with products_in(precision), torch.no_grad():
        found = rate(
            lambda: F.conv2d(images, weight, padding=1),
            operations / _GIGA,
            device,
            _RUNS,
            _RUN_SECONDS[device.type],
        )
    name = f"3 x 3 convolution {channels} -> {channels} at {size} x {size}, {count} images"
    return Peak(operation=name, precision=precision, rate=found)


def _copy(device: torch.device) -> Peak:
    size = _COPY_BYTES[device.type]
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    # written once: memory that was only asked for is slow the first time
    target = torch.ones_like(source)
    found = rate(
        lambda: target.copy_(source),
        2 * size / _GIGA,
        device,
        _RUNS,
        _RUN_SECONDS[device.type],
    )
    return Peak(operation=f"copy of {size // 2**20} MiB", precision="float32", rate=found)


def _type(precision: Precision) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32
