"""Lemma 4.2's networks and the searches in them: against the formula, autograd and their bounds."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reproduce.config.schema import Lemma
from reproduce.core.rng import generator
from reproduce.lemma import search
from reproduce.lemma.search import (
    Move,
    Network,
    draw_input,
    draw_network,
    input_gradients,
    steepest_moves,
)


def _plain(weights: list[np.ndarray], last: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the output and its gradient by x, a^T D_H W_H ... D_1 W_1 (formula A.1)."""
    product = np.eye(len(x))
    for weight in weights:
        x = weight @ x
        product = np.diag((x > 0).astype(float)) @ weight @ product
        x = np.maximum(x, 0)
    return float(last @ x), last @ product


@pytest.fixture
def network() -> Network:
    return draw_network(width=12, depth=3, dimension=5, seed=0)


@pytest.fixture
def point() -> Tensor:
    return draw_input(width=12, depth=3, dimension=5, seed=0)


def _arrays(network: Network) -> list[np.ndarray]:
    return [weight.numpy() for weight in network.weights]


def _moved(network: Network, moves: list[Move], row: int) -> list[np.ndarray]:
    """Return the weights that one point sees."""
    return [
        weight + np.outer(move.left[row], move.right[row])
        for weight, move in zip(_arrays(network), moves, strict=True)
    ]


def test_gradients_are_those_of_the_formula(network: Network) -> None:
    points = search.random_offsets(6, draw_input(12, 3, 5, 1), 1.0, generator(0, "test"))
    moves = search.random_moves(network, 6, 0.7, generator(1, "test"))
    last = network.output.numpy()
    for given in (None, moves):
        found = input_gradients(network, points, given).gradients.numpy()
        for row, x in enumerate(points.numpy()):
            weights = _arrays(network) if given is None else _moved(network, moves, row)
            _, expected = _plain(weights, last, x)
            np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)


def test_steepest_moves_follow_the_norm_by_autograd(network: Network, point: Tensor) -> None:
    """With the patterns held, each move is the normalised derivative of the norm by W_h."""
    before = search.random_moves(network, 1, 0.3, generator(2, "test"))
    trace = input_gradients(network, point[None], before)
    found = steepest_moves(network, trace, before, 0.25)
    weights = [torch.tensor(weight, requires_grad=True) for weight in _moved(network, before, 0)]
    back = network.output
    for weight, pattern in zip(weights[::-1], trace.patterns[::-1], strict=True):
        back = (back * pattern[0]) @ weight
    slopes = torch.autograd.grad(back.norm(), weights)
    for move, slope in zip(found, slopes, strict=True):
        expected = 0.25 * slope / slope.norm()
        torch.testing.assert_close(torch.outer(move.left[0], move.right[0]), expected)


def test_the_initialisation() -> None:
    network = draw_network(width=400, depth=3, dimension=50, seed=0)
    assert [tuple(weight.shape) for weight in network.weights] == [(400, 50), *[(400, 400)] * 2]
    for weight in network.weights:
        # five standard errors of a sample variance
        assert weight.var().item() == pytest.approx(2 / 400, rel=5 * math.sqrt(2 / weight.numel()))
        assert abs(weight.mean().item()) < 5 * math.sqrt(2 / 400 / weight.numel())
    assert network.output.var().item() == pytest.approx(1, rel=5 * math.sqrt(2 / 400))
    assert draw_input(400, 3, 50, 0).norm().item() == pytest.approx(1)
    again, other = (draw_network(400, 3, 50, seed) for seed in (0, 1))
    assert torch.equal(again.weights[1], network.weights[1])
    assert not torch.equal(other.weights[1], network.weights[1])
    assert not torch.equal(network.weights[1], network.weights[2])


@pytest.mark.parametrize(("width", "depth"), [(20, 1), (40, 3)])
def test_the_mean_square_of_the_gradient_is_the_input_dimension(width: int, depth: int) -> None:
    """Each Gaussian layer keeps norms, the first turns m / 2 into d: why no width is left."""

    def norm(seed: int) -> float:
        network, x = draw_network(width, depth, 10, seed), draw_input(width, depth, 10, seed)
        return float(input_gradients(network, x[None]).norms[0])

    squares = np.array([norm(seed) for seed in range(200)]) ** 2
    error = squares.std(ddof=1) / math.sqrt(len(squares))
    assert abs(squares.mean() - 10) < 4 * error
    assert error < 1.4


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, list[Move] | None]]:
    """Every point and move that a search tries."""
    seen = []

    def watched(network: Network, points: Tensor, moves: list[Move] | None = None):
        seen.append((points, moves))
        return input_gradients(network, points, moves)

    monkeypatch.setattr(search, "input_gradients", watched)
    return seen


@pytest.mark.parametrize("radius", [0.4, 1e-9])
def test_the_search_stays_in_the_ball(
    network: Network, point: Tensor, tried: list, radius: float
) -> None:
    found = search.largest_in_ball(network, point, radius, 16, 3, generator(0, "test"))
    distances = torch.cat([(points - point).norm(dim=1) for points, _ in tried])
    assert distances.max() <= radius * (1 + 1e-12) + 1e-15
    assert (distances > 0.99 * radius).sum() >= 8
    assert len(distances) == 1 + 3 + 4 * 16
    at_x = input_gradients(network, point[None]).norms[0]
    assert found.norm >= at_x
    there = input_gradients(network, (point + found.offset)[None]).norms[0]
    assert found.norm == pytest.approx(there.item())
    assert found.norm == max(
        input_gradients(network, points).norms.max().item() for points, _ in tried
    )


def test_weights_stay_near(network: Network, point: Tensor, tried: list) -> None:
    start = torch.zeros_like(point)
    stream = generator(0, "test")
    found = search.largest_near(network, point, 0.2, 0.3, start, 10, stream)
    moved = [moves for _, moves in tried if moves is not None]
    assert len(moved) == 4  # at random, and three climbs
    for moves in moved:
        for move in moves:
            frobenius = move.left.norm(dim=1) * move.right.norm(dim=1)
            assert frobenius.max() <= 0.3 * (1 + 1e-12)
            assert frobenius.max() > 0.3 * (1 - 1e-9)
    distances = torch.cat([(points - point).norm(dim=1) for points, _ in tried])
    assert distances.max() <= 0.2 * (1 + 1e-12)
    at_x = input_gradients(network, point[None]).norms[0].item()
    assert found > at_x
    # what climbing finds is more than what random moves find
    by_chance = input_gradients(network, *tried[0]).norms.max().item()
    assert found > by_chance


def test_norms_are_ordered() -> None:
    found = search.norms(Lemma(candidates=8), width=30, depth=2, dimension=6, seed=3)
    assert 0 < found["at_x"] <= found["ball"] <= found["near"]
    assert found["ball"] < found["wide_ball"] < found["wide_near"]
