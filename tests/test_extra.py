"""Extra images: from the published pickle to their prepared form, and what is refused."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.core.files import md5_of_file, read_json
from reproduce.data.extra import load_extra, read_pickled_arrays
from reproduce.data.sources import prepare
from reproduce.experiments import paths
from reproduce.registry import extra_of

NAME = "cifar10-extra"


def _images(images: int = 40) -> dict[str, np.ndarray]:
    """Images of CIFAR's shape and pseudo-labels under the published names."""
    stream = np.random.default_rng(2)
    return {
        "data": stream.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8),
        "extrapolated_targets": np.arange(images) % 10,
    }


def _write(folder: Path, content: object, protocol: int = 3) -> Path:
    path = folder / "ti_500K_pseudo_labeled.pickle"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_the_published_file_is_prepared(tmp_path: Path, protocol: int) -> None:
    content = _images()
    beside = {"prediction_model": "vanilla", "epoch": 200, "accuracy": np.float64(0.9)}
    source = _write(tmp_path, {**content, **beside}, protocol)
    path = tmp_path / "prepared" / f"{NAME}.npz"
    prepare(Data(folder=tmp_path), NAME, path)
    extra, manifest = load_extra(path), read_json(path.with_suffix(".json"))
    assert np.array_equal(extra.split.images, content["data"])
    assert np.array_equal(extra.split.labels, content["extrapolated_targets"])
    assert extra.split.labels.dtype == np.uint8
    assert manifest["source_md5"] == md5_of_file(source)
    assert extra.about() == {
        "name": NAME,
        "images": 40,
        "sha256": manifest["sha256"],
        "source_md5": manifest["source_md5"],
    }


def _of_python_2(array: np.ndarray) -> bytes:
    """An array as Python 2 and numpy 1 pickle it: protocol 0, bytes as a quoted string."""
    shape = "(" + "".join(f"I{size}\n" for size in array.shape) + "t"
    raw = "".join(f"\\x{byte:02x}" for byte in array.tobytes())
    kind = array.dtype.str.strip("<|")
    order = "|" if array.dtype.itemsize == 1 else "<"
    return (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        f"(I1\n{shape}cnumpy\ndtype\n(S'{kind}'\nI0\nI1\ntR(I3\nS'{order}'\nNNNI-1\nI-1\nI0\ntb"
        f"I00\nS'{raw}'\ntb"
    ).encode()


def test_pickles_of_python_2_and_numpy_1(tmp_path: Path) -> None:
    content = _images(3)
    path = tmp_path / "old.pickle"
    items = b"".join(b"S'%s'\n%ss" % (k.encode(), _of_python_2(v)) for k, v in content.items())
    path.write_bytes(b"(d" + items + b".")
    read = read_pickled_arrays(path)
    assert all(np.array_equal(read[key], content[key]) for key in content)


class _Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    for content in (
        {**_images(), "more": _Runs(touched)},
        {"data": np.array([_Runs(touched)], dtype=object)},
        _Runs(touched),
    ):
        source = _write(tmp_path, content, protocol)
        with pytest.raises(HarnessError, match=r"only numpy arrays|than numbers; nothing was run"):
            read_pickled_arrays(source)
        assert not touched.exists()
        # the same file does run where nothing holds it back
        pickle.loads(source.read_bytes())
        touched.unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval"),
        (b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.", "asks for numpy.core.multiarray.from"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.min\x93.", "asks for numpy.ndarray.min"),
        # bytes of the file as the address of an object
        (b"cnumpy\nndarray\n((I1\ntS'O'\nS'01234567'\ntR.", "no pickle of arrays"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "something else than numbers"),
        (b"<!DOCTYPE html><html>", "cut short or no pickle of arrays: it is a web page"),
        (b"", "cut short or no pickle of arrays: it is empty"),
        (pickle.dumps(_images())[:5000], "cut short or no pickle of arrays"),
        (b"(lp0\n.", "holds a list, expected a mapping"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.pickle"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=message):
        read_pickled_arrays(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "has no array 'data'; its arrays: 'extrapolated_targets'"),
        ({"data": np.zeros((40, 32, 32, 3))}, "data has dtype float64, expected uint8"),
        ({"extrapolated_targets": np.zeros(39, int)}, r"shape \(39,\), expected \(40,\)"),
    ],
)
def test_wrong_arrays_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    _write(tmp_path, {k: v for k, v in {**_images(), **changes}.items() if v is not None})
    with pytest.raises(HarnessError, match=message):
        prepare(Data(folder=tmp_path), NAME, tmp_path / f"{NAME}.npz")
    assert not (tmp_path / f"{NAME}.npz").exists()


def test_a_missing_file_says_where_it_comes_from(tmp_path: Path) -> None:
    for data, place in (
        (Data(folder=tmp_path), tmp_path / "ti_500K_pseudo_labeled.pickle"),
        (Data(cifar10_extra=tmp_path / "elsewhere"), tmp_path / "elsewhere"),
    ):
        with pytest.raises(HarnessError) as refused:
            prepare(data, NAME, tmp_path / f"{NAME}.npz")
        for part in (str(place), "semisup-adv", "drive.google.com", "data.cifar10_extra"):
            assert part in str(refused.value)
    with pytest.raises(HarnessError, match="is a folder; name ti_500K"):
        prepare(Data(cifar10_extra=tmp_path), NAME, tmp_path / f"{NAME}.npz")
    with pytest.raises(HarnessError, match="unknown extra images 'digits-extra'"):
        extra_of("digits")
    with pytest.raises(HarnessError, match="run `reproduce prepare cifar10-extra` first"):
        load_extra(tmp_path / f"{NAME}.npz")


def test_every_byte_of_the_prepared_form_counts(tmp_path: Path) -> None:
    _write(tmp_path, _images())
    path = tmp_path / f"{NAME}.npz"
    prepare(Data(folder=tmp_path), NAME, path)
    whole = dict(np.load(path))
    for key in ("images", "labels"):
        array = whole[key].copy()
        array.flat[7] ^= 1
        np.savez(path, **{**whole, key: array})
        with pytest.raises(HarnessError, match="does not match its checksum"):
            load_extra(path)


def test_the_command_prepares_it(
    tmp_path: Path, run_command: Callable[..., str], tiny: Callable[..., object]
) -> None:
    _write(tmp_path, _images())
    config = tiny(f"data.folder={tmp_path}")
    said = run_command(config, "prepare", NAME)
    assert f"{NAME}: prepared, {paths.prepared_file(config, NAME)}" in said
    assert "unknown data set" in run_command(config, "prepare", "digits-extra", status=1)
