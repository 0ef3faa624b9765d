"""Several processes that train one network together, one a GPU, as torchrun starts them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from reproduce.core.errors import HarnessError

T = TypeVar("T")

# of the environment that torchrun makes for each process
_RANK, _COUNT = "RANK", "WORLD_SIZE"
# Longest that a process waits for the others between two steps, and while the first one
# waits for GPUs, which other jobs may hold for days.  One that dies is noticed at once.
_STEP = timedelta(minutes=30)
_QUEUE = timedelta(days=30)
# of what gloo, NCCL and the store of addresses say when a peer is gone
_LOSS = (
    "connection closed",
    "connection reset",
    "connection refused",
    "connection was closed",
    "broken pipe",
    "failed to recv",
    "remote process exited",
    "communicator was aborted",
    "timed out",
    "timeout",
)


class LostProcessError(HarnessError):
    """Another process of the run is gone."""


@dataclass(frozen=True)
class Group:
    """The processes that train one network.

    What they agree on goes over the CPU, so that no GPU has to be waited for.

    Attributes
    ----------
    rank, count : int
        Which process of how many this is; the first one writes the files.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
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
        """Return the first process's value in all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def awaited(self, find: Callable[[], T]) -> T:
        """Return in all processes what the first one finds, however long that takes.

        Parameters
        ----------
        find : callable
            Called by the first process alone.
        """
        if self.count == 1:
            return find()
        patient = dist.new_group(backend="gloo", timeout=_QUEUE)
        box = [find() if self.first else None]
        dist.broadcast_object_list(box, src=0, group=patient, device=torch.device("cpu"))
        dist.destroy_process_group(patient)
        return cast("T", box[0])

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

    @contextmanager
    def losing_none(self) -> Iterator[None]:
        """Say in one line if another process went away inside.

        Raises
        ------
        LostProcessError
            In place of what PyTorch says then.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _tells_of_loss(error):
                raise
            raise LostProcessError(
                "another of the processes that train this network was lost; the same command "
                "continues from what is saved"
            ) from error


ALONE = Group()


def group_here() -> Group:
    """Return the group that this process was started in: by torchrun, or alone.

    Raises
    ------
    HarnessError
        If the environment says something else than torchrun does.
    """
    if _COUNT not in os.environ:
        return ALONE
    try:
        return Group(int(os.environ[_RANK]), int(os.environ[_COUNT]))
    except (KeyError, ValueError) as error:
        raise HarnessError(
            f"{_COUNT} is set to {os.environ[_COUNT]!r}, but {_RANK} is not a number; start "
            "several processes with torchrun, or unset both"
        ) from error


@contextmanager
def joined(group: Group, device: str) -> Iterator[None]:
    """Connect the processes of a group for the length of a run.

    Parameters
    ----------
    group : Group
        The processes; a single one needs no connection.
    device : str
        What they compute on, as `machine.device` says it.

    Raises
    ------
    LostProcessError
        If one of them goes away.
    """
    if group.count == 1:
        yield
        return
    with group.losing_none():
        backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=_STEP)
        try:
            yield
        finally:
            dist.destroy_process_group()


def _tells_of_loss(error: RuntimeError) -> bool:
    """Say whether an error is what a collective operation ends in without its peers."""
    text = str(error).lower()
    return any(word in text for word in _LOSS)
