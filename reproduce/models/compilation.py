"""Networks compiled by PyTorch: the same function in fewer and larger kernels."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from reproduce.config import CompileMode, Machine
from reproduce.errors import HarnessError

# Forward passes of images above which compiling wins back the time it takes on a CPU: a
# WideResNet-34-1 takes about a minute to compile and saves some 0.2 ms a pass
# (benchmarks/README.md).  Of a GPU nothing was measured yet.
_WORTH_COMPILING = 1_000_000
# Variants of one network: train and eval mode, with and without gradients, each precision and
# shape.  Beyond PyTorch's own limit of 8 it would go on uncompiled with no more than a warning.
_VARIANTS = 64


def wants_compiling(machine: Machine, passes: float) -> bool:
    """Say whether work of so many forward passes of images is done by a compiled network."""
    if machine.compile == "auto":
        return machine.device == "cpu" and passes > _WORTH_COMPILING and _has_compiler()
    return machine.compile == "always"


def _has_compiler() -> bool:
    """Say whether there is what PyTorch compiles with, which slim containers lack."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(os.environ.get("CXX", "g++")) is not None and headers.is_file()


def compiled(
    module: nn.Module, mode: CompileMode = "default", *, dynamic: bool | None = None
) -> nn.Module:
    """Return a module that computes the same with kernels compiled for it.

    Compilation happens at the first call of each kind; call it inside `compiling`.  It
    rounds otherwise than the module itself, in the last bits.

    Parameters
    ----------
    module : torch.nn.Module
        The network; the weights stay shared.
    mode : {"default", "reduce-overhead", "max-autotune-no-cudagraphs"}
        What PyTorch optimises for.
    dynamic : bool, optional
        Whether any batch size is served by one set of kernels; unless given, the first
        size has its own.
    """
    torch._dynamo.config.recompile_limit = _VARIANTS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(module, dynamic=dynamic, mode=mode)  # type: ignore[return-value]


@contextmanager
def compiling() -> Iterator[None]:
    """Say in one line if the network cannot be compiled on this machine.

    Raises
    ------
    HarnessError
        Naming the cause and the setting that does without.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise HarnessError(
            f"the network cannot be compiled here ({type(error).__name__}: {reason.strip()}); set "
            "machine.compile=never"
        ) from error
