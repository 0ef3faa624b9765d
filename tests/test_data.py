"""Prepared images: from an .npz or CIFAR's official files, checked, and parts of them."""

import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from cifar_arrays import cifar_arrays

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.data import sources
from reproduce.data.dataset import Dataset, hold_out, save_prepared, stratified_subset
from reproduce.data.sources import load_prepared, prepare
from reproduce.registry import dataset_facts


def _npz(folder: Path, **changes: np.ndarray | None) -> Path:
    arrays = {k: v for k, v in {**cifar_arrays(), **changes}.items() if v is not None}
    np.savez(folder / "images.npz", **arrays)
    return folder / "images.npz"


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Dataset:
    return load_prepared(digits_folder / "prepared" / "digits.npz")


def test_digits_are_embedded(digits: Dataset) -> None:
    facts = dataset_facts("digits")
    assert (len(digits.train), len(digits.test)) == (facts.train, facts.test)
    assert digits.train.images.max() == 255
    assert np.bincount(digits.test.labels).min() >= 34


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
    assert again.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()
    assert load_prepared(again).source == "other.npz, an .npz given by the user"


def test_labels_of_any_whole_number_are_the_same(tmp_path: Path) -> None:
    """What numpy makes of torchvision's list of labels is int64."""
    path, sums = tmp_path / "cifar10.npz", set()
    for wanted in ("uint8", ">i8"):
        keys = ("train_labels", "test_labels")
        labels = {key: cifar_arrays()[key].astype(wanted) for key in keys}
        prepare(Data(cifar10=str(_npz(tmp_path, **labels))), "cifar10", path)
        sums.add(load_prepared(path).sha256)
    assert len(sums) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "key 'test_labels' is missing"),
        ({"train_images": np.zeros((30, 3, 32, 32), np.uint8)}, "train_images has shape"),
        ({"train_images": np.zeros((0, 32, 32, 3), np.uint8)}, "train_images has shape"),
        ({"train_images": np.zeros((30, 32, 32, 3), np.float32)}, "dtype float32, expected uint8"),
        ({"train_labels": np.zeros(30, np.float32)}, "dtype float32, expected whole numbers"),
        ({"train_labels": np.zeros(29, np.uint8)}, "train_labels has shape"),
        ({"train_labels": np.full(30, -1)}, "holds -1, CIFAR-10 has labels 0 to 9"),
        ({"test_labels": np.full(10, 10, np.uint8)}, "holds 10, CIFAR-10 has labels 0 to 9"),
        # an array of objects would have to be unpickled
        ({"train_labels": np.array([{}] * 30, dtype=object)}, r"images.npz"),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    target = tmp_path / "cifar10.npz"
    with pytest.raises(HarnessError, match=message):
        prepare(Data(cifar10=str(_npz(tmp_path, **changes))), "cifar10", target)
    assert not target.exists()


def test_missing_and_truncated_sources(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"data\.cifar100: .* does not exist"):
        prepare(Data(cifar100=str(tmp_path / "none")), "cifar100", tmp_path / "cifar100.npz")
    source = _npz(tmp_path)
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(HarnessError, match=r"images.npz"):
        prepare(Data(cifar10=str(source)), "cifar10", tmp_path / "cifar10.npz")


def test_every_byte_of_the_prepared_form_counts(tmp_path: Path) -> None:
    path, facts = tmp_path / "cifar10.npz", dataset_facts("cifar10")
    with pytest.raises(HarnessError, match="is missing; run `reproduce prepare cifar10`"):
        load_prepared(path)
    save_prepared(path, facts, cifar_arrays(), "a test", official=False)
    origin = {"source": np.array("a test"), "official": np.array(0)}
    changed = cifar_arrays()
    changed["train_images"][3, 4, 5, 0] ^= 1
    # the images, and where they are from
    for arrays in (changed | origin, cifar_arrays()):
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


