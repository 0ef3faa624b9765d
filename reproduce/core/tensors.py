"""Checkpoints that PyTorch wrote, read without running code of theirs."""

import builtins
import pickle
import re
import warnings
import zipfile
from contextlib import AbstractContextManager
from inspect import isroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from reproduce.core.errors import HarnessError
from reproduce.core.files import other_kind

SAVE_WEIGHTS = "save the weights alone where it was made: torch.save(model.state_dict(), 'w.pt')"
# an ONNX file begins with the version of its format, and then its producer or its graph
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x3a]")


def read_tensors(path: Path, *, stand_ins: bool = False) -> Any:
    """Read a file of `torch.save`: mappings and lists of tensors, numbers and strings.

    What could run code is refused, and none of it is run.  With `stand_ins` other objects, such as
    an argparse.Namespace beside the weights, are read as a `StandIn`, and not refused.
    """
    expect_file(path)
    try:
        return _read(path, stand_ins)
    except HarnessError:
        raise
    except Exception as error:  # of a damaged file torch's readers raise many kinds
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is not None and isinstance(error, pickle.UnpicklingError):
            raise HarnessError(
                f"checkpoint {path} asks for {asked[1].rstrip('.')}: only tensors are read, and "
                f"nothing of it was run; {SAVE_WEIGHTS}"
            ) from error
        # torch gives advice first, to read it unsafely, and its reason behind
        said = str(error).rpartition("WeightsUnpickler error:")[2].strip() or repr(error)
        raise HarnessError(
            f"checkpoint {path} is cut short or damaged, or torch.save did not write it "
            f"({said.splitlines()[0]})"
        ) from error


def _read(path: Path, stand_ins: bool) -> Any:
    import torch  # seconds that whoever only asks where a checkpoint lies need not wait

    if (other := _something_else(path)) is not None:
        raise HarnessError(f"checkpoint {path} is {other}")
    with warnings.catch_warnings(), path.open("rb") as handle:
        warnings.simplefilter("ignore", UserWarning)  # of old protocols and networks
        # torch's own reader comes first: it refuses archives of code, whatever they look like
        try:
            with numpy_numbers():
                return torch.load(handle, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if not stand_ins:
                raise
        handle.seek(0)
        return torch.load(handle, map_location="cpu", weights_only=False, pickle_module=_PICKLE)


def expect_file(path: Path) -> None:
    """Refuse a checkpoint that is missing or a folder."""
    if path.is_dir():
        raise HarnessError(f"checkpoint {path} is a folder; name the file in it")
    if not path.is_file():
        raise HarnessError(f"checkpoint {path} does not exist")


def numpy_numbers() -> AbstractContextManager[None]:
    """Let torch read numpy numbers inside, and nothing else beside tensors.

    Some published checkpoints keep an accuracy as one, beside the weights.
    """
    scalar: Any = np.float64().__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    # numpy 1 had `scalar` in another place
    places = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    import torch

    return torch.serialization.safe_globals([*places, np.dtype, *kinds])


class StandIn(dict):  # type: ignore[type-arg]
    """Takes the place of an object beside tensors; keeps what it holds as a mapping."""

    def __new__(cls, *_: object, **__: object) -> "StandIn":
        """Make one, whatever the object was to be made of."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    __hash__ = object.__hash__  # type: ignore[assignment]

    def extend(self, _: object) -> None:
        """Take what a list would hold."""

    append = add = extend


# what tensors are made with
_TENSORS = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.storage", "UntypedStorage"),
    *(
        ("torch._utils", f"_rebuild_{name}")
        for name in ("tensor", "tensor_v2", "parameter", "meta_tensor_no_storage", "qtensor")
    ),
}


class DataUnpickler(pickle._Unpickler):
    """Gives no state to classes and functions, which a file could change for the whole process.

    The one in C cannot be told so.  Who derives from it says what a file may name.
    """

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        """Give an object the state that the file holds for it."""
        made, state = self.stack[-2:]  # type: ignore[attr-defined]
        if isinstance(made, type) or isroutine(made):
            raise pickle.UnpicklingError(f"state for {made}")
        self.check_state(made, state)
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]

    def check_state(self, made: object, state: Any) -> None:
        """Refuse a state by raising an error; all are taken unless this is overridden."""


class _Unpickler(DataUnpickler):
    """Imports what tensors are made with, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a file names, or a stand-in for it."""
        import torch

        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        is_storage = module == "torch" and name.isalpha() and name.endswith("Storage")
        if (module, name) in _TENSORS or is_dtype or is_storage:
            return super().find_class(module, name)
        if module in {"builtins", "__builtin__"} and not isinstance(
            getattr(builtins, name, None), type
        ):  # exec, eval, getattr: nobody saves them by chance
            raise pickle.UnpicklingError(f"GLOBAL {name}")
        return type(f"{module}.{name}", (StandIn,), {})


# what torch.load asks of the module `pickle`
_PICKLE = SimpleNamespace(
    __name__=__name__,
    Unpickler=_Unpickler,
    load=lambda handle, **options: _Unpickler(handle, **options).load(),
)


def _something_else(path: Path) -> str | None:
    """Name a file that torch.save did not write, as far as its content says it."""
    other = other_kind(path)
    if other is not None:
        return other
    with path.open("rb") as handle:
        begin = handle.read(512)
    if _ONNX.match(begin):
        return f"an ONNX file; {SAVE_WEIGHTS}"
    if begin.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return _other_zip(archive.namelist())
    if begin.isascii() and all(c.isprintable() or c.isspace() for c in begin.decode()):
        return f"a text, not a checkpoint; it begins with {begin[:60].decode()!r}"
    return None


def _other_zip(names: list[str]) -> str | None:
    """Name a zip archive that is no checkpoint, by what is in it."""
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return f"a TorchScript archive, code and all; {SAVE_WEIGHTS}"
    if "data.pkl" in ends:
        return None
    if ends and all(name.endswith(".npy") for name in ends):
        return "a file of NumPy arrays (.npz); only PyTorch's files are read"
    first = repr(names[0]) if names else "nothing"
    return f"a zip archive that torch.save did not write, with {first} in it; unpack it"
