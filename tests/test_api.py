"""The Python API: every example of its docstrings runs, and a network object can be attacked."""

import doctest
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY_CELL
from torch import nn

import reproduce
from reproduce import api
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError


@pytest.mark.parametrize("name", reproduce.__all__)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(api, name), name)
    assert test.examples
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.summarize().failed == 0


def test_from_a_cell_to_a_verdict(tiny: Callable[..., Config]) -> None:
    config = tiny()
    run = reproduce.train(config, TINY_CELL)
    record = reproduce.evaluate(config, TINY_CELL)
    assert run.checkpoint_epochs["last"] == 3
    frame = reproduce.load_results(config)
    robust = frame[frame["metric"] == "robust_accuracy"]["value"]
    assert robust.tolist() == [record.metrics.robust_accuracy]
    table = reproduce.make_table(config, "table1")
    assert record.metrics.robust_accuracy in table.select_dtypes("number").to_numpy()
    compared = reproduce.diff(config, "table1")
    assert compared["ours"].notna().sum() == 3
    assert "agrees" not in set(compared["verdict"])
    assert {claim.verdict for claim in reproduce.judge_claims(config)} >= {"too little data"}


def test_a_network_object(tiny: Callable[..., Config]) -> None:
    """Its record is the one of its weights: another network gets another."""
    config = tiny()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).train()
    record = reproduce.evaluate(config, model, dataset="digits")
    again = reproduce.evaluate(config, model, dataset="digits")
    assert (record.adversarial == again.adversarial).all()
    assert model.training
    nn.init.zeros_(model[1].weight)
    other = reproduce.evaluate(config, model, dataset="digits")
    assert other.info["model_sha256"] != record.info["model_sha256"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": nn.Flatten()}, "dataset is missing"),
        ({"network": "w.pt", "dataset": "digits"}, "needs its architecture"),
        ({"network": nn.Flatten(), "dataset": "digits", "checkpoint": "last"}, "one of a cell's"),
        ({"network": "no-cell"}, "unknown cell id"),
    ],
)
def test_one_line_for_bad_input(tiny: Callable[..., Config], arguments: dict, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        reproduce.evaluate(tiny(), **arguments)
