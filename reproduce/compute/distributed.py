"""Several processes that train one network together, one a GPU, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

# Longest that processes wait for each other.  If one dies, torchrun says so and ends the others.
_TIMEOUT = timedelta(minutes=30)
# and for the first one, which may wait for days for GPUs that other jobs hold
_QUEUE = timedelta(days=30)


@dataclass(frozen=True)
class Group:
    """The processes that train one network: which (`rank`) of how many (`count`) this is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """Return the largest of all processes' values."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX))

    def total(self, value: int) -> int:
        """Return the sum of all processes' values."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.SUM))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, element by element, on the device of `values`."""
        return self._reduced(values, dist.ReduceOp.SUM) / self.count

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        if self.count > 1:
            dist.all_reduce(values, operation)
        return values

    def from_first(self, value: T) -> T:
        """Return the first process's value in all of them, as soon as it has one."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=_patient[0], device=torch.device("cpu"))
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """Return all processes' values, in the order of their ranks."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.total(0)

    def part(self, size: int) -> tuple[int, int]:
        """Return where this process's part of a row of things begins and ends."""
        return self.rank * size // self.count, (self.rank + 1) * size // self.count

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's BatchNorm statistics, as every training step does."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are averaged over the processes."""
        return DistributedDataParallel(module) if self.count > 1 else module


ALONE = Group()
# the same processes, for what the first one says when it has waited
_patient: list[Any] = []


def group_here() -> Group:
    """Return the group that this process was started in: by torchrun, or alone."""
    if "WORLD_SIZE" not in os.environ:
        return ALONE
    return Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextmanager
def joined(group: Group, device: str) -> Iterator[None]:
    """Connect the processes of a group for the length of a run on `machine.device`."""
    if group.count == 1:
        yield
        return
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    _patient[:] = [dist.new_group(timeout=_QUEUE, backend="gloo")]
    try:
        yield
    finally:
        dist.destroy_process_group()
