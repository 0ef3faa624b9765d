"""What single measurements find, as plain values: ranges, peaks, training steps."""

import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from reproduce.config.schema import Precision

# How our step is launched: kernel by kernel, of a compiled network, as one CUDA graph, or both.
Form = Literal["eager", "compiled", "graph", "compiled-graph"]


class Part(BaseModel):
    """A part of a result: frozen, unknown keys are errors, and so are NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Spread(Part):
    """Several measurements of one number.

    Attributes
    ----------
    median, low, high : float
        Their median, smallest and largest.
    runs : int
        How many there are.
    """

    median: float
    low: float
    high: float
    runs: int


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of some measurements, at least one."""
    return Spread(
        median=statistics.median(values), low=min(values), high=max(values), runs=len(values)
    )


class NotMeasured(Part):
    """Something that was asked for and is not in the result, or only in part, and why."""

    what: str
    why: str


class Peak(Part):
    """The speed of one operation.

    Attributes
    ----------
    operation : str
        What is computed, with its shape.
    precision : str
        float32, tf32 or bf16; of a copy float32.
    rate : Spread
        GFLOP/s, a multiplication and an addition counted as two; of a copy GB/s, each byte
        counted once as it is read and once as it is written.
    """

    operation: str
    precision: Precision
    rate: Spread


class Peaks(Part):
    """What the machine does at best: matrix products, convolutions, copies."""

    products: list[Peak]
    convolutions: list[Peak]
    copy_rate: Peak | None

    def best(self, precision: Precision) -> float | None:
        """Return the fastest product or convolution of a precision in GFLOP/s; None if none was."""
        rates = [
            # a peak is what can be reached: the least disturbed run comes nearest to it
            peak.rate.high
            for peak in (*self.products, *self.convolutions)
            if peak.precision == precision
        ]
        return max(rates, default=None)


class Case(Part):
    """What a training step is of.

    Attributes
    ----------
    method, architecture : str
        Names of the catalogue.
    batch : int
        Images a step.
    precision : {"float32", "tf32", "bf16"}
        Of forward and backward passes, ours and the reference's.
    form : str
        How our step is launched; the reference's always is kernel by kernel.
    """

    method: str
    architecture: str
    batch: int
    precision: Precision = "float32"
    form: Form = "eager"

    def __str__(self) -> str:
        form = "" if self.form == "eager" else f", {self.form}"
        return f"{self.method} {self.architecture}, batch {self.batch}, {self.precision}{form}"


class StepTime(Part):
    """Our training step, alone or beside the reference formulation.

    Attributes
    ----------
    case : Case
        What was measured.
    seconds : Spread
        Of our step.
    reference_seconds : Spread or None
        Of the reference's; None where only ours was measured.
    ratio : Spread or None
        Reference over ours, pair by pair.
    counted_ratio : float or None
        The same by counting passes alone.
    passes : int
        Forward-pass equivalents (F) of our step, an image.
    images_per_second, epoch_seconds : float
        Images trained a second, and seconds for 50,000 of them.
    gflops : float
        10^9 floating-point operations a second, by the passes counted.
    of_peak : float or None
        That as a fraction of the best product or convolution of this precision.
    memory_bytes, reference_memory_bytes : int or None
        The most GPU memory tensors took; None on a CPU.
    warm_up_seconds : float
        The first step: memory, choice of algorithms, compilation.  On a CPU of a smaller
        batch, unless compiled.
    """

    case: Case
    seconds: Spread
    reference_seconds: Spread | None
    ratio: Spread | None
    counted_ratio: float | None
    passes: int
    images_per_second: float
    epoch_seconds: float
    gflops: float
    of_peak: float | None
    memory_bytes: int | None
    reference_memory_bytes: int | None
    warm_up_seconds: float
