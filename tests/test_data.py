"""Prepared images: from an .npz or CIFAR's official files, checked, and parts of them."""

import hashlib
import pickle
import tarfile
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.data import sources
from reproduce.data.dataset import Dataset, hold_out, stratified_subset
from reproduce.data.sources import load_prepared, prepare
from reproduce.registry import DATASETS, dataset_facts


def cifar_arrays() -> dict[str, np.ndarray]:
    """Images of noise in the classes by turns, under the names that an .npz has them."""
    stream, arrays = np.random.default_rng(0), {}
    for split, size in (("train", 20), ("test", 10)):
        images = stream.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        arrays |= {f"{split}_images": images, f"{split}_labels": np.arange(size) % 10}
    return arrays


def _prepare_npz(folder: Path, **changes: np.ndarray | None) -> Path:
    arrays = {k: v for k, v in {**cifar_arrays(), **changes}.items() if v is not None}
    np.savez(folder / "images.npz", **arrays)
    path = folder / "cifar10.npz"
    prepare(Data(cifar10=str(folder / "images.npz")), "cifar10", path)
    return path


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Dataset:
    return load_prepared(digits_folder / "prepared" / "digits.npz")


def test_digits_are_embedded(digits: Dataset) -> None:
    facts = dataset_facts("digits")
    assert (len(digits.train), len(digits.test)) == (facts.train, facts.test)
    assert digits.train.images.max() == 255
    assert np.bincount(digits.test.labels).min() >= 34


def test_a_row_needs_a_reader_and_the_right_numbers(tmp_path: Path, monkeypatch) -> None:
    digits = dataset_facts("digits")
    monkeypatch.setitem(DATASETS, "svhn", replace(digits, name="svhn"))
    with pytest.raises(HarnessError, match="svhn has no reader"):
        prepare(Data(), "svhn", tmp_path / "svhn.npz")
    monkeypatch.setitem(DATASETS, "digits", replace(digits, test=356))
    with pytest.raises(HarnessError, match="has 1442 training and 355 test images, its row"):
        prepare(Data(), "digits", tmp_path / "digits.npz")


def test_an_npz_is_prepared(tmp_path: Path) -> None:
    path = _prepare_npz(tmp_path, extra=np.zeros(3))
    dataset = load_prepared(path)
    assert np.array_equal(dataset.train.images, cifar_arrays()["train_images"])
    assert np.array_equal(dataset.test.labels, cifar_arrays()["test_labels"])
    assert not dataset.official
    # the same images from another place, their labels of another type, leave the manifest, which
    # Snakemake watches, as it was
    before = path.with_suffix(".json").read_bytes()
    np.savez(tmp_path / "other.npz", **cifar_arrays() | {"test_labels": np.arange(10, dtype=">i2")})
    prepare(Data(cifar10=str(tmp_path / "other.npz")), "cifar10", path)
    assert path.with_suffix(".json").read_bytes() == before
    assert load_prepared(path).source == "other.npz, an .npz given by the user"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "has no test_labels; needed are"),
        ({"train_images": np.zeros((20, 3, 32, 32), np.uint8)}, r"train_images is uint8 of shape"),
        ({"train_images": np.zeros((0, 32, 32, 3), np.uint8)}, r"shape \(0, 32, 32, 3\), expected"),
        ({"train_images": np.zeros((20, 32, 32, 3))}, "train_images is float64 of shape"),
        ({"train_labels": np.zeros(20, np.float32)}, "train_labels is float32 of shape"),
        ({"train_labels": np.zeros(19, np.uint8)}, r"of shape \(19,\), expected whole numbers"),
        ({"train_labels": np.full(20, -1)}, "holds -1 to -1, CIFAR-10 has labels 0 to 9"),
        ({"test_labels": np.full(10, 10, np.uint8)}, "holds 10 to 10, CIFAR-10 has labels"),
        # an array of objects would have to be unpickled
        ({"train_labels": np.array([{}] * 20, dtype=object)}, r"images.npz"),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        _prepare_npz(tmp_path, **changes)
    assert not (tmp_path / "cifar10.npz").exists()


def test_missing_and_truncated_sources(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"data\.cifar100: .* does not exist"):
        prepare(Data(cifar100=str(tmp_path / "none")), "cifar100", tmp_path / "cifar100.npz")
    with pytest.raises(HarnessError, match="is missing; run `reproduce prepare cifar10`"):
        load_prepared(tmp_path / "cifar10.npz")
    source = _prepare_npz(tmp_path).with_name("images.npz")
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(HarnessError, match=r"images.npz"):
        prepare(Data(cifar10=str(source)), "cifar10", tmp_path / "cifar10.npz")


def test_every_byte_of_the_prepared_form_counts(tmp_path: Path) -> None:
    path = _prepare_npz(tmp_path)
    whole = dict(np.load(path))
    changed = {"train_images": whole["train_images"] ^ 1}
    without = {key: value for key, value in whole.items() if key != "source"}
    for arrays in (whole | changed, without):
        np.savez(path, **arrays)
        with pytest.raises(HarnessError, match="does not match its checksum; delete it and run"):
            load_prepared(path)


