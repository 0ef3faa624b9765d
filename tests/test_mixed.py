"""Batches of labelled and extra images: their parts, their order, what they are a function of."""

import numpy as np
import pytest
import torch

from reproduce.data.batches import ImageStore, MixedBatches
from reproduce.data.dataset import Split
from reproduce.registry import dataset_facts

CPU = torch.device("cpu")


def _store(size: int, tag: int, name: str = "cifar10") -> ImageStore:
    """Images whose pixels all tell their store and row: blue says which, red and green the row."""
    facts = dataset_facts(name)
    images = np.zeros((size, facts.size, facts.size, 3), np.uint8)
    rows = np.arange(size)
    images[..., 0], images[..., 1] = (rows // 200)[:, None, None], (rows % 200)[:, None, None]
    images[..., 2] = tag
    return ImageStore(Split(images, (rows % 10).astype(np.uint8), rows), facts, CPU)


LABELLED, EXTRA = 100, 200


def _mixed(labelled: int = 300, extra: int = 500, **given: object) -> MixedBatches:
    settings = {"batch_size": 32, "seed": 0, **given}
    return MixedBatches(_store(labelled, LABELLED), _store(extra, EXTRA), **settings)


def _told(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the store and the row that the middle pixel of each image tells."""
    pixel = (images[:, :, 16, 16] * 255).round().to(int).numpy()
    return pixel[:, 2], pixel[:, 0] * 200 + pixel[:, 1]


@pytest.mark.parametrize(("fraction", "extra"), [(0.5, 16), (0.25, 8), (0.7, 22)])
def test_every_batch_has_its_fraction(fraction: float, extra: int) -> None:
    mixed = _mixed(extra_fraction=fraction)
    assert mixed.steps(1) == 10
    for step in range(mixed.steps(1)):
        images, labels = mixed.batch(1, step)
        store, row = _told(images)
        assert images.shape == (32, 3, 32, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert ((store == EXTRA).sum(), (store == LABELLED).sum()) == (extra, 32 - extra)
        # labels stay with their images, and neither kind stays in front
        assert np.array_equal(labels.numpy(), row % 10)
        assert not np.all(np.diff(store) >= 0)
        assert not np.all(np.diff(store) <= 0)


def test_no_labelled_image_twice_in_an_epoch_and_extra_with_replacement() -> None:
    mixed = _mixed(extra=60)
    seen: dict[int, list[np.ndarray]] = {LABELLED: [], EXTRA: []}
    for step in range(mixed.steps(1)):
        store, row = _told(mixed.batch(1, step)[0])
        for tag, rows in seen.items():
            rows.append(row[store == tag])
    labelled, extra = (np.concatenate(seen[tag]) for tag in (LABELLED, EXTRA))
    assert len(set(labelled.tolist())) == len(labelled) == 160
    counts = np.bincount(extra, minlength=60)
    assert counts.max() > 3  # a pass over 60 images would show each 2 or 3 times
    assert counts.min() == 0
    assert len(extra) == 160
    over_epochs = set()
    for epoch in range(1, 15):
        for step in range(mixed.steps(epoch)):
            store, row = _told(mixed.batch(epoch, step)[0])
            over_epochs |= set(row[store == LABELLED].tolist())
    assert over_epochs == set(range(300))


def test_extra_images_fill_where_labelled_ones_run_out() -> None:
    mixed = _mixed(labelled=9, batch_size=8, extra_fraction=0.3)
    kinds = [_told(mixed.batch(1, step)[0])[0] for step in range(mixed.steps(1))]
    assert [(kind == LABELLED).sum() for kind in kinds] == [6, 3]
    assert [len(kind) for kind in kinds] == [8, 8]


def test_batches_are_a_function_of_seed_epoch_and_step() -> None:
    first = {(e, s): _mixed().batch(e, s) for e in (1, 2) for s in (0, 7)}
    later = _mixed()
    # in any order, as a run that continues asks for them
    for (epoch, step), (images, labels) in reversed(first.items()):
        again = later.batch(epoch, step)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)
    (a, _), (b, _), (c, _) = first[1, 0], first[1, 7], first[2, 0]
    other, _ = _mixed(seed=1).batch(1, 0)
    for different in (b, c, other):
        assert not torch.equal(a, different)


def test_images_are_augmented_as_a_store_augments_them() -> None:
    stream = np.random.default_rng(0)
    facts = dataset_facts("cifar10")
    stores = []
    for size in (40, 50):
        images = stream.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        labels = (np.arange(size) % 10).astype(np.uint8)
        stores.append(ImageStore(Split(images, labels, np.arange(size)), facts, CPU))
    images, _ = MixedBatches(*stores, batch_size=16, seed=3).batch(2, 1)
    draws = stores[0].draws(16, seed=3, epoch=2, step=1)
    for place in range(16):
        one = [type(draws)(*(d[place : place + 1] for d in (draws.top, draws.left, draws.flip)))]
        candidates = torch.cat(
            [s.augmented(torch.tensor([r]), one[0]) for s in stores for r in range(len(s))]
        )
        assert (candidates == images[place]).flatten(1).all(1).sum() == 1
