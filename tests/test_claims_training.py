"""Claims on traces, on made-up results whose verdicts are known."""

import math
from collections.abc import Callable

import pandas as pd
import pytest
from claim_results import claims_of
from histories import EPOCHS, STEPS, write_history

from reproduce import paths
from reproduce.catalogue import parse_architecture
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.experiments import curve_cells
from reproduce.traces import as_frame

CURVES = (
    "{{dataset: digits, architectures: [wrn-10-0.25, wrn-10-0.5, wrn-10-1], method: {}, "
    "lambdas: [6], seeds: [0, 1, 2]}}"
)


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    """Made-up runs of six epochs."""
    return tiny(
        f"experiments.figure1={CURVES.format('trades')}",
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


def test_a_number_that_is_not_finite_is_named(config: Config) -> None:
    """A run of the widest network diverged in its last step."""
    _fill_traces(config, 1.0)
    first, second, third = (
        cell for cell in curve_cells(config.experiments.figure1) if cell.architecture == "wrn-10-1"
    )
    diverged = _trace(first, 1.0)
    diverged.loc[diverged.index[-1], "natural_risk"] = math.nan
    write_history(config, first, diverged)
    found = claims_of(config)
    (line,) = found["wider-risk"].missing
    assert line == f"{first} has no finite mean of natural risk: it is nan"
    assert (found["wider-risk"].verdict, found["wider-risk"].effects[0].seeds) == ("holds", 2)
    assert found["wider-lipschitz"].missing == ()
    for cell in (second, third):
        paths.run_file(paths.cell_folder(config, cell)).unlink()
    assert claims_of(config)["wider-risk"].verdict == "too little data"


def test_the_ends_alone_are_not_every_width(config: Config) -> None:
    _fill_traces(config, 1.0)
    for cell in curve_cells(config.experiments.figure1):
        if cell.architecture == "wrn-10-0.5":
            paths.run_file(paths.cell_folder(config, cell)).unlink()
    claim = claims_of(config)["wider-risk"]
    (ends,) = claim.effects
    assert ends.low > 0
    assert claim.verdict == "too little data"
    assert "So far, judged on 0 of 2 comparisons: natural risk is 0.75 nats" in claim.summary
