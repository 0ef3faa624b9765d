"""Parts of a split that every run takes alike: balanced subsets and held-out images."""

from typing import TypeVar

import numpy as np

from reproduce.data.splits import Rows
from reproduce.errors import HarnessError
from reproduce.rng import derive

S = TypeVar("S", bound=Rows)

# subsets belong to the protocol, not to a run: seeds of a cell must train on the same images
_SEED = 0


def stratified_subset(split: S, size: int | None, purpose: str) -> S:
    """Take `size` images, each class in its proportion to within one image.

    Parameters
    ----------
    split : Split or FileSplit
        Where to take from.
    size : int or None
        How many; None for all.
    purpose : str
        Names the random choice; equal purposes choose alike.

    Raises
    ------
    HarnessError
        If there are fewer than `size` images.
    """
    if size is None:
        return split
    if size > len(split):
        raise HarnessError(f"{size} {purpose} images are asked for, there are {len(split)}")
    return split.take(_balanced_order(split, purpose)[:size])


def hold_out(split: S, size: int) -> tuple[S, S]:
    """Set `size` balanced images aside.

    Returns
    -------
    kept, held_out
        Of the form of `split`.

    Raises
    ------
    HarnessError
        If nothing would be left to train on.
    """
    if size >= len(split):
        raise HarnessError(
            f"train.holdout is {size}, but there are only {len(split)} training images"
        )
    order = _balanced_order(split, "holdout")
    return split.take(order[size:]), split.take(order[:size])


def _balanced_order(split: Rows, purpose: str) -> np.ndarray:
    """Order the rows so that every beginning of the order is balanced over the classes."""
    stream = np.random.Generator(np.random.Philox(derive(_SEED, f"subset/{purpose}")))
    shuffled = stream.permutation(len(split))
    labels = split.labels[shuffled]
    # place of each image within its class, as a fraction of the class: 0 to 1 in every class
    place = np.empty(len(split))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place, kind="stable")]
