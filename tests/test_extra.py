"""Extra images: from the published pickle to their prepared form, and what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cifar_runs import Runs, write_extra

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.core.files import md5_of_file, read_json
from reproduce.data.sources import load_extra, prepare, read_pickled_arrays
from reproduce.experiments import paths
from reproduce.registry import extra_of

NAME = "cifar10-extra"


def _images() -> dict[str, np.ndarray]:
    """Images of CIFAR's shape and pseudo-labels under the published names."""
    images = np.random.default_rng(2).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    return {"data": images, "extrapolated_targets": np.arange(10)}


def _write(folder: Path, content: object, protocol: int = 3) -> Path:
    path = folder / "ti_500K_pseudo_labeled.pickle"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def test_the_published_file_is_prepared(
    tmp_path: Path, run_command: Callable[..., str], tiny: Callable[..., object]
) -> None:
    source, config = write_extra(tmp_path), tiny(f"data.folder={tmp_path}")
    path = paths.prepared_file(config, NAME)
    assert f"{NAME}: prepared, {path}" in run_command(config, "prepare", NAME)
    split, about = load_extra(path)
    content, manifest = pickle.loads(source.read_bytes()), read_json(path.with_suffix(".json"))
    assert np.array_equal(split.images, content["data"])
    assert np.array_equal(split.labels, content["extrapolated_targets"])
    assert manifest["source_md5"] == md5_of_file(source)
    expected = {key: manifest[key] for key in ("images", "sha256", "source_md5")}
    assert about == {"name": NAME, **expected}
    whole = dict(np.load(path))
    np.savez(path, **{**whole, "labels": whole["labels"][::-1]})
    with pytest.raises(HarnessError, match="does not match its checksum"):
        load_extra(path)
    assert "unknown data set" in run_command(config, "prepare", "digits-extra", status=1)


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    arrays = _images() | {"big": np.arange(6, dtype=">f4"), "turned": np.eye(3, 2, order="F")}
    beside = {"prediction_model": "vanilla", "epoch": 200, "accuracy": np.float64(0.9)}
    read = read_pickled_arrays(_write(tmp_path, {**arrays, **beside}, protocol))
    assert read.keys() == arrays.keys()
    for key, array in arrays.items():
        assert np.array_equal(read[key], array)
        assert read[key].dtype == array.dtype


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    for content in (
        {**_images(), "more": Runs(touched)},
        {"data": np.array([Runs(touched)], dtype=object)},
    ):
        source = _write(tmp_path, content, protocol)
        with pytest.raises(HarnessError, match="only numpy arrays are read; nothing was run"):
            read_pickled_arrays(source)
        assert not touched.exists()
        # the same file does run where nothing holds it back
        pickle.loads(source.read_bytes())
        touched.unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval"),
        # state for a class, and for a function
        (b"cnumpy\nndarray\n(dS'given'\nI1\nsb.", "no pickle of arrays"),
        (b"c_codecs\nencode\n(dS'given'\nI1\nsb.", "no pickle of arrays"),
        (pickle.dumps({"data": np.array([[], 1], dtype=object)}), "no pickle of arrays"),
        (b"<!DOCTYPE html><html>", "cut short or no pickle of arrays: it is a web page"),
        (b"", "cut short or no pickle of arrays: it is empty"),
        (pickle.dumps(_images())[:5000], "cut short or no pickle of arrays"),
        (b"(lp0\n.", "no pickle of arrays"),
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
        ({"data": None}, "has no array 'data'; its arrays: extrapolated_targets"),
        ({"data": np.zeros((40, 32, 32, 3))}, "data is float64 of shape .* expected uint8"),
        ({"extrapolated_targets": np.zeros(9, int)}, r"shape \(9,\), expected .* \(10,\)"),
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
    with pytest.raises(HarnessError, match="unknown extra images 'digits-extra'"):
        extra_of("digits")
    with pytest.raises(HarnessError, match="run `reproduce prepare cifar10-extra` first"):
        load_extra(tmp_path / f"{NAME}.npz")
