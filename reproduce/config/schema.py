"""The whole configuration: its sections, and what they must agree on."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reproduce.config.attacks import PGD, Attack, AttackName, AttackPackage
from reproduce.config.fields import (
    ArchitectureName,
    Checkpoint,
    Count,
    Epochs,
    Epsilon,
    JobMinutes,
    Lambda,
    MethodName,
    NaturalNumber,
    NotNegative,
    Place,
    PlaceName,
    Positive,
    PresetName,
    Section,
    Seed,
    Several,
    Zeta,
    merge,
)
from reproduce.config.grids import Experiments
from reproduce.registry import METHODS, dataset_facts

# --- evaluation


class Eval(Section):
    """How a checkpoint is evaluated."""

    epsilon: Epsilon
    """Radius of the ball, pixels in [0, 1]. Paper's text: 8/255; the authors' code: 0.031."""
    checkpoint: Checkpoint = "best-test"
    """Which checkpoint the tables report. Paper: best-test."""
    shard: Count = 256
    """Images attacked together, in the order of the test set, with a seed of their own. FAB,
    Square and APGD draw other numbers for another shard; PGD's noise does not depend on it."""
    precision: Literal["float32", "float64", "tf32"] = "float32"
    """What networks are attacked in: float32; tf32, in which a GPU from Ampere on searches faster
    and with less care, while what the network says of the image found is float32; or float64, in
    which roundings change nothing that is seen, so a record comes out the same on every
    processor."""
    autoattack_package: AttackPackage = "pyautoattack"
    """Where FAB, Square and APGD come from: pyautoattack, or the original autoattack if you
    installed it."""
    attacks: dict[AttackName, Attack]
    """Attacks by name."""

    def epsilon_of(self, attack: str) -> float:
        """Return the radius of an attack's ball."""
        return self.attacks[attack].epsilon or self.epsilon

    def label(self, attack: str) -> str:
        """Return what records of an attack are called."""
        return self.attacks[attack].label(attack)


# --- training

Precision = Literal["float32", "float64", "tf32", "bf16"]


class TrainingAttack(Section):
    """The l_inf PGD attack that makes the training examples."""

    epsilon: Epsilon
    """Radius of the ball, pixels in [0, 1]. Paper's code: 0.031."""
    step_size: Positive
    """Step, same unit. Paper's code: 0.007."""
    steps: Count
    """Number of steps. Paper's code: 10."""
    start_sigma: NotNegative = 0.001
    """Standard deviation of the Gaussian start around the image, pixels in [0, 1]. Fast-AT starts
    uniformly in the ball instead."""


class Validation(Section):
    """How a network is measured after its epochs, which chooses its checkpoints."""

    start: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Part of the epochs that is over before validation begins: the network is measured, and may be
    chosen, after every later epoch, and always after the last. Paper: 0, every epoch."""
    epsilon: Epsilon = 8 / 255
    """Radius of the ball, pixels in [0, 1]. Paper's text: 8/255."""
    attack: PGD = PGD(steps=20)
    """Paper: PGD-20 on the cross entropy."""


class Phase(Section):
    """A part of a training run whose images have one size."""

    epochs: Epochs
    """Passes over the training images in this phase."""
    batch_size: Count
    """Images a step, over all GPUs together."""
    crop: Count
    """Height and width that a random part of an image is resized to, in pixels."""
    resize: Count | None = None
    """Resize the shorter side of every image to this many pixels before that; null for not."""


