"""A small folder of JPEGs in the form of ImageNet's: noise in the colour of its class."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n001", "n002", "n003", "n004", "n005", "n006")
_COLOURS = [(230, 40, 40), (40, 230, 40), (40, 40, 230), (220, 220, 40), (40, 220, 220), (130,) * 3]


def make_folder(root: Path, train: int = 8, val: int = 3, classes: int = 6) -> Path:
    """Write `train` and `val` images a class, of different sizes, between 40 and 63 pixels."""
    stream = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name, colour in zip(CLASSES[:classes], _COLOURS, strict=False):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                height, width = stream.integers(40, 64, 2)
                noise = stream.integers(-60, 60, (height, width, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}_{number}.JPEG", quality=90)
    return root
