"""Made-up images of CIFAR's shape, as an .npz given by a user holds them."""

import numpy as np


def cifar_arrays(train: int = 30, test: int = 10) -> dict[str, np.ndarray]:
    """Return images of noise in the classes by turns, under the names that an .npz has them."""
    stream = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", train), ("test", test)):
        images = stream.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = (np.arange(size) % 10).astype(np.uint8)
    return arrays
