"""Extra images: the published pickle, what is refused in its place, and the mixed batches."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reproduce import paths
from reproduce.catalogue import dataset_facts, extra_of
from reproduce.config import Data
from reproduce.data import ImageStore, MixedBatches, Split, load_extra, prepare
from reproduce.data.extra import read_pickled_arrays
from reproduce.errors import HarnessError
from reproduce.files import md5_of_file, read_json

NAME = "cifar10-extra"
CPU = torch.device("cpu")


def _content(images: int = 40) -> dict[str, np.ndarray]:
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
    content = _content()
    source = _write(tmp_path, {**content, "prediction_model": "vanilla", "epoch": 200}, protocol)
    path = tmp_path / "prepared" / f"{NAME}.npz"
    prepare(Data(folder=tmp_path), NAME, path)
    extra = load_extra(path)
    assert np.array_equal(extra.split.images, content["data"])
    assert np.array_equal(extra.split.labels, content["extrapolated_targets"])
    assert extra.split.labels.dtype == np.uint8
    assert extra.about() == {
        "name": NAME,
        "images": 40,
        "sha256": read_json(path.with_suffix(".json"))["sha256"],
        "source_md5": md5_of_file(source),
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
    content = _content(3)
    path = tmp_path / "old.pickle"
    items = b"".join(b"S'%s'\n%ss" % (k.encode(), _of_python_2(v)) for k, v in content.items())
    path.write_bytes(b"(d" + items + b".")
    read = read_pickled_arrays(path)
    assert all(np.array_equal(read[key], content[key]) for key in content)


def test_equal_images_leave_the_manifest_as_it_was(tmp_path: Path) -> None:
    """Snakemake watches the manifest; where the images come from stands in the .npz."""
    manifests = []
    for protocol in (2, 4):
        source = _write(tmp_path, _content(), protocol)
        path = tmp_path / str(protocol) / f"{NAME}.npz"
        prepare(Data(cifar10_extra=source), NAME, path)
        manifests.append(path.with_suffix(".json").read_bytes())
    assert manifests[0] == manifests[1]


class _Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_foreign_classes_are_refused_and_nothing_runs(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    for content in (
        {**_content(), "more": _Runs(touched)},
        {"data": np.array([_Runs(touched)], dtype=object)},
        _Runs(touched),
    ):
        source = _write(tmp_path, content, protocol)
        with pytest.raises(HarnessError, match=r"asks for (posix|nt)\.system, .* nothing was run"):
            prepare(Data(folder=tmp_path), NAME, tmp_path / f"{NAME}.npz")
        assert not touched.exists()
        # the same file does run where nothing holds it back
        pickle.loads(source.read_bytes())
        touched.unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval"),
        (
            b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
            "asks for numpy.core.multiarray.fromfile",
        ),
        (b"cnumpy\nload\n(S'x'\ntR.", "asks for numpy.load"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "encodes text as 'zip'"),
        (b"c_codecs\nencode\n}S'codecs'\nI1\nsb.", "cut short or no pickle"),
        (b"Pnumber\n.", "cut short or no pickle"),
        (b"<!DOCTYPE html><html>", "cut short or no pickle"),
        (b"", "cut short or no pickle"),
        (b"(lp0\n.", "holds a list, expected a mapping"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "file.pickle"
    path.write_bytes(text)
    with pytest.raises(HarnessError, match=message):
        read_pickled_arrays(path)


def test_a_file_cut_short_at_any_place(tmp_path: Path) -> None:
    whole = _write(tmp_path, _content(4)).read_bytes()
    path = tmp_path / "cut.pickle"
    for size in [*range(1, 200), *range(200, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(HarnessError, match="cut short or no pickle"):
            read_pickled_arrays(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "has no array 'data'; it holds 'extrapolated_targets'"),
        ({"extrapolated_targets": None}, "has no array 'extrapolated_targets'"),
        ({"data": np.zeros((40, 32, 32, 3))}, "data has dtype float64, expected uint8"),
        ({"data": np.zeros((40, 3, 32, 32), np.uint8)}, r"shape \(40, 3, 32, 32\), expected"),
        ({"data": np.zeros((0, 32, 32, 3), np.uint8)}, r"shape \(0, 32, 32, 3\), expected"),
        ({"extrapolated_targets": np.zeros(39, int)}, r"shape \(39,\), expected \(40,\)"),
        ({"extrapolated_targets": np.zeros(40)}, "dtype float64, expected whole numbers"),
        ({"extrapolated_targets": np.full(40, -1)}, "holds -1, CIFAR-10 has labels 0 to 9"),
        ({"extrapolated_targets": np.full(40, 10)}, "holds 10, CIFAR-10 has labels 0 to 9"),
    ],
)
def test_wrong_arrays_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    content = {k: v for k, v in {**_content(), **changes}.items() if v is not None}
    _write(tmp_path, content)
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
    with pytest.raises(HarnessError, match="no extra images are known for 'digits'"):
        extra_of("digits")
    with pytest.raises(HarnessError, match="run `reproduce prepare cifar10-extra` first"):
        load_extra(tmp_path / f"{NAME}.npz")


def test_every_byte_of_the_prepared_form_counts(tmp_path: Path) -> None:
    _write(tmp_path, _content())
    path = tmp_path / f"{NAME}.npz"
    prepare(Data(folder=tmp_path), NAME, path)
    whole = dict(np.load(path))
    for key in ("images", "labels"):
        array = whole[key].copy()
        array.flat[7] ^= 1
        np.savez(path, **{**whole, key: array})
        with pytest.raises(HarnessError, match="does not match its checksum"):
            load_extra(path)
    np.savez(path, images=whole["images"])
    with pytest.raises(HarnessError, match="is not a prepared file of extra images"):
        load_extra(path)


def test_the_command_prepares_it(
    tmp_path: Path, run_command: Callable[..., str], tiny: Callable[..., object]
) -> None:
    _write(tmp_path, _content())
    config = tiny(f"data.folder={tmp_path}")
    said = run_command(config, "prepare", NAME)
    assert f"{NAME}: prepared, {paths.prepared_file(config, NAME)}" in said
    assert "unknown data set" in run_command(config, "prepare", "digits-extra", status=1)


def _store(size: int, tag: int, name: str = "cifar10") -> ImageStore:
    """Images whose pixels all tell their store and row: blue says which, red and green the row."""
    facts = dataset_facts(name)
    images = np.zeros((size, facts.size, facts.size, 3), np.uint8)
    rows = np.arange(size)
    images[..., 0], images[..., 1] = (rows // 200)[:, None, None], (rows % 200)[:, None, None]
    images[..., 2] = tag
    return ImageStore(Split(images, (rows % 10).astype(np.uint8), rows), facts, CPU)


LABELLED, EXTRA = 100, 200


def _mixed(labelled: int = 300, extra: int = 500, **given: object) -> MixedBatches:
    settings = {"batch_size": 32, "seed": 0, **given}
    return MixedBatches(_store(labelled, LABELLED), _store(extra, EXTRA), **settings)


def _told(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the store and the row that the middle pixel of each image tells."""
    pixel = (images[:, :, 16, 16] * 255).round().to(int).numpy()
    return pixel[:, 2], pixel[:, 0] * 200 + pixel[:, 1]


