"""What the choice of checkpoint is worth, on made-up runs whose numbers are known."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import write_run
from scipy import stats

from reproduce.cell import Cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, planned_runs
from reproduce.experiments.spec import checkpoints
from reproduce.tables.checkpoints import read_choices, selection_bias
from reproduce.tables.write import write_checkpoints

GRID = (
    "experiments={table1: {dataset: cifar10, architectures: [wrn-34-1, wrn-34-5], methods: "
    "{trades: [6]}, seeds: [0, 1, 2]}, table2: null, table3: null, table4: null, table5: "
    "{seeds: [0]}, table6: null, figure1: null, figure2: null, figure3: null, figure4: null, "
    "figure6: null, figure7: null, figure8: null, figure9: null}"
)
NARROW = Cell("cifar10", "wrn-34-1", "trades", 6.0, 0)
WIDE = Cell("cifar10", "wrn-34-5", "trades", 6.0, 0)
# of the third of four epochs and of the last, by seed: 1, 2 and 3 points apart
BEST, LAST = (50.0, 50.5, 52.0), (49.0, 48.5, 49.0)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    places = [f"results={tmp_path}", GRID, "train.epochs=4", "train.validation.start=0"]
    return lambda *sets: load_config("{}", "paper", [*places, *sets])


def _epochs(best: float, last: float) -> list[dict[str, float]]:
    """Make up four epochs: the third is the best on test images, the second on held-out ones."""
    robust = (30.0, 45.0, best, last)
    return [
        {
            "test_robust_accuracy": value,
            "test_natural_accuracy": 80.0 + epoch,
            "test_perturbation_stability": 60.0 - epoch,
            "val_robust_accuracy": 47.0 if epoch == 1 else 40.0,
            "val_natural_accuracy": 81.0,
            "val_perturbation_stability": 59.0,
        }
        for epoch, value in enumerate(robust)
    ]


def _run(config: Config, cell: Cell, epochs: list[dict[str, float]]) -> None:
    if not config.train.holdout:
        epochs = [{k: v for k, v in row.items() if k.startswith("test_")} for row in epochs]
    write_run(config, Evaluation(cell, "best-test", "pgd20", 0), epochs=epochs)
    for path in paths.run_files(paths.cell_folder(config, cell), checkpoints(config.train)):
        path.touch()


def _fill(config: Config, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    for cell in planned_runs(config):
        if cell.method == "trades" and cell.seed in seeds:
            better = 0.0 if cell.architecture == "wrn-34-1" else 1.0
            _run(config, cell, _epochs(BEST[cell.seed] + better, LAST[cell.seed]))


def _csv(config: Config) -> pd.DataFrame:
    return pd.read_csv(paths.table_file(config, "checkpoints", "csv"))


def test_known_numbers(config: Callable[..., Config]) -> None:
    settings = config()
    _fill(settings)
    choices = read_choices(settings)
    assert (choices.problems, choices.found) == ((), 6)
    markdown = write_checkpoints(settings)
    assert "| 50.83 ± 1.04 | 48.83 ± 0.29 | 2.00 ± 1.00" in " ".join(markdown.split())
    assert "| best-val" not in markdown
    frame = _csv(settings)
    row = frame[(frame["architecture"] == "wrn-34-1") & (frame["metric"] == "robust_accuracy")]
    assert len(row) == 1
    assert row["best-test"].item() == pytest.approx(np.mean(BEST), abs=1e-4)
    assert row["last std"].item() == pytest.approx(np.std(LAST, ddof=1), abs=1e-4)
    # the pairs' deviation, not one of two independent samples
    assert row["best-test minus last std"].item() == pytest.approx(1.0)
    assert row["epoch of best-test"].item() == 3
    natural = frame[frame["metric"] == "natural_accuracy"].iloc[0]
    assert (natural["best-test"], natural["last"], natural["best-test minus last"]) == (82, 83, -1)
    latex = paths.table_file(settings, "checkpoints", "tex").read_text()
    assert r"50.83 $\pm$ 1.04 & 48.83 $\pm$ 0.29 & 2.00 $\pm$ 1.00" in latex
    # two kinds of run, of 2 and of 3 points: Student's interval
    found, kinds = selection_bias(choices, "robust_accuracy", "last")
    expected = stats.ttest_1samp([2.0, 3.0], 0).confidence_interval(0.95)
    assert (found.value, kinds) == (2.5, 2)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert "best-test minus last: +2.50 points on average over 2 row(s), 95 % int" in markdown
    # all kinds alike in the epochs of both: nothing varies
    found, kinds = selection_bias(choices, "natural_accuracy", "last")
    assert (found.value, math.isnan(found.low), kinds) == (-1.0, True, 2)
    assert selection_bias(choices, "top5_natural_accuracy", "last")[1] == 0


def test_held_out_images_add_their_choice(config: Callable[..., Config]) -> None:
    settings = config("train.holdout=1000")
    _fill(settings)
    markdown = write_checkpoints(settings)
    row = _csv(settings).query("metric == 'robust_accuracy'").iloc[0]
    # the second epoch has 45 % on the test images
    assert (row["best-val"], row["best-val std"], row["epoch of best-val"]) == (45, 0, 2)
    assert row["best-test minus best-val"] == pytest.approx(35 / 6, abs=1e-4)
    assert "Robust accuracy, best-test minus best-val: +6.33 points on average over 2" in markdown


def test_what_is_missing(config: Callable[..., Config]) -> None:
    settings = config()
    markdown = write_checkpoints(settings)
    assert "8 of 8 runs have no result yet" in markdown
    assert "points on average" not in markdown
    assert _csv(settings)["best-test"].isna().all()
    _fill(settings, seeds=(0, 1))
    markdown = write_checkpoints(settings)
    assert "50.25 ± 0.35 (2/3)" in markdown
    assert "4 of 8 runs have no result yet" in markdown
    assert "Left out" not in markdown


def test_fast_training_is_measured_by_natural_accuracy(config: Callable[..., Config]) -> None:
    settings = config(
        "train_for.fast-at.epochs=4",
        "train_for.fast-at.phases=[{epochs: 4, batch_size: 256, crop: 128}]",
    )
    for cell in planned_runs(settings):
        if cell.method == "fast-at":
            values = zip((50.0, 62.0, 60.0, 61.0), (70.0, 82.0, 84.0, 83.0), strict=True)
            _run(
                settings,
                cell,
                [{"test_natural_accuracy": a, "test_top5_natural_accuracy": b} for a, b in values],
            )
    markdown = write_checkpoints(settings)
    assert "Fast-AT: 4 epochs, by natural accuracy alone" in markdown
    frame = _csv(settings)
    rows = frame[frame["dataset"] == "imagenet"]
    assert set(rows["metric"]) == {"natural_accuracy", "top5_natural_accuracy"}
    assert set(rows.loc[rows["metric"] == "natural_accuracy", "best-test minus last"]) == {1.0}
    assert set(rows.loc[rows["metric"] != "natural_accuracy", "best-test minus last"]) == {-1.0}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "has lost epochs.csv"),
        (lambda path: path.write_text(path.read_text().replace("30.0", "90.0")), "is damaged"),
    ],
)
def test_a_lost_or_damaged_file_is_named_and_left_out(
    config: Callable[..., Config], harm: Callable[[Path], object], said: str
) -> None:
    settings = config()
    _fill(settings)
    harm(paths.epochs_file(paths.cell_folder(settings, WIDE)))
    markdown = write_checkpoints(settings)
    (line,) = (line for line in markdown.splitlines() if "Left out: " in line)
    assert said in line
    rows = _csv(settings).query("architecture == 'wrn-34-5'")
    assert rows["best-test seeds"].tolist() == [2, 2, 2]
    assert "50.83 ± 1.04" in markdown


def test_a_run_of_other_settings_is_named(config: Callable[..., Config]) -> None:
    settings = config()
    _fill(settings)
    run = paths.run_file(paths.cell_folder(settings, NARROW))
    write_json(run, read_json(run) | {"digest": "another"})
    assert read_choices(settings).problems == (f"{NARROW} was trained with other settings",)
    write_json(run, {k: v for k, v in read_json(run).items() if k != "checkpoint_epochs"})
    assert "damaged at 'checkpoint_epochs'" in read_choices(settings).problems[0]
