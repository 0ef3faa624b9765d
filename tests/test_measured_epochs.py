"""Runs that are measured from a part of their epochs on: what is kept, and who reads it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY, TINY_CELL
from small_runs import STEPS, never, quiet, results, stopped

from reproduce.cell import Cell, parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.experiments.cost import attack_passes, training_passes, validation_passes
from reproduce.experiments.spec import training_spec
from reproduce.figures import draw
from reproduce.registry import dataset_facts
from reproduce.results.frames import read_histories
from reproduce.tables.checkpoints import read_choices
from reproduce.training.train import train_cell

CURVES = "{dataset: digits, architectures: [wrn-10-0.25], method: trades, lambdas: [2], seeds: [0]}"
LATE = ("train.epochs=4", "train.validation.start=0.5", f"experiments.figure3={CURVES}")
ONE = ("experiments.table1.methods={trades: [2]}", "experiments.table1.seeds=[0]")


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Config:
    """A configuration whose one run is measured after epochs 3 and 4, and trained."""
    places = [f"results={tmp_path_factory.mktemp('late')}", f"data.folder={digits_folder}"]
    config = load_config("{}", "demo", [*places, *TINY, *LATE, *ONE])
    train_cell(config, parse_cell(TINY_CELL), quiet, never)
    return config


def test_what_is_not_measured_costs_nothing() -> None:
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    facts = dataset_facts("cifar10")
    late = training_spec(load_config("{}", "paper", ["train.validation.start=0.74"]), cell)
    every = training_spec(load_config("{}", "paper"), cell)
    # 10,000 images after each of so many epochs; the steps cost what they did
    each = 10_000 * attack_passes(late.validation.attack, facts.classes)
    assert validation_passes(late, facts) == validation_passes(every, facts) == each
    assert training_passes(every, facts) - training_passes(late, facts) == 74 * each


def _tensors(weights: bytes) -> bytes:
    """Return a file of weights without its header, which names the settings."""
    return weights[8 + int.from_bytes(weights[:8], "little") :]


def test_it_changes_what_is_measured_and_nothing_else(
    late: Config, tiny: Callable[..., Config], cell: Cell
) -> None:
    every = tiny("train.epochs=4")
    train_cell(every, cell, quiet, never)
    before, after = results(every, cell), results(late, cell)
    assert before["trace.parquet"] == after["trace.parquet"]
    last = "model-last.safetensors"
    assert _tensors(before[last]) == _tensors(after[last])
    rows, all_rows = (
        pd.read_csv(paths.epochs_file(paths.cell_folder(c, cell))) for c in (late, every)
    )
    assert rows["epoch"].tolist() == [3, 4]
    pd.testing.assert_frame_equal(rows, all_rows[2:].reset_index(drop=True), check_exact=True)
    run = read_json(paths.run_file(paths.cell_folder(late, cell)))
    for choice, column in (("best-test", "test"), ("best-val", "val")):
        chosen = int(rows.set_index("epoch")[f"{column}_robust_accuracy"].idxmax())
        assert run["checkpoint_epochs"][choice] == chosen
    assert run["final_metrics"] == all_rows.iloc[-1].to_dict()


def test_a_run_that_was_not_measured_yet_is_followed(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    config = tiny(*LATE)
    stopped(config, cell, STEPS + 1)
    histories = read_histories(config, [cell])
    assert len(histories.traces) == STEPS + 1
    assert histories.epochs.empty
    assert draw(config, "figure3").missing == (f"{cell} is in epoch 2 of 4",)


def test_all_that_read_epochs_read_those_measured(
    late: Config, run_command: Callable[..., str], cell: Cell
) -> None:
    best = read_json(paths.run_file(paths.cell_folder(late, cell)))["checkpoint_epochs"]
    assert (read_choices(late).problems, read_choices(late).found) == ((), 1)
    drawing = draw(late, "figure3")
    assert drawing.missing == ()
    assert drawing.numbers["epoch"].tolist() == [3, 4]
    assert drawing.numbers.loc[drawing.numbers["best"], "epoch"].tolist() == [best["best-test"]]
    run_command(late, "evaluate", cell.id)
    assert "among epochs 3 to 4" in run_command(late, "table", "table1")
    assert "among epochs 3 to 4" in run_command(late, "table", "checkpoints")
