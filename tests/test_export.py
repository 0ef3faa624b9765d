"""From a trained cell to RobustBench's layout, and back through its own network class."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import write_made_up, write_run
from small_runs import quiet

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import Checkpoint
from reproduce.config.load import load_config, override
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, sha256_of_file, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation
from reproduce.models.load import ModelSource, build_model
from reproduce.models.weights import save_weights
from reproduce.registry import dataset_facts
from reproduce.share.export import export_cell
from reproduce.zoo.checkpoints import ZooCheckpoint

CELL = parse_cell("cifar10/wrn-10-2/trades/lam-6/seed-0")


def _trained(config: Config, attacks: dict[str, int], cell: Cell = CELL, **data: object) -> None:
    """Make up a trained cell, and records of all 10,000 images with so many that hold."""
    for attack, held in attacks.items():
        item = Evaluation(cell, checkpoint="best-test", attack=attack, seed=0)
        write_run(config, item, **data)
        index = np.arange(10_000)
        write_made_up(config, item, index, index < held, index < 8767)
    folder = paths.cell_folder(config, cell)
    model = build_model(cell.architecture, dataset_facts("cifar10"))
    weights = paths.model_file(folder, "best-test")
    save_weights(weights, model.state_dict(), {})
    for name in ("model-last.safetensors", "trace.parquet", "epochs.csv"):
        (folder / name).write_bytes(b"")
    sha256 = sha256_of_file(weights)
    for path in [paths.run_file(folder), *folder.glob("records/*.json")]:
        told = json.dumps(read_json(path)).replace(f"weights of {cell}", sha256)
        write_json(path, json.loads(told))


def _card(config: Config, folder: Path) -> dict[str, object]:
    return read_json(export_cell(config, CELL, "best-test", "Wu2020Do", folder, quiet).card)


def test_a_round_trip_gives_the_same_network(
    tmp_path: Path, run_command: Callable[..., str]
) -> None:
    config = _paper(tmp_path)
    _trained(config, {"pgd20": 6300})
    words = ["export", CELL.id, "--checkpoint", "best-test", "--name", "Wu2020Do"]
    said = run_command(config, *words, "--out", str(tmp_path / "zoo"))
    zoo = ZooCheckpoint("Wu2020Do", "cifar10", tmp_path / "zoo")
    assert f"Written: {zoo.path}" in said
    assert "null in the card: reported, autoattack_acc, unreliable;" in said
    card = read_json(zoo.card)
    assert card["architecture"] == "WideResNet-10-2"
    assert (card["eps"], card["dataset"], card["additional_data"]) == ("8/255", "cifar10", False)
    # plain tensors under RobustBench's names
    state = torch.load(zoo.path, weights_only=True)
    assert "block1.layer.0.convShortcut.weight" in state
    weights = paths.model_file(paths.cell_folder(config, CELL), "best-test")
    ours = ModelSource("cifar10", CELL.architecture, weights).load().eval()
    theirs = ModelSource("cifar10", zoo=zoo).load()
    images = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), ours(images))


def test_the_card_is_filled_from_full_records_of_standard_autoattack(tmp_path: Path) -> None:
    config = _paper(tmp_path)
    _trained(config, {"autoattack": 6065, "pgd20": 6300})
    card = _card(config, tmp_path / "zoo")
    known = {"clean_acc": "87.67", "autoattack_acc": "60.65", "reported": "60.65"}
    assert known.items() <= card.items()
    assert card["unreliable"] is False
    assert None not in card.values()
    # fields and their order are those of the leaderboard's own cards
    assert list(card)[:4] == ["link", "name", "authors", "venue"]
    # a damaged record is none
    record = paths.record_file(paths.cell_folder(config, CELL), "best-test", "autoattack", 0)
    record.write_bytes(record.read_bytes()[:-1])
    assert _card(config, tmp_path / "zoo")["autoattack_acc"] is None


def test_the_card_tells_of_radius_settings_and_extra_images(tmp_path: Path) -> None:
    config = override(_paper(tmp_path / "near"), {"eval.attacks.autoattack.epsilon": 4 / 255})
    _trained(config, {"autoattack": 6065})
    card = _card(config, tmp_path / "zoo")
    assert (card["eps"], card["autoattack_acc"]) == ("4/255", "60.65")
    weak = override(_paper(tmp_path / "weak"), {"eval.attacks.autoattack.steps": 5})
    _trained(weak, {"autoattack": 6065})
    card = _card(weak, tmp_path / "zoo")
    assert (card["autoattack_acc"], card["clean_acc"]) == (None, "87.67")
    # and a record of other settings than the configuration's is none at all
    assert _card(_paper(tmp_path / "weak"), tmp_path / "zoo")["clean_acc"] is None
    cell = parse_cell("cifar10/wrn-10-2/rst/lam-6/seed-0")
    _trained(config, {"pgd20": 6300}, cell, extra={"images": 500_000, "sha256": "0"})
    zoo = export_cell(config, cell, "best-test", "Wu2020Extra", tmp_path / "zoo", quiet)
    assert read_json(zoo.card)["additional_data"] is True


def _paper(folder: Path) -> Config:
    return load_config("{}", "paper", [f"results={folder}", f"data.folder={folder}"])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("cifar10/densenet-bc-40-12/trades/lam-6/seed-0", "cannot be exported"),
        ("cifar10/wrn-10-0.5/trades/lam-6/seed-0", "cannot be exported"),
        ("digits/wrn-10-1/trades/lam-6/seed-0", "cannot be exported"),
        (CELL.id, "is not trained; run `reproduce train"),
    ],
)
def test_what_cannot_be_exported(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        export_cell(_paper(tmp_path), parse_cell(cell), "last", "Wu2020Do", tmp_path, quiet)
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../Wu2020Do", "is no model id"),
        # one is in zoo.csv, one is not
        ("Carmon2019Unlabeled", "'Carmon2019Unlabeled' is a published model's"),
        ("Gowal2021Improving_28_10_ddpm_100m", "is a published model's"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, name: str, message: str) -> None:
    """Else these weights would be reported as others, or lie elsewhere."""
    with pytest.raises(HarnessError, match=message):
        export_cell(_paper(tmp_path), CELL, "best-test", name, tmp_path / "zoo", quiet)
    assert not (tmp_path / "zoo").exists()


def test_an_export_that_fails_can_be_repeated_and_replaces_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _paper(tmp_path)
    other = parse_cell("cifar10/wrn-10-2/trades/lam-12/seed-0")
    _trained(config, {"autoattack": 6065})
    _trained(config, {"pgd20": 6300}, other)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(HarnessError, match="No space left"):
        patch.setattr(torch, "save", full)
        _card(config, tmp_path / "zoo")
    assert list((tmp_path / "zoo").rglob("*.pt")) == []
    zoo = export_cell(config, CELL, "best-test", "Wu2020Do", tmp_path / "zoo", quiet)
    assert read_json(zoo.card)["autoattack_acc"] == "60.65"
    assert _card(config, tmp_path / "zoo")["checkpoint"] == "best-test"
    kept = zoo.path.read_bytes()

    def again(cell: Cell, checkpoint: Checkpoint) -> None:
        export_cell(config, cell, checkpoint, "Wu2020Do", tmp_path / "zoo", quiet)

    there = f"Wu2020Do.pt exists and is of {CELL}, checkpoint best-test, not of"
    with pytest.raises(HarnessError, match=f"{there} {other}, checkpoint best-test: choose"):
        again(other, "best-test")
    with pytest.raises(HarnessError, match=f"{there} {CELL}, checkpoint last: choose"):
        again(CELL, "last")
    card = read_json(zoo.card)
    write_json(zoo.card, card | {"architecture": "ResNet-50"})
    with pytest.raises(HarnessError, match="'ResNet-50' is not a WideResNet"):
        zoo.load()
    zoo.card.unlink()
    with pytest.raises(HarnessError, match=r"Wu2020Do\.pt exists and is of unknown origin"):
        again(CELL, "best-test")
    assert zoo.path.read_bytes() == kept
