"""The table of methods: every row can be built, planned and trained."""

from collections.abc import Callable

import pandas as pd
import pytest
from conftest import ROOT
from small_runs import never, quiet

from reproduce.cell import Cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json
from reproduce.experiments import paths
from reproduce.experiments.cost import step_passes, training_passes
from reproduce.experiments.spec import TrainingSpec, training_spec
from reproduce.registry import METHODS, dataset_facts
from reproduce.training.train import train_cell

# TRADES and AWP: test_training_run.py; those with extra images: test_extra_training.py
TRAINED = [m.name for m in METHODS.values() if m.batches == "labelled"]
TRAINED = [name for name in TRAINED if name not in ("trades", "awp-trades")]


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_trains(tiny: Callable[..., Config], name: str) -> None:
    sets = ("train.epochs=1", "war.zeta=2000", "train_for.fast-at.attack={steps: 1}")
    config, lam = tiny(*sets), METHODS[name].only_lambda or 2.0
    cell = Cell("digits", "wrn-10-0.25", name, lam, 0)
    train_cell(config, cell, quiet, never)
    folder = paths.cell_folder(config, cell)
    run, trace = read_json(paths.run_file(folder)), pd.read_parquet(paths.trace_file(folder))
    assert run["method"] == METHODS[name].title
    assert len(trace) == 3
    adapts = METHODS[name].lambda_rule == "war"
    assert (trace["lambda"] == lam).all() != adapts
    assert (run["zeta"] == 2000) == adapts


def _spec(method: str, *sets: str, cell: str = "cifar10/wrn-34-10") -> TrainingSpec:
    dataset, architecture = cell.split("/")
    run = Cell(dataset, architecture, method, METHODS[method].only_lambda or 6.0, 0)
    return training_spec(load_config("{}", "paper", list(sets)), run)


@pytest.mark.parametrize(
    ("method", "epoch", "passes"),
    [
        ("trades", 1, 27),
        ("war", 1, 27),
        ("at", 1, 26),
        ("mart", 1, 26),
        ("rst", 1, 27),
        ("rst-war", 1, 27),
        # AWP takes the terms twice from epoch 10; a third forward is not made
        ("awp-trades", 9, 27),
        ("awp-trades", 10, 33),
    ],
)
def test_cost_of_a_step(method: str, epoch: int, passes: int) -> None:
    assert step_passes(_spec(method), epoch) == passes


def test_the_official_procedure_of_fast_at() -> None:
    spec = _spec("fast-at", cell="imagenet/wrn-50-1")
    # forward and input gradient of the attack, forward and full backward under it
    assert step_passes(spec, 1) == 5
    train = spec.train
    assert (train.epochs, train.weight_decay, train.decay_norm) == (15, 1e-4, False)
    assert (train.attack.epsilon, train.attack.step_size) == (4 / 255, 5 / 255)
    sizes = [(p.epochs, p.resize, p.crop, p.batch_size) for p in train.phases]
    assert sizes == [(6, 160, 128, 512), (6, 352, 224, 224), (3, None, 288, 128)]
    rates = {0.0: 0.0, 1.0: 0.4, 6.0: 0.04, 12.0: 0.004, 15.0: 0.0004}
    assert dict(train.rates) == rates
    assert (spec.validation, spec.crop) == (None, 288)
    # most of the passes are of images smaller than those of the test
    facts = dataset_facts("imagenet")
    assert training_passes(spec, facts) < 15 * (facts.train * 5 + facts.test)


def test_the_official_procedures_of_awp_and_rst() -> None:
    awp, spec = _spec("awp-trades").train, _spec("rst-war")
    rst = spec.train
    assert (awp.epochs, awp.weight_decay, awp.schedule) == (200, 5e-4, "step")
    assert (awp.milestones, awp.bn_forwards, awp.bn_first) == ([0.5, 0.75], 3, "adversarial")
    assert (awp.attack.epsilon, awp.attack.step_size) == (8 / 255, 2 / 255)
    assert (rst.epochs, rst.batch_size, rst.weight_decay) == (200, 256, 5e-4)
    assert (rst.schedule, rst.nesterov, rst.bn_first) == ("cosine", True, "adversarial")
    assert rst.attack.epsilon == 0.031
    assert None not in (spec.mixed, spec.war, spec.extra)


@pytest.mark.parametrize("method", METHODS)
def test_settings_that_a_method_does_not_read_change_no_digest(method: str) -> None:
    fast = method == "fast-at"
    cell = "imagenet/wrn-50-1" if fast else "cifar10/wrn-34-1"

    def changes(*sets: str) -> bool:
        return _spec(method, cell=cell).digest != _spec(method, *sets, cell=cell).digest

    own = f"train_for.{method}"
    assert changes(f"{own}.attack.start_sigma=0.01") != fast
    # it measures clean images alone
    assert changes(f"{own}.validation.epsilon=0.1", f"{own}.validation.attack.steps=7") != fast
    assert not changes(f"{own}.validation.attack.cw_mask=zero")
    stepwise = method in ("awp-trades", "trades-step")
    assert changes("train.milestones=[0.1]", f"{own}.milestones=[0.2]") == stepwise
    assert changes(f"{own}.schedule=step", f"{own}.milestones=[0.2]")
    stepped = f"{own}.schedule=step"
    used = load_config("{}", "paper", [stepped, f"{own}.rates=[[0, 0.1], [1, 0]]"]).read_by(method)
    assert ("milestones" in used, "rates" in used, "learning_rate" in used) == (True, False, True)
    assert ("start_sigma" in used["attack"]) != fast


def test_the_page_on_adding_a_method_speaks_of_the_code_as_it_is() -> None:
    page, row = (ROOT / "docs" / "extend.md").read_text(), METHODS["mart"]
    passes = (f"target_passes={row.target_passes},", f"terms_passes={row.terms_passes},")
    for text in (f'"{row.source}"', *passes, "mart.py"):
        assert text in page
