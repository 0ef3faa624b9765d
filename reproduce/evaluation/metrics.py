"""The paper's three metrics, computed from predictions and from nothing else."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from reproduce.errors import HarnessError

METRICS = ("robust_accuracy", "natural_accuracy", "perturbation_stability")


@dataclass(frozen=True)
class Metrics:
    """Three percentages over one set of images (equation 3.1 of the paper).

    Attributes
    ----------
    robust_accuracy : float
        Images correct on x and on x'.
    natural_accuracy : float
        Images correct on x.
    perturbation_stability : float
        Images predicted alike on x and x'; labels play no part.
    recovered : int
        Images wrong on x and right on x'.  x lies in the ball, so they are not
        robust; published codes that look at x' alone count them as robust.
    images : int
        Number of images.
    """

    robust_accuracy: float
    natural_accuracy: float
    perturbation_stability: float
    recovered: int
    images: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields as a plain mapping."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"robust {self.robust_accuracy:.2f}  natural {self.natural_accuracy:.2f}  "
            f"stability {self.perturbation_stability:.2f}"
        )


def compute_metrics(
    labels: NDArray[np.integer], clean: NDArray[np.integer], adversarial: NDArray[np.integer]
) -> Metrics:
    """Compute the metrics of predictions, each an integer array of shape (N,).

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
        percent(stable),
        recovered=int(exceptions.sum()),
        images=len(labels),
    )
