"""Files that torch.save wrote, read as plain tensors: what would run code is refused."""

import builtins
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.errors import HarnessError, brief
from reproduce.files import other_kind, refuse_bombs

# an ONNX file begins with the version of its format, and then its producer or its graph
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x3a]")
SAVE_WEIGHTS = "save the weights alone where it was made: torch.save(model.state_dict(), 'w.pt')"
# classes and functions of one file that get a stand-in
_MOST_STAND_INS = 200


class StandIn:
    """What takes the place of an object of a class, or of what a function returns; does nothing.

    Attributes
    ----------
    name : str
        The class or function that the file names.
    kept : type or None
        Of a class of mappings or lists the plain one, which is made in its place.
    network : bool
        Whether the object is a pickled `torch.nn.Module`.
    """

    name = ""
    kept: type | None = None
    network = False

    def __new__(cls, *_: object, **__: object) -> Any:
        """Make one, whatever the object was to be made of."""
        return super().__new__(cls) if cls.kept is None else cls.kept()

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.network = isinstance(state, dict) and "_modules" in state


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


def expect_file(path: Path) -> None:
    """Refuse a checkpoint that is missing or a folder.

    Raises
    ------
    HarnessError
        Saying which.
    """
    if path.is_dir():
        raise HarnessError(f"checkpoint {path} is a folder; name the file in it")
    if not path.is_file():
        raise HarnessError(f"checkpoint {path} does not exist")


def read_tensors(path: Path, *, stand_ins: bool = False) -> Any:
    """Read a checkpoint that is not trusted.

    Parameters
    ----------
    path : Path
        The file.
    stand_ins : bool
        Whether objects beside the tensors are read as a `StandIn`, and not refused.
        Their classes are never imported.

    Returns
    -------
    object
        What the file holds: mappings and lists of tensors, numbers and strings.

    Raises
    ------
    HarnessError
        If the file is missing, something else (a web page, an archive ...), cut short,
        or asks for anything that could run code; none of it is run.
    """
    import torch

    expect_file(path)
    inert: dict[str, type[StandIn]] = {}
    while True:
        try:
            other = _something_else(path)
            if other is not None:
                raise HarnessError(f"checkpoint {path} is {other}")
            with (
                nullcontext() if stand_ins else numpy_numbers(),
                torch.serialization.safe_globals([(kind, name) for name, kind in inert.items()]),
                warnings.catch_warnings(),
                path.open("rb") as handle,
            ):
                # of the protocol of plain pickles: they are refused, with a reason of ours
                warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
                return torch.load(handle, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if not stand_ins or not _stands_in(inert, str(error)):
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
            raise HarnessError(f"checkpoint {path} {_damaged(reason)}") from error


def _something_else(path: Path) -> str | None:
    """Name a file that torch.save did not write, as far as its content tells."""
    other = other_kind(path)
    if other is not None:
        return other
    with path.open("rb") as handle:
        begin = handle.read(512)
    if _ONNX.match(begin):
        return f"an ONNX file; {SAVE_WEIGHTS}"
    if begin.startswith(b"PK\x03\x04"):
        return _other_zip(path)
    if begin.isascii() and all(c.isprintable() or c.isspace() for c in begin.decode()):
        return f"a text, not a checkpoint; it begins with {brief(begin[:60].decode())}"
    return None


def _other_zip(path: Path) -> str | None:
    """Name a zip archive that is no checkpoint."""
    with zipfile.ZipFile(path) as archive:
        refuse_bombs(archive)
        names = archive.namelist()
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return f"a TorchScript archive, code and all; {SAVE_WEIGHTS}"
    if "data.pkl" in ends:
        return None
    if ends and all(name.endswith(".npy") for name in ends):
        return "a file of NumPy arrays (.npz); only PyTorch's files are read"
    first = brief(names[0]) if names else "nothing"
    return f"a zip archive that torch.save did not write, with {first} in it; unpack it"


def _stands_in(inert: dict[str, type[StandIn]], told: str) -> bool:
    """Add a stand-in for what torch's reader stopped at; False if there is to be none."""
    asked = re.search(r"Unsupported global: GLOBAL ([\w.]+) was not", told)
    if asked is not None:
        name, kept = asked[1], None
        if "." not in name:  # torch leaves out that it is of Python's; its functions are refused
            if name != "getattr" and not isinstance(getattr(builtins, name, None), type):
                return False
            name = f"builtins.{name}"
        if name in inert or len(inert) == _MOST_STAND_INS:
            return False
    else:
        filled = re.search(r"Can only (SETITEM|append|extend).*'reproduce\.tensors\.(\S+)'", told)
        if filled is None:
            return False
        name, kept = filled[2], OrderedDict if filled[1] == "SETITEM" else list
    inert[name] = type(name, (StandIn,), {"name": name, "kept": kept})
    return True


def _refusal(told: str) -> str:
    """Say why torch's reader refused a file, without its advice to read it unsafely."""
    if "Only persistent_load of storage is allowed" in told:  # the code of a class, in the old form
        return f"holds a pickled network, or the class of one, which is code; {SAVE_WEIGHTS}"
    named = re.search(r"GLOBAL ([\w.]+)", told)
    if named is not None:
        asked = named[1].rstrip(".")
        return f"asks for {asked}: only tensors are read, and nothing of it was run; {SAVE_WEIGHTS}"
    # the reason stands behind the advice, often on a line of its own
    behind = told.partition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    reason = " ".join(behind.split()) or "a pickle that cannot be read"
    return f"{_damaged(reason)}; nothing was run"


def _damaged(reason: str) -> str:
    return f"is cut short or damaged, or torch.save did not write it ({reason})"
