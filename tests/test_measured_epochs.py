"""Runs that are measured from a part of their epochs on: which, what is kept, who reads it."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
from histories import made_up_epochs, write_history
from small_runs import STEPS, never, quiet, results, stopped

from reproduce.cell import Cell, parse_cell
from reproduce.claims.statements import judge_claims
from reproduce.config.load import load_config
from reproduce.config.schema import Config, Train
from reproduce.experiments import paths
from reproduce.experiments.cost import attack_passes, training_passes, validation_passes
from reproduce.experiments.grids import curve_cells
from reproduce.experiments.runs import read_run
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import training_spec
from reproduce.figures import draw
from reproduce.registry import dataset_facts
from reproduce.results.frames import read_histories
from reproduce.tables.checkpoints import read_choices
from reproduce.training.train import train_cell

ATTACK = {"epsilon": 0.031, "step_size": 0.007, "steps": 10}
ALL, LATE = ("train.epochs=4",), ("train.epochs=4", "train.validation.start=0.5")
CURVES = "{dataset: digits, architectures: [wrn-10-0.25], method: trades, lambdas: [2], seeds: [0]}"


@pytest.mark.parametrize("share", ["0", "0.29", "0.5", "0.75", "0.99", "0.9999999999"])
@pytest.mark.parametrize("epochs", [1, 3, 99, 100, 200])
def test_which_epochs_are_measured(share: str, epochs: int) -> None:
    train = Train(epochs=epochs, attack=ATTACK, validation={"start": float(share)})
    # in exact fractions: 0.29 * 100 as floats is a little less than 29
    later = [epoch for epoch in range(1, epochs + 1) if epoch > Fraction(share) * epochs]
    assert list(measured_epochs(train)) == later
    assert epochs in measured_epochs(train)


@pytest.mark.parametrize("name", ["wrn-34-1/trades/lam-6", "wrn-34-10/at/lam-1"])
def test_what_is_not_measured_costs_nothing(name: str) -> None:
    cell, facts = parse_cell(f"cifar10/{name}/seed-0"), dataset_facts("cifar10")
    late = training_spec(load_config("{}", "paper", ["train.validation.start=0.74"]), cell)
    every = training_spec(load_config("{}", "paper"), cell)
    # 10,000 images after each of so many epochs; the steps cost what they did
    each = 10_000 * attack_passes(late.validation.attack, facts.classes)
    assert validation_passes(late, facts) == 26 * each
    assert validation_passes(every, facts) == 100 * each
    assert training_passes(every, facts) - training_passes(late, facts) == 74 * each


def _content(files: dict[str, bytes], name: str) -> bytes:
    """Return a result, of weights without the header, which names the settings."""
    content = files[name]
    if not name.endswith(".safetensors"):
        return content
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_it_changes_what_is_measured_and_nothing_else(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    every, late = tiny(*ALL, f"results={tmp_path / 'every'}"), tiny(*LATE)
    train_cell(every, cell, quiet, never)
    capsys.readouterr()
    train_cell(late, cell, quiet, never)
    lines = [line for line in capsys.readouterr().err.splitlines() if " epoch " in line]
    assert ["(not measured)" in line for line in lines] == [True, True, False, False]
    assert all("losses: natural " in line and "nan" not in line for line in lines[:2])
    before, after = results(every, cell), results(late, cell)
    for name in ("trace.parquet", "model-last.safetensors"):
        assert _content(before, name) == _content(after, name)
    folder = paths.cell_folder(late, cell)
    rows, all_rows = (
        pd.read_csv(paths.epochs_file(paths.cell_folder(c, cell))) for c in (late, every)
    )
    assert rows["epoch"].tolist() == [3, 4]
    pd.testing.assert_frame_equal(rows, all_rows[2:].reset_index(drop=True), check_exact=True)
    run = json.loads(paths.run_file(folder).read_text())
    for choice, column in (("best-test", "test"), ("best-val", "val")):
        chosen = int(rows.set_index("epoch")[f"{column}_robust_accuracy"].idxmax())
        assert run["checkpoint_epochs"][choice] == chosen
    assert run["final_metrics"] == all_rows.iloc[-1].to_dict()


def test_a_run_that_was_not_measured_yet_is_followed(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    config = tiny(*LATE, f"experiments.figure3={CURVES}")
    stopped(config, cell, STEPS + 1)
    histories = read_histories(config, [cell])
    assert len(histories.traces) == STEPS + 1
    assert histories.epochs.empty
    assert draw(config, "figure3").missing == (f"{cell} is in epoch 2 of 4",)
    assert {c.name: c for c in judge_claims(config)}["overfitting"].verdict == "too little data"


def test_all_that_read_epochs_read_those_measured(
    tiny: Callable[..., Config], run_command: Callable[..., str], cell: Cell
) -> None:
    one = ["experiments.table1.methods={trades: [2]}", "experiments.table1.seeds=[0]"]
    config = tiny(*LATE, *one, f"experiments.figure3={CURVES}")
    train_cell(config, cell, quiet, never)
    run = read_run(paths.cell_folder(config, cell))
    assert run is not None
    best = run.checkpoint_epochs["best-test"]
    assert (read_choices(config).problems, read_choices(config).found) == ((), 1)
    drawing = draw(config, "figure3")
    assert drawing.missing == ()
    assert drawing.numbers["epoch"].tolist() == [3, 4]
    assert drawing.numbers.loc[drawing.numbers["best"], "epoch"].tolist() == [best]
    assert "Only epochs 3 to 4 are measured." in drawing.caption
    run_command(config, "evaluate", cell.id)
    note = "TRADES: 4 epochs, measured from epoch 3 on"
    assert note in run_command(config, "table", "table1")
    assert note in run_command(config, "table", "checkpoints")


@pytest.mark.parametrize("rows", [range(1, 7), range(4, 6)])
def test_epochs_other_than_those_measured_are_damage(
    tiny: Callable[..., Config], cell: Cell, rows: range
) -> None:
    config = tiny("train.epochs=6", "train.validation.start=0.5")
    epochs = made_up_epochs(cell)
    write_history(config, cell, epochs=[epochs[epoch - 1] for epoch in rows])
    (line,) = read_histories(config, [cell]).missing
    assert "epochs.csv is damaged or not of 6 epochs measured from 4 on" in line


def test_claims_on_epochs_take_those_measured(tiny: Callable[..., Config]) -> None:
    """The rate drops in epoch 8 of twelve, and epoch 7 is the first that is measured."""
    grid = (
        "{dataset: digits, architectures: [wrn-10-0.25, wrn-10-0.5], method: trades-step, "
        "lambdas: [6], seeds: [0, 1]}"
    )
    drop = "train_for.trades-step.milestones=[0.67]"
    late = "train_for.trades-step.validation.start=0.5"
    config = tiny(f"experiments.figure3={grid}", "train.epochs=12", drop, late)
    for cell in curve_cells(config.experiments.figure3):
        # seeds differ by a twentieth of a point an epoch
        fall = 1 + cell.seed / 20
        rows = [
            {
                "epoch": epoch,
                "test_robust_accuracy": 50 - fall * epoch,
                "test_natural_accuracy": 60 + fall * epoch,
                "test_perturbation_stability": 90 - 2 * fall * epoch,
            }
            for epoch in measured_epochs(config.train_of("trades-step"))
        ]
        write_history(config, cell, epochs=rows)
    found = {claim.name: claim for claim in judge_claims(config)}
    over = found["overfitting"]
    assert over.verdict == "holds", over.summary
    assert "epochs 9 to 12; 4 runs of 2 networks" in over.effects[0].detail
    assert over.effects[0].value == pytest.approx(1.025)
    early = found["stability-falls"]
    assert (early.verdict, early.effects) == ("too little data", ())
    assert "Fewer than 3 measured epochs are left before the learning rate drops" in early.summary
