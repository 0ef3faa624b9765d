"""Where images come from, and what the runs run on."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from reproduce.config.fields import (
    Count,
    JobMinutes,
    NaturalNumber,
    Place,
    PlaceName,
    Positive,
    Section,
)


class Data(Section):
    """Where images come from, and how many are used."""

    folder: Place = Path("data")
    """Folder of downloads and of the prepared copies."""
    cifar10: PlaceName = "download"
    """"download", or the path of an official folder, archive or .npz file."""
    cifar100: PlaceName = "download"
    """The same for CIFAR-100."""
    cifar10_extra: Place | None = None
    """File of pseudo-labelled extra images, for methods that train with them; null for
    ti_500K_pseudo_labeled.pickle in data.folder."""
    extra_images: Count | None = None
    """Use only this many extra images, every class in its proportion; null for all."""
    zoo: Place | None = None
    """Folder of published checkpoints in RobustBench's layout, <data set>/Linf/<id>.pt; null for
    zoo in data.folder."""
    zoo_download: bool = Field(default=False, strict=True)
    """Whether RobustBench may download a published checkpoint that is not there."""
    imagenet: PlaceName | None = None
    """Folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG; ImageNet cannot be downloaded."""
    imagenet_crop: Count = 288
    """Height and width of what is cut from the middle of ImageNet's images for evaluation, in
    pixels; nothing is resized before. Fast-AT: 288."""
    train_images: Count | None = None
    """Use only this many training images, every class in its proportion; null for all."""
    test_images: Count | None = None
    """The same for test images."""


class Machine(Section):
    """What the runs run on.

    Two settings change a result beyond rounding.  CPU and CUDA draw other random numbers
    from the same seed; and of several GPUs that train one network, `gpus_per_cell`, each
    attacks its own part of a batch and normalises by it.
    """

    device: Annotated[str, Field(pattern=r"^(cpu|cuda|cuda:\d+)$")] = "cuda"
    """cpu, cuda (any free GPU) or cuda:K."""
    jobs_per_gpu: Count = 1
    """How many jobs may share one GPU."""
    mps: Literal["auto", "never"] = "auto"
    """auto has the jobs that share a GPU compute at the same time through NVIDIA's MPS, where its
    daemon can be started, which stays afterwards; else, in Slurm's jobs, and with never, they take
    turns."""
    threads: Count = 1
    """CPU threads a job computes with."""
    processes: Count = 1
    """Processes an evaluation spreads its shards over."""
    gpus_per_cell: Count = 1
    """GPUs that Snakemake gives the training of one network on a folder of images. BatchNorm sees
    the part of a batch that is on its GPU, so another number trains another network."""
    loaders: NaturalNumber = 8
    """Processes that decode the images of a folder ahead of training, for each GPU, and threads
    that do it in evaluation; 0 decodes them when they are needed."""
    eval_batch: Count | None = None
    """Most images of 32 x 32 pixels that go through a network at once in evaluation; of larger
    ones fewer, in proportion to their width. null for 500 on a CPU, and on a GPU for 1000, 500, 256
    or 128: as many as half of a job's share of its memory holds of WideResNet-34-10's. FAB, Square
    and APGD need a whole shard at once: a smaller batch then costs them a second forward pass a
    gradient."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile the network, for training and for evaluation; auto does it where the minutes it takes
    are won back and there are a compiler and Python's headers. On a CPU that is known from more
    than a million forward passes of images; on a GPU a training of more than ten minutes is
    compiled, by the time its first steps take, and an evaluation is not. An evaluation counts the
    passes of its first shard before it decides for the others. It rounds otherwise in the last
    bits; run.json and the records say of every piece how it was done."""
    graphs: Literal["auto", "never"] = "auto"
    """auto records training steps and validation as CUDA graphs on a GPU, which then launches all
    kernels of a step as one; never launches them one by one. run.json says of every piece how it
    was done."""
    save_minutes: Positive = 10.0
    """A run saves its state after every epoch, and after this many minutes within one."""
    max_minutes: Positive | None = None
    """Stop a training run or an evaluation cleanly after this many minutes; null for never."""
    job_minutes: JobMinutes | None = None
    """Longest time that a job may ask a cluster for, in minutes, 30 at least: the limit of its
    partition; null for as long as is planned. Such jobs stop cleanly before their time is over."""
