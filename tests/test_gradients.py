"""Weight gradients of the presets' networks, on each vector extension that this processor has.

Run as a script it prints how far float32 gradients are from float64 ones: PyTorch picks its vector
extension and threads when it is loaded, and an overrun of the heap ends the process.
"""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from reproduce.config.fields import PRESETS
from reproduce.config.load import build_config
from reproduce.experiments.grids import planned_runs
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts, parse_architecture

EXTENSIONS = {"AVX2": ("AVX2", "AVX512"), "AVX512_CORE": ("AVX512",)}
CELLS = {cell for name in PRESETS for cell in planned_runs(build_config({"preset": name}))}
# A WideResNet of depth 10 has every convolution of a deeper one.  The last two are thinner than
# the presets': oneDNN's registers hold 8 or 16 channels.
NETWORKS = sorted(
    {re.sub(r"^wrn-(28|34)-", "wrn-10-", cell.architecture) for cell in CELLS}
    | {"wrn-10-0.25", "wrn-10-0.125"}
)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_weight_gradients(extension: str, threads: int) -> None:
    if torch.backends.cpu.get_cpu_capability() not in EXTENSIONS[extension]:
        pytest.skip(f"this processor has no {extension}")
    environment = os.environ | {
        "ONEDNN_MAX_CPU_ISA": extension,
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_CHECK_": "3",
        # glibc's own: MALLOC_CHECK_ does nothing without it
        "LD_PRELOAD": "libc_malloc_debug.so.0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, __file__, *NETWORKS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    errors = json.loads(done.stdout)
    assert errors.keys() == set(NETWORKS)
    wrong = {name: error for name, error in errors.items() if error > 2e-3}
    assert not wrong, wrong


def worst_error(architecture: str) -> float:
    """Return the largest relative error of a tensor's gradient, in the Euclidean norm."""
    folder = parse_architecture(architecture).bottleneck
    facts = dataset_facts("imagenet" if folder else "cifar10")
    size = 32 if folder else 8
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
