"""Checkpoints that PyTorch wrote, read without running code of theirs."""

import builtins
import pickle
import re
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.core.errors import HarnessError
from reproduce.core.files import other_kind

SAVE_WEIGHTS = "save the weights alone where it was made: torch.save(model.state_dict(), 'w.pt')"


class StandIn:
    """Takes the place of an object beside tensors; it holds nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_tensors(path: Path, *, stand_ins: bool = False) -> Any:
    """Read a file of `torch.save`: mappings and lists of tensors, numbers and strings.

    What could run code is refused, and none of it is run.  With `stand_ins` other objects, such as
    an argparse.Namespace beside the weights, are read as a `StandIn`, and not refused.
    """
    import torch  # seconds that whoever only asks where a checkpoint lies need not wait

    expect_file(path)
    if (other := other_kind(path)) is not None:
        raise HarnessError(f"checkpoint {path} is {other}")
    standing_in: dict[str, Any] = {}
    while True:
        safe: list[Any] = [(kind, name) for name, kind in standing_in.items()]
        try:
            with (
                path.open("rb") as handle,
                warnings.catch_warnings(action="ignore", category=UserWarning),  # of old protocols
                numpy_numbers(),
                torch.serialization.safe_globals(safe),
            ):
                return torch.load(handle, map_location="cpu", weights_only=True)
        except Exception as error:  # of a damaged file torch's readers raise many kinds
            unknown = re.search(r"GLOBAL ([\w.]+)", str(error))
            if unknown is None or not isinstance(error, pickle.UnpicklingError):
                # torch gives advice first, to read it unsafely, and its reason behind
                said = str(error).rpartition("WeightsUnpickler error:")[2].strip() or repr(error)
                raise HarnessError(
                    f"checkpoint {path} is cut short or damaged, or torch.save did not write it "
                    f"({said.splitlines()[0]})"
                ) from error
            asked = unknown[1].rstrip(".")
            is_type = "." in asked or isinstance(getattr(builtins, asked, None), type)
            name = asked if "." in asked else f"builtins.{asked}"
            if not stand_ins or not is_type or name in standing_in:
                raise HarnessError(
                    f"checkpoint {path} asks for {asked}: only tensors are read, and nothing of "
                    f"it was run; {SAVE_WEIGHTS}"
                ) from error
            standing_in[name] = type(name, (StandIn,), {})


def expect_file(path: Path) -> None:
    """Refuse a checkpoint that is missing or a folder."""
    if not path.is_file():
        kind = "is a folder; name the file in it" if path.is_dir() else "does not exist"
        raise HarnessError(f"checkpoint {path} {kind}")


def numpy_numbers() -> AbstractContextManager[None]:
    """Let torch read numpy numbers inside, such as an accuracy beside the weights."""
    import torch

    scalar: Any = np.float64().__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    # numpy 1 had `scalar` in another place
    places = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return torch.serialization.safe_globals([*places, np.dtype, *kinds])
