"""Networks: counts of parameters and operations, published state dicts, damaged files."""

import argparse
import gzip
import pickle
import tarfile
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel
from torch.utils.flop_counter import FlopCounterMode

from reproduce import costs
from reproduce.catalogue import dataset_facts
from reproduce.cells import parse_cell
from reproduce.errors import HarnessError
from reproduce.models import ModelSource, build_model, load_weights, read_weights, save_weights
from reproduce.models.wide_resnet import WideResNet
from reproduce.rng import seeded
from reproduce.vision import torchvision

CIFAR = dataset_facts("cifar10")
DIGITS = dataset_facts("digits")
IMAGENET = dataset_facts("imagenet")


def _count(architecture: str) -> int:
    with torch.device("meta"):
        model = build_model(architecture, IMAGENET if architecture[:6] == "wrn-50" else CIFAR)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        ("wrn-34-10", 46.16),
        ("densenet-bc-40-12", 0.18),
        ("densenet-bc-40-64", 4.85),
        ("wrn-50-1", 25.56),
        ("wrn-50-2", 68.88),
    ],
)
def test_published_counts(architecture: str, millions: float) -> None:
    assert round(_count(architecture) / 1e6, 2) == millions


SMALL = ["wrn-10-0.0625", "wrn-16-0.5", "wrn-34-1", "wrn-28-10", "densenet-bc-40-12"]


@pytest.mark.parametrize(
    ("architecture", "facts"),
    [
        *((name, facts) for name in SMALL for facts in (CIFAR, DIGITS)),
        ("wrn-50-1", IMAGENET),
        ("wrn-50-2", IMAGENET),
        # of an odd size, where every halving rounds
        ("wrn-50-0.25", replace(IMAGENET, size=37, classes=7)),
    ],
    ids=str,
)
def test_costs_agree_with_the_network(architecture: str, facts) -> None:
    with torch.device("meta"):
        model = build_model(architecture, facts).eval()
        images = torch.zeros(1, facts.channels, facts.size, facts.size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        assert model(images).shape == (1, facts.classes)
    assert costs.forward_operations(architecture, facts) == counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert costs.parameters(architecture, facts) == parameters


def test_width_a_half_has_half_the_channels() -> None:
    model = WideResNet(34, 0.5)
    groups = (model.block1, model.block2, model.block3)
    assert [group.layer[0].conv1.out_channels for group in groups] == [8, 16, 32]


def test_initialisation_follows_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build_model("wrn-10-0.25", DIGITS, seed=3).state_dict()
    before = torch.random.get_rng_state()
    second = build_model("wrn-10-0.25", DIGITS, seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    other = build_model("wrn-10-0.25", DIGITS, seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_initialisation_is_he_by_fan_out() -> None:
    model = build_model("wrn-10-4", CIFAR)
    weight = model.block3.layer[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert not model.fc.bias.any()


def test_average_pool_is_the_published_one() -> None:
    """The mean over the map is the 8 x 8 pool of the official class at 32 x 32 pixels."""
    model = build_model("wrn-10-0.5", CIFAR).eval()
    images = torch.rand(2, 3, 32, 32)
    features = model.block3(model.block2(model.block1(model.conv1(images))))
    pooled = torch.nn.functional.avg_pool2d(torch.relu(model.bn1(features)), 8).flatten(1)
    torch.testing.assert_close(model(images), model.fc(pooled))


@pytest.mark.parametrize(("width", "name"), [(1, "resnet50"), (2, "wide_resnet50_2")])
def test_networks_of_imagenet_are_torchvisions(width: int, name: str) -> None:
    """Names, shapes and function are those of the published network behind the normalisation."""
    ours = build_model(f"wrn-50-{width}", IMAGENET, seed=1).eval()
    models, transforms = torchvision("torchvision.models"), torchvision("torchvision.transforms")
    theirs = getattr(models, name)().eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 40, 40)
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(ours(images), theirs(normalise(images)))
    with seeded(1, "initialisation"):
        fresh = getattr(models, name)().state_dict()
    assert all(torch.equal(fresh[key], value) for key, value in ours.state_dict().items())


def test_networks_and_images_must_be_of_one_kind() -> None:
    with pytest.raises(HarnessError, match=r"'wrn-50-1' is the one for ImageNet; CIFAR-10 takes"):
        build_model("wrn-50-1", CIFAR)
    with pytest.raises(HarnessError, match=r"'wrn-34-1' is for images of 32 pixels; ImageNet"):
        costs.parameters("wrn-34-1", IMAGENET)
    with pytest.raises(HarnessError, match="takes wrn-50-WIDTH, such as wrn-50-2"):
        parse_cell("imagenet/densenet-bc-40-12/at/lam-1/seed-0")
    assert parse_cell("imagenet/wrn-50-2/at/lam-1/seed-0").architecture == "wrn-50-2"


class _OfficialLayout(torch.nn.Module):
    """The names of the official class: the block that is never used among them."""

    def __init__(self) -> None:
        super().__init__()
        used = build_model("wrn-10-0.5", CIFAR, seed=1)
        for name, child in used.named_children():
            self.add_module(name, child)
        self.sub_block1 = build_model("wrn-10-0.5", CIFAR, seed=2).block1


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "parallel", "old"])
def test_published_state_dicts_load(tmp_path: Path, wrap: str) -> None:
    official = _OfficialLayout()
    state = dict(official.state_dict())
    assert any(key.startswith("sub_block1.") for key in state)
    if wrap == "parallel":
        state = {f"module.{key}": value for key, value in state.items()}
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
    with pytest.raises(HarnessError, match=r"another architecture: .* has shape"):
        load_weights(build_model("wrn-10-0.5", DIGITS), path)
    with pytest.raises(HarnessError, match="another architecture: it has no"):
        load_weights(build_model("wrn-16-0.25", DIGITS), path)
    deeper = tmp_path / "deeper.safetensors"
    save_weights(deeper, build_model("wrn-16-0.25", DIGITS).state_dict(), {})
    with pytest.raises(HarnessError, match=r"another architecture: it has .* which"):
        load_weights(model, deeper)
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


def _loaded(path: Path) -> bool:
    """Load a checkpoint of `_digits` and say whether its weights arrived."""
    model = build_model("wrn-10-0.25", DIGITS, seed=9)
    load_weights(model, path)
    return all(torch.equal(value, model.state_dict()[k]) for k, value in _digits().items())


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.module.", "model._orig_mod.", "net.", "backbone.", "_model."]
)
def test_names_that_wrappers_give(tmp_path: Path, prefix: str, form: str) -> None:
    state, path = {prefix + k: v for k, v in _digits().items()}, tmp_path / "w.pt"
    if form == "safetensors":
        save_file(state, path)  # whatever the file is called
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    assert _loaded(path)


