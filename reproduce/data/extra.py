"""Extra images with pseudo-labels: the published file, and its prepared form.

The file is a pickle.  It is read as one that nobody vouches for, and every array is
checked before anything is written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.catalogue import ExtraFacts, dataset_facts, extra_facts
from reproduce.data.pickled import read_pickled_arrays
from reproduce.data.prepared import check_images, checksum
from reproduce.data.splits import Split
from reproduce.errors import HarnessError
from reproduce.files import md5_of_file, read_json, read_npz, write_atomically, write_json

_PUBLISHED = ("data", "extrapolated_targets")
_KEYS = ("images", "labels")


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
    # no copy of images that lie in one piece
    arrays = {"images": np.ascontiguousarray(images), "labels": labels.astype(np.uint8)}
    md5 = md5_of_file(source)

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays, source_md5=np.array(md5))

    write_atomically(path, write)
    manifest = {"extra": name, "images": len(labels), "sha256": checksum(arrays, _KEYS)}
    write_json(path.with_suffix(".json"), manifest, sealed=False)


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
    arrays = read_npz(path, (*_KEYS, "source_md5"))
    again = f"delete it and run `reproduce prepare {extra.name}`"
    if len(arrays) < 3 or arrays["source_md5"].dtype.kind != "U":
        raise HarnessError(f"{path} is not a prepared file of extra images; {again}")
    check_images(dataset_facts(extra.dataset), arrays, _KEYS, path)
    found = checksum(arrays, _KEYS)
    if manifest.get("sha256") != found:
        raise HarnessError(f"{path} does not match its checksum; {again}")
    split = Split(arrays["images"], arrays["labels"], np.arange(len(arrays["labels"])))
    return ExtraImages(extra, split, found, str(arrays["source_md5"]))
