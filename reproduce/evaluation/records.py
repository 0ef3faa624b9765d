"""One attack's outcome per image, the paper's three metrics of it, and the files that keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from reproduce.core.errors import HarnessError
from reproduce.core.files import (
    read_json,
    read_model,
    read_npz,
    sha256_of_file,
    write_atomically,
    write_json,
)
from reproduce.experiments.runs import ImagesInfo, Segment

METRICS = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
# only records of data sets with many classes have the last one
ALL_METRICS = (*METRICS, "top5_natural_accuracy")

# the arrays of a record and their types on disk; only data sets with many classes have top5
ARRAYS = {
    "index": np.int32,
    "label": np.int16,
    "clean": np.int16,
    "adversarial": np.int16,
    "broken_by": np.int8,
    "top5": np.bool_,
}

# with fewer images accuracy says nothing about chance
_ENOUGH = 30
# points by which a black-box attack may beat the white-box ones
SQUARE_MARGIN = 0.2


@dataclass(frozen=True)
class Metrics:
    """Three percentages over one set of images (equation 3.1 of the paper).

    Attributes
    ----------
    robust_accuracy : float
        Images correct on x and on x'.
    natural_accuracy : float
        Images correct on x.
    perturbation_stability : float or None
        Images predicted alike on x and x'; labels play no part.  None where the attack
        left alone the images that x itself gets wrong: it cannot tell.
    recovered : int
        Images wrong on x and right on x'.  x lies in the ball, so they are not
        robust; published codes that look at x' alone count them as robust.
    images : int
        Number of images.
    top5_natural_accuracy : float, optional
        Images whose true class is among the five most likely ones of x; only of data
        sets with many classes.
    """

    robust_accuracy: float
    natural_accuracy: float
    perturbation_stability: float | None
    recovered: int
    images: int
    top5_natural_accuracy: float | None = None

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields as a plain mapping, without top-5 accuracy where there is none."""
        fields = asdict(self)
        if self.top5_natural_accuracy is None:
            del fields["top5_natural_accuracy"]
        return fields

    def __str__(self) -> str:
        text = f"robust {self.robust_accuracy:.2f}  natural {self.natural_accuracy:.2f}"
        if self.perturbation_stability is None:
            return text
        return f"{text}  stability {self.perturbation_stability:.2f}"


def compute_metrics(
    labels: NDArray[np.integer],
    clean: NDArray[np.integer],
    adversarial: NDArray[np.integer],
    *,
    every_image: bool = True,
    top5: NDArray[np.bool_] | None = None,
) -> Metrics:
    """Compute the metrics of predictions.

    Parameters
    ----------
    labels, clean, adversarial : ndarray
        Integers, shape (N,): true class, prediction on x, prediction on x'.
    every_image : bool
        Whether the attack also moved images that are wrong on x.
    top5 : ndarray, optional
        bool, shape (N,): whether the true class is among the five most likely ones of x.
    """
    if not len(labels):
        raise HarnessError("a record without images has no metrics")
    correct, stable = clean == labels, clean == adversarial
    return Metrics(
        float(100 * (correct & stable).mean()),
        float(100 * correct.mean()),
        float(100 * stable.mean()) if every_image else None,
        recovered=int((~correct & (adversarial == labels)).sum()),
        images=len(labels),
        top5_natural_accuracy=None if top5 is None else float(100 * top5.mean()),
    )


