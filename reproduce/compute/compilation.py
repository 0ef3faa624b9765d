"""Fewer and larger kernels for the same function: compiled networks, and CUDA graphs."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reproduce.config.schema import Machine
from reproduce.core.errors import HarnessError, named

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
    """Say whether a network is compiled for some work; auto does so only where there is a compiler.

    On a CPU the forward passes of images that are left decide, on a GPU the seconds that they take
    uncompiled, if these were measured.
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
    """Return a module that computes the same with kernels compiled for it; weights stay shared.

    Compilation happens at the first call of each kind; call it inside `compiling`.  It
    rounds otherwise than the module itself, in the last bits.  With `dynamic` one set of kernels
    serves any batch size.
    """
    torch._dynamo.config.recompile_limit = _VARIANTS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(module, dynamic=dynamic)  # type: ignore[return-value]


@contextmanager
def compiling() -> Iterator[None]:
    """Say in one line, with the setting that does without, if a network cannot be compiled here."""
    try:
        yield
    except (
        torch._dynamo.exc.TorchDynamoException,
        torch._dynamo.exc.FailOnRecompileLimitHit,  # not one of those
    ) as error:
        raise HarnessError(
            f"the network cannot be compiled here ({named(error)}); set machine.compile=never"
        ) from error


# --- CUDA graphs

Function = Callable[..., tuple[Tensor, ...]]
# before a recording: cuDNN chooses its kernels, and what is compiled is compiled
_WARM_UP = 3


def wants_graphs(machine: Machine, device: torch.device, processes: int = 1) -> bool:
    """Say whether steps are recorded; what several processes exchange cannot be."""
    return machine.graphs == "auto" and device.type == "cuda" and processes == 1


class Graphs:
    """Records what is computed on whole batches of one network, and launches it as one graph.

    A recorded function reads and writes the same memory each time, which all functions of one
    `Graphs` share.  So what it returns is overwritten by the next call, it may draw no random
    numbers and ask nothing of the device, and what it reads beside its inputs (weights,
    BatchNorm's statistics) must stay where it is.

    On a CPU there are no graphs: there the function is called again on copies of its inputs, and
    its results are copied to where the first ones lie.  So code that keeps a result which will be
    overwritten fails on a CPU as well.

    Only batches of `sizes` images are recorded; others are computed kernel by kernel.  Recording
    leaves weights and statistics of the model as they were.
    """

    def __init__(self, model: nn.Module, sizes: Collection[int]) -> None:
        self._model, self._sizes = model, frozenset(sizes)
        self._recorded: dict[Hashable, _Recorded] = {}
        # the stream and the memory of all recordings, which never run at the same time
        self._shared: tuple[torch.cuda.Stream, Any] | None = None

    def __call__(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return function(*inputs), from its recording if there is one.

        The same `key` must mean the same computation; the first of the inputs has the batch as its
        first dimension.
        """
        if len(inputs[0]) not in self._sizes:
            return function(*inputs)
        place = (key, inputs[0].shape)
        if place not in self._recorded:
            if inputs[0].is_cuda and self._shared is None:
                stream = torch.cuda.Stream(inputs[0].device)
                self._shared = (stream, torch.cuda.graph_pool_handle())
            self._recorded[place] = _Recorded(function, inputs, self._model, self._shared)
        return self._recorded[place](inputs)


class _Recorded:
    """One function for inputs of one size."""

    def __init__(
        self,
        function: Function,
        inputs: tuple[Tensor, ...],
        model: nn.Module,
        shared: tuple[torch.cuda.Stream, Any] | None,
    ) -> None:
        self._function = function
        self._inputs = [value.clone() for value in inputs]
        self._graph: torch.cuda.CUDAGraph | None = None
        # calling it to warm up moves BatchNorm's statistics, and leaves AWP's moves on the weights
        held: list[Tensor] = [*model.parameters(), *model.buffers()]
        before = [value.detach().clone() for value in held]
        if shared is not None:
            try:
                self._record(model, *shared)
            except RuntimeError as error:
                raise HarnessError(
                    f"a step cannot be recorded as a CUDA graph here ({named(error)}); set "
                    "machine.graphs=never"
                ) from error
        else:
            self._outputs = tuple(value.clone() for value in function(*self._inputs))
        with torch.no_grad():
            for value, old in zip(held, before, strict=True):
                value.copy_(old)

    def _record(self, model: nn.Module, stream: torch.cuda.Stream, pool: Any) -> None:
        # On the stream of the warm-up: autograd's nodes of leaves, and the handles of cuBLAS and
        # cuDNN, remember theirs, and another one than the recorded would break the recording.
        now = torch.cuda.current_stream(stream.device)
        stream.wait_stream(now)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._function(*self._inputs)
        now.wait_stream(stream)
        # a recording cannot have the memory that gradients of the warm-up hold
        for parameter in model.parameters():
            parameter.grad = None
        torch.cuda.synchronize(stream.device)
        self._graph = torch.cuda.CUDAGraph()
        # the backward pass is recorded from another thread, and others may allocate meanwhile
        with torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        ):
            self._outputs = self._function(*self._inputs)

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for kept, value in zip(self._inputs, inputs, strict=True):
            kept.copy_(value)
        if self._graph is not None:
            self._graph.replay()
        else:
            for kept, value in zip(self._outputs, self._function(*self._inputs), strict=True):
                kept.copy_(value)
        return self._outputs
