"""Width adjusted regularisation: lambda by hand, zeta measured, runs that continue."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import TINY
from small_runs import never, quiet, results, stop_at
from step_cases import LAM, batch, network, noise_of, our_step, reference_step

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.experiments.spec import training_spec, zeta_source
from reproduce.objectives.base import Terms
from reproduce.training.lambda_rules import WidthAdjusted
from reproduce.training.step import build_algorithm
from reproduce.training.train import train_cell

CELL = parse_cell("digits/wrn-10-0.5/war/lam-0/seed-0")
THIN = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
WAR = "war={thin_architecture: wrn-10-0.25, thin_lambda: 2}"


@pytest.fixture(scope="module")
def thin_results(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with the thin network trained."""
    folder = tmp_path_factory.mktemp("thin")
    config = load_config("{}", "demo", [f"results={folder}", f"data.folder={digits_folder}", *TINY])
    train_cell(config, THIN, quiet, never)
    return folder


@pytest.fixture
def config(tiny: Callable[..., Config], thin_results: Path, tmp_path: Path) -> Config:
    """A configuration whose WAR measures zeta on the thin network, which is trained."""
    shutil.copytree(thin_results, tmp_path / "results")
    return tiny(WAR)


def _terms(natural: float, robust: float) -> Terms:
    return Terms(torch.tensor(natural), torch.tensor(robust))


def test_a_sequence_of_lambdas_computed_by_hand() -> None:
    """zeta 30, alpha 0.1: 0 + 0.1 (30 - 2 / 0.1) = 1, + 0.1 (30 - 20) = 2, and so on."""
    rule = WidthAdjusted(zeta=30.0, alpha=0.1)
    steps = [
        ((2.0, 0.1), 1.0),
        ((1.0, 0.05), 2.0),
        ((1.5, 0.0375), 1.0),  # ratio 40
        ((2.0, 0.02), 0.0),  # ratio 100: 1 - 7, kept from falling below 0
        ((0.9, 0.036), 0.5),  # ratio 25
        ((0.9, 0.03), 0.5),  # ratio 30: there is nothing to adjust
    ]
    lam = torch.tensor(0.0, dtype=torch.float64)
    for (natural, robust), expected in steps:
        lam = rule(lam, _terms(natural, robust))
        assert lam.item() == pytest.approx(expected, abs=1e-5)
        assert lam.dtype == torch.float64


@pytest.mark.parametrize(("natural", "robust"), [(0.0, 0.0), (2.3, 0.0), (2.3, -1e-9)])
def test_a_robust_term_of_zero_or_rounded_below(natural: float, robust: float) -> None:
    """The ratio has no value then; lambda takes the limit, and is no NaN."""
    lam = WidthAdjusted(30.0, 0.1)(torch.tensor(6.0, dtype=torch.float64), _terms(natural, robust))
    assert lam.item() == 0.0


