"""Files that torch.save wrote, read as plain tensors: what would run code is refused."""

import pickle
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reproduce.errors import HarnessError


def numpy_numbers() -> AbstractContextManager[None]:
    """Let torch read numpy numbers inside, and nothing else beside tensors.

    Some published checkpoints keep an accuracy as one, beside the weights.
    """
    scalar: Any = np.float64().__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    # numpy 1 had `scalar` in another place
    places = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return torch.serialization.safe_globals([*places, np.dtype, *kinds])


def read_tensors(path: Path) -> Any:
    """Read a checkpoint that is not trusted.

    Returns
    -------
    object
        What the file holds: mappings and lists of tensors, numbers and strings.

    Raises
    ------
    HarnessError
        If the file is missing, a web page, cut short, or holds anything that could run
        code.
    """
    if not path.is_file():
        raise HarnessError(f"checkpoint {path} does not exist")
    with path.open("rb") as handle:
        begin = handle.read(512).lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise HarnessError(
            f"checkpoint {path} is a web page, not a checkpoint: the file host answered with a "
            "text; download it in a browser"
        )
    try:
        with numpy_numbers():
            return torch.load(path, map_location="cpu", weights_only=True)
    # of a damaged file torch's readers raise many things
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        MemoryError,
        OverflowError,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise HarnessError(f"checkpoint {path} is cut short or damaged: {reason}") from error
