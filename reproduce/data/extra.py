"""Extra images with pseudo-labels: the published file, and its prepared form.

The file is a pickle.  It is read as one that nobody vouches for, and every array is
checked before anything is written.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduce.catalogue import DatasetFacts, ExtraFacts, dataset_facts, extra_facts
from reproduce.data.pickled import read_pickled_arrays
from reproduce.data.splits import Split
from reproduce.errors import HarnessError
from reproduce.files import md5_of_file, read_json, read_npz, write_atomically, write_json

_IMAGES, _LABELS = "data", "extrapolated_targets"


@dataclass(frozen=True)
class ExtraImages:
    """Pseudo-labelled images, prepared.

    Attributes
    ----------
    facts : ExtraFacts
        What is fixed about them.
    split : Split
        Images and pseudo-labels; indices are places in the published file.
    sha256 : str
        Checksum of images and pseudo-labels.
    source_md5 : str
        MD5 of the file they were read from.
    """

    facts: ExtraFacts
    split: Split
    sha256: str
    source_md5: str

    def about(self) -> dict[str, Any]:
        """Return what a run says of the extra images it was trained with."""
        return {
            "name": self.facts.name,
            "images": len(self.split),
            "sha256": self.sha256,
            "source_md5": self.source_md5,
        }


def prepare_extra(name: str, source: Path, path: Path) -> None:
    """Read published extra images and write their prepared form.

    Parameters
    ----------
    name : str
        Name of the extra images, such as ``cifar10-extra``.
    source : Path
        The published pickle.
    path : Path
        The .npz to write; a manifest with the checksum is put beside it.

    Raises
    ------
    HarnessError
        If the file is missing (saying where it comes from), cut short, holds anything
        but plain arrays, or other images and labels than the data set's.
    """
    extra = extra_facts(name)
    if not source.is_file():
        raise HarnessError(
            f"{name}: {source} does not exist; {extra.title} are not downloaded: get {extra.file} "
            f"from {extra.address} (linked at {extra.home}), and put it there or name it in "
            f"data.{extra.setting}"
        )
    images, labels = _checked(read_pickled_arrays(source), dataset_facts(extra.dataset), source)
    md5 = md5_of_file(source)

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez(
                handle, allow_pickle=False, images=images, labels=labels, source_md5=np.array(md5)
            )

    write_atomically(path, write)
    manifest = {"extra": name, "images": len(labels), "sha256": _checksum(images, labels)}
    write_json(path.with_suffix(".json"), manifest)


def load_extra(path: Path) -> ExtraImages:
    """Read prepared extra images and check every byte of them.

    Parameters
    ----------
    path : Path
        The .npz written by `prepare_extra`; its name is that of the extra images.

    Raises
    ------
    HarnessError
        If it is missing, damaged or does not match its manifest.
    """
    extra = extra_facts(path.stem)
    if not path.exists():
        raise HarnessError(f"{path} is missing; run `reproduce prepare {extra.name}` first")
    manifest = read_json(path.with_suffix(".json"))
    arrays = read_npz(path, ("images", "labels", "source_md5"))
    again = f"delete it and run `reproduce prepare {extra.name}`"
    if len(arrays) < 3:
        raise HarnessError(f"{path} is not a prepared file of extra images; {again}")
    found = _checksum(arrays["images"], arrays["labels"])
    if manifest.get("sha256") != found:
        raise HarnessError(f"{path} does not match its checksum; {again}")
    split = Split(arrays["images"], arrays["labels"], np.arange(len(arrays["labels"])))
    return ExtraImages(extra, split, found, str(arrays["source_md5"]))


def _checked(
    content: Mapping[str, NDArray[Any]], facts: DatasetFacts, path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and labels of a published file, or say in what they are not that."""
    for key in (_IMAGES, _LABELS):
        if key not in content:
            known = ", ".join(map(repr, content)) or "none"
            raise HarnessError(f"{path} has no array {key!r}; its arrays: {known}")
    images, labels = content[_IMAGES], content[_LABELS]
    if images.dtype != np.uint8:
        raise HarnessError(f"{path}: {_IMAGES} has dtype {images.dtype}, expected uint8")
    shape = (facts.size, facts.size, facts.channels)
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise HarnessError(
            f"{path}: {_IMAGES} has shape {images.shape}, expected (N, "
            f"{', '.join(map(str, shape))})"
        )
    if labels.dtype.kind not in "iu":
        raise HarnessError(f"{path}: {_LABELS} has dtype {labels.dtype}, expected whole numbers")
    if labels.shape != (len(images),):
        raise HarnessError(
            f"{path}: {_LABELS} has shape {labels.shape}, expected ({len(images)},), one an image"
        )
    for value in (labels.min(), labels.max()):
        if not 0 <= value < facts.classes:
            raise HarnessError(
                f"{path}: {_LABELS} holds {value}, {facts.title} has labels 0 to "
                f"{facts.classes - 1}"
            )
    # no copy of images that lie in one piece
    return np.ascontiguousarray(images), labels.astype(np.uint8)


def _checksum(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    """Return one SHA-256 over images and labels."""
    state = hashlib.sha256()
    for array in (images, labels):
        state.update(f"{array.dtype} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()
