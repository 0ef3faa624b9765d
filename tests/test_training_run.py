"""Whole runs: their files, and that stopping and continuing changes nothing."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_runs import EPOCHS, STEPS, never, quiet, results, stop_at

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.core.files import read_json, sha256_of_file
from reproduce.data.dataset import stratified_subset
from reproduce.data.sources import load_prepared
from reproduce.experiments import paths
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import training_spec
from reproduce.training import loop
from reproduce.training.images import open_images
from reproduce.training.loop import stop_requests
from reproduce.training.train import train_cell


def test_the_files_of_a_run(tiny: Callable[..., Config], cell: Cell) -> None:
    config, said = tiny(), list[str]()
    train_cell(config, cell, said.append, never)
    folder = paths.cell_folder(config, cell)
    assert set(results(config, cell)) == {
        "model.safetensors",
        "model-last.safetensors",
        "model-best-val.safetensors",
        "trace.parquet",
        "epochs.csv",
    }
    trace = pd.read_parquet(folder / "trace.parquet")
    assert trace["iteration"].tolist() == list(range(1, EPOCHS * STEPS + 1))
    assert trace["epoch"].tolist() == sorted([1, 2, 3] * STEPS)
    assert (trace["lambda"] == 2).all()
    assert (trace[["natural_risk", "lipschitz", "learning_rate"]] > 0).all(axis=None)
    assert (trace["robust_regularization"] >= 0).all()
    epochs = pd.read_csv(folder / "epochs.csv")
    assert epochs["epoch"].tolist() == [1, 2, 3]
    run, info = read_json(folder / "run.json"), read_run(folder)
    assert run["digest"] == training_spec(config, cell).digest
    assert run["spec"]["train"]["holdout"] == 20
    assert run["pieces"][0]["threads"] >= 1
    # on a CPU the hours are those of the processor
    assert info is not None
    assert info.hours == pytest.approx(run["seconds"] / 3600, abs=1e-6)
    for choice, checksum in run["models"].items():
        assert sha256_of_file(paths.model_file(folder, choice)) == checksum
    for choice, column in (("best-test", "test"), ("best-val", "val")):
        best = int(epochs[f"{column}_robust_accuracy"].idxmax()) + 1
        assert run["checkpoint_epochs"][choice] == best
    best, last = (load_file(paths.model_file(folder, c)) for c in ("best-test", "last"))
    same = all(torch.equal(best[key], last[key]) for key in best)
    assert same == (run["checkpoint_epochs"]["best-test"] == EPOCHS)
    train_cell(config, cell, said.append, never)
    assert "already trained" in said[-1]


@pytest.mark.parametrize("method", ["trades", "awp-trades"])
def test_stopped_after_every_step_it_ends_with_the_same_bits(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """AWP from the second epoch on; measured from that on; and as steps are recorded on a GPU."""
    cell = parse_cell(f"digits/wrn-10-0.25/{method}/lam-2/seed-0")
    sets = ("train.epochs=2", "awp.first_epoch=2", "train.validation.start=0.6")
    config, other = tiny(*sets), tiny(*sets, f"results={tmp_path / 'steps'}")
    train_cell(config, cell, quiet, never)
    monkeypatch.setattr(loop, "wants_graphs", lambda *_: method == "awp-trades")
    said = list[str]()
    # after every step, and in the validation
    for _ in range(2 * STEPS):
        with pytest.raises(Stopped):
            train_cell(other, cell, said.append, stop_at(1))
    train_cell(other, cell, said.append, stop_at(1))
    assert sum("continuing in epoch" in line for line in said) == 2 * STEPS
    assert results(other, cell) == results(config, cell)
    segments = read_json(paths.run_file(paths.cell_folder(other, cell)))["pieces"]
    graphs = [segment["graphs"] for segment in segments]
    assert graphs == [method == "awp-trades"] * (2 * STEPS + 1)


def test_stopped_while_validating(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    """A stop between two batches of the attack that chooses checkpoints; of any batch size."""
    config = tiny("machine.eval_batch=7")
    train_cell(config, cell, quiet, never)
    other = tiny("machine.eval_batch=10", f"results={tmp_path / 'other'}")
    # asked before each of three steps, then after each batch of 40 test and 20 held-out images
    for asked in (STEPS + 2, 5):
        with pytest.raises(Stopped, match="everything is saved") as caught:
            train_cell(other, cell, quiet, stop_at(asked))
        assert caught.value.exit_status == 75
    assert not (paths.cell_folder(other, cell) / "epochs.csv").exists()
    train_cell(other, cell, quiet, never)
    assert results(other, cell) == results(config, cell)


def test_weight_perturbation_begins_with_its_first_epoch(tiny: Callable[..., Config]) -> None:
    """Never reached, it is TRADES to the bit; reached, it is not."""
    traces = []
    for method, first in (("trades", 3), ("awp-trades", 3), ("awp-trades", 2)):
        config = tiny("train.epochs=2", f"awp.first_epoch={first}")
        cell = parse_cell(f"digits/wrn-10-0.25/{method}/lam-2/seed-0")
        train_cell(config, cell, quiet, never)
        traces.append(results(config, cell)["trace.parquet"])
    assert traces[0] == traces[1] != traces[2]


def test_max_minutes_stops(tiny: Callable[..., Config], cell: Cell) -> None:
    with pytest.raises(Stopped, match="stopped after 1e-06 minutes in epoch 1 of 3"):
        train_cell(tiny("machine.max_minutes=0.000001"), cell, quiet)


def test_a_signal_stops_and_a_second_kills(capfd: pytest.CaptureFixture[str]) -> None:
    with stop_requests(None) as reason:
        assert reason() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert reason() == "stopped by SIGTERM"
        assert capfd.readouterr().err.strip().startswith("SIGTERM: ending once")
    with stop_requests(None) as reason, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert reason() == "stopped by SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_settings_neither_continue_nor_destroy(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    config, changed = tiny(), tiny("train.weight_decay=0.001")
    for each in (config, changed):
        with pytest.raises(Stopped):
            train_cell(each, cell, quiet, stop_at(6))
    assert len(list(paths.cell_folder(config, cell).glob("state-*.safetensors"))) == 2
    said: list[str] = []
    with pytest.raises(Stopped):
        train_cell(config, cell, said.append, stop_at(0))
    assert "continuing in epoch 2" in said[0]


def test_images_of_a_run(tiny: Callable[..., Config], cell: Cell) -> None:
    """Some of the subset are held out, all others are trained on."""
    config, cpu = tiny(), torch.device("cpu")
    images = open_images(config, training_spec(config, cell), cpu)
    assert (images.batches.steps(1), len(images.val), len(images.test)) == (STEPS, 20, 40)
    subset = stratified_subset(
        load_prepared(paths.prepared_file(config, "digits")).train, 100, "train"
    )
    trained = images.batches.store.indices
    together = np.sort(np.concatenate([trained, images.val.indices]))
    assert np.array_equal(together, subset.indices)
    assert open_images(config, training_spec(tiny("train.holdout=0"), cell), cpu).val is None
