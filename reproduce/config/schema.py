"""The whole configuration: its sections, and what they must agree on."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from reproduce.config.evaluation import (
    PGD,
    Attack,
    AttackPackage,
    AutoAttack,
    Eval,
    FABAttack,
    PGDAttack,
    SquareAttack,
)
from reproduce.config.fields import (
    Checkpoint,
    Count,
    JobMinutes,
    MethodName,
    NaturalNumber,
    Place,
    PlaceName,
    Positive,
    PresetName,
    Section,
    Seed,
    merge,
)
from reproduce.config.grids import Experiments
from reproduce.config.training import (
    AWP,
    WAR,
    Mixed,
    Phase,
    Precision,
    Train,
    TrainingAttack,
    Validation,
)
from reproduce.registry import METHODS, dataset_facts

__all__ = [
    "AWP",
    "PGD",
    "WAR",
    "Attack",
    "AttackPackage",
    "AutoAttack",
    "Config",
    "Data",
    "Eval",
    "FABAttack",
    "Lemma",
    "Machine",
    "Mixed",
    "PGDAttack",
    "Phase",
    "Precision",
    "SquareAttack",
    "Train",
    "TrainingAttack",
    "Validation",
]


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
    """Height and width in pixels of the centre crop of ImageNet's images in evaluation; nothing is
    resized before. Fast-AT: 288."""
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
    """auto lets the jobs that share a GPU compute at the same time through NVIDIA's MPS, if its
    daemon can be started; it stays afterwards. Otherwise, in Slurm's jobs, and with never, they
    take turns."""
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
    """Compile the network, for training and for evaluation. auto does so where the minutes it costs
    are won back and there are a compiler and Python's headers: on a CPU above a million forward
    passes of images, an evaluation by its plan; on a GPU for a training that takes more than ten
    minutes by its first steps, and for no evaluation. Results differ in the last bits; run.json
    and the records note which was done."""
    graphs: Literal["auto", "never"] = "auto"
    """auto records training steps and validation as CUDA graphs on a GPU, which launches all
    kernels of a step as one; never launches them one by one. run.json notes which was done."""
    save_minutes: Positive = 10.0
    """A run saves its state after every epoch, and after this many minutes within one."""
    max_minutes: Positive | None = None
    """Stop a training run or an evaluation cleanly after this many minutes; null for never."""
    job_minutes: JobMinutes | None = None
    """Longest time that a job may ask a cluster for, in minutes, 30 at least: the limit of its
    partition; null for as long as is planned. Such jobs stop cleanly before their time is over."""


T = TypeVar("T")


def _several(values: list[T]) -> list[T]:
    """Accept at least two values, none of them twice: a slope or a spread needs as many."""
    if len(set(values)) < 2:
        raise ValueError("it needs at least two different values")
    if len(set(values)) < len(values):
        raise ValueError("it lists a value twice")
    return values


class Lemma(Section):
    """Lemma 4.2 on random fully connected networks, on the CPU."""

    widths: Annotated[list[Annotated[Count, Field(ge=2)]], AfterValidator(_several)] = Field(
        default=[20, 50, 100, 200, 500, 1000, 2000]
    )
    """Widths m of the hidden layers."""
    depths: Annotated[list[Count], AfterValidator(_several)] = Field(default=[1, 2, 4, 8])
    """Numbers H of hidden layers."""
    seeds: Annotated[list[Seed], AfterValidator(_several)] = Field(default=[0, 1, 2, 3, 4])
    """Seeds; each draws every network anew."""
    dimension: Count = 20
    """Input dimension d where it is fixed; not above the smallest width, as the lemma wants. Where
    it grows it is m."""
    constant: Positive = 1.0
    """The c of the lemma's condition R/sqrt(m) + epsilon <= c / (H^6 log(m)^3). The paper says only
    that it is sufficiently small."""
    wide_enough: Positive = 8.0
    """Constant k of the lemma's other condition, m >= Omega(H log H), read as m >= k H (1 + log H).
    Narrower networks are drawn and shown, but not fitted. The paper leaves it open; with 8 a finite
    width lowers the mean logarithm of the norm, by about 5 H / (4 m), by less than 0.1 on the
    default widths."""
    candidates: Count = 32
    """Points that are tried at once in the search for the largest gradient."""
    rounds: Count = 3
    """Rounds of the search that follow the first, each around the best point so far."""
    wide_epsilon: Positive = 0.5
    """Radius of a wider ball around x, outside the lemma's condition; x has norm 1."""
    wide_radius: Positive = 0.1
    """How far the weights of a layer may move, Frobenius norm, also outside the condition."""

    @model_validator(mode="after")
    def _in_the_lemma(self) -> "Lemma":
        if self.dimension > min(self.widths):
            raise ValueError(
                f"lemma.dimension is {self.dimension}, above {min(self.widths)}, the smallest of "
                "lemma.widths; the lemma holds for m >= d"
            )
        for depth in self.depths:
            if sum(self.is_wide_enough(width, depth) for width in self.widths) < 2:
                raise ValueError(
                    f"lemma.depths has {depth}, for which fewer than two of lemma.widths "
                    f"{self.widths} reach wide_enough x H (1 + log H) = {self.narrowest(depth):.0f}"
                )
        return self

    def allowance(self, width: int, depth: int) -> float:
        """Return the most that R / sqrt(m) + epsilon may be by the lemma's condition."""
        return self.constant / (depth**6 * math.log(width) ** 3)

    def narrowest(self, depth: int) -> float:
        """Return the least width at which networks of a depth are fitted."""
        return self.wide_enough * depth * (1 + math.log(depth))

    def is_wide_enough(self, width: int, depth: int) -> bool:
        """Say whether networks of a width and depth are fitted."""
        return width >= self.narrowest(depth)


