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
    """What an epoch's network reached on some images.

    Attributes
    ----------
    metrics : dict
        Percentages by name.
    chooses : float
        The one by which the best epoch is chosen: robust accuracy, or natural accuracy
        where nothing is attacked.
    """

    metrics: dict[str, float]
    chooses: float

    def columns(self, split: str) -> dict[str, float]:
        """Return the metrics under their names in epochs.csv."""
        return {f"{split}_{name}": value for name, value in self.metrics.items()}

    def __str__(self) -> str:
        words = {name.split("_")[0]: value for name, value in self.metrics.items()}
        words = {"stability" if k == "perturbation" else k: v for k, v in words.items()}
        return "  ".join(f"{word} {value:.2f}" for word, value in words.items())


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

    Parameters
    ----------
    model : torch.nn.Module
        The same in all processes.
    store : EvaluationStore
        The images.
    how : Validation or None
        The attack; None to measure natural accuracy alone.
    place : (int, str, int)
        Seed, purpose and epoch, which decide the attack's random starts.
    batch_size : int
        Images a batch.
    group : Group
        The processes.
    advance : callable
        Told after each batch how many images were done.
    graphs : Graphs, optional
        Records the attack on a whole batch.

    Raises
    ------
    HarnessError
        If the network answers with NaN or infinity, or an image cannot be read.
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
    found = attack_images(
        model,
        part,
        how.attack,
        how.epsilon,
        _noise(store, start, place, model),
        batch_size,
        advance,
        graphs,
    )
    attacked = group.gathered((found.labels, found.clean, found.adversarial))
    metrics = compute_metrics(*(np.concatenate(parts) for parts in zip(*attacked, strict=True)))
    values = metrics.as_dict()
    names = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
    return Measured({name: values[name] for name in names}, metrics.robust_accuracy)


def _noise(
    store: EvaluationStore, start: int, place: tuple[int, str, int], model: nn.Module
) -> Callable[[int, Tensor], Tensor]:
    """Return the random starts of a part; neither it nor the size of a batch has a say in them."""
    seed, purpose, epoch = place
    device = next(model.parameters()).device
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

    def from_all(first: int, images: Tensor) -> Tensor:
        return starts[start + first : start + first + len(images)]

    return from_all
