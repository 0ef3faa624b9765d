"""Crop, flip and shuffle on the device give what the PIL pipeline gives for the same draws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from reproduce.core.vision import torchvision
from reproduce.data.batches import Draws, ImageStore
from reproduce.data.dataset import Split
from reproduce.data.sources import load_prepared
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


def test_real_images_equal_pil(real_cifar: Path, tmp_path: Path) -> None:
    from reproduce.config.schema import Data
    from reproduce.data.sources import prepare

    path = tmp_path / "cifar10.npz"
    prepare(Data(cifar10=str(real_cifar / "cifar10.npz")), "cifar10", path)
    dataset = load_prepared(path)
    split = dataset.train.take(np.arange(0, 50_000, 500))
    store = ImageStore(split, dataset.facts, CPU)
    draws = store.draws(len(split), seed=3, epoch=1, step=0)
    batch = store.augmented(torch.arange(len(split)), draws)
    for row, image in enumerate(split.images):
        top, left = int(draws.top[row]), int(draws.left[row])
        assert torch.equal(batch[row], _by_pil(image, 4, top, left, bool(draws.flip[row])))


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