def test_subsets_are_balanced_and_fixed(digits: Dataset) -> None:
    train = digits.train
    subset = stratified_subset(train, 200, "train")
    counts = np.bincount(subset.labels, minlength=10)
    assert len(subset) == 200
    assert counts.max() - counts.min() <= 2
    assert np.array_equal(subset.indices, stratified_subset(train, 200, "train").indices)
    assert np.array_equal(train.images[subset.indices], subset.images)
    assert stratified_subset(train, None, "train") is train
    with pytest.raises(HarnessError, match="there are 1442"):
        stratified_subset(train, 1443, "train")


def test_held_out_images_are_not_trained_on(digits: Dataset) -> None:
    kept, held_out = hold_out(digits.train, 100)
    assert sorted([*kept.indices, *held_out.indices]) == list(range(len(digits.train)))
    counts = np.bincount(held_out.labels, minlength=10)
    assert counts.max() - counts.min() <= 2
    with pytest.raises(HarnessError, match=r"train\.holdout is 1442"):
        hold_out(digits.train, 1442)


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let torchvision take a small archive for the official one; returns its path."""
    arrays, folder = cifar_arrays(), tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, split, rows in (
        ("data_batch_1", "train", slice(0, 10)),
        ("data_batch_2", "train", slice(10, 20)),
        ("test_batch", "test", slice(0, 10)),
    ):
        images = arrays[f"{split}_images"][rows].transpose(0, 3, 1, 2).reshape(10, -1)
        content = {"data": images, "labels": arrays[f"{split}_labels"][rows].tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    known = sources.official_class("cifar10")
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(known, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    train = [[name, sums[name]] for name in ("data_batch_1", "data_batch_2")]
    monkeypatch.setattr(known, "train_list", train)
    monkeypatch.setattr(known, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(known, "meta", meta)
    monkeypatch.setattr(sources, "PAUSE_SECONDS", 0.0)
    facts = replace(dataset_facts("cifar10"), train=20, test=10)
    monkeypatch.setitem(DATASETS, "cifar10", facts)
    return archive


def _check_official(path: Path) -> None:
    dataset, expected = load_prepared(path), cifar_arrays()
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        assert np.array_equal(split.images, expected[f"{name}_images"])
        assert np.array_equal(split.labels, expected[f"{name}_labels"])
    assert dataset.official


def test_official_archive_and_folder(tmp_path: Path, official: Path) -> None:
    target = tmp_path / "cifar10.npz"
    prepare(Data(cifar10=str(official), folder=tmp_path), "cifar10", target)
    _check_official(target)
    batches = tmp_path / "official" / "cifar-10-batches-py"
    for folder in (batches, batches.parent):
        prepare(Data(cifar10=str(folder)), "cifar10", target)
        _check_official(target)
    (batches / "test_batch").write_bytes((batches / "test_batch").read_bytes()[:-1])
    with pytest.raises(HarnessError, match="test_batch is cut short or not the official file"):
        prepare(Data(cifar10=str(batches)), "cifar10", target)
    (batches / "test_batch").unlink()
    with pytest.raises(HarnessError, match="test_batch does not exist"):
        prepare(Data(cifar10=str(batches)), "cifar10", target)
    _check_official(target)
    official.write_bytes(b"<html>sorry</html>")
    with pytest.raises(HarnessError, match="not the official file: it is a web page"):
        prepare(Data(cifar10=str(official), folder=tmp_path), "cifar10", target)


def _answers(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> None:
    """Have every request for an address answered, the last answer again and again."""
    waiting = list(answers)

    def retrieve(_: str, filename: Path, **__: object) -> None:
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        Path(filename).write_bytes(answer)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)


def test_download_is_tried_again(tmp_path: Path, official: Path, monkeypatch) -> None:
    """No answer, then a broken archive, then the right one."""
    whole = official.read_bytes()
    _answers(monkeypatch, TimeoutError("timed out"), whole[:-50], whole)
    said: list[str] = []
    target = tmp_path / "cifar10.npz"
    prepare(Data(folder=tmp_path), "cifar10", target, said.append)
    _check_official(target)
    assert said[0].startswith("cifar10: download attempt 1 of 3 failed: ")


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>sorry</html>", r"not be downloaded .*corrupted.* set data\.cifar10"),
        (urllib.error.URLError("refused"), r"not be downloaded .*refused.* put cifar-10-python"),
    ],
)
def test_download_that_never_succeeds(
    tmp_path: Path, monkeypatch, answer: bytes | Exception, message: str
) -> None:
    _answers(monkeypatch, answer)
    with pytest.raises(HarnessError, match=message):
        prepare(Data(folder=tmp_path), "cifar10", tmp_path / "cifar10.npz", lambda _: None)


@pytest.mark.slow
def test_real_cifar(real_cifar: Path, tmp_path: Path) -> None:
    """The official CIFAR-100 pickles and an .npz give the same images."""
    target = tmp_path / "cifar100.npz"
    prepare(Data(cifar100=str(real_cifar / "cifar-100-python")), "cifar100", target)
    official = load_prepared(target)
    assert (len(official.train), len(official.test)) == (50_000, 10_000)
    prepare(Data(cifar100=str(real_cifar / "cifar100.npz")), "cifar100", target)
    assert load_prepared(target).sha256 == official.sha256