def _pickled(images: np.ndarray, labels: np.ndarray) -> bytes:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({"data": rows, "labels": labels.tolist()}, protocol=2)


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Let torchvision take a small archive for the official one; returns its bytes."""
    arrays = cifar_arrays(train=20, test=10)
    files = {"batches.meta": pickle.dumps({"label_names": [str(i) for i in range(10)]})}
    for number in (0, 1):
        part = slice(10 * number, 10 * number + 10)
        files[f"data_batch_{number + 1}"] = _pickled(
            arrays["train_images"][part], arrays["train_labels"][part]
        )
    files["test_batch"] = _pickled(arrays["test_images"], arrays["test_labels"])
    archive = _archive(files)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    known = sources.official_class("cifar10")
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(known, "tgz_md5", hashlib.md5(archive).hexdigest())
    batches = ("data_batch_1", "data_batch_2")
    monkeypatch.setattr(known, "train_list", [[name, sums[name]] for name in batches])
    monkeypatch.setattr(known, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(known, "meta", meta)
    monkeypatch.setattr(sources, "PAUSE_SECONDS", 0.0)
    return archive


def _check_official(path: Path) -> None:
    dataset = load_prepared(path)
    expected = cifar_arrays(train=20, test=10)
    assert np.array_equal(dataset.train.images, expected["train_images"])
    assert np.array_equal(dataset.train.labels, expected["train_labels"])
    assert np.array_equal(dataset.test.images, expected["test_images"])
    assert "md5 checked" in dataset.source
    assert dataset.official


def test_official_archive_and_folder(tmp_path: Path, official: bytes) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(official)
    target = tmp_path / "cifar10.npz"
    prepare(Data(cifar10=str(archive), folder=tmp_path), "cifar10", target)
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
    with pytest.raises(HarnessError, match=r"no cifar-10-batches-py, .* but cifar-10-python"):
        prepare(Data(cifar10=str(tmp_path)), "cifar10", target)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"cut short", "its md5 is"),
        (b"<html>sorry</html>", "it is a web page"),
        (b"", "it is empty"),
    ],
)
def test_another_file_in_the_place_of_the_archive(
    tmp_path: Path, content: bytes, what: str
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(HarnessError, match=rf"cut short or not the official file: {what}"):
        prepare(Data(cifar10=str(archive), folder=tmp_path), "cifar10", tmp_path / "cifar10.npz")


@pytest.fixture
def server() -> Iterator[Callable[[list[bytes | int]], str]]:
    """A web server on this machine that gives one answer after the other."""
    servers = []

    def start(answers: list[bytes | int]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                body = answer if isinstance(answer, bytes) else b""
                self.send_response(200 if isinstance(answer, bytes) else answer)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        running = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(running)
        return f"http://127.0.0.1:{running.server_port}/cifar-10-python.tar.gz"

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


def test_download_is_tried_again(
    tmp_path: Path, official: bytes, server: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error page, then a broken archive, then the right one."""
    url = server([503, official[:-50], official])
    monkeypatch.setattr(sources.official_class("cifar10"), "url", url)
    said: list[str] = []
    target = tmp_path / "cifar10.npz"
    prepare(Data(folder=tmp_path), "cifar10", target, said.append)
    _check_official(target)
    # torchvision may itself ask twice in an attempt
    assert said[0].startswith("cifar10: download attempt 1 of 3 failed: ")
    assert len(said) <= 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>sorry</html>", r"not be downloaded .* it is a web page.* set data\.cifar10"),
        (42, r"not be downloaded from http.* \(HTTP/1.0 42"),
        (None, r"refused.*tar.gz is cut short .*; put cifar"),  # and a damaged archive is there
    ],
)
def test_download_that_never_succeeds(
    tmp_path: Path,
    official: bytes,
    server: Callable,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes | int | None,
    message: str,
) -> None:
    url = "http://127.0.0.1:9/x.tar.gz"
    if answer is None:
        archive = tmp_path / "official" / "cifar-10-python.tar.gz"
        archive.parent.mkdir()
        archive.write_bytes(official[:-50])
    else:
        url = server([answer])
    monkeypatch.setattr(sources.official_class("cifar10"), "url", url)
    with pytest.raises(HarnessError, match=message):
        prepare(Data(folder=tmp_path), "cifar10", tmp_path / "cifar10.npz", lambda _: None)


def test_real_cifar(real_cifar: Path, tmp_path: Path) -> None:
    """The official CIFAR-100 pickles and an .npz give the same images."""
    target = tmp_path / "cifar100.npz"
    prepare(Data(cifar100=str(real_cifar / "cifar-100-python")), "cifar100", target)
    official = load_prepared(target)
    assert (len(official.train), len(official.test)) == (50_000, 10_000)
    prepare(Data(cifar100=str(real_cifar / "cifar100.npz")), "cifar100", target)
    assert load_prepared(target).sha256 == official.sha256