class Config(Section):
    """The whole configuration of a harness."""

    preset: PresetName
    """Name of the preset the values come from; results lie under results/<preset>."""
    results: Place = Path("results")
    """Folder of everything the runs make."""
    data: Data = Data()
    train: Train
    train_for: dict[MethodName, dict[str, Any]] = Field(default={})
    """Settings of train that single methods replace, by method."""
    war: WAR = WAR()
    awp: AWP = AWP()
    mixed: Mixed = Mixed()
    eval: Eval
    lemma: Lemma = Lemma()
    machine: Machine = Machine()
    experiments: Experiments
    """The grid of each experiment."""

    def train_of(self, method: str) -> Train:
        """Return the training settings of a method: those of all, and its own over them."""
        return Train.model_validate(merge(self.train.model_dump(), self.train_for.get(method, {})))

    def read_by(self, method: str) -> dict[str, Any]:
        """Return the training settings that decide what a method trains, as plain values.

        Left out are those that it never reads, and those that others of its settings
        make idle: of the schedule, of the size of its batches, and of validation.
        """
        train = self.train_of(method)
        idle = {*METHODS[method].unused, *train.idle}
        if METHODS[method].validation == "natural":
            idle |= {"validation.epsilon", "validation.attack"}
        else:
            idle |= {f"validation.attack.{name}" for name in train.validation.attack.idle}
        tree = train.model_dump(mode="json")
        for name in idle:
            *sections, key = name.split(".")
            place = tree
            for section in sections:
                place = place[section]
            place.pop(key)
        return tree

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        for method, settings in self.train_for.items():
            if "holdout" in settings:
                raise ValueError(f"train_for.{method}.holdout: all methods share train.holdout")
        needs: list[tuple[str, Checkpoint | None]] = [("eval.checkpoint", self.eval.checkpoint)]
        for table, grid in self.experiments:
            needs.append((table, getattr(grid, "checkpoint", None)))
            needs += [(table, choice) for choice in getattr(grid, "trained", {}).values()]
            for dataset in _datasets(grid):
                self._enough_images(table, dataset)
            for attack in _attacks(grid):
                if attack not in self.eval.attacks:
                    known = ", ".join(self.eval.attacks)
                    raise ValueError(
                        f"{table}: unknown attack {attack!r}; eval.attacks has: {known}"
                    )
        for place, checkpoint in needs:
            if checkpoint == "best-val" and not self.train.holdout:
                raise ValueError(
                    f"{place} best-val needs held-out images: set train.holdout, to 1000 say"
                )
        return self

    def _enough_images(self, table: str, dataset: str) -> None:
        facts = dataset_facts(dataset)
        train, test = self.data.train_images or facts.train, self.data.test_images or facts.test
        if train > facts.train or test > facts.test:
            raise ValueError(
                f"{table}: {facts.title} has {facts.train} training and {facts.test} test "
                "images, data.train_images or data.test_images asks for more"
            )
        if self.train.holdout >= train:
            raise ValueError(f"{table}: train.holdout leaves none of {train} training images")


def _datasets(grid: Any) -> Iterator[str]:
    """Name the data sets of a table's grid, of whatever kind it is."""
    if hasattr(grid, "dataset"):
        yield grid.dataset
    elif grid is not None:
        yield from grid.architectures


def _attacks(grid: Any) -> Iterator[str]:
    """Name the attacks of a table's grid that its user chose."""
    if hasattr(grid, "attack"):
        yield grid.attack
    yield from getattr(grid, "attacks", ())
