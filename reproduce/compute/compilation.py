"""Fewer and larger kernels for the same function: compiled networks, and CUDA graphs."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
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
    """Say whether a network is compiled for so many passes, or on a GPU uncompiled seconds."""
    if machine.compile != "auto":
        return machine.compile == "always"
    on_cpu = machine.device == "cpu"
    if not (passes > _WORTH_COMPILING if on_cpu else seconds > _WORTH_SECONDS):
        return False
    # a C++ compiler; on a GPU Triton, and a C compiler for its launchers: slim containers lack them
    compiler = os.environ.get("CXX", "g++") if on_cpu else os.environ.get("CC", "gcc")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    found = shutil.which(compiler.split()[0]) is not None and headers.is_file()
    return found and (on_cpu or find_spec("triton") is not None)


def compiled(module: nn.Module, *, dynamic: bool | None = None) -> nn.Module:
    """Return a module with the same weights and kernels of its own; call it inside `compiling`."""
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
    """Records what is computed on batches of `sizes` images, and launches it as one graph.

    What a recorded function returns is overwritten by the next call, also on a CPU, where it is
    called again; it may draw no random numbers and ask nothing of the device, and what it reads
    beside its inputs (weights, BatchNorm's statistics) must stay where it is.
    """

    def __init__(self, model: nn.Module, sizes: Collection[int]) -> None:
        self._model, self._sizes = model, frozenset(sizes)
        # what launches a function, and the function, which may own what it reads
        self._recorded: dict[Hashable, tuple[Function, Function]] = {}
        # the stream and the memory of all recordings, which never run at the same time
        self._shared: tuple[torch.cuda.Stream, Any] | None = None

    def __call__(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return function(*inputs); the same `key` must mean the same computation."""
        if len(inputs[0]) not in self._sizes:
            return function(*inputs)
        place = (key, inputs[0].shape)
        if place not in self._recorded:
            # calling it to warm up moves BatchNorm's statistics, and leaves AWP's moves on weights
            held: list[Tensor] = [*self._model.parameters(), *self._model.buffers()]
            before = [value.detach().clone() for value in held]
            make = self._record if inputs[0].is_cuda else _repeated
            launch = make(function, [value.clone() for value in inputs])
            self._recorded[place] = (launch, function)
            with torch.no_grad():
                _copy(before, held)
        return self._recorded[place][0](*inputs)

    def _record(self, function: Function, memory: list[Tensor]) -> Function:
        """Record a function that reads its inputs from `memory`, and return what launches it."""
        if self._shared is None:
            device = memory[0].device
            self._shared = (torch.cuda.Stream(device), torch.cuda.graph_pool_handle())
        stream, pool = self._shared
        graph = torch.cuda.CUDAGraph()
        try:
            # On the stream of the warm-up: autograd's nodes of leaves, and the handles of cuBLAS
            # and cuDNN, remember theirs, and another one would break the recording.
            now = torch.cuda.current_stream(stream.device)
            stream.wait_stream(now)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    function(*memory)
            now.wait_stream(stream)
            # a recording cannot have the memory that gradients of the warm-up hold
            for parameter in self._model.parameters():
                parameter.grad = None
            torch.cuda.synchronize(stream.device)
            # the backward pass is recorded from another thread, and others may allocate meanwhile
            with torch.cuda.graph(
                graph, pool=pool, stream=stream, capture_error_mode="thread_local"
            ):
                outputs = function(*memory)
        except RuntimeError as error:
            raise HarnessError(
                f"a step cannot be recorded as a CUDA graph here ({named(error)}); set "
                "machine.graphs=never"
            ) from error

        def launch(*inputs: Tensor) -> tuple[Tensor, ...]:
            _copy(inputs, memory)
            graph.replay()
            return outputs

        return launch


def _repeated(function: Function, memory: list[Tensor]) -> Function:
    """Return what calls a function on a CPU, with inputs and outputs in the same memory."""
    outputs = tuple(value.clone() for value in function(*memory))

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        _copy(inputs, memory)
        _copy(function(*memory), outputs)
        return outputs

    return call


def _copy(values: Iterable[Tensor], places: Iterable[Tensor]) -> None:
    for value, place in zip(values, places, strict=True):
        place.copy_(value)
