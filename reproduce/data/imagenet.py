"""Image files, as ImageNet's: decoded to train on by processes, and to attack by threads."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from itertools import accumulate
from multiprocessing import active_children
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Phase
from reproduce.core.errors import HarnessError
from reproduce.core.rng import derive, generator, own_random_numbers
from reproduce.core.vision import torchvision
from reproduce.data.batches import ImageStore, LabelledBatches, to_float
from reproduce.data.dataset import Split
from reproduce.registry import DatasetFacts

# others would be opened by readers that nobody looks at, EPS by another program
_FORMATS = ("JPEG", "PNG")
_ADVICE = (
    "such processes need memory, room in /dev/shm, open files (`ulimit -n`) and processes "
    "(`ulimit -u`): raise what there is too little of, or set machine.loaders to fewer"
)
# batches that each process is ahead
_AHEAD = 2


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file and read its header."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except Exception as error:  # PIL raises many things
        raise HarnessError(f"image {path} cannot be read: {error}") from error


class FolderStore:
    """A split of image files to attack: centre crops, decoded on demand by threads."""

    def __init__(
        self, split: Split, facts: DatasetFacts, device: torch.device, loaders: int
    ) -> None:
        self.labels = torch.from_numpy(split.labels.astype(np.int64)).to(device)
        self.indices = split.indices
        self.image_shape = (facts.channels, facts.size, facts.size)
        self._split, self._device, self._loaders = split, device, loaders
        # black around an image that is smaller
        self._crop = torchvision("torchvision.transforms").CenterCrop(facts.size)

    def __len__(self) -> int:
        return len(self._split)

    def part(self, start: int, stop: int) -> "FolderStore":
        """Return images `start` to `stop` as a store."""
        part = copy(self)
        part.labels, part.indices = self.labels[start:stop], self.indices[start:stop]
        part._split = self._split.take(np.arange(len(self))[start:stop])
        return part

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images `start` to `stop` and their labels, as `ImageStore.plain`."""

        def pixels(row: int) -> NDArray[np.uint8]:
            with open_image(self._split.path(row)) as image:
                return np.asarray(self._crop(image.convert("RGB")))

        # PIL decodes without holding Python's lock
        with ThreadPoolExecutor(max(self._loaders, 1)) as pool:
            images = np.stack(list(pool.map(pixels, range(len(self))[start:stop])))
        return to_float(torch.from_numpy(images).to(self._device)), self.labels[start:stop]


EvaluationStore = ImageStore | FolderStore


def open_store(
    split: Split, facts: DatasetFacts, device: torch.device, loaders: int
) -> EvaluationStore:
    """Return a split as evaluation takes it; `loaders` threads decode files."""
    if split.folder is not None:
        return FolderStore(split, facts, device, loaders)
    return ImageStore(split, facts, device)


def decoder_lost(error: Exception) -> str:
    """Say that a process that decodes is gone, what PyTorch says of it, and what helps."""
    said = (str(error).strip() or repr(error)).splitlines()[-1]
    return f"a process that decodes images was lost: {said}; {_ADVICE}; the same command continues"


