"""scikit-learn's copy of the UCI handwritten digits: 8 x 8 grey images, no download."""

import numpy as np
from numpy.typing import NDArray


def read_digits() -> dict[str, NDArray[np.uint8]]:
    """Return the digits as uint8 arrays, every fifth image of a class in the test split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    # takes longer to import than many a job to run, and only this one needs it
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.uint8)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        in_test[np.flatnonzero(labels == label)[4::5]] = True
    return {
        "train_images": images[~in_test],
        "train_labels": labels[~in_test],
        "test_images": images[in_test],
        "test_labels": labels[in_test],
    }
