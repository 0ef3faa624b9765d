"""Kinds of values of the configuration, and trees of settings."""

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from reproduce.cell import parse_cell
from reproduce.core.errors import HarnessError
from reproduce.registry import ZOO_ID, dataset_facts, find_method, parse_architecture

Tree = Mapping[str, Any]
T = TypeVar("T")


class Section(BaseModel):
    """A part of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# --- trees of settings

# mappings of a grid that are axes, not settings
_AXES = {"methods", "architectures", "trained"}


def merge(base: Tree, top: Tree) -> dict[str, Any]:
    """Lay `top` over `base`, mapping by mapping; the axes of a grid are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if key not in _AXES and isinstance(value, Mapping) and isinstance(below, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Return the settings of a tree by dotted key, in the order of the alphabet."""
    flat: dict[str, Any] = {}
    for key, value in sorted(tree.items()):
        name = prefix + key
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


# --- numbers


def _fraction(value: Any) -> Any:
    """Read fractions such as "8/255", the way perturbation sizes are written."""
    if isinstance(value, bool):
        raise ValueError("not a number")
    if isinstance(value, str) and "/" in value:
        above, _, below = value.partition("/")
        try:
            return float(above) / float(below)
        except (ValueError, ZeroDivisionError):
            raise ValueError("not a number; write 0.031 or 8/255") from None
    return value


def _four_decimals(value: float) -> float:
    if round(value, 4) != value:
        raise ValueError("a lambda has at most four decimals")
    return value


# more of anything does not fit on a disk, and times and bytes of it not into a float
_LARGEST = 1_000_000_000
Count = Annotated[int, Field(strict=True, ge=1, le=_LARGEST)]
NaturalNumber = Annotated[int, Field(strict=True, ge=0, le=_LARGEST)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]
# plans and schedules go through them one by one
Epochs = Annotated[Count, Field(le=10_000)]
Number = Annotated[float, BeforeValidator(_fraction), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Epsilon = Annotated[Number, Field(gt=0, le=1)]
# minutes of a job on a cluster: what starts it and what ends it take up to fifteen
JobMinutes = Annotated[Number, Field(ge=30)]
# so that a cell id names it exactly
Lambda = Annotated[NotNegative, Field(lt=1e6), AfterValidator(_four_decimals)]
Zeta = Positive | Literal["measured"]


# --- names

PresetName = Literal["paper", "short", "mini", "demo"]
PRESETS: tuple[str, ...] = get_args(PresetName)
Checkpoint = Literal["best-test", "last", "best-val"]


def _known(look_up: Callable[[str], object], name: str) -> str:
    """Let a look-up in the registry validate a name."""
    try:
        look_up(name)
    except HarnessError as error:
        raise ValueError(str(error)) from None
    return name


def _place(value: Any) -> Any:
    """Fill in ``$VAR`` and ``~`` in a path."""
    name = os.path.expanduser(os.path.expandvars(value))  # noqa: PTH111, a str may be no path
    if unknown := re.search(r"\$\w+|\$\{|^~|\0", name, re.ASCII):
        raise ValueError(f"not a path: there is no {unknown[0]!r} to fill in")
    return type(value)(name)


Place = Annotated[Path, AfterValidator(_place)]
# where images are, or a word
PlaceName = Annotated[str, AfterValidator(_place)]
DatasetName = Annotated[str, AfterValidator(partial(_known, dataset_facts))]
ArchitectureName = Annotated[str, AfterValidator(partial(_known, parse_architecture))]
MethodName = Annotated[str, AfterValidator(partial(_known, find_method))]
CellName = Annotated[str, AfterValidator(partial(_known, parse_cell))]
# RobustBench's ids; whether there is one of that name, RobustBench says
ZooName = Annotated[str, Field(pattern=f"^{ZOO_ID}$")]


# --- lists


def _distinct(values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise ValueError("it lists a value twice")
    return values


Distinct = Annotated[list[T], AfterValidator(_distinct)]
# an axis of a grid
Axis = Annotated[Distinct[T], Field(min_length=1)]
# a slope or a spread needs as many
Several = Annotated[Distinct[T], Field(min_length=2)]
