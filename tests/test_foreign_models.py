"""Networks from elsewhere: checkpoint files and Python code, attacked like a cell's."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_work import CELLS
from small_runs import SMALL_ATTACKS as SMALL
from small_runs import record_of
from torch import nn

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.models.load import ModelSource


def test_a_cell_is_attacked_like_any_network(tiny: Callable[..., Config], attacked: Path) -> None:
    cell = parse_cell(CELLS[0])
    folder = paths.cell_folder(tiny(f"results={attacked}"), cell)
    mine = read_record(paths.record_file(folder, "best-test", "pgd20", 0))
    weights = paths.model_file(folder, "best-test")
    theirs = record_of(tiny(*SMALL), ModelSource("digits", cell.architecture, weights), "pgd20")
    assert np.array_equal(mine.adversarial, theirs.adversarial)
    assert mine.info["cell"] == cell.id


def make_network() -> nn.Module:
    """A network that tests import by its path."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class Unrepeatable(nn.Module):
    """Has other weights every time it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images.flatten(1))


def needs_arguments(size: int) -> nn.Module:
    return nn.Linear(size, 10)


def lazy() -> nn.Module:
    return nn.LazyLinear(10)


class Stateful(nn.Flatten):
    """Has more in its state dict than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 1}


NUMBER = 7


def number() -> int:
    return NUMBER


def test_a_network_from_python_code(tiny: Callable[..., Config]) -> None:
    config = tiny(*SMALL)
    source = ModelSource("digits", import_path="test_foreign_models:make_network")
    assert len(record_of(config, source, "pgd20").index) == 40
    (folder,) = (paths.root(config) / "models" / "digits").iterdir()
    assert folder.name.startswith("test-foreign-models-make-network-")
    assert source.fingerprint() == source.fingerprint()


def test_edited_code_is_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are the same; what it does with them need not be.  Code of parts counts too."""
    monkeypatch.syspath_prepend(tmp_path)
    part = "from torch import nn\nclass Part(nn.Identity): pass\n"
    whole = "from torch import nn\nfrom part import Part\n"
    whole += "def make(): return nn.Sequential(Part(), nn.Flatten())\n"
    prints = set()
    for files in ((part, whole), (part, whole + "# edited\n"), (part + "# edited\n", whole)):
        for name, text in zip(("part", "whole"), files, strict=True):
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        prints.add(ModelSource("digits", import_path="whole:make").fingerprint())
    assert len(prints) == 3


class Viewing(nn.Module):
    """Takes a view that channels-last tensors do not have, as many networks do."""

    def __init__(self, answer: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.linear = nn.Linear(256, 10)
        self.answer = answer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer(self.linear(self.conv(images).view(len(images), -1)))


class Detached(Viewing):
    """Hides its gradient."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return super().forward(images)


class Summed(Viewing):
    """Sums the pixels first: its input gradient is one number, expanded to an image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.sum((1, 2, 3), keepdim=True).flatten(1) * self.linear.weight[:, 0]


class InPlace(Viewing):
    """Normalises the very images it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.sub_(0.5))


def _overwrite(logits: torch.Tensor) -> torch.Tensor:
    """Change what the gradient needs."""
    hidden = logits.sigmoid()
    answer = hidden**2
    hidden.mul_(2)
    return answer


Halved = partial(Viewing, lambda logits: logits.to(torch.bfloat16))
# has a gradient, which does not get to the images
Unused = partial(Viewing, lambda logits: logits.detach() * torch.ones(10, requires_grad=True))
Random = partial(Viewing, lambda logits: logits + torch.randn(len(logits), 10))
Raising = partial(Viewing, lambda logits: {0: logits}["no such layer"])
Integer = partial(Viewing, torch.Tensor.long)
Pair = partial(Viewing, lambda logits: (logits, logits))
Fewer = partial(Viewing, lambda logits: logits[:, 1:])
Sparse = partial(Viewing, torch.Tensor.to_sparse)
Overwriting = partial(Viewing, _overwrite)


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("Viewing", "pgd20"),
        ("Viewing", "autoattack"),
        ("Halved", "autoattack"),
        ("Detached", "pgd20"),
        ("InPlace", "pgd20"),
        ("Random", "pgd20"),
        ("Unused", "autoattack"),
        ("Summed", "pgd20"),
    ],
)
def test_unusual_networks(tiny: Callable[..., Config], attack: str, name: str) -> None:
    config = tiny(*SMALL, "machine.eval_batch=6")
    source = ModelSource("digits", import_path=f"test_foreign_models:{name}")
    record = record_of(config, source, attack)
    warned = " ".join(record.info["warnings"])
    # noise makes and unmakes the right predictions that are looked at
    blind = name in ("Detached", "Unused")
    assert ("gradient of exactly zero" in warned) == blind or name == "Random"
    assert ("changes between two calls" in warned) == (name == "Random")
    for path in paths.root(config).rglob("*.npz"):
        path.unlink()
    assert np.array_equal(record_of(config, source, attack).adversarial, record.adversarial)


