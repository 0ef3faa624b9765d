"""From an image file to pixels: read whole, resized, cut to one size."""

import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from reproduce.errors import HarnessError
from reproduce.rng import own_random_numbers
from reproduce.vision import torchvision

# others would be opened by readers that nobody looks at, EPS by another program
FORMATS = ("JPEG", "PNG")
# what PIL raises on bytes that are no image, or not a whole one
UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    MemoryError,
    OverflowError,
    struct.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)


class Decoder:
    """Reads images and cuts them to one size.

    Parameters
    ----------
    crop : int
        Height and width of what is cut, in pixels.
    resize : int, optional
        First resize the shorter side to this many pixels, bicubic.
    flip : bool
        Whether random cuts are mirrored left to right half the time.
    """

    def __init__(self, crop: int, resize: int | None = None, *, flip: bool = False) -> None:
        transforms = torchvision("torchvision.transforms")
        before = []
        if resize is not None:
            bicubic = transforms.InterpolationMode.BICUBIC
            before.append(transforms.Resize(resize, interpolation=bicubic))
        mirror = [transforms.RandomHorizontalFlip()] if flip else []
        # an image smaller than the cut is laid on black
        self._middle = transforms.Compose([*before, transforms.CenterCrop(crop)])
        self._part = transforms.Compose([*before, transforms.RandomResizedCrop(crop), *mirror])

    def middle(self, path: Path) -> NDArray[np.uint8]:
        """Return the middle of an image, uint8 of shape (crop, crop, 3).

        Raises
        ------
        HarnessError
            If the file cannot be read.
        """
        return np.asarray(self._middle(_read(path)))

    def random_part(self, path: Path, seed: int) -> NDArray[np.uint8]:
        """Return a random part of an image, of random size and shape before it is resized.

        Parameters
        ----------
        path : Path
            The image.
        seed : int
            Decides which part, and whether it is mirrored.

        Returns
        -------
        ndarray
            uint8, shape (crop, crop, 3).

        Raises
        ------
        HarnessError
            If the file cannot be read.
        """
        image = _read(path)
        # torchvision draws from the global generator
        with own_random_numbers(torch.device("cpu"), seed):
            return np.asarray(self._part(image))


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise HarnessError(f"image {path} cannot be read: {error}") from error
