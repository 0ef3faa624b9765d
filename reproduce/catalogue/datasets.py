"""The data sets: sizes of their images and the augmentation they are trained with."""

from dataclasses import dataclass
from typing import Literal

from reproduce.catalogue.architectures import Architecture
from reproduce.catalogue.classes import CIFAR10, CIFAR100, DIGITS
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
        Height and width of an image in pixels; of a folder's images that of the centre
        crop they are evaluated on.
    channels : int
        1 for grey images, 3 for colour.
    train, test : int
        Number of images in the official splits.
    padding : int
        Zero padding of the random crop in training, in pixels; a folder's images are
        cut out of what there is instead.
    flip : bool
        Whether training flips images left to right.
    epsilon : float
        Radius of the l_inf ball that is usual for it, pixels in [0, 1].
    storage : {"arrays", "folder"}
        Images of one size that fit in memory, or files of any size in a folder a class,
        decoded when they are needed.  How many and of how many classes a folder really
        holds stands in its index.
    top5 : bool
        Whether records keep if the true class is among the five most likely ones.
    class_names : tuple of str
        What the classes are called, in the order of their labels; empty where they go by
        number.
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
    storage: Literal["arrays", "folder"] = "arrays"
    top5: bool = False
    class_names: tuple[str, ...] = ()

    def class_name(self, label: int) -> str:
        """Say what a class is called; its number where it has no name."""
        return self.class_names[label] if self.class_names else str(label)

    def check_architecture(self, architecture: Architecture) -> None:
        """Refuse a network that is not made for images of this size.

        Raises
        ------
        HarnessError
            Naming a network that is.
        """
        if architecture.bottleneck and self.storage == "arrays":
            raise HarnessError(
                f"architecture {str(architecture)!r} is the one for ImageNet; {self.title} takes "
                "wrn-DEPTH-WIDTH with a depth of 6n + 4, such as wrn-34-10"
            )
        if not architecture.bottleneck and self.storage == "folder":
            raise HarnessError(
                f"architecture {str(architecture)!r} is for images of 32 pixels; {self.title} "
                "takes wrn-50-WIDTH, such as wrn-50-2"
            )


DATASETS = {
    facts.name: facts
    for facts in (
        # padding in proportion to CIFAR's; a mirrored digit is not a digit
        DatasetFacts(
            "digits",
            "Digits",
            10,
            8,
            1,
            1442,
            355,
            padding=1,
            flip=False,
            epsilon=0.2,
            class_names=DIGITS,
        ),
        DatasetFacts(
            "cifar10",
            "CIFAR-10",
            10,
            32,
            3,
            50_000,
            10_000,
            padding=4,
            flip=True,
            epsilon=8 / 255,
            class_names=CIFAR10,
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
            class_names=CIFAR100,
        ),
        # evaluated as Wong et al. 2020 do: 288 pixels cut from the middle, nothing resized
        DatasetFacts(
            "imagenet",
            "ImageNet",
            1000,
            288,
            3,
            1_281_167,
            50_000,
            padding=0,
            flip=True,
            epsilon=4 / 255,
            storage="folder",
            top5=True,
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
