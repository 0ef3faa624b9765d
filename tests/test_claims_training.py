"""Claims on traces and on epochs, on made-up results whose verdicts are known."""

from collections.abc import Callable

import pandas as pd
import pytest
from claim_results import claims_of
from histories import EPOCHS, STEPS, write_history

from reproduce import paths
from reproduce.catalogue import parse_architecture
from reproduce.cells import Cell
from reproduce.claims.overfitting import first_drop
from reproduce.config import Config
from reproduce.experiments import curve_cells
from reproduce.schedules import learning_rate
from reproduce.settings import load_config
from reproduce.traces import as_frame

CURVES = (
    "{{dataset: digits, architectures: [wrn-10-0.25, wrn-10-0.5, wrn-10-1], method: {}, "
    "lambdas: [6], seeds: [0, 1, 2]}}"
)


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    """Made-up runs of six epochs, the rate of Figure 3's falling in the third and the fourth."""
    return tiny(
        f"experiments.figure1={CURVES.format('trades')}",
        f"experiments.figure3={CURVES.format('trades-step')}",
        f"experiments.figure4={CURVES.format('trades')}",
        f"train.epochs={EPOCHS}",
    )


def _trace(cell: Cell, width_effect: float, first_epoch: float = 0.0) -> pd.DataFrame:
    """Return a trace whose three columns differ by width, and by a little from seed to seed."""
    width = parse_architecture(cell.architecture).width
    rows = []
    for row in range(EPOCHS * STEPS):
        epoch = 1 + row // STEPS
        by_width = width_effect * width + cell.seed / 100 + first_epoch * (epoch == 1)
        rows.append([epoch, 2 - by_width, 1 + by_width, cell.lam, 0.1, 5 + by_width])
    return as_frame(rows)


def _fill_traces(config: Config, width_effect: float, first_epoch: float = 0.0) -> None:
    for cell in curve_cells(config.experiments.figure1):
        write_history(config, cell, _trace(cell, width_effect, first_epoch))


NAMES = ("wider-regularization", "wider-risk", "wider-lipschitz")


def test_traces_by_width(config: Config) -> None:
    _fill_traces(config, 1.0)
    found = claims_of(config)
    for name in NAMES:
        claim = found[name]
        assert (claim.verdict, claim.unit, claim.missing) == ("holds", "seeds", ())
        main, *neighbours = claim.effects
        # the widest against the thinnest decides: 1 - 0.25
        assert main.value == pytest.approx(0.75, rel=1e-5)
        assert [e.value for e in neighbours] == pytest.approx([0.25, 0.5], rel=1e-5)
        assert main.seeds == 3
        assert "larger in 100 % of the epochs" in main.detail
    assert "0.75 nats lower on the widest network" in found["wider-risk"].summary
    assert "w=1 − w=0.25" in found["wider-regularization"].effects[0].what
    assert "w=0.25 − w=1" in found["wider-risk"].effects[0].what
    _fill_traces(config, -1.0)
    assert {claims_of(config)[name].verdict for name in NAMES} == {"fails"}
    _fill_traces(config, 0.001)
    assert {claims_of(config)[name].verdict for name in NAMES} == {"too little data"}


def test_the_beginning_of_training_does_not_count(config: Config) -> None:
    """The first quarter of six epochs is the first epoch; there all is the other way round."""
    _fill_traces(config, 1.0)
    before = claims_of(config)["wider-risk"]
    for cell in curve_cells(config.experiments.figure1):
        width = parse_architecture(cell.architecture).width
        write_history(config, cell, _trace(cell, 1.0, first_epoch=-100 * width))
    assert claims_of(config)["wider-risk"].effects == before.effects


def test_neighbours_can_contradict_the_ends(config: Config) -> None:
    bent = {"wrn-10-0.25": 0.0, "wrn-10-0.5": 2.0, "wrn-10-1": 1.0}
    for cell in curve_cells(config.experiments.figure4):
        width = parse_architecture(cell.architecture).width
        write_history(config, cell, _trace(cell, bent[cell.architecture] / width))
    claim = claims_of(config)["wider-lipschitz"]
    assert claim.effects[0].low > 0
    assert claim.verdict == "fails"
    assert "against the claim: the local Lipschitz estimate, λ=6: w=1 − w=0.5" in claim.summary


