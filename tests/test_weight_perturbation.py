"""Adversarial weight perturbation: perturb, gradient, step, restore, by the formula."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import EPOCHS, STEPS, never, quiet, results, stop_at
from step_cases import batch, network, noise_of, our_step, reference_step

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.training.train import train_cell
from reproduce.training.weight_perturbation import perturb_weights, restore_weights

GAMMA = 0.005
CELL = parse_cell("digits/wrn-10-0.25/awp-trades/lam-2/seed-0")


@pytest.mark.parametrize(("method", "order"), [("trades", "acc"), ("at", "ac"), ("mart", "ca")])
def test_a_step_leaves_the_weights_of_the_formula(method: str, order: str) -> None:
    """Whatever the objective: weights, momentum, gradients and BatchNorm in float64."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    noise = noise_of(images)
    expected = reference_step(model, method, order, images, labels, noise, GAMMA)
    ours, _ = our_step(model, method, order, images, labels, GAMMA)
    exact = {"rtol": 1e-8, "atol": 1e-11}
    for name, gradient in expected.gradients.items():
        torch.testing.assert_close(ours.gradients[name], gradient, **exact)
        torch.testing.assert_close(ours.momentum[name], expected.momentum[name], **exact)
    for name, value in expected.state.items():
        torch.testing.assert_close(ours.state[name], value, **exact)
    # the comparison is sharp: a step without the perturbation is another
    plain, _ = our_step(model, method, order, images, labels)
    assert (plain.state["fc.weight"] - ours.state["fc.weight"]).abs().max() > 1e-6


def test_the_perturbation_is_as_long_as_it_says_and_climbs() -> None:
    model, (images, labels) = network(torch.float64).train(), batch(torch.float64)
    before = copy.deepcopy(model.state_dict())

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(images), labels)

    low = copy.deepcopy(loss().detach())
    model.load_state_dict(before)
    moves = perturb_weights(model, loss, GAMMA)
    for name, weight in model.named_parameters():
        moved = (weight.detach() - before[name]).norm()
        expected = GAMMA * before[name].norm() if weight.dim() > 1 else 0.0
        assert moved.item() == pytest.approx(float(expected), rel=1e-9)
    statistics = model.block1.layer[0].bn1.running_mean
    torch.testing.assert_close(
        statistics, before["block1.layer.0.bn1.running_mean"], rtol=0, atol=0
    )
    assert loss() > low
    restore_weights(model, moves)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, before[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("asked", [1, STEPS + 2])
def test_a_stopped_run_ends_with_the_same_bits(
    tiny: Callable[..., Config], tmp_path: Path, asked: int
) -> None:
    whole = tiny("awp.first_epoch=2", f"results={tmp_path}/whole")
    parts = tiny("awp.first_epoch=2")
    train_cell(whole, CELL, quiet, never)
    with pytest.raises(Stopped):
        train_cell(parts, CELL, quiet, stop_at(asked))
    train_cell(parts, CELL, quiet, never)
    assert results(whole, CELL) == results(parts, CELL)


def test_it_begins_with_its_first_epoch(tiny: Callable[..., Config]) -> None:
    """Never reached, it is TRADES to the bit; reached, it is not."""
    trades = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
    config = tiny(f"awp.first_epoch={EPOCHS + 1}")
    train_cell(config, CELL, quiet, never)
    train_cell(config, trades, quiet, never)
    assert results(config, CELL)["trace.parquet"] == results(config, trades)["trace.parquet"]
    late = tiny(f"awp.first_epoch={EPOCHS}")
    train_cell(late, CELL, quiet, never)
    assert results(late, CELL)["trace.parquet"] != results(config, trades)["trace.parquet"]
