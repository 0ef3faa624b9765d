"""The paper's three metrics, computed from predictions and from nothing else."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from reproduce.errors import HarnessError

METRICS = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
# and what only records of data sets with many classes hold
ALL_METRICS = (*METRICS, "top5_natural_accuracy")


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
    """Compute the metrics of predictions, each an integer array of shape (N,).

    `every_image` says whether images wrong on x were attacked too, and `top5`, where
    known, which true classes are among the five most likely ones of x.

    The identity robust = correct and stable is checked image by image.  It fails
    exactly where an attack turned a wrong prediction into a right one; there x is
    the worst case, the image counts as not robust, and `recovered` counts it.

    Raises
    ------
    HarnessError
        If there are no images.
    """
    if not len(labels):
        raise HarnessError("a record without images has no metrics")
    correct = clean == labels
    stable = clean == adversarial
    right_under_attack = adversarial == labels
    exceptions = right_under_attack != (correct & stable)
    robust = right_under_attack & ~exceptions

    def percent(members: NDArray[np.bool_]) -> float:
        return float(100 * members.mean())

    return Metrics(
        percent(robust),
        percent(correct),
        percent(stable) if every_image else None,
        recovered=int(exceptions.sum()),
        images=len(labels),
        top5_natural_accuracy=None if top5 is None else percent(top5),
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
        The same for all attacks together, on the images that all of them saw, in
        rising order.

    Raises
    ------
    HarnessError
        If no image was seen by all attacks.
    """
    common = reduce(np.intersect1d, [index for index, _ in held]) if held else np.array([])
    if not len(common):
        raise HarnessError("no image was seen by all attacks: there is no worst case")
    robust = [flags[np.isin(index, common)] for index, flags in held]
    return common, np.logical_and.reduce(robust)
