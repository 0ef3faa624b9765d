"""Extra images: from the published file to their prepared form, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pickles import made_up_images, write_pickle

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.core.files import md5_of_file, read_json
from reproduce.data.extra import load_extra
from reproduce.data.sources import prepare
from reproduce.experiments import paths
from reproduce.registry import extra_of

NAME = "cifar10-extra"


@pytest.mark.parametrize("protocol", range(6))
def test_the_published_file_is_prepared(tmp_path: Path, protocol: int) -> None:
    content = made_up_images()
    source = write_pickle(
        tmp_path, {**content, "prediction_model": "vanilla", "epoch": 200}, protocol
    )
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


def test_equal_images_leave_the_manifest_as_it_was(tmp_path: Path) -> None:
    """Snakemake watches the manifest; where the images come from stands in the .npz."""
    manifests = []
    for protocol in (2, 4):
        source = write_pickle(tmp_path, made_up_images(), protocol)
        path = tmp_path / str(protocol) / f"{NAME}.npz"
        prepare(Data(cifar10_extra=source), NAME, path)
        manifests.append(path.with_suffix(".json").read_bytes())
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "has no array 'data'; its arrays: 'extrapolated_targets'"),
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
    content = {k: v for k, v in {**made_up_images(), **changes}.items() if v is not None}
    write_pickle(tmp_path, content)
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


def test_another_file_is_said_to_be_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **made_up_images())
    for source, what in ((tmp_path / "x.npz", "a zip archive or .npz"), (tmp_path, "a folder")):
        with pytest.raises(HarnessError, match=f"{source} .*is {what}"):
            prepare(Data(cifar10_extra=source), NAME, tmp_path / f"{NAME}.npz")


def test_every_byte_of_the_prepared_form_counts(tmp_path: Path) -> None:
    write_pickle(tmp_path, made_up_images())
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
    write_pickle(tmp_path, made_up_images())
    config = tiny(f"data.folder={tmp_path}")
    said = run_command(config, "prepare", NAME)
    assert f"{NAME}: prepared, {paths.prepared_file(config, NAME)}" in said
    assert "unknown data set" in run_command(config, "prepare", "digits-extra", status=1)
