"""Files that torch.save wrote, read as plain tensors: what would run code is refused."""

import pickle
import re
import struct
import warnings
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.errors import HarnessError
from reproduce.files import refuse_bombs


def numpy_numbers() -> AbstractContextManager[None]:
    """Let torch read numpy numbers inside, and nothing else beside tensors.

    Some published checkpoints keep an accuracy as one, beside the weights.
    """
    scalar: Any = np.float64().__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    # numpy 1 had `scalar` in another place
    places = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    import torch  # seconds that whoever only asks where a checkpoint lies need not wait

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
        If the file is missing, a web page, cut short, or asks for anything that could run
        code; none of it is run.
    """
    import torch

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
        with numpy_numbers(), warnings.catch_warnings():
            # of the protocol of plain pickles: they are refused, with a reason of ours
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    refuse_bombs(archive)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise HarnessError(f"checkpoint {path} {_refusal(str(error))}") from error
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
        AssertionError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise HarnessError(f"checkpoint {path} is cut short or damaged: {reason}") from error


def _refusal(told: str) -> str:
    """Say why torch's reader refused a file, without its advice to read it unsafely."""
    named = re.search(r"GLOBAL ([\w.]+)", told)
    if named is not None:
        asked = named[1].rstrip(".")
        return f"asks for {asked}: only tensors are read, and nothing of it was run"
    # the reason stands behind the advice, often on a line of its own
    behind = told.partition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    reason = " ".join(behind.split()) or "a pickle that cannot be read"
    return f"is cut short or damaged, or torch.save did not write it ({reason}); nothing was run"
