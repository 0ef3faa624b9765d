"""The data sets: sizes of their images and the augmentation they are trained with."""

from dataclasses import dataclass

from reproduce.errors import HarnessError


@dataclass(frozen=True)
class DatasetFacts:
    """What is fixed about a data set before a file is read.

    Attributes
    ----------
    name, title : str
        The name in cell ids and the one in tables.
    classes : int
        Number of classes; labels run from 0 to classes - 1.
    size : int
        Height and width of an image in pixels.
    channels : int
        1 for grey images, 3 for colour.
    train, test : int
        Number of images in the official splits.
    padding : int
        Zero padding of the random crop in training, in pixels.
    flip : bool
        Whether training flips images left to right.
    epsilon : float
        Radius of the l_inf ball that is usual for it, pixels in [0, 1].
    """

    name: str
    title: str
    classes: int
    size: int
    channels: int
    train: int
    test: int
    padding: int
    flip: bool
    epsilon: float


DATASETS = {
    facts.name: facts
    for facts in (
        # padding in proportion to CIFAR's; a mirrored digit is not a digit
        DatasetFacts("digits", "Digits", 10, 8, 1, 1442, 355, padding=1, flip=False, epsilon=0.2),
        DatasetFacts(
            "cifar10", "CIFAR-10", 10, 32, 3, 50_000, 10_000, padding=4, flip=True, epsilon=8 / 255
        ),
        DatasetFacts(
            "cifar100",
            "CIFAR-100",
            100,
            32,
            3,
            50_000,
            10_000,
            padding=4,
            flip=True,
            epsilon=8 / 255,
        ),
    )
}


def dataset_facts(name: str) -> DatasetFacts:
    """Return the facts of a data set by name.

    Raises
    ------
    HarnessError
        If there is none of that name.
    """
    if name not in DATASETS:
        raise HarnessError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]