@pytest.mark.parametrize(
    ("zeta", "falls_to_zero", "gamma"), [(3000.0, False, 0.0), (0.5, True, 0.005)]
)
def test_a_step_is_taken_with_the_new_lambda(
    zeta: float, falls_to_zero: bool, gamma: float
) -> None:
    """In float64 against the formula: lambda, both terms, gradients, weights, momentum."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    noise = noise_of(images)
    ours, _ = our_step(model, "trades", "ca", images, labels, gamma, zeta)
    expected = reference_step(model, "trades", "ca", images, labels, noise, gamma, zeta)
    assert ours.lam == pytest.approx(expected.lam, rel=1e-8)
    assert (expected.lam == 0) == falls_to_zero
    assert abs(expected.lam - LAM) > 1  # another step than with the lambda before
    exact = {"rtol": 1e-7, "atol": 1e-10}
    torch.testing.assert_close(ours.robust, expected.robust, **exact)
    for name, gradient in expected.gradients.items():
        torch.testing.assert_close(ours.gradients[name], gradient, **exact)
        torch.testing.assert_close(ours.momentum[name], expected.momentum[name], **exact)
    for name, value in expected.state.items():
        torch.testing.assert_close(ours.state[name], value, **exact)


def test_no_gradient_flows_through_lambda(tiny: Callable[..., Config]) -> None:
    robust = torch.tensor(0.1, requires_grad=True)
    lam = WidthAdjusted(30.0, 0.1)(torch.tensor(6.0), Terms(robust * 20, robust))
    assert not lam.requires_grad
    with pytest.raises(ValueError, match="zeta"):
        build_algorithm(training_spec(tiny("war.zeta=30"), CELL), zeta=None)


def test_a_run_follows_algorithm_1_stopped_or_not(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    """The trace's lambdas are those of the rule on the trace's own terms, from 0 on."""
    config = tiny("war={zeta: 2000, alpha: 0.1}")
    train_cell(config, CELL, quiet, never)
    folder = paths.cell_folder(config, CELL)
    trace = pd.read_parquet(paths.trace_file(folder))
    lam = 0.0
    for row in trace.itertuples():
        lam = max(lam + 0.1 * (2000 - row.natural_risk / row.robust_regularization), 0)
        assert trace.loc[row.Index, "lambda"] == pytest.approx(lam, rel=1e-3, abs=1e-3)
    assert trace["lambda"].max() > 0
    run, last = read_json(paths.run_file(folder)), trace[trace["epoch"] == trace["epoch"].max()]
    assert run["final_lambda"] == pytest.approx(last["lambda"].mean(), rel=1e-5)
    assert run["zeta"] == 2000
    parts = tiny("war={zeta: 2000, alpha: 0.1}", f"results={tmp_path}/parts")
    with pytest.raises(Stopped):
        train_cell(parts, CELL, quiet, stop_at(5))
    train_cell(parts, CELL, quiet, never)
    assert results(config, CELL) == results(parts, CELL)


def test_zeta_is_measured_once_from_the_thin_network(config: Config) -> None:
    """It stays when a run continues, though the thin network was trained again meanwhile."""
    assert zeta_source(config, CELL) == THIN
    with pytest.raises(Stopped):
        train_cell(config, CELL, quiet, stop_at(2))
    file = paths.trace_file(paths.cell_folder(config, THIN))
    trace = pd.read_parquet(file)
    last = trace[trace["epoch"] == trace["epoch"].max()]
    expected = last["natural_risk"].sum() / last["robust_regularization"].sum()
    trace.assign(natural_risk=2 * trace["natural_risk"]).to_parquet(file)
    train_cell(config, CELL, quiet, never)
    run = read_json(paths.run_file(paths.cell_folder(config, CELL)))
    assert run["zeta"] == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(run["final_lambda"])


def test_a_thin_network_that_is_missing_or_damaged(
    tiny: Callable[..., Config], config: Config, tmp_path: Path
) -> None:
    """It is named, and the command that is named makes it again."""
    with pytest.raises(HarnessError, match=f"{THIN} is not trained"):
        train_cell(tiny(WAR, f"results={tmp_path}/none"), CELL, quiet, never)
    file = paths.trace_file(paths.cell_folder(config, THIN))
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    with pytest.raises(HarnessError, match=f"is damaged; `reproduce train {THIN}` makes it"):
        train_cell(config, CELL, quiet, never)
    train_cell(config, THIN, quiet, never)
    assert file.read_bytes() == whole


def test_the_thin_network_is_part_of_the_settings(tiny: Callable[..., Config]) -> None:
    measured = training_spec(tiny(WAR), CELL)
    assert measured.thin == training_spec(tiny(WAR), THIN).digest
    # whatever changes the thin network changes what zeta is measured from
    assert training_spec(tiny(WAR, "war.thin_lambda=3"), CELL).digest != measured.digest
    given = training_spec(tiny("war.zeta=30"), CELL)
    assert given.thin is None
    # a given zeta does not depend on a network that nobody trains
    assert training_spec(tiny("war.zeta=30", "war.thin_lambda=3"), CELL) == given
    # nor does another method on any of it
    trades = parse_cell("digits/wrn-10-0.5/trades/lam-6/seed-0")
    other = tiny("war.zeta=3", "war.alpha=0.5", "awp.gamma=1")
    assert training_spec(other, trades) == training_spec(tiny(), trades)
    for zeta in ("0", ".nan", "guessed"):
        with pytest.raises(HarnessError, match=r"war\.zeta"):
            tiny(f"war.zeta={zeta}")
