"""A network's predictions on a set of images and on their perturbed copies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reproduce.attacks import frozen, pgd, pgd_loss, pgd_start
from reproduce.config import PGD
from reproduce.data import EvaluationStore
from reproduce.errors import HarnessError
from reproduce.graphs import Graphs

# (first image, images) -> noise in [-1, 1), shape of the images
Noise = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Predictions:
    """Labels and predicted classes, int64 arrays of shape (N,), in the order of the images."""

    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    adversarial: NDArray[np.int64]


@dataclass(frozen=True)
class CleanPredictions:
    """What a network makes of images that nothing attacks, arrays of shape (N,).

    Attributes
    ----------
    labels, clean : ndarray
        int64: true and predicted classes.
    top5 : ndarray
        bool: whether the true class is among the five most likely ones.
    """

    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    top5: NDArray[np.bool_]


def predict_images(
    model: nn.Module,
    store: EvaluationStore,
    batch_size: int,
    advance: Callable[[int], object] = lambda _: None,
) -> CleanPredictions:
    """Classify every image of a split; parameters and errors as in `attack_images`."""
    labels, clean, top5 = [], [], []
    with frozen(model), torch.no_grad():
        for first in range(0, len(store), batch_size):
            images, targets = store.plain(first, first + batch_size)
            logits = _finite(model(images))
            best = logits.topk(min(5, logits.shape[1])).indices
            top5.append((best == targets[:, None]).any(1))
            clean.append(logits.argmax(1))
            labels.append(targets)
            advance(len(images))
    together = (torch.cat(parts).cpu().numpy() for parts in (labels, clean, top5))
    return CleanPredictions(*together)


def attack_images(
    model: nn.Module,
    store: EvaluationStore,
    attack: PGD,
    epsilon: float,
    noise: Noise,
    batch_size: int,
    advance: Callable[[int], object] = lambda _: None,
    graphs: Graphs | None = None,
) -> Predictions:
    """Attack every image of a split once, from a uniform start in the ball.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images to logits; left in the mode it came in.
    store : EvaluationStore
        The images.
    attack : PGD
        Loss, number of steps and step size.
    epsilon : float
        Radius of the l_inf ball, pixels in [0, 1].
    noise : callable
        Gives the start of a batch, in units of epsilon.
    batch_size : int
        Images a batch.
    advance : callable
        Told after each batch how many images were done.
    graphs : Graphs, optional
        Records the attack on a whole batch.

    Raises
    ------
    HarnessError
        If the network answers with NaN or infinity.
    """

    def attacked(images: Tensor, targets: Tensor, start: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            logits = model(images)
        found = pgd(
            model,
            images,
            pgd_loss(attack, targets),
            start,
            epsilon=epsilon,
            step_size=attack.step_size,
            steps=attack.steps,
        )
        with torch.no_grad():
            again = model(found.images)
        return torch.isfinite(logits).all(), logits.argmax(1), again.argmax(1)

    labels: list[Tensor] = []
    # whether the logits are finite, and the classes before and after the attack
    found: tuple[list[Tensor], ...] = ([], [], [])
    with frozen(model):
        for first in range(0, len(store), batch_size):
            images, targets = store.plain(first, first + batch_size)
            start = pgd_start(attack, images, epsilon * noise(first, images))
            inputs = (images, targets, start)
            one = attacked(*inputs) if graphs is None else graphs("attack", attacked, *inputs)
            labels.append(targets)
            # copies: the next batch overwrites what is recorded
            for values, value in zip(found, one, strict=True):
                values.append(value.clone())
            advance(len(images))
    # asked once: a question after every batch would have the device wait for the host
    if not torch.stack(found[0]).all():
        raise HarnessError("the network's logits are NaN or infinite")
    together = (torch.cat(parts).cpu().numpy() for parts in (labels, *found[1:]))
    return Predictions(*together)


def _finite(logits: Tensor) -> Tensor:
    if not torch.isfinite(logits).all():
        raise HarnessError("the network's logits are NaN or infinite")
    return logits
