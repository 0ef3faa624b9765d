"""Networks compiled by PyTorch: the same function in fewer and larger kernels."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from reproduce.config import Machine
from reproduce.errors import HarnessError

# Forward passes of images above which compiling wins back the time it takes on a CPU: a
# WideResNet-34-1 takes about a minute to compile and saves some 0.2 ms a pass
# (benchmarks/README.md).
_WORTH_COMPILING = 1_000_000
# Seconds of training on a GPU above which it does.  Not measured yet: two minutes to compile, and a
# fifth less time for every step, are expected.
_WORTH_SECONDS = 600
# Variants of one network: train and eval mode, with and without gradients, each precision and
# shape.  Beyond PyTorch's own limit of 8 it would go on uncompiled with no more than a warning.
_VARIANTS = 64


def wants_compiling(machine: Machine, passes: float, seconds: float = 0.0) -> bool:
    """Say whether work is done by a compiled network.

    Parameters
    ----------
    machine : Machine
        Its `device` and `compile`; auto compiles only where there is a compiler.
    passes : float
        Forward passes of images that are left to do; they decide on a CPU.
    seconds : float
        How long they take uncompiled, if that was measured; it decides on a GPU.
    """
    if machine.compile != "auto":
        return machine.compile == "always"
    on_cpu = machine.device == "cpu"
    worth = passes > _WORTH_COMPILING if on_cpu else seconds > _WORTH_SECONDS
    return worth and _has_compiler(on_cpu)


def _has_compiler(on_cpu: bool) -> bool:
    """Say whether there is what PyTorch compiles with, which slim containers lack.

    A C++ compiler; on a GPU Triton, and a C compiler for its launchers.
    """
    compiler = os.environ.get("CXX", "g++") if on_cpu else os.environ.get("CC", "gcc")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    found = shutil.which(compiler.split()[0]) is not None and headers.is_file()
    return found and (on_cpu or find_spec("triton") is not None)


def compiled(module: nn.Module, *, dynamic: bool | None = None) -> nn.Module:
    """Return a module that computes the same with kernels compiled for it.

    Compilation happens at the first call of each kind; call it inside `compiling`.  It
    rounds otherwise than the module itself, in the last bits.

    Parameters
    ----------
    module : torch.nn.Module
        The network; the weights stay shared.
    dynamic : bool, optional
        Whether any batch size is served by one set of kernels; unless given, the first
        size has its own.
    """
    torch._dynamo.config.recompile_limit = _VARIANTS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(module, dynamic=dynamic)  # type: ignore[return-value]


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
    except (
        torch._dynamo.exc.TorchDynamoException,
        torch._dynamo.exc.FailOnRecompileLimitHit,  # not one of those
    ) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise HarnessError(
            f"the network cannot be compiled here ({type(error).__name__}: {reason.strip()}); set "
            "machine.compile=never"
        ) from error
