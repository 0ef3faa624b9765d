"""Measuring a network after an epoch, by one process or by several together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reproduce.compute.compilation import Graphs
from reproduce.compute.distributed import Group
from reproduce.config.schema import Validation
from reproduce.core.rng import derive, generator, uniform_per_image
from reproduce.data.imagenet import EvaluationStore, FolderStore
from reproduce.evaluation.predictions import attack_images, predict_images
from reproduce.evaluation.records import compute_metrics


@dataclass(frozen=True)
class Measured:
    """What an epoch's network reached on some images, in percent by the metrics' names."""

    metrics: dict[str, float]
    chooses: float
    """The best epoch has the most of this: robust accuracy, or natural where nothing attacks."""

    def columns(self, split: str) -> dict[str, float]:
        """Return the metrics under their names in epochs.csv."""
        return {f"{split}_{name}": value for name, value in self.metrics.items()}

    def __str__(self) -> str:
        names = {name: name.split("_")[0] for name in self.metrics}
        names["perturbation_stability"] = "stability"
        return "  ".join(f"{names[name]} {value:.2f}" for name, value in self.metrics.items())


def measure(
    model: nn.Module,
    store: EvaluationStore,
    how: Validation | None,
    place: tuple[int, str, int],
    batch_size: int,
    group: Group,
    advance: Callable[[int], object],
    graphs: Graphs | None = None,
) -> Measured:
    """Measure a network on a split; each process of a group takes a part of it.

    Without `how` nothing is attacked.  The random starts of the attack depend on `place` (seed,
    purpose, epoch) and not on the batch size.  `advance` is called after each batch with the
    number of images done, `graphs` records the attack on a whole batch.  HarnessError if the
    network answers with NaN or infinity, or an image cannot be read.
    """
    start, stop = group.part(len(store))
    part = store.part(start, stop)
    if how is None:
        clean = predict_images(model, part, batch_size, advance)
        seen = group.gathered((clean.labels, clean.clean, clean.top5))
        labels, predicted, top5 = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        natural = 100 * float((labels == predicted).mean())
        top = 100 * float(top5.mean())
        return Measured({"natural_accuracy": natural, "top5_natural_accuracy": top}, natural)
    noise = _random_starts(store, start, place, next(model.parameters()).device)
    found = attack_images(model, part, how.attack, how.epsilon, noise, batch_size, advance, graphs)
    attacked = group.gathered((found.labels, found.clean, found.adversarial))
    metrics = compute_metrics(*(np.concatenate(parts) for parts in zip(*attacked, strict=True)))
    values = metrics.as_dict()
    names = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
    return Measured({name: values[name] for name in names}, metrics.robust_accuracy)


def _random_starts(
    store: EvaluationStore, start: int, place: tuple[int, str, int], device: torch.device
) -> Callable[[int, Tensor], Tensor]:
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