class Train(Section):
    """How a network is trained."""

    epochs: Epochs
    """Passes over the training images. Paper: 100."""
    batch_size: Count = 128
    """Images a step. Paper: 128; the authors' code defaults to 64."""
    learning_rate: Positive = 0.1
    """Initial learning rate of SGD."""
    momentum: Annotated[NotNegative, Field(lt=1)] = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Whether SGD takes Nesterov's form of momentum. Paper: no."""
    weight_decay: NotNegative = 2e-4
    """Weight decay on every parameter."""
    decay_norm: bool = True
    """Whether the parameters of BatchNorm decay as well. Fast-AT on ImageNet: no."""
    schedule: Literal["exp", "step", "cosine", "linear"] = "exp"
    """exp halves the learning rate every epoch from 75 % on, step divides it by 10 at every
    milestone, cosine follows half a cosine, linear goes from one of `rates` to the next by
    iterations."""
    rates: list[tuple[NotNegative, NotNegative]] = Field(default=[])
    """Points of the linear schedule: epochs that are over, and the learning rate then."""
    milestones: list[Annotated[Positive, Field(lt=1)]] = Field(default=[0.75, 0.9])
    """Fractions of the epochs at which the step schedule divides the learning rate by 10."""
    bn_forwards: Literal[2, 3] = 2
    """Train-mode forwards of a TRADES step: 2 (authors' code) or 3 (official TRADES and AWP codes,
    whose BatchNorm statistics see the clean batch twice)."""
    bn_first: Literal["clean", "adversarial"] = "clean"
    """Which batch the BatchNorm statistics of a TRADES step see first: clean (authors' and
    official TRADES code) or adversarial (official RST and AWP codes)."""
    phases: list[Phase] = Field(default=[])
    """Sizes of images and batches, one after the other, for a folder of images; they replace
    batch_size. None: one phase of whole images."""
    precision: Precision = "tf32"
    """What a run computes in. tf32 is PyTorch's own default: float32, but GPUs from Ampere on round
    the factors in convolutions to ten bits; elsewhere it is float32. float32 has them keep all
    bits. bf16 keeps weights, loss and BatchNorm in float32, and has eight bits elsewhere. In
    float64 roundings change nothing that is seen, so a run comes out the same on every
    processor."""
    holdout: NaturalNumber = 0
    """Training images held out to choose the best-val checkpoint; 0 for none (paper)."""
    attack: TrainingAttack
    validation: Validation = Validation()

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes of whole batches, phase after phase."""
        return tuple(phase.batch_size for phase in self.phases) or (self.batch_size,)

    @property
    def idle(self) -> set[str]:
        """The settings that others make idle: of the schedule, and of the size of batches."""
        idle = {"batch_size"} if self.phases else set()
        idle |= {"learning_rate"} if self.schedule == "linear" else {"rates"}
        return idle | (set() if self.schedule == "step" else {"milestones"})

    @model_validator(mode="after")
    def _fits(self) -> "Train":
        over = sum(phase.epochs for phase in self.phases)
        if self.phases and over != self.epochs:
            raise ValueError(f"phases have {over} epochs together, epochs is {self.epochs}")
        if self.schedule == "linear":
            if not self.rates:
                raise ValueError("the linear schedule needs rates, such as [[0, 0.1], [10, 0]]")
            if any(before >= after for (before, _), (after, _) in pairwise(self.rates)):
                raise ValueError("rates must be in the order of their epochs")
        return self


class WAR(Section):
    """Width adjusted regularisation (Algorithm 1 of the paper)."""

    zeta: Zeta = "measured"
    """Ratio of natural risk to robust regularisation that lambda is steered to: a number, or
    measured, over the last epoch of the tuned thin network. Paper: measured, about 30."""
    alpha: Positive = 0.1
    """How fast lambda follows the ratio. Paper: 0.1."""
    thin_architecture: ArchitectureName = "wrn-34-0.5"
    """The thin network that lambda was tuned on, trained with TRADES on the same data set."""
    thin_lambda: Lambda = 6.0
    """Its tuned lambda."""
    thin_seed: Seed = 0
    """Its training seed."""


class AWP(Section):
    """Adversarial weight perturbation (Wu, Xia and Wang 2020)."""

    gamma: Positive = 0.005
    """Size of the perturbation of a weight tensor as a fraction of its norm. Official: 0.005."""
    first_epoch: Count = 10
    """Epoch, from 1, with which the perturbation begins. Official: 10."""


class Mixed(Section):
    """Batches of labelled and of pseudo-labelled extra images (RST, Carmon et al. 2019)."""

    extra_fraction: Annotated[Positive, Field(lt=1)] = 0.5
    """Part of a batch that comes from the extra images. Official: 0.5."""


# --- data, machine, lemma


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
    zoo_download: bool = False
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

    Two settings change a result beyond rounding: CPU and CUDA draw other random numbers, and each
    of several GPUs that train one network attacks and normalises its own part of a batch.
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


class Lemma(Section):
    """Lemma 4.2 on random fully connected networks, on the CPU."""

    widths: Several[Annotated[Count, Field(ge=2)]] = Field(
        default=[20, 50, 100, 200, 500, 1000, 2000]
    )
    """Widths m of the hidden layers."""
    depths: Several[Count] = Field(default=[1, 2, 4, 8])
    """Numbers H of hidden layers."""
    seeds: Several[Seed] = Field(default=[0, 1, 2, 3, 4])
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
            raise ValueError("dimension is above the smallest of widths; the lemma wants m >= d")
        for depth in self.depths:
            if sum(self.is_wide_enough(width, depth) for width in self.widths) < 2:
                raise ValueError(
                    f"fewer than two of widths reach wide_enough x H (1 + log H) = "
                    f"{self.narrowest(depth):.0f}, for H = {depth} of depths"
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
        """Return the training settings that a method reads, as plain values.

        Those that others of its settings make idle are left out.
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
        self._has_held_out_images("eval", self.eval.checkpoint)
        for table, grid in self.experiments:
            if grid is None:
                continue
            self._has_held_out_images(table, getattr(grid, "checkpoint", None))
            for checkpoint in getattr(grid, "trained", {}).values():
                self._has_held_out_images(table, checkpoint)
            for dataset in [grid.dataset] if hasattr(grid, "dataset") else grid.architectures:
                self._has_images(table, dataset)
            attacks = [grid.attack] if hasattr(grid, "attack") else getattr(grid, "attacks", [])
            for attack in attacks:
                if attack not in self.eval.attacks:
                    known = ", ".join(self.eval.attacks)
                    raise ValueError(f"{table}: unknown attack {attack!r}; known: {known}")
        return self

    def _has_held_out_images(self, place: str, checkpoint: Checkpoint | None) -> None:
        if checkpoint == "best-val" and not self.train.holdout:
            raise ValueError(f"{place}: best-val needs held-out images; set train.holdout=1000")

    def _has_images(self, place: str, dataset: str) -> None:
        facts = dataset_facts(dataset)
        train, test = self.data.train_images or facts.train, self.data.test_images or facts.test
        if train > facts.train or test > facts.test:
            raise ValueError(
                f"{place}: {facts.title} has {facts.train} training and {facts.test} test images"
            )
        if self.train.holdout >= train:
            raise ValueError(f"{place}: train.holdout leaves none of {train} training images")
