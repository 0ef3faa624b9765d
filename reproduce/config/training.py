"""How networks are trained: the section `train`, and the sections of single methods."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reproduce.config.evaluation import PGD
from reproduce.config.fields import (
    ArchitectureName,
    Count,
    Epochs,
    Epsilon,
    Lambda,
    NaturalNumber,
    NotNegative,
    Positive,
    Section,
    Seed,
    Zeta,
)

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
    """How a network is measured after its epochs: this chooses its checkpoints.

    Methods with natural validation (Fast-AT) read `start` alone.
    """

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
