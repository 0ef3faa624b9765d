"""Print how far float32 weight gradients are from float64 ones, as JSON; run as a process.

PyTorch picks its vector extension and threads when it is loaded, and an overrun of the heap
ends the process.
"""

import json
import os
import sys

import torch
from torch.nn import functional as F

from reproduce.models.load import build_model
from reproduce.registry import dataset_facts, parse_architecture


def worst_error(architecture: str) -> float:
    """Return the largest relative error of a tensor's gradient, in the Euclidean norm."""
    folder = parse_architecture(architecture).bottleneck
    facts = dataset_facts("imagenet" if folder else "cifar10")
    size = 64 if folder else 8
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((8, facts.channels, size, size), generator=generator)
    labels = torch.arange(8) % facts.classes
    model = build_model(architecture, facts).to(memory_format=torch.channels_last)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        inputs = images.to(dtype).contiguous(memory_format=torch.channels_last)
        F.cross_entropy(model(inputs), labels).backward()
        gradients.append([p.grad.double() for p in model.parameters()])
        # allocations in which an overrun of the heap is noticed
        _ = [torch.rand(7 + i) for i in range(50)]
    return max(
        ((single - double).norm() / double.norm()).item()
        for single, double in zip(*gradients, strict=True)
    )


if __name__ == "__main__":
    # Smooth: an input near the kink of a ReLU may have another gradient in each precision.
    F.relu = F.elu
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    print(json.dumps({name: worst_error(name) for name in sys.argv[1:]}))
