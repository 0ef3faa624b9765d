"""CIFAR's official files, in an archive, a folder, downloaded; small ones stand in for them."""

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
from reproduce.data import sources as cifar
from reproduce.data.sources import load_prepared, prepare


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
    expected = cifar_arrays(train=20, test=10)
    assert np.array_equal(dataset.train.images, expected["train_images"])
    assert np.array_equal(dataset.train.labels, expected["train_labels"])
    assert np.array_equal(dataset.test.images, expected["test_images"])
    assert "md5 checked" in dataset.source
    assert dataset.official


def test_a_folder_without_the_official_files(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").touch()
    with pytest.raises(HarnessError, match=r"no cifar-10-batches-py, .* but data_batch_1"):
        prepare(Data(cifar10=str(tmp_path)), "cifar10", tmp_path / "cifar10.npz")


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


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<html>sorry</html>", "a web page"),
        (b"", "empty"),
    ],
)
def test_another_file_in_the_place_of_the_archive(
    tmp_path: Path, content: bytes, what: str
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(HarnessError, match=rf"not the official file: it is {what}"):
        prepare(Data(cifar10=str(archive), folder=tmp_path), "cifar10", tmp_path / "cifar10.npz")


def test_a_damaged_archive_without_a_network(
    tmp_path: Path, official: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar.official_class("cifar10"), "url", "http://127.0.0.1:9/x.tar.gz")
    archive = tmp_path / "official" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(official[:-50])
    with pytest.raises(HarnessError, match=rf"refused.*; {archive} is cut short .*; put cifar"):
        prepare(Data(folder=tmp_path), "cifar10", tmp_path / "cifar10.npz", lambda _: None)


@pytest.mark.usefixtures("official")
def test_an_answer_that_is_none(
    tmp_path: Path, server: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar.official_class("cifar10"), "url", server([42]))
    with pytest.raises(HarnessError, match=r"not be downloaded from http.* \(HTTP/1.0 42"):
        prepare(Data(folder=tmp_path), "cifar10", tmp_path / "cifar10.npz", lambda _: None)


@pytest.mark.usefixtures("official")
def test_download_that_never_succeeds(
    tmp_path: Path, server: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar.official_class("cifar10"), "url", server([b"<html>sorry</html>"]))
    with pytest.raises(HarnessError, match=r"not be downloaded .* a web page.* set data\.cifar10"):
        prepare(Data(folder=tmp_path), "cifar10", tmp_path / "cifar10.npz", lambda _: None)


def test_real_cifar(real_cifar: Path, tmp_path: Path) -> None:
    """The official CIFAR-100 pickles and an .npz give the same images."""
    target = tmp_path / "cifar100.npz"
    prepare(Data(cifar100=str(real_cifar / "cifar-100-python")), "cifar100", target)
    official = load_prepared(target)
    assert (len(official.train), len(official.test)) == (50_000, 10_000)
    prepare(Data(cifar100=str(real_cifar / "cifar100.npz")), "cifar100", target)
    assert load_prepared(target).sha256 == official.sha256
