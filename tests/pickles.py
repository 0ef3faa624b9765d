"""Pickles as the authors of RST published theirs, of made-up images."""

import pickle
from pathlib import Path

import numpy as np


def made_up_images(images: int = 40) -> dict[str, np.ndarray]:
    """Images of CIFAR's shape and pseudo-labels under the published names."""
    stream = np.random.default_rng(2)
    return {
        "data": stream.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8),
        "extrapolated_targets": np.arange(images) % 10,
    }


def write_pickle(folder: Path, content: object, protocol: int = 3) -> Path:
    """Write a pickle under the published name."""
    path = folder / "ti_500K_pseudo_labeled.pickle"
    path.write_bytes(pickle.dumps(content, protocol))
    return path
