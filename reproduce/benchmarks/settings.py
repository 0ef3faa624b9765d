"""What a benchmark measures: what was asked for, over what a device measures by default."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from reproduce.benchmarks.measured import Case, Form
from reproduce.config.schema import Precision
from reproduce.core.errors import HarnessError
from reproduce.registry import dataset_facts, parse_architecture

DATASET = "cifar10"
# float64 is for equal results, not for speed
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16")
METHODS = ("trades", "awp-trades", "at", "mart")
FORMS: tuple[Form, ...] = get_args(Form)
_SCALING_WIDTHS = (0.5, 1, 2, 5, 10)
_SCALING_BATCHES = (32, 128, 512)


def _check_names(option: str, names: Sequence[str], known: Sequence[str], what: str) -> None:
    if not names:
        raise HarnessError(f"{option} is empty; there are: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise HarnessError(f"{option}: {what} {name!r}; there are: {', '.join(known)}")


def _check_count(option: str, value: int) -> None:
    if value < 1:
        raise HarnessError(f"--{option} is {value}; it is a whole number, 1 or more")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    methods, architectures : tuple of str
        Whose steps.
    batch, pairs : int
        Images a step; how often each is timed beside its reference.
    precisions, forms : tuple of str
        In which precisions, launched in which forms.
    cells : tuple of int
        How many cells train at once on one device.
    scaling : bool
        Whether to time steps over widths and batches too.
    minutes : float
        How long all of it may take.

    Raises
    ------
    HarnessError
        Naming what cannot be measured.
    """

    methods: tuple[str, ...]
    architectures: tuple[str, ...]
    precisions: tuple[Precision, ...]
    forms: tuple[Form, ...]
    cells: tuple[int, ...]
    pairs: int
    minutes: float
    batch: int = 128
    scaling: bool = False

    def __post_init__(self) -> None:
        _check_names("--methods", self.methods, METHODS, "no reference formulation of")
        _check_names("--precisions", self.precisions, PRECISIONS, "unknown precision")
        _check_names("--forms", self.forms, FORMS, "unknown form")
        if not self.architectures:
            raise HarnessError("--architectures is empty; give wrn-34-1, for example")
        for name in self.architectures:
            dataset_facts(DATASET).check_architecture(parse_architecture(name))
        if not self.cells:
            raise HarnessError("--cells is empty; give 1,2,4, for example")
        for option in ("batch", "pairs"):
            _check_count(option, getattr(self, option))
        for count in self.cells:
            _check_count("cells", count)
        if not 0 < self.minutes < float("inf"):
            raise HarnessError(f"--minutes is {self.minutes:g}; it is a number above 0")

    def cases(self) -> list[Case]:
        """Return the steps to time, what is wanted most first."""
        return [
            Case(
                method=method,
                architecture=architecture,
                batch=self.batch,
                precision=precision,
                form=form,
            )
            # compiling takes longest, and the first method is asked for first
            for form in self.forms
            for method in self.methods
            for precision in self.precisions
            for architecture in self.architectures
        ]

    def scaling_cases(self) -> list[Case]:
        """Return steps over widths and batches, small ones first, in each precision."""
        if not self.scaling:
            return []
        return [
            Case(
                method=self.methods[0],
                architecture=f"wrn-34-{width:g}",
                batch=batch,
                precision=precision,
                form=self.forms[0],
            )
            for precision in self.precisions
            for width in _SCALING_WIDTHS
            for batch in _SCALING_BATCHES
        ]


DEFAULTS = {
    "cpu": Settings(
        methods=("trades", "at", "awp-trades"),
        architectures=("wrn-34-1",),
        precisions=("float32",),
        forms=("eager",),
        cells=(1, 2),
        pairs=3,
        minutes=5.0,
    ),
    "cuda": Settings(
        methods=("trades", "at", "awp-trades"),
        architectures=("wrn-34-1", "wrn-34-5", "wrn-34-10", "densenet-bc-40-12"),
        precisions=PRECISIONS,
        # the fastest first: a benchmark may run out of time
        forms=("graph", "eager", "compiled-graph"),
        cells=(1, 2, 4),
        pairs=5,
        minutes=10.0,
    ),
}


def resolve(device: str, given: dict[str, Any]) -> Settings:
    """Return the settings for a device, such as "cpu" or "cuda:1".

    Parameters
    ----------
    device : str
        `machine.device`.
    given : dict
        What was asked for, by the names of `Settings`; None for the device's default.

    Raises
    ------
    HarnessError
        If it cannot be measured, there or at all.
    """
    kind = device.partition(":")[0]
    chosen = {name: value for name, value in given.items() if value is not None}
    unknown = chosen.keys() - {field.name for field in fields(Settings)}
    if unknown:
        raise ValueError(f"no such settings: {sorted(unknown)}")
    settings = replace(DEFAULTS[kind], **chosen)
    if kind == "cpu":
        if "tf32" in settings.precisions:
            raise HarnessError("--precisions: tf32 is a GPU's; machine.device is 'cpu'")
        if any("graph" in form for form in settings.forms):
            raise HarnessError("--forms: graphs are a GPU's; machine.device is 'cpu'")
    return settings
