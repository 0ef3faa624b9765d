"""What a network answers on a set of images, and on copies that an attack moved."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reproduce.attacks.parts import Batch, Part, pgd_loss, pgd_start
from reproduce.attacks.pgd import pgd
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.compute.compilation import Graphs
from reproduce.compute.device import conv_precision
from reproduce.config.schema import PGD
from reproduce.core.errors import HarnessError
from reproduce.core.rng import own_random_numbers
from reproduce.data.imagenet import EvaluationStore

# (first image, images) -> noise in [-1, 1), shape of the images
Noise = Callable[[int, Tensor], Tensor]

# rounding that the packaged attacks' projections may leave
_SLACK = 1e-6
_NOT_FINITE = "the network's logits are NaN or infinite"


class Predictions(NamedTuple):
    """Labels and predicted classes, int64 arrays of shape (N,), in the order of the images."""

    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    adversarial: NDArray[np.int64]


class CleanPredictions(NamedTuple):
    """True and predicted classes, and whether the true one is among the five most likely."""

    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    top5: NDArray[np.bool_]


def in_top5(logits: Tensor, labels: Tensor) -> Tensor:
    """Say which true classes are among the five most likely ones, bool of shape (B,)."""
    best = logits.topk(min(5, logits.shape[1])).indices
    return (best == labels[:, None]).any(1)


def predict_images(
    model: nn.Module,
    store: EvaluationStore,
    batch_size: int,
    advance: Callable[[int], object] = lambda _: None,
) -> CleanPredictions:
    """Classify every image of a split, unattacked; errors as in `attack_images`."""
    labels, clean, top5 = [], [], []
    with frozen(model), torch.no_grad():
        for first in range(0, len(store), batch_size):
            images, targets = store.plain(first, first + batch_size)
            logits = model(images)
            if not torch.isfinite(logits).all():
                raise HarnessError(_NOT_FINITE)
            labels.append(targets)
            clean.append(logits.argmax(1))
            top5.append(in_top5(logits, targets))
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
    """Attack every image of a split once, from a uniform start in the ball, for validation.

    `noise` gives the start of a batch in units of epsilon, `advance` gets the number of
    images after each batch, and `graphs`, if given, records the attack on a whole batch.

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
            inputs = (images, targets, pgd_start(attack, images, epsilon * noise(first, images)))
            one = attacked(*inputs) if graphs is None else graphs("attack", attacked, *inputs)
            labels.append(targets)
            # copies: the next batch overwrites what is recorded
            for values, value in zip(found, one, strict=True):
                values.append(value.clone())
            advance(len(images))
    # asked once: a question after every batch would have the device wait for the host
    if not torch.stack(found[0]).all():
        raise HarnessError(_NOT_FINITE)
    together = (torch.cat(parts).cpu().numpy() for parts in (labels, *found[1:]))
    return Predictions(*together)


def attack_batch(
    network: AttackedNetwork,
    batch: Batch,
    parts: list[Part],
    epsilon: float,
    seed: int,
    done: Callable[[str, int], object] = lambda _name, _held: None,
    *,
    precision: str = "float32",
    top5: bool = False,
) -> dict[str, Tensor]:
    """Run the parts of an attack one after the other, each on the images that still hold.

    Parameters
    ----------
    network : AttackedNetwork
        The frozen network.
    batch : Batch
        Images, labels and indices.
    parts : list of Part
        What to run; whatever a part finds must lie in the ball of radius `epsilon`.
    seed : int
        Seed of all random numbers but the starts of PGD, which are each image's own.
    done : callable
        Called after each part with its name and the number of images that hold by then.
    precision : str
        "tf32" lets the parts search with products of ten bits; verdicts keep all.
    top5 : bool
        Whether to say which true classes are among the five most likely ones of x.

    Returns
    -------
    dict of Tensor
        The arrays of a `Record`, shape (B,).

    Raises
    ------
    HarnessError
        If the network answers with anything but finite logits, or a part leaves the ball.
    """
    labels = batch.labels
    # the packaged attacks draw from the global generators, and so may a network
    with own_random_numbers(labels.device, seed):
        logits = network.logits(batch.images)
        clean = logits.argmax(1)
        adversarial = clean.clone()
        broken_by = torch.full_like(labels, -1)
        for position, part in enumerate(parts):
            alive = (clean == labels) & (broken_by < 0)
            rows = torch.arange(len(labels), device=labels.device)
            rows = rows if part.every_image else rows[alive]
            if len(rows):
                members = batch.take(rows)
                with conv_precision(precision):
                    found = part.run(members, seed)
                check_ball(part.name, members.images, found, epsilon)
                predicted = network.predict(found)
                wrong = predicted != members.labels
                broken_by[rows[wrong & alive[rows]]] = position
                moved = torch.ones_like(wrong) if part.every_image else wrong
                adversarial[rows[moved]] = predicted[moved]
            done(part.name, int(((clean == labels) & (broken_by < 0)).sum()))
    arrays = {
        "index": torch.tensor(batch.indices),
        "label": labels,
        "clean": clean,
        "adversarial": adversarial,
        "broken_by": broken_by,
    }
    return {**arrays, "top5": in_top5(logits, labels)} if top5 else arrays


def check_ball(name: str, images: Tensor, found: Tensor, epsilon: float) -> None:
    """Refuse x' outside the l_inf ball around x or outside [0, 1]: it would count as an attack."""
    far = (found - images).abs().max().item()
    if not far <= epsilon + _SLACK or found.min() < 0 or found.max() > 1:
        raise HarnessError(
            f"{name} left the ball: perturbation up to {far:.6g} at epsilon {epsilon:.6g}, pixels "
            f"{found.min():.6g} to {found.max():.6g}"
        )
