"""The parts of an attack on one batch, one after the other, each on what still holds."""

from collections.abc import Callable

import torch
from torch import Tensor

from reproduce.attacks import AttackedNetwork, Batch, Part
from reproduce.errors import HarnessError
from reproduce.precision import products_in
from reproduce.rng import own_random_numbers

# rounding that the packaged attacks' projections may leave
_SLACK = 1e-6


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
        What to run.
    epsilon : float
        Radius of the ball; what a part found must lie in it.
    seed : int
        Seed of all random numbers but the starts of PGD, which are each image's own.
    done : callable
        Told the name of each part when it is over, and how many images hold by then.
    precision : str
        "tf32" lets the parts search with products of ten bits; verdicts keep all.
    top5 : bool
        Whether to say which true classes are among the five most likely ones of x.

    Returns
    -------
    dict of Tensor
        index, label, clean, adversarial (predictions on x and on x'), broken_by (the
        position of the part that broke the image, -1 if none did) and, if asked for,
        top5; shape (B,).

    Raises
    ------
    HarnessError
        If the network answers with anything but finite logits.
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
                with products_in(precision):
                    found = part.run(members, seed)
                check_ball(part.name, members.images, found, epsilon)
                predicted = network.predict(found)
                wrong = predicted != members.labels
                broken_by[rows[wrong & alive[rows]]] = position
                moved = rows if part.every_image else rows[wrong]
                adversarial[moved] = predicted if part.every_image else predicted[wrong]
            done(part.name, int(((clean == labels) & (broken_by < 0)).sum()))
    arrays = {
        "index": torch.tensor(batch.indices),
        "label": labels,
        "clean": clean,
        "adversarial": adversarial,
        "broken_by": broken_by,
    }
    if top5:
        arrays["top5"] = (logits.topk(min(5, logits.shape[1])).indices == labels[:, None]).any(1)
    return arrays


def check_ball(name: str, images: Tensor, found: Tensor, epsilon: float) -> None:
    """Refuse what lies outside the threat model: it would count as an attack and be none.

    Parameters
    ----------
    name : str
        The attack.
    images, found : Tensor
        x and x', pixels in [0, 1], of one shape.
    epsilon : float
        Radius of the l_inf ball.

    Raises
    ------
    HarnessError
        Saying how far the attack went.
    """
    far = (found - images).abs().max().item()
    if not far <= epsilon + _SLACK or found.min() < 0 or found.max() > 1:
        raise HarnessError(
            f"{name} left the ball: perturbation up to {far:.6g} at epsilon {epsilon:.6g}, pixels "
            f"{found.min():.6g} to {found.max():.6g}"
        )
