"""One image under attack, and what networks make of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reproduce.cells import Cell
from reproduce.config import Checkpoint

Holder = Literal["both", "narrow", "wide", "neither"]


@dataclass(frozen=True)
class Prediction:
    """The class that a network takes an image for.

    Attributes
    ----------
    label : int
        The class.
    name : str
        What it is called; its number where it has no name.
    confidence : float
        Its softmax probability.
    """

    label: int
    name: str
    confidence: float


@dataclass(frozen=True)
class AttackedImage:
    """What one network makes of one image, and the attack of it.

    Attributes
    ----------
    cell : Cell
        The network's training run.
    checkpoint : {"best-test", "last", "best-val"}
        Which of its weights.
    model_sha256 : str
        Checksum of those.
    adversarial : ndarray
        x', float32 in [0, 1], shape (height, width, channels).
    perturbation : ndarray
        x' - x as a picture, float32 in [0, 1], same shape: 0.5 is no change, 0 and 1 are
        epsilon down and up.
    on_image, on_perturbation, on_adversarial : Prediction
        What the network takes x, that picture and x' for.
    as_recorded : bool
        Whether the predictions on x and x' are those of the record; on a GPU rounding may
        turn one.
    """

    cell: Cell
    checkpoint: Checkpoint
    model_sha256: str
    adversarial: NDArray[np.float32]
    perturbation: NDArray[np.float32]
    on_image: Prediction
    on_perturbation: Prediction
    on_adversarial: Prediction
    as_recorded: bool


@dataclass(frozen=True)
class Example:
    """One test image under attack, for a narrow and for a wide network.

    Attributes
    ----------
    dataset, attack : str
        Data set, and name of the attack in the configuration.
    epsilon : float
        Radius of the l_inf ball, pixels in [0, 1].
    index : int
        Position in the official test split.
    label : int
        True class.
    name : str
        What it is called.
    image : ndarray
        x, uint8, shape (height, width, channels).
    held_by : {"both", "narrow", "wide", "neither"}
        Which networks are right on x' as well, by their records; both are right on x.
    networks : tuple of AttackedImage
        The narrow one and the wide one.
    """

    dataset: str
    attack: str
    epsilon: float
    index: int
    label: int
    name: str
    image: NDArray[np.uint8]
    held_by: Holder
    networks: tuple[AttackedImage, AttackedImage]


def perturbation_picture(
    images: NDArray[np.uint8], adversarial: NDArray[np.float32], epsilon: float
) -> NDArray[np.float32]:
    """Show x' - x magnified to the whole range: 0.5 is no change, 0 and 1 are epsilon away.

    Parameters
    ----------
    images, adversarial : ndarray
        x, uint8, and x', float32 in [0, 1], of one shape.
    epsilon : float
        Radius of the ball.

    Returns
    -------
    ndarray
        float32 in [0, 1], of that shape.
    """
    difference = adversarial - images.astype(np.float32) / 255
    picture: NDArray[np.float32] = np.clip(0.5 + difference / (2 * epsilon), 0, 1)
    return picture.astype(np.float32)
