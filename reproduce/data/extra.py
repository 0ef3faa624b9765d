"""Pseudo-labelled extra images: from the pickle that was published to their prepared form."""

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduce.core.errors import HarnessError
from reproduce.core.files import md5_of_file, other_kind
from reproduce.core.tensors import DataUnpickler
from reproduce.data.dataset import Split, check_images, read_prepared, write_prepared
from reproduce.registry import dataset_facts, extra_facts

_PUBLISHED = ("data", "extrapolated_targets")
_KEYS = ("images", "labels")


class _Array:
    """What `numpy.ndarray` is in a pickle: a name that nothing can be made of."""


def _number_type(name: object, *_: object) -> np.dtype[Any]:
    kind = np.dtype(name, copy=True)  # type: ignore[call-overload]
    if kind.kind not in "biuf":
        raise HarnessError("it holds arrays of something else than numbers")
    return kind  # type: ignore[no-any-return]


# What pickles of arrays name, of numpy 2; numpy 1 has numpy.core for numpy._core.  The first three
# are ours: numpy's own would take bytes of the file for objects in memory.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _number_type,
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: np.empty(0, np.uint8),
    ("numpy._core.multiarray", "scalar"): np.float64().__reduce__()[0],
    ("numpy._core.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
    ("_codecs", "encode"): codecs.encode,
}


class _ArrayUnpickler(DataUnpickler):
    """Reads plain values and numpy arrays of numbers, and refuses whatever else a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        place = (module.replace("numpy.core", "numpy._core"), name)
        if place not in _ALLOWED:
            raise HarnessError(f"it asks for {module}.{name}, only numpy arrays are read")
        return _ALLOWED[place]

    def check_state(self, made: object, state: Any) -> None:
        """Refuse what would make numpy take the file's bytes for objects."""
        if isinstance(made, np.dtype):
            plain = tuple(state[2:]) == (None, None, None, -1, -1, 0)
        else:
            plain = type(made) is np.ndarray and state[2].kind in "biuf"
        if not plain:
            raise HarnessError("it holds arrays of something else than numbers")


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays in a pickled mapping by name; other values are left out.

    Pickles of Python 2 and 3 and of numpy 1 and 2 are understood.

    Raises
    ------
    HarnessError
        If the file is truncated, is no pickle of a mapping, or asks for anything but arrays.
    """
    try:
        with path.open("rb") as handle:
            # bytes of Python 2 come as text, one character a byte
            content = _ArrayUnpickler(handle, encoding="latin1").load()
    except HarnessError as error:
        raise HarnessError(f"{path}: {error}; nothing was run") from None
    except Exception as error:  # of damaged pickles there are many
        other = other_kind(path)
        reason = f"it is {other}" if other else str(error) or type(error).__name__
        raise HarnessError(f"{path} is cut short or no pickle of arrays: {reason}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise HarnessError(f"{path} holds a {kind}, expected a mapping of arrays")
    return {name: value for name, value in content.items() if isinstance(value, np.ndarray)}


@dataclass(frozen=True)
class ExtraImages:
    """Extra images: by name, with their pseudo-labels, checksum, and MD5 of the published file."""

    name: str
    split: Split
    sha256: str
    source_md5: str

    def about(self) -> dict[str, Any]:
        """Return what run.json says of the extra images that a run was trained with."""
        return {
            "name": self.name,
            "images": len(self.split),
            "sha256": self.sha256,
            "source_md5": self.source_md5,
        }


def prepare_extra(name: str, source: Path, path: Path) -> None:
    """Read a published pickle and write its images to `path`, with a manifest next to it.

    Raises
    ------
    HarnessError
        If the file is missing (saying where it comes from), truncated, or holds other
        images and labels than the data set's.
    """
    extra = extra_facts(name)
    if source.is_dir():
        raise HarnessError(f"data.{extra.setting}: {source} is a folder; name {extra.file} in it")
    if not source.is_file():
        raise HarnessError(
            f"{name}: {source} does not exist; {extra.title} are not downloaded: get {extra.file} "
            f"from {extra.address} (linked at {extra.home}), and put it there or name it in "
            f"data.{extra.setting}"
        )
    content = read_pickled_arrays(source)
    for key in _PUBLISHED:
        if key not in content:
            known = ", ".join(map(repr, content)) or "none"
            raise HarnessError(f"{source} has no array {key!r}; its arrays: {known}")
    check_images(dataset_facts(extra.dataset), content, _PUBLISHED, source)
    images, labels = (content[key] for key in _PUBLISHED)
    arrays = {"images": images, "labels": labels.astype(np.uint8)}
    md5 = md5_of_file(source)
    write_prepared(path, arrays, {"extra": name, "images": len(labels), "source_md5": md5})


def load_extra(path: Path) -> ExtraImages:
    """Read prepared extra images, called as the file is, and check every byte of them."""
    extra = extra_facts(path.stem)
    arrays, manifest = read_prepared(path, _KEYS)
    split = Split(arrays["images"], arrays["labels"], np.arange(len(arrays["labels"])))
    return ExtraImages(extra.name, split, manifest["sha256"], manifest.get("source_md5", "unknown"))