def worst_case(
    held: Sequence[tuple[NDArray[np.integer], NDArray[np.bool_]]],
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Return which images hold under every attack: the minimum per example.

    Parameters
    ----------
    held : sequence of (index, robust)
        For each attack the positions of its images in the data set and whether each
        was robust; both of shape (N,).

    Returns
    -------
    index, robust : ndarray
        The same for all attacks together, on the images that all of them saw, in rising order.
    """
    shared = partial(np.intersect1d, assume_unique=True)
    common = reduce(shared, [index for index, _ in held]) if held else np.array([])
    if not len(common):
        raise HarnessError("no image was seen by all attacks: there is no worst case")
    robust = [flags[np.isin(index, common)] for index, flags in held]
    return common, np.logical_and.reduce(robust)


def check_black_box(white: float, black: float) -> list[str]:
    """Compare the robust accuracy (%) under white-box attacks with that after a black-box one."""
    if black < white - SQUARE_MARGIN:
        return [
            f"the black-box attack Square lowers robust accuracy from {white:.2f} to {black:.2f} "
            "%, below all white-box attacks: their gradients may mislead"
        ]
    return []


def check_accuracy(correct: int, images: int, classes: int) -> list[str]:
    """Warn if a network is right no more often than by chance, within three deviations."""
    chance = 1 / classes
    deviation = (chance * (1 - chance) / images) ** 0.5
    if images >= _ENOUGH and correct / images <= chance + 3 * deviation:
        return [
            f"natural accuracy is {100 * correct / images:.2f} % on {images} images, no better "
            "than chance: the network may expect other pixels than [0, 1], or other labels"
        ]
    return []


class RecordInfo(BaseModel):
    """The part of a record's summary that is read again."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    digest: str
    model_sha256: str
    parts: list[str]
    every_image: bool
    warnings: list[str]
    model: str | None = None
    """The name of a network that is no cell's."""
    seconds: float | None = None
    data: ImagesInfo | None = None
    segments: list[Segment] = Field(default=[], alias="pieces")


@dataclass(frozen=True)
class Record:
    """One attack's outcome per image, and what it was.

    Attributes
    ----------
    index : ndarray
        int32, shape (N,): positions of the images in the official test split.
    label, clean, adversarial : ndarray
        int16, shape (N,): true class, prediction on x, prediction on x'.
    broken_by : ndarray
        int8, shape (N,): which of ``info["parts"]`` turned a right prediction into a
        wrong one, -1 where none did.
    info : dict
        Summary: the resolved spec and its digest, checksums, hardware, seconds.
    top5 : ndarray, optional
        bool, shape (N,): whether the true class is among the five most likely ones of
        x; only of data sets with many classes.
    """

    index: NDArray[np.integer]
    label: NDArray[np.integer]
    clean: NDArray[np.integer]
    adversarial: NDArray[np.integer]
    broken_by: NDArray[np.integer]
    info: dict[str, Any]
    top5: NDArray[np.bool_] | None = None

    @property
    def metrics(self) -> Metrics:
        """The metrics over all images of the record."""
        return compute_metrics(
            self.label,
            self.clean,
            self.adversarial,
            every_image=self.info["every_image"],
            top5=self.top5,
        )

    @property
    def robust(self) -> NDArray[np.bool_]:
        """Whether each image is right on x and on x', shape (N,)."""
        held: NDArray[np.bool_] = (self.clean == self.label) & (self.adversarial == self.label)
        return held

    @property
    def about(self) -> RecordInfo:
        """The part of the summary that is read again, with types."""
        return RecordInfo.model_validate(self.info)

    def problem_with(self, digest: str, weights: str | None) -> str | None:
        """Say why it is not of these settings and this checksum of weights; None if it is."""
        if self.info["digest"] != digest:
            return "was made with other settings than the configuration's"
        return None if self.info["model_sha256"] == weights else "is of other weights"


def as_stored(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a record in the types that its file has."""
    return {
        key: np.asarray(arrays[key]).astype(kind)
        for key, kind in ARRAYS.items()
        if arrays.get(key) is not None
    }


def has_arrays(arrays: Mapping[str, NDArray[Any]], images: int | None = None) -> bool:
    """Say whether these are the arrays of a record, of so many images if that is known."""
    missing = ARRAYS.keys() - {"top5"} - arrays.keys()
    shapes = {array.shape for array in arrays.values()}
    return not missing and len(shapes) == 1 and (images is None or shapes == {(images,)})


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a compressed .npz, atomically."""

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **arrays)

    write_atomically(path, write)


def write_record(path: Path, record: Record) -> None:
    """Write the arrays as `path` (.npz), then the summary with their checksum as .json."""
    write_arrays(path, as_stored(vars(record)))
    more = {"metrics": record.metrics.as_dict(), "record_sha256": sha256_of_file(path)}
    write_json(path.with_suffix(".json"), {**record.info, **more})


def read_record(path: Path) -> Record:
    """Read a record; HarnessError if it is missing, damaged, or not that of its summary."""
    if not path.is_file():
        raise HarnessError(f"record {path} does not exist")
    about = path.with_suffix(".json")
    info = read_json(about)
    if info.get("record_sha256") != sha256_of_file(path):
        raise HarnessError(f"record {path} does not match its checksum; delete it and run again")
    arrays = read_npz(path, ARRAYS)
    if not has_arrays(arrays):
        raise HarnessError(f"record {path} holds other arrays than a record's; delete it")
    read_model(about, RecordInfo)
    return Record(**arrays, info=info)
