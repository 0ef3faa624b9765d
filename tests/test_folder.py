"""Image files in a folder a class: their index, and the batches that are decoded from them."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folder import CLASSES, make_folder
from PIL import Image

from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Data, Phase
from reproduce.core.errors import HarnessError
from reproduce.core.rng import derive, generator
from reproduce.core.vision import torchvision
from reproduce.data import imagenet
from reproduce.data.dataset import Dataset, stratified_subset
from reproduce.data.imagenet import FolderBatches, FolderStore
from reproduce.data.sources import load_prepared, prepare
from reproduce.registry import dataset_facts

FACTS = dataset_facts("imagenet")
CPU = torch.device("cpu")
# 48 training images: 3 batches, then 4
PHASES = [
    Phase(epochs=2, batch_size=20, crop=16, resize=24),
    Phase(epochs=1, batch_size=12, crop=32),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"))


def _index(folder: Path, path: Path) -> Dataset:
    prepare(Data(imagenet=str(folder)), "imagenet", path, lambda _: None)
    return load_prepared(path)


@pytest.fixture(scope="module")
def dataset(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _index(folder, tmp_path_factory.mktemp("prepared") / "imagenet.npz")


def _batches(dataset: Dataset, loaders: int = 0, group: Group = ALONE) -> FolderBatches:
    return FolderBatches(dataset.train, dataset.facts, PHASES, 3, CPU, loaders, group)


def test_the_index_holds_files_and_labels(dataset: Dataset, folder: Path) -> None:
    assert (len(dataset.train), len(dataset.test)) == (48, 18)
    assert dataset.facts.classes == len(CLASSES)
    assert dataset.train.labels.tolist() == [place for place in range(6) for _ in range(8)]
    names = [dataset.train.path(row) for row in (0, 8, 47)]
    expected = ["n001/n001_0.JPEG", "n002/n002_0.JPEG", "n006/n006_7.JPEG"]
    assert names == [folder / "train" / name for name in expected]
    half = stratified_subset(dataset.train, 24, "train")
    assert half.path(0) == dataset.train.path(int(half.indices[0]))
    about = dataset.about()
    assert (about["train"], about["test"], about["official"]) == (48, 18, False)


def test_the_checksum_is_of_the_images_not_of_their_place(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    path = tmp_path / "imagenet.npz"
    assert _index(moved, path).sha256 == dataset.sha256
    manifest = path.with_suffix(".json").read_bytes()
    (moved / "train" / "n002" / "n002_3.JPEG").rename(moved / "train" / "n003" / "x.JPEG")
    assert _index(moved, path).sha256 != dataset.sha256
    assert path.with_suffix(".json").read_bytes() != manifest
    shutil.rmtree(moved)
    with pytest.raises(HarnessError, match=r"are gone: .*moved does not exist; set data.imagenet"):
        load_prepared(path)
    arrays = dict(np.load(path))
    arrays["train_labels"][0] = 5
    np.savez(path, **arrays)
    with pytest.raises(HarnessError, match="does not match its checksum; delete it and run"):
        load_prepared(path)


def test_an_index_is_official_by_names_and_numbers(tmp_path: Path, monkeypatch) -> None:
    root = make_folder(tmp_path / "images", train=3, val=2, classes=2)
    for split in ("train", "val"):
        for place, name in enumerate(CLASSES[:2]):
            (root / split / name).rename(root / split / f"n0000000{place}")
    small = replace(FACTS, classes=2, train=6, test=4)
    monkeypatch.setitem(dataset_facts.__globals__["DATASETS"], "imagenet", small)
    path = tmp_path / "imagenet.npz"
    assert _index(root, path).official
    (root / "val" / "n00000000" / "n001_0.JPEG").unlink()
    assert not _index(root, path).official


def test_folders_that_are_none(tmp_path: Path) -> None:
    path, root = tmp_path / "imagenet.npz", make_folder(tmp_path / "images", 1, 1, 3)
    with pytest.raises(HarnessError, match=r"must name a folder .*; ImageNet cannot be downloaded"):
        prepare(Data(), "imagenet", path)
    (tmp_path / "train").mkdir()
    for folder, message in ((tmp_path / "none", "none/train"), (tmp_path, "any class folder in")):
        with pytest.raises(HarnessError, match=rf"data.imagenet must name a folder .*{message}"):
            _index(folder, path)
    damaged = root / "val" / "n003" / "n003_0.JPEG"
    damaged.write_bytes(b"no image")
    with pytest.raises(HarnessError, match=r"image .*val/n003/n003_0.JPEG cannot be read"):
        _index(root, path)
    damaged.unlink()
    with pytest.raises(HarnessError, match=r"no valid file for the classes n003"):
        _index(root, path)
    damaged.parent.rmdir()
    with pytest.raises(HarnessError, match=r"only one of train and val in .* has class 'n003'"):
        _index(root, path)
    assert not path.exists()


def test_middles_are_those_of_torchvision(dataset: Dataset) -> None:
    """As the official code evaluates: the middle of the image, black around a small one."""
    transforms = torchvision("torchvision.transforms")
    for size in (32, 60):
        store = FolderStore(dataset.test, replace(FACTS, size=size), CPU, loaders=2)
        images, labels = store.plain(4, 9)
        cut = transforms.Compose([transforms.CenterCrop(size), transforms.ToTensor()])
        expected = [cut(Image.open(dataset.test.path(row))) for row in range(4, 9)]
        torch.testing.assert_close(images, torch.stack(expected), rtol=0, atol=1e-7)
        assert labels.tolist() == dataset.test.labels[4:9].tolist()
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert store.image_shape == (3, size, size)
        assert len(store.plain(16, 99)[0]) == 2
        assert torch.equal(store.part(3, 9).plain(1, 99)[0], images)


def test_batches_are_a_function_of_seed_epoch_and_step(dataset: Dataset) -> None:
    source = _batches(dataset)
    assert [source.steps(epoch) for epoch in (1, 2, 3)] == [3, 3, 4]
    in_order = {
        (epoch, step): source.batch(epoch, step)
        for epoch in (1, 2, 3)
        for step in range(source.steps(epoch))
    }
    assert [len(labels) for _, labels in in_order.values()] == [20, 20, 8] * 2 + [12] * 4
    assert in_order[1, 0][0].shape == (20, 3, 16, 16)
    assert in_order[3, 0][0].shape == (12, 3, 32, 32)
    for place in ((2, 1), (1, 2), (3, 3), (1, 0)):
        images, labels = _batches(dataset).batch(*place)
        assert torch.equal(images, in_order[place][0])
        assert torch.equal(labels, in_order[place][1])
    assert not torch.equal(in_order[1, 0][0], in_order[2, 0][0])


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_batch_by_hand(dataset: Dataset, epoch: int) -> None:
    """Every image once an epoch, a random part of it by a seed of its own, half mirrored.

    As the official code, which trains on copies whose shorter side PIL resized, bicubic.
    """
    phase = PHASES[epoch // 2]
    size, order = phase.batch_size, torch.randperm(48, generator=generator(3, "shuffle", epoch))
    images, labels = _batches(dataset).batch(epoch, 1)
    transforms = torchvision("torchvision.transforms")
    cut = transforms.Compose(
        [
            transforms.RandomResizedCrop(phase.crop),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )
    expected, rows = [], order[size : 2 * size].tolist()
    for row in rows:
        image = Image.open(dataset.train.path(row))
        if phase.resize is not None:
            ratio = min(image.size) / phase.resize
            sides = (int(image.width / ratio), int(image.height / ratio))
            image = image.resize(sides, Image.BICUBIC)
        torch.manual_seed(derive(3, "augment", epoch, row))
        expected.append(cut(image))
    torch.testing.assert_close(images, torch.stack(expected), rtol=0, atol=1e-7)
    assert labels.tolist() == [row // 8 for row in rows]
    before = torch.random.get_rng_state()
    _batches(dataset).batch(epoch, 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_processes_decode_the_same(dataset: Dataset) -> None:
    alone, ahead = _batches(dataset), _batches(dataset, loaders=2)
    for place in ((1, 1), (1, 2), (3, 0)):
        for one, other in zip(alone.batch(*place), ahead.batch(*place), strict=True):
            assert torch.equal(one, other)


def test_shares_of_a_batch_make_it_up(dataset: Dataset) -> None:
    whole, labels = _batches(dataset).batch(1, 2)
    shares = [_batches(dataset, group=Group(rank, 3)).batch(1, 2) for rank in range(3)]
    assert [len(part) for _, part in shares] == [3, 3, 2]
    for rank, (images, classes) in enumerate(shares):
        assert torch.equal(images, whole[rank::3])
        assert torch.equal(classes, labels[rank::3])
    with pytest.raises(HarnessError, match=r"has 8 of 48 training images, too few for 9 proc"):
        _batches(dataset, group=Group(0, 9))


@pytest.mark.parametrize("loaders", [0, 2])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, loaders: int) -> None:
    root = make_folder(tmp_path / "images", train=2, val=1)
    dataset = _index(root, tmp_path / "imagenet.npz")
    # its header is whole
    for split, name in (("train", "n003/n003_1.JPEG"), ("val", "n003/n003_0.JPEG")):
        damaged = root / split / name
        damaged.write_bytes(damaged.read_bytes()[:700])
    phases = [Phase(epochs=1, batch_size=12, crop=16)]
    source = FolderBatches(dataset.train, dataset.facts, phases, 0, CPU, loaders)
    with pytest.raises(HarnessError, match=r"^image .*train/n003/n003_1.JPEG cannot be read: .*$"):
        source.batch(1, 0)
    store = FolderStore(dataset.test, dataset.facts, CPU, loaders)
    with pytest.raises(HarnessError, match=r"^image .*val/n003/n003_0.JPEG cannot be read: .*$"):
        store.plain(0, 6)


@pytest.fixture
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have PyTorch look every 0.2 seconds whether its processes live."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    waits = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(waits, "__defaults__", (0.2,))


@pytest.mark.slow
@pytest.mark.usefixtures("_looked_at_often")
def test_a_batch_that_cannot_be_sent_is_not_waited_for(dataset: Dataset, monkeypatch) -> None:
    # as a tensor is for which /dev/shm has no room
    monkeypatch.setattr(imagenet, "_stack", lambda _: lambda: None)
    with pytest.raises(HarnessError, match="a process that decodes images was lost"):
        _batches(dataset, loaders=1).batch(1, 0)


@pytest.mark.usefixtures("_looked_at_often")
def test_a_killed_process_is_said_in_a_line(dataset: Dataset) -> None:
    source = _batches(dataset, loaders=1)
    source.batch(3, 0)
    (process,) = source._coming._workers
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(HarnessError, match=r"^a process that .* was lost: .*; the same"):
        for step in range(1, 4):
            source.batch(3, step)
    # and again, from where it was
    assert len(source.batch(3, 2)[1]) == 12
