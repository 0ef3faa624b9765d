"""What `reproduce bench` found, as plain values that go to JSON and back."""

from typing import Any, Literal

from reproduce.benchmarks.measured import Case, Form, NotMeasured, Part, Peaks, Spread, StepTime
from reproduce.config.schema import Precision


class AttackRate(Part):
    """How many images a second go through a part of an evaluation.

    Attributes
    ----------
    architecture : str
        The network, float32, as evaluations see it.
    what : str
        "forward", or a PGD by its name and steps.
    batch : int
        Images at once.
    passes : int
        Forward-pass equivalents (F) an image.
    images_per_second : Spread
        Images.
    """

    architecture: str
    what: str
    batch: int
    passes: int
    images_per_second: Spread


class AutoAttackTime(Part):
    """AutoAttack through the runner's parts and through the plain package, on the same images.

    Attributes
    ----------
    compiled : bool
        Whether ours was, by `machine.compile`; the first pair's seconds hold the compilation.
    images, robust, plain_robust, differing : int
        Images attacked, how many held in each, and on how many the verdicts differ.
    ratio : Spread
        Seconds of the plain package over ours, pair by pair.
    seconds, plain_seconds : Spread
        Of each.
    forward, backward, plain_forward, plain_backward : int
        Forward passes and gradients of each, counted in images.
    """

    compiled: bool
    images: int
    robust: int
    plain_robust: int
    differing: int
    ratio: Spread
    seconds: Spread
    plain_seconds: Spread
    forward: int
    backward: int
    plain_forward: int
    plain_backward: int


class Together(Part):
    """Several cells training at once on one device, each a process of its own.

    Attributes
    ----------
    case : Case
        The step that each takes.
    cells : int
        How many.
    images_per_second : float or None
        Of all together; None where they could not run.
    against_one : float or None
        That over what one cell alone does; None where that is not known.
    note : str
        Why there is no number; empty where there is one.
    """

    case: Case
    cells: int
    images_per_second: float | None
    against_one: float | None
    note: str = ""


class FittedSpeed(Part):
    """Seconds of a pass of one image: `latency` + operations / `throughput`; see `costs.Speed`."""

    latency: float
    throughput: float


class Hours(Part):
    """Device-hours of one table or figure, or of all; training and evaluation apart."""

    target: str
    training: float
    evaluation: float


class Prediction(Part):
    """Hours of the configuration's experiments on a device like this one.

    Attributes
    ----------
    unit : str
        What the hours are of.
    precision, form : str
        Of the steps that training was predicted from.
    networks : list of str
        Those it was fitted through.
    training, evaluation : FittedSpeed
        The lines that were fitted.
    evaluation_from : str
        What the second line was fitted through.
    hours : list of Hours
        A row a target, "all" last: what targets share counts once there.
    largest : str
        The kind of work that takes most of "all", and its share.
    """

    unit: str
    precision: Precision
    form: Form
    networks: list[str]
    training: FittedSpeed
    evaluation: FittedSpeed
    evaluation_from: str
    hours: list[Hours]
    largest: str


class Result(Part):
    """Everything that one `reproduce bench` found.

    Attributes
    ----------
    version : int
        Of this form.
    made : str
        When it was made, ISO 8601, UTC.
    hardware, provenance : dict
        The device; versions of libraries and the commit.
    preset : str
        The configuration whose experiments are predicted.
    settings : dict
        What was asked for.
    seconds : float
        How long it all took.
    load : list of float
        Processes that wanted a processor, in the mean of the minute before the benchmark and of
        its last one; its own count in the second.  Empty where the system does not say.
    cores : int or None
        Processors of the machine.
    """

    version: Literal[1] = 1
    made: str
    hardware: dict[str, str | int]
    provenance: dict[str, Any]
    preset: str
    settings: dict[str, Any]
    seconds: float
    load: list[float]
    cores: int | None
    peaks: Peaks
    steps: list[StepTime]
    scaling: list[StepTime]
    attacks: list[AttackRate]
    autoattack: AutoAttackTime | None
    together: list[Together]
    predictions: list[Prediction]
    not_measured: list[NotMeasured]