def test_traces_that_are_missing_or_damaged(config: Config) -> None:
    cells = curve_cells(config.experiments.figure1)
    for cell in cells:
        if cell.seed == 0:
            write_history(config, cell, _trace(cell, 1.0))
    claim = claims_of(config)["wider-regularization"]
    assert claim.verdict == "too little data"
    # the size is shown without an interval
    assert "Needs two training seeds on each side" in claim.summary
    assert "0.25 to 0.5 nats" in claim.summary
    assert len(claim.missing) == 6
    _fill_traces(config, 1.0)
    damaged = paths.trace_file(paths.cell_folder(config, cells[0]))
    damaged.write_bytes(b"no trace")
    claim = claims_of(config)["wider-regularization"]
    assert (claim.verdict, claim.effects[0].seeds) == ("holds", 2)
    (line,) = claim.missing
    assert f"{cells[0]}/trace.parquet is damaged" in line
    # without the widest there are no ends to hold against each other
    for cell in cells:
        if cell.architecture == "wrn-10-1":
            paths.run_file(paths.cell_folder(config, cell)).unlink()
    assert claims_of(config)["wider-regularization"].verdict == "too little data"


def _epochs(
    cell: Cell, robust: float, natural: float, stable: float, before: float = -2.0
) -> list[dict[str, float]]:
    """Return epochs with slopes from the third on, where the rate first falls; a jump there.

    Runs scatter by a tenth of a point an epoch.
    """
    noise = (cell.seed - 1) / 10 + parse_architecture(cell.architecture).width / 100
    rows = []
    for epoch in range(1, EPOCHS + 1):
        late = max(0, epoch - 3)
        rows.append(
            {
                "epoch": epoch,
                "test_robust_accuracy": 40 + 8 * (epoch >= 3) + (robust + noise) * late,
                "test_natural_accuracy": 60 + 8 * (epoch >= 3) + (natural + noise) * late,
                "test_perturbation_stability": 80
                + (before + noise) * min(epoch, 2)
                + (stable + noise / 2) * late,
            }
        )
    return rows


def _fill_epochs(config: Config, *slopes: float, before: float = -2.0) -> None:
    for cell in curve_cells(config.experiments.figure3):
        write_history(config, cell, epochs=_epochs(cell, *slopes, before=before))


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
    _fill_epochs(config, *slopes)
    claim = claims_of(config)["overfitting"]
    assert claim.verdict == verdict, claim.summary
    assert words in claim.summary
    assert "After epoch 3" in claim.summary
    # from the epoch after the drop on, so the jump at the drop plays no part
    assert [e.value for e in claim.effects] == pytest.approx(
        [-slopes[0], -slopes[2], slopes[1] - slopes[2]], abs=0.01
    )
    assert "9 runs of 3 widths" in claim.effects[0].detail


def test_stability_before_the_drop(config: Config) -> None:
    _fill_epochs(config, -1, 0.5, -1.5, before=-2.0)
    claim = claims_of(config)["stability-falls"]
    assert (claim.verdict, claim.effects[0].value) == ("holds", pytest.approx(2, abs=0.01))
    assert "In epochs 1 to 2 perturbation stability falls by 1.99" in claim.summary
    assert "9 runs)" in claim.summary
    assert [effect.threshold for effect in claim.effects] == [0.0, None, None]
    _fill_epochs(config, -1, 0.5, -1.5, before=2.0)
    assert claims_of(config)["stability-falls"].verdict == "fails"
    _fill_epochs(config, -1, 0.5, -1.5, before=0.0)
    assert claims_of(config)["stability-falls"].verdict == "too little data"


def test_epochs_that_are_missing_or_damaged(config: Config) -> None:
    first, second, *_ = curve_cells(config.experiments.figure3)
    write_history(config, first, epochs=_epochs(first, -1, 0.5, -1.5))
    claim = claims_of(config)["overfitting"]
    # one run has slopes and no interval
    assert claim.verdict == "too little data"
    assert "falls by 1.1 points an epoch (no interval, 1 run)" in claim.summary
    assert len(claim.missing) == 8
    _fill_epochs(config, -1, 0.5, -1.5)
    damaged = paths.epochs_file(paths.cell_folder(config, second))
    damaged.write_text("epoch\n1\n")
    claim = claims_of(config)["overfitting"]
    assert claim.verdict == "holds"
    assert "8 runs of 3 widths" in claim.effects[0].detail
    assert f"{second}/epochs.csv is damaged" in " ".join(claim.missing)


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


def test_a_schedule_without_a_drop(tiny: Callable[..., Config]) -> None:
    config = tiny(
        f"experiments.figure3={CURVES.format('trades')}",
        f"train.epochs={EPOCHS}",
        "train.schedule=cosine",
    )
    _fill_epochs(config, -1, 0.5, -1.5)
    found = claims_of(config)
    assert "no drop of the learning rate" in found["overfitting"].summary
    assert "In epochs 1 to 6" in found["stability-falls"].summary
