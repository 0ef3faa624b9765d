"""Measuring a network after an epoch, by one process or by several together."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from reproduce.attacks.parts import pgd_loss, pgd_start
from reproduce.attacks.pgd import pgd
from reproduce.attacks.target import frozen
from reproduce.compute.compilation import Graphs
from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Validation
from reproduce.core.errors import HarnessError
from reproduce.core.rng import derive, generator, uniform_per_image
from reproduce.data.imagenet import EvaluationStore, FolderStore
from reproduce.evaluation.attack import in_top5
from reproduce.evaluation.records import compute_metrics

# (first image of a batch, images) -> the start of the attack in units of epsilon
Noise = Callable[[int, Tensor], Tensor]


def measure(
    model: nn.Module,
    store: EvaluationStore,
    how: Validation | None,
    place: tuple[int, str, int],
    batch_size: int,
    group: Group = ALONE,
    advance: Callable[[], object] = lambda: None,
    graphs: Graphs | None = None,
) -> dict[str, float]:
    """Measure a network on a split, in percent; without `how` nothing is attacked.

    The random starts of the attack depend on `place` (seed, purpose, epoch) and not on the batch
    size.  `advance` is called after each batch.  The first value chooses checkpoints.
    """
    start, stop = group.part(len(store))
    part = store.part(start, stop)
    if how is not None:
        noise = _random_starts(store, start, place, next(model.parameters()).device)

    def answers(images: Tensor, labels: Tensor, *begin: Tensor) -> tuple[Tensor, ...]:
        """Return whether logits are finite, the classes of x, and those of x' or top 5."""
        with torch.no_grad():
            logits = model(images)
        finite, clean = torch.isfinite(logits).all(), logits.argmax(1)
        if how is None:
            return finite, clean, in_top5(logits, labels)
        found = pgd(
            model,
            images,
            pgd_loss(how.attack, labels),
            *begin,
            epsilon=how.epsilon,
            step_size=how.attack.step_size,
            steps=how.attack.steps,
        )
        with torch.no_grad():
            return finite, clean, model(found.images).argmax(1)

    batches: list[list[Tensor]] = []
    with frozen(model):
        for first in range(0, len(part), batch_size):
            images, labels = part.plain(first, first + batch_size)
            if how is None:
                found = answers(images, labels)
            else:
                begin = pgd_start(how.attack, images, how.epsilon * noise(first, images))
                inputs = (images, labels, begin)
                found = answers(*inputs) if graphs is None else graphs("attack", answers, *inputs)
            # copies: the next batch overwrites what is recorded
            batches.append([labels, *(value.clone() for value in found)])
            advance()
    targets, finite, *classes = map(list, zip(*batches, strict=True))
    # asked once: a question after every batch would have the device wait for the host
    if not torch.stack(finite).all():
        raise HarnessError("the network's logits are NaN or infinite")
    mine = [torch.cat(values).cpu().numpy() for values in (targets, *classes)]
    parts = zip(*group.gathered(mine), strict=True)
    true, clean, other = (np.concatenate(arrays) for arrays in parts)
    if how is None:
        natural = 100 * float((true == clean).mean())
        return {"natural_accuracy": natural, "top5_natural_accuracy": 100 * float(other.mean())}
    metrics = compute_metrics(true, clean, other).as_dict()
    names = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
    return {name: metrics[name] for name in names}


def _random_starts(
    store: EvaluationStore, start: int, place: tuple[int, str, int], device: torch.device
) -> Noise:
    """Return what gives the random starts of a batch of the part that begins at `start`."""
    seed, purpose, epoch = place
    if isinstance(store, FolderStore):
        # those of a whole split would not fit in memory
        own = derive(seed, purpose, epoch)

        def by_image(first: int, images: Tensor) -> Tensor:
            rows = store.indices[start + first : start + first + len(images)].tolist()
            return uniform_per_image(own, purpose, rows, store.image_shape).to(device)

        return by_image
    stream = generator(seed, purpose, epoch, device=device)
    shape = (len(store), *store.image_shape)
    starts = torch.empty(shape, device=device).uniform_(-1, 1, generator=stream)
    return lambda first, images: starts[start + first : start + first + len(images)]
