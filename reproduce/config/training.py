"""How a network is trained."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reproduce.config.evaluation import PGD
from reproduce.config.fields import (
    Count,
    Epochs,
    Epsilon,
    NaturalNumber,
    NotNegative,
    Positive,
    Section,
)
from reproduce.config.phases import Phase

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
