"""Sources of images: what is accepted, what is refused, and that every byte is checked."""

import hashlib
import io
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from reproduce.catalogue import dataset_facts
from reproduce.config import Data
from reproduce.data import cifar, hold_out, load_prepared, prepare, stratified_subset
from reproduce.data.prepared import check_arrays, save_prepared
from reproduce.errors import HarnessError
from reproduce.files import read_npz

CIFAR = dataset_facts("cifar10")


def _arrays(train: int = 30, test: int = 10, classes: int = 10) -> dict[str, np.ndarray]:
    stream = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", train), ("test", test)):
        images = stream.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = (np.arange(size) % classes).astype(np.uint8)
    return arrays


def _npz(folder: Path, **changes: np.ndarray | None) -> Path:
    arrays = {k: v for k, v in {**_arrays(), **changes}.items() if v is not None}
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
    assert np.array_equal(dataset.train.images, _arrays()["train_images"])
    assert np.array_equal(dataset.test.labels, _arrays()["test_labels"])
    assert not dataset.official
    # the same images from another place leave the manifest, which Snakemake watches, as it was
    again = tmp_path / "again" / "cifar10.npz"
    prepare(Data(cifar10=str(source.rename(tmp_path / "other.npz"))), "cifar10", again)
    assert load_prepared(again).sha256 == dataset.sha256
    assert again.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()
    assert load_prepared(again).source == "other.npz, an .npz given by the user"


BAD_ARRAYS = [
    ({"test_labels": None}, "key 'test_labels' is missing"),
    ({"train_images": np.zeros((30, 32, 32), np.uint8)}, "train_images has shape"),
    ({"train_images": np.zeros((30, 3, 32, 32), np.uint8)}, "train_images has shape"),
    ({"train_images": np.zeros((0, 32, 32, 3), np.uint8)}, "train_images has shape"),
    ({"train_images": np.zeros((30, 32, 32, 3), np.float32)}, "dtype float32, expected uint8"),
    ({"train_labels": np.zeros(30, np.int64)}, "dtype int64, expected uint8"),
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


def _damages(whole: bytes) -> Iterator[bytes]:
    yield b""
    yield whole[:100]
    yield b"PK\x03\x04" + whole[4:60]
    yield b"\x93NUMPY\x01\x00" + bytes(200)
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        yield bytes(changed)
    for place in range(1, len(whole), 5):
        changed = bytearray(whole)
        changed[-place] ^= 0xFF
        yield bytes(changed)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_files_never_end_in_a_traceback(tmp_path: Path, save: Callable) -> None:
    """Bytes changed in headers and directory: refused with a clear line, or still readable."""
    path = tmp_path / "x.npz"
    save(path, train_labels=np.arange(20, dtype=np.uint8))
    refused = 0
    for content in _damages(path.read_bytes()):
        path.write_bytes(content)
        with suppress(HarnessError):
            read_npz(path, ("train_labels",))
            continue
        refused += 1
    assert refused > 10


def test_an_npz_whose_header_claims_too_much(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,), }"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_labels.npy", member)
        archive.writestr("train_images", b"raw")
    with pytest.raises(HarnessError, match="not a whole"):
        read_npz(path, ("train_labels",))
    assert read_npz(path, ("train_images",)) == {}


def test_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    source = _npz(tmp_path, train_labels=np.array([{}] * 30, dtype=object))
    with pytest.raises(HarnessError, match=r"not a whole \.npz file of plain arrays"):
        prepare(Data(cifar10=str(source)), "cifar10", tmp_path / "cifar10.npz")


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"data\.cifar100: .* does not exist"):
        prepare(Data(cifar100=str(tmp_path / "none")), "cifar100", tmp_path / "cifar100.npz")


def test_a_folder_without_the_official_files(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="holds no cifar-10-batches-py"):
        prepare(Data(cifar10=str(tmp_path)), "cifar10", tmp_path / "cifar10.npz")


def test_prepared_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    with pytest.raises(HarnessError, match="is missing; run `reproduce prepare cifar10`"):
        load_prepared(path)
    save_prepared(path, CIFAR, _arrays(), "a test", official=False)
    changed = _arrays()
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
    save_prepared(path, CIFAR, _arrays(), "a test", official=False)
    # of what is checked first: these are other images as well
    np.savez(path, **_arrays() | {"train_images": _arrays()["train_images"] ^ 1}, **origin)
    with pytest.raises(HarnessError, match="does not say where its images are from; delete it"):
        load_prepared(path)


def test_check_arrays_names_the_file() -> None:
    with pytest.raises(HarnessError, match="here: key"):
        check_arrays(CIFAR, {}, "here")


# --- the official files, stood in for by small ones with md5 sums of their own


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
    arrays = _arrays(train=20, test=10)
    files = {"batches.meta": pickle.dumps({"label_names": [str(i) for i in range(10)]})}
    for number in (0, 1):
        part = slice(10 * number, 10 * number + 10)
        files[f"data_batch_{number + 1}"] = _pickled(
            arrays["train_images"][part], arrays["train_labels"][part]
        )
    files["test_batch"] = _pickled(arrays["test_images"], arrays["test_labels"])
    archive = _archive(files)

    def md5(content: bytes) -> str:
        return hashlib.md5(content).hexdigest()

    sums = {name: md5(content) for name, content in files.items()}
    known = cifar.official_class("cifar10")
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(known, "tgz_md5", md5(archive))
    monkeypatch.setattr(
        known, "train_list", [[name, sums[name]] for name in ("data_batch_1", "data_batch_2")]
    )
    monkeypatch.setattr(known, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(known, "meta", meta)
    monkeypatch.setattr(cifar, "PAUSE_SECONDS", 0.0)
    return archive


def _check_official(path: Path) -> None:
    dataset = load_prepared(path)
    expected = _arrays(train=20, test=10)
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


def test_archive_cut_short(tmp_path: Path, official: bytes) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(official[:-100])
    with pytest.raises(HarnessError, match="cut short or not the official file: its md5 is"):
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
        threading.Thread(target=running.serve_forever, daemon=True).start()
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
    monkeypatch.setattr(cifar.official_class("cifar10"), "url", url)
    said: list[str] = []
    target = tmp_path / "cifar10.npz"
    prepare(Data(folder=tmp_path), "cifar10", target, said.append)
    _check_official(target)
    # torchvision may itself ask twice in an attempt
    assert said[0].startswith("cifar10: download attempt 1 of 3 failed: ")
    assert len(said) <= 2


@pytest.mark.usefixtures("official")
def test_download_that_never_succeeds(
    tmp_path: Path, server: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar.official_class("cifar10"), "url", server([b"<html>sorry</html>"]))
    with pytest.raises(HarnessError, match=r"could not be downloaded .* set data\.cifar10"):
        prepare(Data(folder=tmp_path), "cifar10", tmp_path / "cifar10.npz", lambda _: None)


def test_real_cifar(real_cifar: Path, tmp_path: Path) -> None:
    """The official CIFAR-100 pickles and an .npz give the same images."""
    target = tmp_path / "cifar100.npz"
    prepare(Data(cifar100=str(real_cifar / "cifar-100-python")), "cifar100", target)
    official = load_prepared(target)
    assert (len(official.train), len(official.test)) == (50_000, 10_000)
    prepare(Data(cifar100=str(real_cifar / "cifar100.npz")), "cifar100", target)
    assert load_prepared(target).sha256 == official.sha256


# --- subsets


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
