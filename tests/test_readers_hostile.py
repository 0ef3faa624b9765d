"""What fuzzing found: each of these was a traceback, a hang, or a program started."""

import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz.reader import holds
from fuzz.readers import READERS
from image_folder import make_folder
from PIL import Image

from reproduce.core.errors import HarnessError
from reproduce.core.files import read_tensors
from reproduce.data.imagenet import Decoder
from reproduce.data.sources import prepare_folder
from reproduce.registry import dataset_facts


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("outcome", "attempt", "two"),
        ("outcome", "attempt", None),
        ("outcome", "attempt", True),
        ("outcome", "attempt", [1]),
        ("speeds", "seconds_per_pass", {"digits/wrn-10-0.25": "fast"}),
        ("speeds", "seconds_per_pass", {"digits/wrn-10-0.25": 0}),
        ("card", "eps", "nan"),
        ("card", "eps", "1e999"),
        ("card", "eps", "-8/255"),
        ("card", "architecture", ["x" * 10_000]),
    ],
)
def test_json(tmp_path: Path, name: str, key: str, value: object) -> None:
    reader = READERS[name]
    tree = json.loads(reader.seeds()[0]) | {key: value}
    assert not holds(reader, json.dumps(tree).encode(), tmp_path)


def _member(place: int, array: object) -> bytes:
    target = BytesIO()
    np.lib.format.write_array(target, np.asarray(array))
    return bytes([place]) + target.getvalue()


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("npy-record", _member(1, np.array(["a", "b", "c"]))),
        ("npy-record", _member(0, np.zeros(3, "M8[s]"))),
        ("npy-record", _member(2, np.zeros(3))),
        ("npy-record", _member(5, np.zeros(3, np.int8))),
        ("npy-prepared", _member(5, [True, False])),
        ("npy-extra", _member(2, np.array(0, "M8[s]"))),
        ("npy-index", _member(0, np.zeros(2, "M8[s]"))),
        ("npy-index", _member(0, np.array(3))),
        ("npy-index", _member(3, np.zeros(2))),
        ("npy-index", _member(1, np.array([b"a"]))),
    ],
)
def test_arrays_of_other_kinds(tmp_path: Path, name: str, member: bytes) -> None:
    assert not holds(READERS[name], member, tmp_path)


def test_checkpoints_cut_short_in_torch_s_old_form(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save({"a": torch.zeros(3)}, whole, _use_new_zipfile_serialization=False)
    data = whole.read_bytes()
    for size in range(1, len(data), 3):
        path.write_bytes(data[:size])
        with pytest.raises(HarnessError, match=r"cut\.pt"):
            read_tensors(path)


def test_only_jpeg_and_png_are_opened(tmp_path: Path) -> None:
    """Pillow hands EPS, whatever the file is called, to Ghostscript."""
    for form in ("EPS", "GIF", "BMP"):
        path = tmp_path / f"{form}.jpeg"
        Image.new("RGB", (32, 32)).save(path, form)
        with pytest.raises(HarnessError, match=f"{form}.jpeg cannot be read"):
            Decoder(16).middle(path)


def test_a_folder_with_a_pipe_and_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    root, facts = make_folder(tmp_path / "images"), dataset_facts("imagenet")
    os.mkfifo(root / "train" / "n001" / "pipe.jpeg")
    prepare_folder(str(root), facts, tmp_path / "index.npz", lambda _: None)
    with np.load(tmp_path / "index.npz") as index:
        assert not any(b"pipe" in name for name in index["train_files"])
    first = next((root / "train" / "n001").glob("*.JPEG"))
    os.rename(first, os.fsencode(first.parent) + b"/\xff.jpeg")  # noqa: PTH104
    with pytest.raises(HarnessError, match=r"udcff.jpeg: its name is not UTF-8, rename it"):
        prepare_folder(str(root), facts, tmp_path / "index.npz", lambda _: None)
