"""Trees of settings: one laid over another, and one by dotted keys."""

import math
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from reproduce.cell import parse_cell
from reproduce.core.errors import HarnessError
from reproduce.registry import ZOO_ID, dataset_facts, find_method, parse_architecture

Tree = Mapping[str, Any]

# mappings of a grid that are axes, not settings
_AXES = {"methods", "architectures", "trained"}


def merge(base: Tree, top: Tree) -> dict[str, Any]:
    """Lay `top` over `base`, mapping by mapping; the axes of a grid are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if key not in _AXES and isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Return the settings of a tree by dotted key, in the order of the alphabet."""
    flat: dict[str, Any] = {}
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


PresetName = Literal["paper", "short", "mini", "demo"]
PRESETS: tuple[str, ...] = get_args(PresetName)
Checkpoint = Literal["best-test", "last", "best-val"]


def _number(value: Any) -> Any:
    """Read fractions such as "8/255", the way perturbation sizes are written."""
    if isinstance(value, str):
        above, slash, below = value.partition("/")
        try:
            return float(above) / float(below) if slash else float(value)
        except (ValueError, ZeroDivisionError):
            raise ValueError("not a number; write 0.031 or 8/255") from None
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _checked(check: Any, value: Any) -> Any:
    """Let a look-up in the catalogue validate a value."""
    try:
        check(value)
    except HarnessError as error:
        raise ValueError(str(error)) from None
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


def _zeta(value: Any) -> Any:
    if value == "measured":
        return value
    try:
        number = float(_number(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("it is 'measured' or a number above 0")
    return number


def _place(value: Any) -> Any:
    """Fill in ``$VAR`` and ``~``, and refuse what cannot be, or no file can be called."""
    name = os.path.expandvars(value)
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError("not a path: it has characters that no file's name can have")
    # also in what a variable held: paths are handed on and read again
    if unset := re.search(r"\$(\w+|\{[^}]*\}?)", name, re.ASCII):
        raise ValueError(f"not a path: {unset[0]} is not set in the environment")
    if name.startswith("~"):
        try:
            name = str(Path(name).expanduser())
        except RuntimeError:
            raise ValueError("not a path: there is no such user's home") from None
    return type(value)(name)


Zeta = Annotated[Literal["measured"] | float, BeforeValidator(_zeta)]
# more of anything does not fit on a disk, and times and bytes of it not into a float
LARGEST = 1_000_000_000
Count = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
NaturalNumber = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Positive = Annotated[Number, Field(gt=0)]
# minutes of a job on a cluster: what starts it and what ends it take up to fifteen
JobMinutes = Annotated[Number, Field(ge=30)]
NotNegative = Annotated[Number, Field(ge=0)]
# at most four decimals, so that a cell id names it exactly
Lambda = Annotated[
    NotNegative,
    Field(lt=1e6),
    AfterValidator(lambda value: _checked(_four_decimals, value)),
]
# plans and schedules go through them one by one
Epochs = Annotated[Count, Field(le=10_000)]
Place = Annotated[Path, AfterValidator(_place)]
# where images are, or a word
PlaceName = Annotated[str, AfterValidator(_place)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]
Epsilon = Annotated[Number, Field(gt=0, le=1)]
DatasetName = Annotated[str, AfterValidator(partial(_checked, dataset_facts))]
ArchitectureName = Annotated[str, AfterValidator(partial(_checked, parse_architecture))]
MethodName = Annotated[str, AfterValidator(partial(_checked, find_method))]


CellName = Annotated[str, AfterValidator(partial(_checked, parse_cell))]
# RobustBench's ids; whether there is one of that name, RobustBench says
ZooName = Annotated[str, Field(pattern=f"^{ZOO_ID}$")]


def _four_decimals(value: float) -> None:
    if round(value, 4) != value:
        raise HarnessError("a lambda has at most four decimals")


class Section(BaseModel):
    """A part of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