@pytest.mark.parametrize(("fraction", "extra"), [(0.5, 16), (0.25, 8), (0.7, 22)])
def test_every_batch_has_its_fraction(fraction: float, extra: int) -> None:
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
    assert len(set(labelled.tolist())) == len(labelled) == 160
    counts = np.bincount(extra, minlength=60)
    assert counts.max() > 3  # a pass over 60 images would show each 2 or 3 times
    assert counts.min() == 0
    assert len(extra) == 160
    over_epochs = set()
    for epoch in range(1, 15):
        for step in range(mixed.steps(epoch)):
            store, row = _told(mixed.batch(epoch, step)[0])
            over_epochs |= set(row[store == LABELLED].tolist())
    assert over_epochs == set(range(300))


def test_extra_images_fill_where_labelled_ones_run_out() -> None:
    mixed = _mixed(labelled=9, batch_size=8, extra_fraction=0.3)
    kinds = [_told(mixed.batch(1, step)[0])[0] for step in range(mixed.steps(1))]
    assert [(kind == LABELLED).sum() for kind in kinds] == [6, 3]
    assert [len(kind) for kind in kinds] == [8, 8]


def test_without_extra_images_an_epoch_is_one_pass() -> None:
    mixed = _mixed(labelled=70, extra_fraction=0.0)
    rows = [_told(mixed.batch(1, step)[0]) for step in range(mixed.steps(1))]
    assert [len(row) for _, row in rows] == [32, 32, 6]
    assert sorted(np.concatenate([row for _, row in rows]).tolist()) == list(range(70))


def test_batches_are_a_function_of_seed_epoch_and_step() -> None:
    first = {(e, s): _mixed().batch(e, s) for e in (1, 2) for s in (0, 7)}
    later = _mixed()
    # in any order, as a run that continues asks for them
    for (epoch, step), (images, labels) in reversed(first.items()):
        again = later.batch(epoch, step)
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], labels)
    (a, _), (b, _), (c, _) = first[1, 0], first[1, 7], first[2, 0]
    other, _ = _mixed(seed=1).batch(1, 0)
    for different in (b, c, other):
        assert not torch.equal(a, different)


def test_images_are_augmented_as_a_store_augments_them() -> None:
    stream = np.random.default_rng(0)
    facts = dataset_facts("cifar10")
    stores = []
    for size in (40, 50):
        images = stream.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        labels = (np.arange(size) % 10).astype(np.uint8)
        stores.append(ImageStore(Split(images, labels, np.arange(size)), facts, CPU))
    images, _ = MixedBatches(*stores, batch_size=16, seed=3).batch(2, 1)
    draws = stores[0].draws(16, seed=3, epoch=2, step=1)
    for place in range(16):
        one = [type(draws)(*(d[place : place + 1] for d in (draws.top, draws.left, draws.flip)))]
        candidates = torch.cat(
            [s.augmented(torch.tensor([r]), one[0]) for s in stores for r in range(len(s))]
        )
        assert (candidates == images[place]).flatten(1).all(1).sum() == 1
