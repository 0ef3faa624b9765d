"""Training batches on the device: as PIL makes them, mixed with extra images, all repeatable."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from reproduce.core.vision import torchvision
from reproduce.data.batches import Draws, ImageStore, LabelledBatches, MixedBatches
from reproduce.data.dataset import Split
from reproduce.registry import dataset_facts

CPU = torch.device("cpu")


def _store(name: str = "cifar10", size: int = 12) -> tuple[ImageStore, np.ndarray]:
    facts = dataset_facts(name)
    stream = np.random.default_rng(1)
    shape = (size, facts.size, facts.size, facts.channels)
    images = stream.integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(size, dtype=np.uint8) % facts.classes
    return ImageStore(Split(images, labels, np.arange(size)), facts, CPU), images


def _by_pil(image: np.ndarray, padding: int, top: int, left: int, flip: bool) -> torch.Tensor:
    """Pad, crop and mirror one image with PIL, and convert it as torchvision does."""
    picture = Image.fromarray(image.squeeze())
    size = picture.width
    padded = ImageOps.expand(picture, padding, fill=0)
    crop = padded.crop((left, top, left + size, top + size))
    functional = torchvision("torchvision.transforms.functional")
    return functional.to_tensor(ImageOps.mirror(crop) if flip else crop)


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_augmentation_equals_pil(name: str) -> None:
    store, images = _store(name)
    padding = dataset_facts(name).padding
    rows = torch.tensor([5, 0, 11, 5, 3])
    for top in range(2 * padding + 1):
        for flip in (False, True):
            left = 2 * padding - top
            draws = Draws(torch.full((5,), top), torch.full((5,), left), torch.full((5,), flip))
            batch = store.augmented(rows, draws)
            expected = [_by_pil(images[row], padding, top, left, flip) for row in rows]
            assert torch.equal(batch, torch.stack(expected))


def test_plain_batches_equal_pil() -> None:
    store, images = _store()
    batches = [store.plain(start, start + 5) for start in (0, 5, 10)]
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    together = torch.cat([batch for batch, _ in batches])
    assert torch.equal(together, torch.stack([_by_pil(i, 0, 0, 0, False) for i in images]))
    assert together.is_contiguous(memory_format=torch.channels_last)
    part = store.part(4, 9)
    assert torch.equal(part.plain(1, 99)[0], together[5:9])
    assert (len(part), part.indices.tolist()) == (5, list(range(4, 9)))


def test_draws_cover_every_crop_and_both_flips() -> None:
    store, _ = _store()
    draws = store.draws(4000, seed=0, epoch=1, step=0)
    for offsets in (draws.top, draws.left):
        assert torch.bincount(offsets, minlength=9).min() > 4000 / 9 * 0.8
    assert 0.45 < draws.flip.float().mean() < 0.55
    digits, _ = _store("digits")
    assert not digits.draws(100, seed=0, epoch=1, step=0).flip.any()


def test_streams_depend_on_seed_epoch_and_step() -> None:
    store, _ = _store()
    first = store.draws(50, seed=0, epoch=1, step=0)
    assert torch.equal(first.top, store.draws(50, seed=0, epoch=1, step=0).top)
    for place in ({"seed": 1}, {"epoch": 2}, {"step": 1}):
        other = store.draws(50, **{"seed": 0, "epoch": 1, "step": 0, **place})
        assert not torch.equal(first.top, other.top)
    order = store.order(seed=0, epoch=1)
    assert sorted(order.tolist()) == list(range(12))
    assert not torch.equal(order, store.order(seed=0, epoch=2))
    batches = LabelledBatches(store, 5, seed=0)
    sizes = [len(batches.batch(1, step)[1]) for step in range(batches.steps(1))]
    assert sizes == [5, 5, 2]
    assert torch.equal(batches.batch(1, 1)[1], store.labels[order[5:10]])


LABELLED, EXTRA = 100, 200


def _tagged(size: int, tag: int) -> ImageStore:
    """Images whose pixels all tell their store and row: blue says which, red and green the row."""
    images, rows = np.zeros((size, 32, 32, 3), np.uint8), np.arange(size)
    images[..., 0], images[..., 1] = (rows // 200)[:, None, None], (rows % 200)[:, None, None]
    images[..., 2] = tag
    split = Split(images, (rows % 10).astype(np.uint8), rows)
    return ImageStore(split, dataset_facts("cifar10"), CPU)


def _mixed(labelled: int = 300, extra: int = 500, **given: object) -> MixedBatches:
    settings = {"batch_size": 32, "seed": 0, **given}
    return MixedBatches(_tagged(labelled, LABELLED), _tagged(extra, EXTRA), **settings)


def _told(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the store and the row that the middle pixel of each image tells."""
    pixel = (images[:, :, 16, 16] * 255).round().to(int).numpy()
    return pixel[:, 2], pixel[:, 0] * 200 + pixel[:, 1]


@pytest.mark.parametrize(("fraction", "extra"), [(0.5, 16), (0.7, 22)])
def test_every_mixed_batch_has_its_fraction(fraction: float, extra: int) -> None:
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
    assert len(set(labelled.tolist())) == len(labelled) == len(extra) == 160
    counts = np.bincount(extra, minlength=60)
    assert counts.max() > 3  # a pass over 60 images would show each 2 or 3 times
    assert counts.min() == 0
    over_epochs = {
        int(row)
        for epoch in range(1, 15)
        for row in mixed.store.order(0, epoch)[:160]  # the front of each epoch's order
    }
    assert over_epochs == set(range(300))


def test_extra_images_fill_where_labelled_ones_run_out() -> None:
    mixed = _mixed(labelled=9, batch_size=8, extra_fraction=0.3)
    kinds = [_told(mixed.batch(1, step)[0])[0] for step in range(mixed.steps(1))]
    assert [(kind == LABELLED).sum() for kind in kinds] == [6, 3]
    assert [len(kind) for kind in kinds] == [8, 8]


def test_mixed_batches_are_a_function_of_seed_epoch_and_step() -> None:
    first = {(e, s): _mixed().batch(e, s) for e in (1, 2) for s in (0, 7)}
    later = _mixed()
    # in any order, as a run that continues asks for them
    for (epoch, step), (images, labels) in reversed(first.items()):
        again = later.batch(epoch, step)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)
    other, _ = _mixed(seed=1).batch(1, 0)
    for different in (first[1, 7][0], first[2, 0][0], other):
        assert not torch.equal(first[1, 0][0], different)


def test_mixed_images_are_augmented_as_a_store_augments_them() -> None:
    stores = [_store(size=size)[0] for size in (20, 30)]
    images, _ = MixedBatches(*stores, batch_size=16, seed=3).batch(2, 1)
    draws = stores[0].draws(16, seed=3, epoch=2, step=1)
    for place in range(16):
        candidates = []
        for store in stores:
            own = Draws(*(value[place].expand(len(store)) for value in draws))
            candidates.append(store.augmented(torch.arange(len(store)), own))
        same = (torch.cat(candidates) == images[place]).flatten(1).all(1)
        # the two stores begin with the same images
        assert same.sum() >= 1