def test_a_part_that_was_compiled_alone(tmp_path: Path) -> None:
    state = {k.replace("block1.", "block1._orig_mod."): v for k, v in _digits().items()}
    torch.save(state, tmp_path / "w.pt")
    assert _loaded(tmp_path / "w.pt")


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


def _under(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in _digits().items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: _under("1."), r"begin with '1.' \(1.conv1.weight, expected conv1.weight\): if"),
        (lambda: _under("encoder."), "begin with 'encoder.'"),
        (lambda: {"normalize.mean": torch.zeros(1)} | _under("model."), "has normalize.mean besi"),
        (lambda: _under("net.") | _under("model."), "several times, as net.conv1.weight, model"),
        (lambda: _under("net.") | _digits(), "has conv1.weight twice, also as net.conv1"),
        (lambda: {k: v.to(torch.int8) for k, v in _digits().items()}, "is torch.int8, expected"),
        (lambda: {k: v.to("meta") for k, v in _digits().items()}, "cannot be loaded: .* no data"),
        (lambda: _digits() | {"epoch": 3}, "no state dict of tensors alone; it has 'epoch' int"),
        (lambda: {"model": torch.nn.ReLU(), "epoch": 3}, "holds a pickled network, torch.nn.*ReLU"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, content: Callable[[], object], message: str
) -> None:
    torch.save(content(), tmp_path / "w.pt")
    with pytest.raises(HarnessError, match=message):
        _loaded(tmp_path / "w.pt")


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    content: dict[str, object] = {"epoch": 3, "net": _digits()}
    content["again"] = [content["net"], content]
    content["itself"] = content
    torch.save(content, tmp_path / "w.pt")
    assert _loaded(tmp_path / "w.pt")


class _Told(dict):
    """A mapping that says when code of its own runs."""

    made = 0

    def __init__(self, *_: object) -> None:
        _Told.made += 1


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1),
        np.arange(3),
        np.bool_(1),
        Path("results"),
        datetime(2021, 12, 6, tzinfo=UTC),
        partial(Path, "results"),
        defaultdict(list, a=[1]),
        deque([1, 2]),
        frozenset([1]),
        HTTPStatus.OK,
        _Told(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_beside_the_weights_are_passed_over(
    tmp_path: Path, beside: object, zipped: bool
) -> None:
    path = tmp_path / "w.pt"
    torch.save(
        {"state_dict": _digits(), "args": beside}, path, _use_new_zipfile_serialization=zipped
    )
    _Told.made = 0
    assert _loaded(path)
    assert not _Told.made


class _Evil:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('code from a checkpoint was run')",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": {"x": _Evil()}}, path)
    with pytest.raises(HarnessError, match="asks for exec: only tensors are read"):
        read_weights(path)


def _archive(name: str, pack: Callable[[BytesIO], object]) -> tuple[str, bytes]:
    target = BytesIO()
    pack(target)
    return name, target.getvalue()


def _zip(target: BytesIO) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("wrn.pt", b"weights")


def _tar(target: BytesIO) -> None:
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("wrn.pt"))


def _truncated(target: BytesIO) -> None:
    torch.save(torch.zeros(9), target)
    target.truncate(300)


@pytest.mark.parametrize(
    ("words", "content"),
    [
        ("empty", b""),
        ("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"),
        ("a web page", b"\n<!DOCTYPE html><title>Quota exceeded</title>"),
        ("a text, not a checkpoint; it begins with '.\"message", b'{"message": "Not Found"}'),
        ("compressed with gzip", gzip.compress(b"weights")),
        ("an ONNX file", b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x9f\x01"),
        _archive("a tar archive", _tar),
        _archive("a zip archive .* 'wrn.pt' in it", _zip),
        _archive("a file of NumPy arrays", lambda target: np.savez(target, a=np.zeros(3))),
        _archive("a TorchScript", lambda f: torch.jit.save(torch.jit.script(torch.nn.ReLU()), f)),
        _archive("cut short or damaged, or .* .File is not a zip file", _truncated),
        ("cut short or damaged, or torch.save did not write it", pickle.dumps({"a": 1}, 2)),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_other_files_are_named(tmp_path: Path, words: str, content: bytes, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=f"is {words}"):
        read_weights(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    source = ModelSource("digits", "wrn-10-0.25", tmp_path)
    for use in (source.fingerprint, source.load):
        with pytest.raises(HarnessError, match="is a folder; name the file in it"):
            use()


def test_a_file_without_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "numbers.pt"
    torch.save([1, 2, 3], path)
    with pytest.raises(HarnessError, match="no state dict"):
        _loaded(path)