class FolderBatches:
    """The training batches of a run, decoded ahead by `loaders` processes if asked in order.

    Each process of a `group` gets its share of every batch.
    """

    def __init__(
        self,
        split: Split,
        facts: DatasetFacts,
        phases: Sequence[Phase],
        seed: int,
        device: torch.device,
        loaders: int,
        group: Group = ALONE,
    ) -> None:
        self._split, self._facts, self._phases = split, facts, phases
        self._seed, self._device, self._loaders, self._group = seed, device, loaders, group
        self._ends = list(accumulate(phase.epochs for phase in phases))
        # the batches that are decoded ahead, and the epoch and step of the next of them
        self._coming: Iterator[Any] = iter(())
        self._next: tuple[int, int] | None = None
        for phase in phases:
            last = len(split) % phase.batch_size or phase.batch_size
            if last < group.count:
                raise HarnessError(
                    f"the last of the batches of {phase.batch_size} has {last} of {len(split)} "
                    f"training images, too few for {group.count} processes"
                )

    def _phase(self, epoch: int) -> Phase:
        return next(p for p, end in zip(self._phases, self._ends, strict=True) if epoch <= end)

    def steps(self, epoch: int) -> int:
        """Return the number of batches of an epoch; the last may be smaller."""
        return -(-len(self._split) // self._phase(epoch).batch_size)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return this process's share of one batch, as `LabelledBatches.batch`."""
        if self._next != (epoch, step):
            self._coming = self._begin(epoch, step)
        self._next = None
        try:
            found = next(self._coming)
        except (OSError, RuntimeError) as error:
            raise HarnessError(decoder_lost(error)) from error
        if isinstance(found, str):
            raise HarnessError(found)
        self._next = (epoch, step + 1)
        pixels, labels = (part.to(self._device, non_blocking=True) for part in found)
        return to_float(pixels), labels

    def close(self) -> None:
        """End the processes that decode ahead."""
        self._coming, self._next = iter(()), None

    def _begin(self, epoch: int, step: int) -> Iterator[Any]:
        """Start to decode the batches of an epoch from a step on."""
        phase = self._phase(epoch)
        order = torch.randperm(len(self._split), generator=generator(self._seed, "shuffle", epoch))
        rank, count = self._group.rank, self._group.count
        batches = order.split(phase.batch_size)[step:]
        loader: DataLoader[Any] = DataLoader(
            _Images(self._split, self._facts, phase, self._seed, epoch),
            batch_sampler=[rows[rank::count].tolist() for rows in batches],
            collate_fn=_stack,
            num_workers=self._loaders,
            prefetch_factor=_AHEAD if self._loaders else None,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_begin_process,
            # else it would draw from the global one
            generator=torch.Generator(),
        )
        others = set(active_children())
        try:
            return iter(loader)
        except (OSError, RuntimeError) as error:
            # they ignore what Python would end them with, and wait for it
            for child in set(active_children()) - others:
                child.kill()
            raise HarnessError(
                f"the processes that decode images cannot be started: {error}; {_ADVICE}"
            ) from error


BatchSource = LabelledBatches | FolderBatches


class _Images(Dataset[Any]):
    """Augmented images of one epoch, by row; in place of one that cannot be read, why.

    A random part of random size and shape, resized to `phase.crop`; before, the shorter side of
    the image is resized to `phase.resize`, if given.
    """

    def __init__(
        self, split: Split, facts: DatasetFacts, phase: Phase, seed: int, epoch: int
    ) -> None:
        self._split, self._seed, self._epoch = split, seed, epoch
        transforms = torchvision("torchvision.transforms")
        steps = [transforms.RandomResizedCrop(phase.crop)]
        if phase.resize is not None:
            bicubic = transforms.InterpolationMode.BICUBIC
            steps.insert(0, transforms.Resize(phase.resize, interpolation=bicubic))
        if facts.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self._augment = transforms.Compose(steps)

    def __getitem__(self, row: int) -> tuple[NDArray[np.uint8], int] | str:
        try:
            with open_image(self._split.path(row)) as opened:
                image = opened.convert("RGB")
        except HarnessError as error:
            # as an exception it would come back wrapped in a traceback
            return str(error)
        # by the image, not its place in a batch: batches of any size augment it alike
        seed = derive(self._seed, "augment", self._epoch, int(self._split.indices[row]))
        # torchvision draws from the global generator
        with own_random_numbers(torch.device("cpu"), seed):
            return np.asarray(self._augment(image)), int(self._split.labels[row])


def _stack(images: list[Any]) -> tuple[Tensor, Tensor] | str:
    """Put the images of a batch together, or say which cannot be read."""
    for image in images:
        if isinstance(image, str):
            return image
    pixels, labels = zip(*images, strict=True)
    return torch.from_numpy(np.stack(pixels)), torch.tensor(labels)


def _begin_process(_: int) -> None:
    """Leave it to the run to end on Ctrl-C and the like: it ends those that decode for it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # what cannot be sent would be left out, and waited for without end
    Queue._on_queue_feeder_error = staticmethod(_end_process)  # type: ignore[attr-defined]


def _end_process(error: Exception, _: object) -> None:
    os.write(2, f"a process that decodes images ends: {error}\n".encode())
    os._exit(1)
