"""Claims on epochs (Figure 3), on made-up results whose verdicts are known."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from claim_results import claims_of
from histories import write_history

from reproduce import paths
from reproduce.analysis.statistics import contrast, sample
from reproduce.catalogue import parse_architecture
from reproduce.cells import Cell
from reproduce.claims.overfitting import after_drops, first_drop, slope
from reproduce.config import Config
from reproduce.experiments import curve_cells
from reproduce.schedules import learning_rate
from reproduce.settings import load_config

EPOCHS = 12
# of twelve epochs a half and four fifths
DROPS = (6, 9)
CURVES = (
    "{{dataset: digits, architectures: [wrn-10-0.25, wrn-10-0.5, wrn-10-1], method: {}, "
    "lambdas: [6], seeds: {}}}"
)


def _config(
    tiny: Callable[..., Config],
    *sets: str,
    method: str = "trades-step",
    seeds: str = "[0, 1, 2]",
) -> Config:
    figure = f"experiments.figure3={CURVES.format(method, seeds)}"
    return tiny(figure, f"train.epochs={EPOCHS}", *sets)


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    """Made-up runs whose learning rate drops in the sixth and in the ninth epoch."""
    return _config(tiny)


def _noise(cell: Cell) -> float:
    """Runs scatter by a tenth of a point an epoch, and a little by width."""
    return (cell.seed - 1) / 10 + parse_architecture(cell.architecture).width / 100


def _epochs(
    cell: Cell, robust: float, natural: float, stable: float, before: float = -2.0, jump: float = 1
) -> list[dict[str, float]]:
    """Return epochs with slopes from the first drop on, and a jump at each drop."""
    noise = _noise(cell)
    rows = []
    for epoch in range(1, EPOCHS + 1):
        early, late = min(epoch, DROPS[0] - 1), max(0, epoch - DROPS[0])
        level = 8 * (epoch >= DROPS[0]) + jump * (epoch >= DROPS[1])
        rows.append(
            {
                "epoch": epoch,
                "test_robust_accuracy": 30 + level + 1.5 * early + (robust + noise) * late,
                "test_natural_accuracy": 50 + level + 1.5 * early + (natural + noise) * late,
                "test_perturbation_stability": 80
                + (before + noise) * early
                + jump * (epoch >= DROPS[1])
                + (stable + noise / 2) * late,
            }
        )
    return rows


def _fill(config: Config, *slopes: float, before: float = -2.0, jump: float = 1) -> None:
    for cell in curve_cells(config.experiments.figure3):
        write_history(config, cell, epochs=_epochs(cell, *slopes, before=before, jump=jump))


@pytest.mark.parametrize(
    ("slopes", "verdict", "words"),
    [
        # robust falls, stability falls, natural accuracy rises
        ((-1, 0.5, -1.5), "holds", "stability falls faster than natural accuracy, by 2"),
        # stability falls less than natural accuracy: that is where it comes from
        ((-1, -1.5, -0.5), "fails", "stability falls slower than natural accuracy, by 0.99"),
        ((-1, -1.5, 0.5), "fails", "perturbation stability rises by 0.5"),
        # no over-fitting to explain
        ((1, 0.5, 0.5), "fails", "robust accuracy rises by 1"),
        ((0, 0.5, -0.5), "too little data", "no over-fitting shown"),
        ((-1, 0, 0), "too little data", "perturbation stability"),
    ],
)
def test_overfitting(
    config: Config, slopes: tuple[float, float, float], verdict: str, words: str
) -> None:
    _fill(config, *slopes)
    claim = claims_of(config)["overfitting"]
    assert claim.verdict == verdict, claim.summary
    assert words in claim.summary
    assert "After epoch 6" in claim.summary
    # without the jumps at both drops
    assert [e.value for e in claim.effects] == pytest.approx(
        [-slopes[0], -slopes[2], slopes[1] - slopes[2]], abs=0.01
    )
    assert "epochs 7 to 8, 10 to 12; 9 runs of 3 networks" in claim.effects[0].detail


def test_a_jump_at_the_second_drop_is_no_trend(tiny: Callable[..., Config]) -> None:
    """0.04 points an epoch are lost throughout, and one point is gained at the drop."""
    config = _config(tiny)
    for cell in curve_cells(config.experiments.figure3):
        rows = _epochs(cell, -0.04, 0.5, -0.5, jump=1)
        for row in rows:
            # seeds differ far less than they do elsewhere
            row["test_robust_accuracy"] -= 0.95 * _noise(cell) * max(0, row["epoch"] - DROPS[0])
        write_history(config, cell, epochs=rows)
    claim = claims_of(config)["overfitting"]
    assert claim.effects[0].value == pytest.approx(0.04, abs=0.001)
    assert claim.effects[0].low > 0
    assert claim.verdict == "holds", claim.summary


def test_a_slope_against_least_squares_with_a_level_for_each_window() -> None:
    stream = np.random.default_rng(0)
    epochs = pd.DataFrame({"epoch": range(1, 21), "metric": stream.normal(size=20)})
    windows = [[5, 6], [9, 10, 11, 12], [15, 16, 17]]
    rows = epochs[epochs["epoch"].isin(np.concatenate(windows))]
    levels = [rows["epoch"].isin(window) for window in windows]
    design = np.column_stack([rows["epoch"], *levels]).astype(float)
    expected = np.linalg.lstsq(design, rows["metric"].to_numpy())[0][0]
    assert slope(epochs, "metric", windows) == pytest.approx(expected)
    single = np.polyfit(range(3, 8), epochs["metric"][2:7], 1)[0]
    assert slope(epochs, "metric", [range(3, 8)]) == pytest.approx(single)


@pytest.mark.parametrize("windows", [[[4]], [[4, 5]], [[4], [5], [6]], []])
def test_too_few_epochs_have_no_slope(windows: list[list[int]]) -> None:
    epochs = pd.DataFrame({"epoch": range(1, 9), "metric": 12.5})
    assert math.isnan(slope(epochs, "metric", windows))


@pytest.mark.parametrize(
    ("setting", "windows"),
    [
        ("train_for.trades-step.milestones=[0.92]", [[11, 12]]),
        ("train_for.trades-step.milestones=[0.84, 0.92]", [[11, 12]]),
        # halved in every epoch: what the rate does and what time does are one
        ("train_for.trades-step={schedule: exp}", []),
    ],
)
def test_too_few_epochs_after_the_drop(
    tiny: Callable[..., Config], setting: str, windows: list[list[int]]
) -> None:
    config = _config(tiny, setting)
    _fill(config, -1, 0.5, -1.5)
    assert after_drops(config.train_of("trades-step")) == windows
    claim = claims_of(config)["overfitting"]
    assert (claim.verdict, claim.effects) == ("too little data", ())
    assert "Fewer than 3 measured epochs are left after the learning rate drops" in claim.summary


@pytest.mark.parametrize("share", [0.17, 0.25])
def test_too_few_epochs_before_the_drop(tiny: Callable[..., Config], share: float) -> None:
    config = _config(tiny, f"train_for.trades-step.milestones=[{share}]")
    _fill(config, -1, 0.5, -1.5)
    claim = claims_of(config)["stability-falls"]
    assert (claim.verdict, claim.effects) == ("too little data", ())
    assert "Fewer than 3 measured epochs are left before the learning rate drops" in claim.summary


def test_stability_before_the_drop(config: Config) -> None:
    _fill(config, -1, 0.5, -1.5, before=-2.0)
    claim = claims_of(config)["stability-falls"]
    values = [effect.value for effect in claim.effects]
    assert values == pytest.approx([2, 1.5, 1.5], abs=0.01)
    assert "In epochs 1 to 5 perturbation stability falls by 1.99" in claim.summary
    assert "robust accuracy rises by 1.5" in claim.summary


def _rising(config: Config, natural: float, before: float) -> str:
    """Judge runs whose robust accuracy rises, stability and natural accuracy move as said."""
    for cell in curve_cells(config.experiments.figure3):
        rows = _epochs(cell, -1, 0.5, -1.5, before)
        for row in rows:
            row["test_robust_accuracy"] += _noise(cell) * row["epoch"]
            row["test_natural_accuracy"] += (_noise(cell) + natural - 1.5) * row["epoch"]
        write_history(config, cell, epochs=rows)
    return claims_of(config)["stability-falls"].verdict


@pytest.mark.parametrize(
    ("before", "natural", "verdict"),
    [
        (-2, 1, "holds"),
        (2, 1, "fails"),
        (0, 1, "too little data"),
        # all three fall: stability is not unlike the accuracies
        (-2, -1, "fails"),
        (-2, 0, "too little data"),
    ],
)
def test_stability_falls_unlike_the_accuracies(
    config: Config, before: float, natural: float, verdict: str
) -> None:
    assert _rising(config, natural, before) == verdict


def test_one_seed_of_several_widths_is_no_sample(tiny: Callable[..., Config]) -> None:
    config = _config(tiny, seeds="[0]")
    assert _rising(config, 1, -2) == "too little data"
    claim = claims_of(config)["overfitting"]
    assert claim.verdict == "too little data"
    assert "(no interval, 3 runs of 3 networks)" in claim.summary
    assert all(math.isnan(effect.low) for effect in claim.effects)


def test_networks_have_equal_weights(config: Config) -> None:
    """The widest falls faster, and the thinnest has a run less: a contrast of three means."""
    cells = curve_cells(config.experiments.figure3)
    slopes: dict[tuple[str, float], list[float]] = {}
    for cell in cells:
        if cell == cells[2]:
            continue
        stable = -1.5 - (cell.architecture == "wrn-10-1")
        write_history(config, cell, epochs=_epochs(cell, -1, 0.5, stable))
        key = (cell.architecture, cell.lam)
        slopes.setdefault(key, []).append(-stable - _noise(cell) / 2)
    claim = claims_of(config)["overfitting"]
    expected = contrast([sample(values) for values in slopes.values()], [1 / 3] * 3)
    found = claim.effects[1]
    assert (found.value, found.low, found.high) == pytest.approx(expected[:3])
    assert (claim.verdict, found.seeds) == ("holds", 2)
    assert "8 runs of 3 networks" in claim.summary


def test_epochs_that_are_missing_or_damaged(config: Config) -> None:
    cells = curve_cells(config.experiments.figure3)
    first, second, *_ = cells
    write_history(config, first, epochs=_epochs(first, -1, 0.5, -1.5))
    claim = claims_of(config)["overfitting"]
    # one run has slopes and no interval
    assert claim.verdict == "too little data"
    assert "falls by 1.1 points an epoch (no interval, 1 run of 1 network)" in claim.summary
    assert len(claim.missing) == 8
    _fill(config, -1, 0.5, -1.5)
    damaged = paths.epochs_file(paths.cell_folder(config, second))
    damaged.write_text("epoch\n1\n")
    claim = claims_of(config)["overfitting"]
    assert claim.verdict == "holds"
    assert "8 runs of 3 networks" in claim.effects[0].detail
    assert f"{second}/epochs.csv is damaged" in " ".join(claim.missing)
    # a second run of the same network less: of it there is one, and the claim waits
    paths.run_file(paths.cell_folder(config, first)).unlink()
    claim = claims_of(config)["overfitting"]
    assert claim.verdict == "too little data"
    assert claim.summary.startswith("So far, judged on 2 of 3 networks: after epoch 6")


def test_epochs_that_were_not_measured_are_named(config: Config) -> None:
    _fill(config, -1, 0.5, -1.5)
    first, *_ = cells = curve_cells(config.experiments.figure3)
    for cell in cells:
        rows = _epochs(cell, -1, 0.5, -1.5)
        for row in rows[2:4]:
            row["test_natural_accuracy"] = math.nan
        write_history(config, cell, epochs=rows)
    for name in ("overfitting", "stability-falls"):
        claim = claims_of(config)[name]
        assert "No run is finished with all its measurements" in claim.summary
        assert len(claim.missing) == len(cells)
        assert claim.missing[0] == f"{first} has no measurement of all metrics in 2 of 12 epochs"


def test_no_runs_have_no_slopes(config: Config) -> None:
    found = claims_of(config)
    for name in ("overfitting", "stability-falls"):
        assert found[name].verdict == "too little data"
        assert "No run is finished" in found[name].summary


@pytest.mark.parametrize(("schedule", "epoch"), [("step", 75), ("exp", 75), ("cosine", None)])
def test_the_first_drop_is_the_schedules(schedule: str, epoch: int | None) -> None:
    train = load_config("{}", "paper", [f"train.schedule={schedule}"]).train
    assert first_drop(train) == epoch
    if epoch is not None:
        assert learning_rate(train, epoch - 1) == 0.1 > learning_rate(train, epoch)


def test_the_papers_windows() -> None:
    train = load_config("{}", "paper", []).train_of("trades-step")
    assert after_drops(train) == [list(range(76, 90)), list(range(91, 101))]


def test_a_schedule_without_a_drop(tiny: Callable[..., Config]) -> None:
    config = _config(tiny, "train.schedule=cosine", method="trades")
    _fill(config, -1, 0.5, -1.5)
    found = claims_of(config)
    assert "no drop of the learning rate" in found["overfitting"].summary
    assert "In epochs 1 to 12" in found["stability-falls"].summary
