"""Prepared images: which arrays are accepted, that every byte is checked, and parts of them."""

from pathlib import Path

import numpy as np
import pytest
from cifar_arrays import cifar_arrays

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.data.dataset import check_arrays, hold_out, save_prepared, stratified_subset
from reproduce.data.sources import load_prepared, prepare
from reproduce.registry import dataset_facts

CIFAR = dataset_facts("cifar10")


def _npz(folder: Path, **changes: np.ndarray | None) -> Path:
    arrays = {k: v for k, v in {**cifar_arrays(), **changes}.items() if v is not None}
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return path


def test_digits_are_embedded(digits_folder: Path) -> None:
    dataset = load_prepared(digits_folder / "prepared" / "digits.npz")
    facts = dataset_facts("digits")
    assert (len(dataset.train), len(dataset.test)) == (facts.train, facts.test)
    assert dataset.train.images.max() == 255
    assert np.bincount(dataset.test.labels).min() >= 34


def test_an_npz_is_prepared(tmp_path: Path) -> None:
    path = tmp_path / "prepared" / "cifar10.npz"
    source = _npz(tmp_path, extra=np.zeros(3))
    prepare(Data(cifar10=str(source)), "cifar10", path)
    dataset = load_prepared(path)
    assert np.array_equal(dataset.train.images, cifar_arrays()["train_images"])
    assert np.array_equal(dataset.test.labels, cifar_arrays()["test_labels"])
    assert not dataset.official
    # the same images from another place leave the manifest, which Snakemake watches, as it was
    again = tmp_path / "again" / "cifar10.npz"
    prepare(Data(cifar10=str(source.rename(tmp_path / "other.npz"))), "cifar10", again)
    assert load_prepared(again).sha256 == dataset.sha256
    assert again.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()
    assert load_prepared(again).source == "other.npz, an .npz given by the user"


@pytest.mark.parametrize("dtype", ["int64", ">i4", "int8"])
def test_labels_of_any_whole_number_are_the_same(tmp_path: Path, dtype: str) -> None:
    """What numpy makes of torchvision's list of labels is int64."""
    path, sums = tmp_path / "cifar10.npz", set()
    for wanted in ("uint8", dtype):
        keys = ("train_labels", "test_labels")
        labels = {key: cifar_arrays()[key].astype(wanted) for key in keys}
        prepare(Data(cifar10=str(_npz(tmp_path, **labels))), "cifar10", path)
        sums.add(load_prepared(path).sha256)
    assert len(sums) == 1


BAD_ARRAYS = [
    ({"test_labels": None}, "key 'test_labels' is missing"),
    ({"train_images": np.zeros((30, 32, 32), np.uint8)}, "train_images has shape"),
    ({"train_images": np.zeros((30, 3, 32, 32), np.uint8)}, "train_images has shape"),
    ({"train_images": np.zeros((0, 32, 32, 3), np.uint8)}, "train_images has shape"),
    ({"train_images": np.zeros((30, 32, 32, 3), np.float32)}, "dtype float32, expected uint8"),
    ({"train_labels": np.zeros(30, np.float32)}, "dtype float32, expected whole numbers"),
    ({"train_labels": np.zeros(29, np.uint8)}, "train_labels has shape"),
    ({"test_labels": np.full(10, 10, np.uint8)}, "holds 10, CIFAR-10 has labels 0 to 9"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARRAYS)
def test_bad_npz(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    source = _npz(tmp_path, **changes)
    target = tmp_path / "cifar10.npz"
    with pytest.raises(HarnessError, match=message):
        prepare(Data(cifar10=str(source)), "cifar10", target)
    assert not target.exists()


def test_npz_cut_short(tmp_path: Path) -> None:
    source = _npz(tmp_path)
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(HarnessError, match=r"not a whole \.npz"):
        prepare(Data(cifar10=str(source)), "cifar10", tmp_path / "cifar10.npz")


def test_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    source = _npz(tmp_path, train_labels=np.array([{}] * 30, dtype=object))
    with pytest.raises(HarnessError, match=r"not a whole \.npz file of plain arrays"):
        prepare(Data(cifar10=str(source)), "cifar10", tmp_path / "cifar10.npz")


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"data\.cifar100: .* does not exist"):
        prepare(Data(cifar100=str(tmp_path / "none")), "cifar100", tmp_path / "cifar100.npz")


def test_prepared_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    with pytest.raises(HarnessError, match="is missing; run `reproduce prepare cifar10`"):
        load_prepared(path)
    save_prepared(path, CIFAR, cifar_arrays(), "a test", official=False)
    changed = cifar_arrays()
    changed["train_images"][3, 4, 5, 0] ^= 1
    manifest = path.with_suffix(".json").read_text()
    save_prepared(path, CIFAR, changed, "a test", official=False)
    path.with_suffix(".json").write_text(manifest)
    with pytest.raises(HarnessError, match="does not match its checksum"):
        load_prepared(path)


@pytest.mark.parametrize(
    "origin",
    [{}, {"source": np.array("a test")}, {"source": np.array(["a", "b"]), "official": np.array(1)}],
)
def test_prepared_files_say_where_their_images_are_from(
    tmp_path: Path, origin: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "cifar10.npz"
    save_prepared(path, CIFAR, cifar_arrays(), "a test", official=False)
    # of what is checked first: these are other images as well
    np.savez(
        path, **cifar_arrays() | {"train_images": cifar_arrays()["train_images"] ^ 1}, **origin
    )
    with pytest.raises(HarnessError, match="does not say where its images are from; delete it"):
        load_prepared(path)


def test_check_arrays_names_the_file() -> None:
    with pytest.raises(HarnessError, match="here: key"):
        check_arrays(CIFAR, {}, "here")


def test_subsets_are_balanced_and_fixed(digits_folder: Path) -> None:
    train = load_prepared(digits_folder / "prepared" / "digits.npz").train
    subset = stratified_subset(train, 200, "train")
    counts = np.bincount(subset.labels, minlength=10)
    assert len(subset) == 200
    assert counts.max() - counts.min() <= 2
    assert np.array_equal(subset.indices, stratified_subset(train, 200, "train").indices)
    assert np.array_equal(train.images[subset.indices], subset.images)
    assert stratified_subset(train, None, "train") is train
    with pytest.raises(HarnessError, match="there are 1442"):
        stratified_subset(train, 1443, "train")


def test_held_out_images_are_not_trained_on(digits_folder: Path) -> None:
    train = load_prepared(digits_folder / "prepared" / "digits.npz").train
    kept, held_out = hold_out(train, 100)
    assert sorted([*kept.indices, *held_out.indices]) == list(range(len(train)))
    counts = np.bincount(held_out.labels, minlength=10)
    assert counts.max() - counts.min() <= 2
    with pytest.raises(HarnessError, match=r"train\.holdout is 1442"):
        hold_out(train, 1442)
