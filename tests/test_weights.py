"""Weights on disk: published state dicts, what lies beside them, and files of another kind."""

import argparse
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_runs import Runs
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from reproduce.core.errors import HarnessError
from reproduce.models.load import ModelSource, build_model
from reproduce.models.weights import load_weights, read_weights, save_weights
from reproduce.registry import dataset_facts

CIFAR = dataset_facts("cifar10")
DIGITS = dataset_facts("digits")


class _OfficialLayout(torch.nn.Module):
    """The names of the official class: the block that is never used among them."""

    def __init__(self) -> None:
        super().__init__()
        used = build_model("wrn-10-0.5", CIFAR, seed=1)
        for name, child in used.named_children():
            self.add_module(name, child)
        self.sub_block1 = build_model("wrn-10-0.5", CIFAR, seed=2).block1


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "old"])
def test_published_state_dicts_load(tmp_path: Path, wrap: str) -> None:
    official = _OfficialLayout()
    state = dict(official.state_dict())
    assert any(key.startswith("sub_block1.") for key in state)
    if wrap == "old":
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "published.pt"
    torch.save({"state_dict": state, "epoch": 76} if wrap == "state_dict" else state, path)
    model = build_model("wrn-10-0.5", CIFAR, seed=9).eval()
    load_weights(model, path)
    images = torch.rand(2, 3, 32, 32)
    expected = build_model("wrn-10-0.5", CIFAR, seed=1).eval()
    assert torch.equal(model(images), expected(images))


def test_weights_survive_a_round_trip(tmp_path: Path) -> None:
    model = build_model("densenet-bc-10-4", DIGITS).to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    save_weights(path, model.state_dict(), {"cell": "x"})
    again = build_model("densenet-bc-10-4", DIGITS, seed=1)
    load_weights(again, path)
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_damaged_and_foreign_checkpoints(tmp_path: Path) -> None:
    model = build_model("wrn-10-0.25", DIGITS)
    path = tmp_path / "model.safetensors"
    save_weights(path, model.state_dict(), {})
    for other, difference in (
        ("wrn-10-0.5", r"of shape \[4, 16, 3, 3\], expected .* of shape \[8, 16, 3, 3\]"),
        ("wrn-16-0.25", r"block1.layer.1.bn1.weight is missing, expected"),
    ):
        with pytest.raises(HarnessError, match=rf"of another architecture: .*{difference}"):
            load_weights(build_model(other, DIGITS), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HarnessError, match="cut short or damaged"):
        read_weights(path)
    published = tmp_path / "model.pt"
    torch.save(model.state_dict(), published)
    published.write_bytes(published.read_bytes()[:2000])
    with pytest.raises(HarnessError, match="cut short or damaged"):
        read_weights(published)
    with pytest.raises(HarnessError, match="does not exist"):
        read_weights(tmp_path / "none.pt")


def _digits(seed: int = 1) -> dict[str, torch.Tensor]:
    return dict(build_model("wrn-10-0.25", DIGITS, seed).state_dict())


def _under(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in _digits().items()}


def _loaded(path: Path) -> bool:
    """Load a checkpoint of `_digits` and say whether its weights arrived."""
    model = build_model("wrn-10-0.25", DIGITS, seed=9)
    load_weights(model, path)
    return all(torch.equal(value, model.state_dict()[k]) for k, value in _digits().items())


@pytest.mark.parametrize(
    ("prefix", "form"),
    [("_orig_mod.", "zip"), ("module.module.", "legacy"), ("net.", "safetensors")],
)
def test_names_that_wrappers_give(tmp_path: Path, prefix: str, form: str) -> None:
    state, path = _under(prefix), tmp_path / "w.pt"
    if form == "safetensors":
        save_file(state, path)  # whatever the file is called
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    assert _loaded(path)


def test_averaged_weights(tmp_path: Path) -> None:
    model = build_model("wrn-10-0.25", DIGITS, seed=1)
    torch.save({"ema": AveragedModel(model).state_dict(), "epoch": 3}, tmp_path / "w.pt")
    assert _loaded(tmp_path / "w.pt")


def test_names_that_truly_begin_so(tmp_path: Path) -> None:
    """A network may itself have a part that is called as a wrapper's is."""
    first, second = torch.nn.Module(), torch.nn.Module()
    first.model, second.model = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save(first.state_dict(), tmp_path / "w.pt")
    load_weights(second, tmp_path / "w.pt")
    assert torch.equal(first.model.weight, second.model.weight)


def test_the_network_s_own_weights_come_first(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"optimizer": {0: _digits()}, "ema": _digits(2), "net": _digits()}, path)
    assert _loaded(path)
    torch.save({"student": _digits(), "teacher": _digits(2)}, path)
    with pytest.raises(HarnessError, match="several networks' weights, 'student', 'teacher'"):
        _loaded(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: _under("1."), "conv1.weight is missing, expected .*; of a network with layers"),
        (lambda: {"scale.mean": torch.zeros(1)} | _under("model."), "scale.mean is .* nothing"),
        (lambda: _under("net.") | _under("model."), "conv1.weight is missing"),
        (lambda: _under("net.") | _digits(), "net.conv1.weight is .*, expected nothing"),
        (lambda: {k: v.to(torch.int8) for k, v in _digits().items()}, "is whole .*expected real"),
        (lambda: {k: v.to("meta") for k, v in _digits().items()}, "cannot be loaded: .* no data"),
        (lambda: _digits() | {"epoch": 3}, "no mapping of tensors alone"),
        (lambda: {"model": torch.nn.ReLU(), "epoch": 3}, "no mapping of tensors alone"),
        (lambda: [1, 2, 3], "no mapping of tensors alone; save the weights alone"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, content: Callable[[], object], message: str
) -> None:
    torch.save(content(), tmp_path / "w.pt")
    with pytest.raises(HarnessError, match=message):
        _loaded(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "w.pt"
    beside = [argparse.Namespace(lr=0.1), np.float64(0.9), Path("results"), defaultdict(list)]
    content = {"state_dict": _digits(), "args": beside}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert _loaded(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, touched = tmp_path / "evil.pt", tmp_path / "touched"
    torch.save({"state_dict": {"x": Runs(touched)}}, path)
    with pytest.raises(HarnessError, match=r"asks for .*system: only tensors are read"):
        read_weights(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("words", "content"),
    [
        ("empty", b""),
        ("a web page", b"\n<!DOCTYPE html><title>Quota exceeded</title>"),
        ("cut short or damaged", pickle.dumps({"a": 1}, 2)),
    ],
)
def test_other_files_are_named(tmp_path: Path, words: str, content: bytes) -> None:
    path = tmp_path / "w.safetensors"  # whatever it is called
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=f"is {words}"):
        read_weights(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    source = ModelSource("digits", "wrn-10-0.25", tmp_path)
    for use in (source.fingerprint, source.load):
        with pytest.raises(HarnessError, match="is a folder; name the file in it"):
            use()
