"""Evaluations of cells: metrics, records, seeds, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_work import SETS
from small_runs import never, quiet

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.core.rng import uniform_per_image
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.evaluation.records import compute_metrics, read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.results.reader import is_evaluated
from reproduce.training.train import train_cell


@pytest.fixture
def trained(tiny: Callable[..., Config], attacked: Path) -> Config:
    config = tiny(*SETS)
    shutil.copytree(attacked, config.results)
    return config


def _record(config: Config, cell: Cell) -> Path:
    return paths.record_file(paths.cell_folder(config, cell), "best-test", "pgd20", 0)


def test_metrics_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    clean = np.array([0, 0, 1, 0, 2, 1, 3, 0])
    adversarial = np.array([0, 1, 1, 1, 2, 1, 0, 1])
    # robust and stable: 0, 2, 4; correct but moved: 1, 6; recovered: 3; wrong and stable: 5
    metrics = compute_metrics(labels, clean, adversarial)
    assert metrics.robust_accuracy == 100 * 3 / 8
    assert metrics.natural_accuracy == 100 * 5 / 8
    assert metrics.perturbation_stability == 100 * 4 / 8
    assert (metrics.recovered, metrics.images) == (1, 8)
    # the identity of equation (3.1), but where an attack turned wrong into right
    assert metrics.robust_accuracy + 100 / 8 == 100 * (adversarial == labels).mean()
    with pytest.raises(HarnessError, match="without images"):
        compute_metrics(labels[:0], clean[:0], adversarial[:0])


def test_a_record_says_what_it_is(trained: Config, cell: Cell, tiny: Callable[..., Config]) -> None:
    path = _record(trained, cell)
    record, run = read_record(path), read_json(paths.run_file(paths.cell_folder(trained, cell)))
    assert record.info["model_sha256"] == run["models"]["best-test"]
    assert record.info["spec"]["epsilon"] == 0.1
    assert record.info["metrics"] == record.metrics.as_dict()
    assert len(record.index) == 40
    said: list[str] = []
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", said.append)
    assert said[0].startswith("already evaluated")
    # the size of a batch changes nothing
    path.unlink()
    again = evaluate_cell(tiny(*SETS, "machine.eval_batch=7"), cell, "pgd20", 0, "best-test", quiet)
    assert np.array_equal(record.adversarial, again.adversarial)


def test_seeds_and_checkpoints_have_records_of_their_own(trained: Config, cell: Cell) -> None:
    folder = paths.cell_folder(trained, cell)
    for choice, seed in (("best-test", 1), ("last", 0), ("best-val", 0)):
        evaluate_cell(trained, cell, "pgd20", seed, choice, quiet)
    found = {str(path.relative_to(folder)) for path in folder.glob("records*/*.npz")}
    assert found == {
        "records/pgd20-seed0.npz",
        "records/pgd20-seed1.npz",
        "records-last/pgd20-seed0.npz",
        "records-best-val/pgd20-seed0.npz",
    }


def test_noise_is_drawn_per_image() -> None:
    together = uniform_per_image(5, "pgd20", [4, 9, 2], (3, 8, 8))
    alone = uniform_per_image(5, "pgd20", [2], (3, 8, 8))
    assert torch.equal(together[2], alone[0])
    assert not torch.equal(alone, uniform_per_image(6, "pgd20", [2], (3, 8, 8)))
    assert not torch.equal(alone, uniform_per_image(5, "cw20", [2], (3, 8, 8)))
    many = uniform_per_image(0, "pgd20", range(200), (1, 8, 8))
    assert -1 <= many.min() < many.max() < 1
    assert abs(many.mean()) < 0.02
    assert many.std() == pytest.approx(3**-0.5, rel=0.02)


def test_what_cannot_be_evaluated(
    tiny: Callable[..., Config], trained: Config, cell: Cell, tmp_path: Path
) -> None:
    elsewhere = tiny(f"results={tmp_path / 'empty'}")
    for config, attack, message in (
        (elsewhere, "pgd20", "is not trained; run `reproduce train"),
        (tiny(*SETS, "train.momentum=0.8"), "pgd20", "trained with other settings"),
        (trained, "pgd99", "unknown attack"),
    ):
        with pytest.raises(HarnessError, match=message):
            evaluate_cell(config, cell, attack, 0, "best-test", quiet)
    weights = paths.model_file(paths.cell_folder(trained, cell), "best-test")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(HarnessError, match="does not match its checksum"):
        evaluate_cell(trained, cell, "pgd20", 0, "best-test", quiet)
    # the command that the message names mends it
    said: list[str] = []
    train_cell(trained, cell, said.append, never)
    assert "has a damaged model.safetensors: training it again" in said[0]
    assert weights.read_bytes() == whole
    weights.unlink()
    with pytest.raises(HarnessError, match=r"has lost model\.safetensors; run `reproduce train"):
        evaluate_cell(trained, cell, "pgd20", 1, "best-test", quiet)


def test_results_of_other_images_are_outdated(
    trained: Config, cell: Cell, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    """As after preparing the data set from another source."""
    (item,) = (e for e in find_experiment(trained, "table1").evaluations if e.cell == cell)
    assert is_evaluated(trained, item)
    config = tiny(*SETS, f"data.folder={tmp_path / 'data'}")
    shutil.copytree(trained.data.folder, config.data.folder)
    manifest = paths.prepared_file(config, "digits").with_suffix(".json")
    write_json(manifest, {**read_json(manifest), "sha256": "another"})
    with pytest.raises(HarnessError, match="was trained with other images"):
        evaluate_cell(config, cell, "pgd20", 0, "best-test", quiet)


def test_a_network_that_answers_nan(trained: Config, cell: Cell, monkeypatch) -> None:
    def poisoned(model: torch.nn.Module, _path: Path) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    monkeypatch.setattr("reproduce.models.load.load_weights", poisoned)
    with pytest.raises(HarnessError, match="logits are NaN"):
        evaluate_cell(trained, cell, "pgd20", 1, "best-test", quiet)


def test_damaged_records_are_named_and_made_again(trained: Config, cell: Cell) -> None:
    path = _record(trained, cell)
    summary = path.with_suffix(".json")
    whole, text = path.read_bytes(), summary.read_bytes()
    for file, content, message in (
        (path, whole[:-1], "does not match its checksum"),
        (summary, text[:50], "is damaged, it is not JSON"),
        (summary, None, "cannot be read"),
        (path, None, "does not exist"),
    ):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(HarnessError, match=message):
            read_record(path)
        path.write_bytes(whole)
        summary.write_bytes(text)
    path.write_bytes(whole[:-1])
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", quiet)
    assert path.read_bytes() == whole
