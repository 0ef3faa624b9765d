"""Evaluations: metrics, records, seeds, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.rng import uniform_per_image
from reproduce.data.dataset import save_prepared
from reproduce.data.sources import load_prepared
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.evaluation.records import compute_metrics, read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.experiments.spec import training_spec
from reproduce.results.plan import is_evaluated, is_finished
from reproduce.training.train import train_cell


def _quiet(_: str) -> None:
    pass


@pytest.fixture
def trained(tiny: Callable[..., Config], cell: Cell) -> Config:
    config = tiny()
    train_cell(config, cell, _quiet, lambda: None)
    return config


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
    with pytest.raises(HarnessError, match="without images"):
        compute_metrics(labels[:0], clean[:0], adversarial[:0])


def test_robust_is_correct_and_stable_on_random_predictions() -> None:
    stream = np.random.default_rng(0)
    for _ in range(100):
        labels, clean, adversarial = stream.integers(0, 3, (3, 50))
        metrics = compute_metrics(labels, clean, adversarial)
        correct, stable = clean == labels, clean == adversarial
        assert metrics.robust_accuracy == pytest.approx(100 * (correct & stable).mean())
        hits = 100 * (adversarial == labels).mean()
        assert metrics.robust_accuracy + 2 * metrics.recovered == pytest.approx(hits)


def test_a_record_says_what_it_is(trained: Config, cell: Cell) -> None:
    record = evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    folder = paths.cell_folder(trained, cell)
    again = read_record(paths.record_file(folder, "best-test", "pgd20", 0))
    for name in ("index", "label", "clean", "adversarial"):
        assert np.array_equal(getattr(record, name), getattr(again, name))
    run = json.loads((folder / "run.json").read_text())
    assert again.info["model_sha256"] == run["models"]["best-test"]
    assert again.info["spec"]["epsilon"] == 0.2
    assert again.info["metrics"] == again.metrics.as_dict()
    assert len(again.index) == 40
    # the identity of equation (3.1), image by image, wherever the attack recovered nothing
    correct, stable = again.clean == again.label, again.clean == again.adversarial
    hit = again.adversarial == again.label
    assert ((hit != (correct & stable)).sum()) == again.metrics.recovered


@pytest.mark.usefixtures("trained")
def test_batch_size_changes_nothing(cell: Cell, tiny: Callable) -> None:
    records = []
    for batch in (7, 40):
        config = tiny(f"machine.eval_batch={batch}")
        paths.record_file(paths.cell_folder(config, cell), "best-test", "pgd20", 0).unlink(
            missing_ok=True
        )
        records.append(evaluate_cell(config, cell, "pgd20", 0, "best-test", _quiet))
    assert np.array_equal(records[0].adversarial, records[1].adversarial)


def test_seeds_and_checkpoints_have_records_of_their_own(trained: Config, cell: Cell) -> None:
    folder = paths.cell_folder(trained, cell)
    for choice in ("best-test", "last", "best-val"):
        for seed in (0, 1):
            evaluate_cell(trained, cell, "pgd20", seed, choice, _quiet)
    found = sorted(str(path.relative_to(folder)) for path in folder.glob("records*/*.npz"))
    assert found == sorted(
        f"records{suffix}/pgd20-seed{seed}.npz"
        for suffix in ("", "-best-val", "-last")
        for seed in (0, 1)
    )


def test_noise_is_drawn_per_image() -> None:
    together = uniform_per_image(5, "pgd20", [4, 9, 2], (3, 8, 8))
    alone = uniform_per_image(5, "pgd20", [2], (3, 8, 8))
    assert torch.equal(together[2], alone[0])
    assert together.min() >= -1
    assert together.max() < 1
    assert not torch.equal(alone, uniform_per_image(6, "pgd20", [2], (3, 8, 8)))
    assert not torch.equal(alone, uniform_per_image(5, "cw20", [2], (3, 8, 8)))
    many = uniform_per_image(0, "pgd20", range(200), (1, 8, 8))
    assert abs(many.mean()) < 0.02
    assert many.std() == pytest.approx(3**-0.5, rel=0.02)


def test_an_evaluation_is_not_run_twice(trained: Config, cell: Cell) -> None:
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    path = paths.record_file(paths.cell_folder(trained, cell), "best-test", "pgd20", 0)
    written = path.stat().st_mtime_ns
    said: list[str] = []
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", said.append)
    assert said[0].startswith("already evaluated")
    assert path.stat().st_mtime_ns == written


def test_what_cannot_be_evaluated(
    tiny: Callable[..., Config], trained: Config, cell: Cell, tmp_path: Path
) -> None:
    elsewhere = tiny(f"results={tmp_path / 'empty'}")
    with pytest.raises(HarnessError, match="is not trained; run `reproduce train"):
        evaluate_cell(elsewhere, cell, "pgd20", 0, "best-test", _quiet)
    with pytest.raises(HarnessError, match="trained with other settings"):
        evaluate_cell(tiny("train.momentum=0.8"), cell, "pgd20", 0, "best-test", _quiet)
    with pytest.raises(HarnessError, match="unknown attack"):
        evaluate_cell(trained, cell, "pgd99", 0, "best-test", _quiet)
    weights = paths.model_file(paths.cell_folder(trained, cell), "best-test")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(HarnessError, match="does not match its checksum"):
        evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    # ... and what the message says to do mends it
    said: list[str] = []
    train_cell(trained, cell, said.append, lambda: None)
    assert "has a damaged model.safetensors: training it again" in said[0]
    assert weights.read_bytes() == whole
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    weights.unlink()
    with pytest.raises(HarnessError, match=r"has lost model\.safetensors; run `reproduce train"):
        evaluate_cell(trained, cell, "pgd20", 1, "best-test", _quiet)
    train_cell(trained, cell, said.append, lambda: None)
    assert weights.read_bytes() == whole


def test_other_images_make_results_outdated(
    trained: Config, cell: Cell, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    """Trained, then the data set is prepared from another source: nothing counts as done."""
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    folder = tmp_path / "data"
    dataset = load_prepared(paths.prepared_file(trained, "digits"))
    arrays = {
        "train_images": 255 - dataset.train.images,
        "train_labels": dataset.train.labels,
        "test_images": dataset.test.images,
        "test_labels": dataset.test.labels,
    }
    config = tiny(f"data.folder={folder}")
    target = paths.prepared_file(config, "digits")
    save_prepared(target, dataset.facts, arrays, "a test", official=False)
    spec = training_spec(config, cell)
    assert is_finished(trained, spec)
    assert not is_finished(config, spec)
    with pytest.raises(HarnessError, match="was trained with other images"):
        evaluate_cell(config, cell, "pgd20", 0, "best-test", _quiet)
    said: list[str] = []
    train_cell(config, cell, said.append, lambda: None)
    assert "was trained with other images" in said[0]
    assert is_finished(config, spec)
    (item,) = (e for e in find_experiment(config, "table1").evaluations if e.cell == cell)
    assert not is_evaluated(config, item)
    evaluate_cell(config, cell, "pgd20", 0, "best-test", _quiet)
    assert is_evaluated(config, item)


def test_a_network_that_answers_nan(trained: Config, cell: Cell, monkeypatch) -> None:
    def poisoned(model: torch.nn.Module, _path: Path) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    monkeypatch.setattr("reproduce.models.load.load_weights", poisoned)
    with pytest.raises(HarnessError, match="logits are NaN"):
        evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)


def test_damaged_records(trained: Config, cell: Cell) -> None:
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    path = paths.record_file(paths.cell_folder(trained, cell), "best-test", "pgd20", 0)
    summary = path.with_suffix(".json").read_text()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(HarnessError, match="does not match its checksum"):
        read_record(path)
    path.write_bytes(whole)
    path.with_suffix(".json").write_text(summary[:50])
    with pytest.raises(HarnessError, match="is damaged, it is not JSON"):
        read_record(path)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(HarnessError, match="holds no JSON object"):
        read_record(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(HarnessError, match="cannot be read"):
        read_record(path)
    path.unlink()
    with pytest.raises(HarnessError, match="does not exist"):
        read_record(path)
    # whatever is damaged is simply attacked again
    evaluate_cell(trained, cell, "pgd20", 0, "best-test", _quiet)
    assert path.read_bytes() == whole
