"""Weight gradients of the presets' networks, on each vector extension that this processor has."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reproduce.config.fields import PRESETS
from reproduce.config.load import build_config
from reproduce.experiments.grids import planned_runs

EXTENSIONS = {"AVX2": ("AVX2", "AVX512"), "AVX512_CORE": ("AVX512",)}
CELLS = {cell for name in PRESETS for cell in planned_runs(build_config({"preset": name}))}
# A WideResNet of depth 10 has every convolution of a deeper one.  The last two are thinner than
# the presets': oneDNN's registers hold 8 or 16 channels.
NETWORKS = sorted(
    {re.sub(r"^wrn-(28|34)-", "wrn-10-", cell.architecture) for cell in CELLS}
    | {"wrn-10-0.25", "wrn-10-0.125"}
)
# glibc's own: MALLOC_CHECK_ does nothing without it
CHECKED_MALLOC = "libc_malloc_debug.so.0"


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
        "LD_PRELOAD": CHECKED_MALLOC,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    script = Path(__file__).with_name("gradient_check.py")
    done = subprocess.run(
        [sys.executable, str(script), *NETWORKS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    errors = json.loads(done.stdout)
    assert errors.keys() == set(NETWORKS)
    wrong = {name: error for name, error in errors.items() if error > 2e-3}
    assert not wrong, wrong