@pytest.mark.parametrize(
    ("name", "message", "processes"),
    [
        ("Raising", "the network fails on .* of shape .* KeyError: 'no such layer'", 1),
        pytest.param("Raising", "fails on .* KeyError: 'no such layer'", 2, marks=pytest.mark.slow),
        ("Integer", "of torch.int64, .* expected real logits", 1),
        ("Sparse", "torch.sparse_coo, expected real logits", 1),
        ("Pair", "with tuple, expected real logits", 1),
        ("Fewer", r"with \[2, 9\] of torch.float32", 1),
        ("Overwriting", "gradient cannot be taken: RuntimeError: .* by an inplace operation", 1),
    ],
)
def test_networks_that_fail(
    tiny: Callable[..., Config], name: str, message: str, processes: int
) -> None:
    config = tiny(*SMALL, f"machine.processes={processes}")
    with pytest.raises(HarnessError, match=message):
        record_of(config, ModelSource("digits", import_path=f"test_foreign_models:{name}"), "fab")


@pytest.mark.parametrize("text", ["import os os", "1 / 0", "raise SystemExit(0)"])
def test_modules_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    (tmp_path / "failing.py").write_text(text)
    with pytest.raises(HarnessError, match=r"model 'failing:model' cannot be made by .*: \w+:"):
        ModelSource("digits", import_path="failing:model").load()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("test_foreign_models", "cannot be made by package.module:attribute"),
        ("no_such_module:model", "No module named 'no_such_module'"),
        ("test_foreign_models:nothing", "has no attribute 'nothing'"),
        ("test_foreign_models:NUMBER", "'int' object is not callable"),
        ("test_foreign_models:number", "gives a int, not a torch.nn.Module"),
        ("test_foreign_models:needs_arguments", "missing 1 required positional argument"),
        ("test_foreign_models:lazy", "its weight is no tensor with values"),
        ("test_foreign_models:Stateful", "its _extra_state is no tensor with values"),
    ],
)
def test_import_paths_that_lead_to_no_network(path: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        ModelSource("digits", import_path=path).load()


def test_networks_that_are_not_attacked(tiny: Callable[..., Config], weights: Path) -> None:
    for source, message in (
        (ModelSource("digits", None, weights), "needs its architecture"),
        (ModelSource("digits", import_path="test_foreign_models:Unrepeatable"), "each time"),
    ):
        with pytest.raises(HarnessError, match=message):
            record_of(tiny(*SMALL), source, "pgd20")


def test_the_command_takes_a_checkpoint_file(
    run_command: Callable[..., str], tiny: Callable[..., Config], weights: Path
) -> None:
    config = tiny(*SMALL)
    words = ["evaluate", "--weights", str(weights), "--architecture", "wrn-10-0.25"]
    words += ["--dataset", "digits"]
    preview = ["--attack", "autoattack", "--preview", "--images", "20"]
    said = run_command(config, *words, *preview)
    assert "model-last-wrn-10-0.25  autoattack-preview-n20-seed0:  robust" in said
    assert "stability" in run_command(config, *words, "--seed", "3")
    assert "already evaluated" in run_command(config, *words, "--seed", "3")
    late = run_command(config, *words, "--seed", "4", "--max-minutes", "1e-9", status=75)
    assert "run the same command again to continue" in late


def test_the_command_takes_an_import_path(
    run_command: Callable[..., str], tiny: Callable[..., Config]
) -> None:
    words = ["evaluate", "--model", "test_foreign_models:make_network", "--dataset", "digits"]
    assert "test_foreign_models:make_network  pgd20-seed0:" in run_command(tiny(*SMALL), *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "which network? Give a cell id, or --weights"),
        ("--zoo Wong2020Fast --model a:b --dataset cifar10", "which network?"),
        ("--weights a --architecture wrn-10-1", "--dataset is missing"),
        ("--weights a --dataset digits", "--weights needs --architecture"),
        ("--model a:b --dataset digits --checkpoint last", "--checkpoint picks"),
        ("--model a:b --dataset mnist", "unknown data set 'mnist'"),
        ("--model a:b --dataset digits --architecture x", "belongs to --weights"),
        ("--model a:b --dataset digits --images 9999", "data.test_images is 40"),
        ("--model a:b --dataset digits --preview", "--preview is for AutoAttack"),
        ("--model a:b --dataset digits --optional", "--optional belongs to --zoo"),
        ("--zoo ../../escaped --dataset cifar10 --optional", "is no model id"),
        ("digits/wrn-10-0.25/at/lam-1/seed-0 --dataset digits", "--dataset belongs to"),
        ("digits/wrn-10-0.25/at/lam-1/seed-0", "is not trained"),
    ],
)
def test_words_that_name_no_network(
    run_command: Callable[..., str], tiny: Callable[..., Config], words: str, message: str
) -> None:
    assert message in run_command(tiny(*SMALL), "evaluate", *words.split(), status=1)
