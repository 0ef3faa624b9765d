"""FAB, Square and AutoAttack inside the runner: the package's verdicts, at its counted cost."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import SMALL_ATTACKS as SMALL
from small_runs import record_of

from reproduce.attacks import target
from reproduce.compute import compilation
from reproduce.config.schema import Config
from reproduce.experiments import cost
from reproduce.models.load import ModelSource


@pytest.mark.parametrize(
    ("attack", "setting"),
    [
        ("square", "machine.eval_batch=6"),
        # it goes backward several times through one forward pass
        pytest.param("fab", "machine.compile=always", marks=pytest.mark.slow),
    ],
)
def test_neither_batch_nor_compilation_has_a_say(
    tiny: Callable[..., Config],
    source: ModelSource,
    attack: str,
    setting: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # all of compilation but its kernels, which take minutes
    monkeypatch.setattr(target, "compile_network", partial(torch.compile, backend="aot_eager"))
    records = []
    for name, more in (("plain", "machine.compile=never"), ("other", setting)):
        config = tiny(*SMALL, more, f"results={tmp_path / name}")
        records.append(record_of(config, source, attack))
    # a rounding may turn an image on the boundary
    assert (records[0].robust != records[1].robust).sum() <= 1


def test_records_say_which_part_broke_an_image(
    tiny: Callable[..., Config], source: ModelSource
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    record = record_of(tiny(*SMALL, "data.test_images=20"), source, "autoattack")
    # the package leaves the global generator alone
    assert torch.equal(torch.rand(4), expected)
    assert record.info["parts"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    right = record.clean == record.label
    assert np.array_equal(record.broken_by >= 0, right & (record.adversarial != record.label))
    assert record.broken_by.max() < 4
    assert record.info["forward_passes"] > record.info["backward_passes"] > 0
    assert record.info["shard"] == 16


@pytest.mark.parametrize("attack", ["pgd20", "fab", "square", "autoattack"])
def test_costs_are_counted(tiny: Callable[..., Config], source: ModelSource, attack: str) -> None:
    """The passes that planning takes for an image that holds are those that it costs."""
    config = tiny(*SMALL, "eval.epsilon=1e-6", "data.test_images=10")
    record = record_of(config, source, attack)
    held = int(record.robust.sum())
    assert held == (record.clean == record.label).sum()
    passes = cost.attack_passes(config.eval.attacks[attack], 10)
    counted = record.info["forward_passes"] + record.info["backward_passes"]
    attacked = len(record.index) if record.info["every_image"] else held
    assert counted == len(record.index) + attacked * (passes - 1)


def test_the_original_package_is_used_by_choice(
    tiny: Callable[..., Config], source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same modules; here the packaged form stands in for it."""
    plain = record_of(tiny(*SMALL), source, "square")
    for name in ("autopgd_base", "fab_pt", "square"):
        module = importlib.import_module(f"pyautoattack.{name}")
        monkeypatch.setitem(sys.modules, f"autoattack.{name}", module)
    monkeypatch.setitem(sys.modules, "autoattack", importlib.import_module("pyautoattack"))
    chosen = tiny(*SMALL, "eval.autoattack_package=autoattack")
    record = record_of(chosen, source, "square")
    assert record.info["pieces"][0]["autoattack"] == "unknown"
    assert record.info["digest"] != plain.info["digest"]
    assert np.array_equal(record.adversarial, plain.adversarial)


@pytest.mark.parametrize(("worth", "compiled"), [(0, True), (10**9, False)])
def test_compiled_where_it_pays(
    tiny: Callable[..., Config],
    source: ModelSource,
    monkeypatch: pytest.MonkeyPatch,
    worth: int,
    compiled: bool,
) -> None:
    """The planned passes decide, for all shards alike."""
    monkeypatch.setattr(compilation, "_WORTH_COMPILING", worth)
    # whether, not what
    monkeypatch.setattr(target, "compile_network", lambda model, **_: model)
    record = record_of(tiny(*SMALL, "machine.compile=auto"), source, "pgd20")
    assert [piece["compiled"] for piece in record.info["pieces"]] == [compiled]
