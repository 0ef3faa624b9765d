"""The largest input gradient that a search finds near a point, and near the initial weights.

The gradient of a ReLU network is constant on pieces, so its norm has no slope in x to climb:
points are tried and the surroundings of the best tried again.  What is found is a lower bound
of the supremum that the lemma bounds from above.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from reproduce.lemma.networks import Move, Network, input_gradients, steepest_moves

# points from which weights are moved, and how often each is moved anew
_STARTS, _CLIMBS = 8, 3


class Found(NamedTuple):
    """The largest gradient norm found, and how far from x (a vector, shape (d,)) it is."""

    norm: float
    offset: Tensor


def largest_in_ball(
    network: Network,
    point: Tensor,
    radius: float,
    candidates: int,
    rounds: int,
    stream: Generator,
) -> Found:
    """Search the l2 ball around a point for the largest input gradient.

    Tried are the point, the steps to the sphere along plus and minus the gradient of f,
    and random offsets, half on the sphere and half within; then, in rounds, offsets
    around the best one, each round half as far.

    Parameters
    ----------
    network : Network
        The network.
    point : Tensor
        The middle of the ball, shape (d,).
    radius : float
        The ball's.
    candidates, rounds : int
        Random offsets of the first try and of each round, and rounds.
    stream : torch.Generator
        Where random numbers come from.
    """
    gradient = input_gradients(network, point[None]).gradients
    along = radius * normalize(gradient, dim=1)
    offsets = torch.cat(
        [torch.zeros_like(along), along, -along, random_offsets(candidates, point, radius, stream)]
    )
    best = _best(network, point, offsets)
    for halvings in range(1, rounds + 1):
        directions = _directions(candidates, len(point), stream)
        around = best.offset + radius * 0.5**halvings * directions
        tried = _best(network, point, _into_ball(around, radius))
        best = max(best, tried, key=lambda found: found.norm)
    return best


def random_offsets(count: int, point: Tensor, radius: float, stream: Generator) -> Tensor:
    """Draw offsets, shape (count, d): even rows on the sphere, odd ones uniform in the ball."""
    dimension = len(point)
    shares = torch.rand(count, 1, generator=stream, dtype=torch.float64).pow(1 / dimension)
    shares[::2] = 1
    return radius * shares * _directions(count, dimension, stream)


def _directions(count: int, dimension: int, stream: Generator) -> Tensor:
    drawn = torch.randn(count, dimension, generator=stream, dtype=torch.float64)
    return normalize(drawn, dim=1)


def _into_ball(offsets: Tensor, radius: float) -> Tensor:
    """Pull rows that are longer than `radius` back to that length."""
    shrunk: Tensor = offsets * (radius / offsets.norm(dim=1, keepdim=True)).clamp(max=1)
    return shrunk


def _best(network: Network, point: Tensor, offsets: Tensor) -> Found:
    norms = input_gradients(network, point + offsets).norms
    place = int(norms.argmax())
    return Found(float(norms[place]), offsets[place])


def largest_near(
    network: Network,
    point: Tensor,
    epsilon: float,
    radius: float,
    start: Tensor,
    candidates: int,
    stream: Generator,
) -> float:
    """Search weights near the initial ones, and points near x, for the largest input gradient.

    Weights are moved at random, and from several points in the direction in which the
    norm rises most, taken anew a few times because moves change activation patterns.

    Parameters
    ----------
    network : Network
        The network at its initialisation.
    point : Tensor
        x, shape (d,).
    epsilon : float
        Radius of the ball around x.
    radius : float
        Largest Frobenius norm of what is added to each weight matrix: R / sqrt(m).
    start : Tensor
        An offset in the ball to begin with beside x and random ones, shape (d,).
    candidates : int
        Random moves tried.
    stream : torch.Generator
        Where random numbers come from.
    """
    offsets = random_offsets(candidates, point, epsilon, stream)
    points = point + torch.cat([torch.zeros_like(start)[None], start[None], offsets])
    moves = random_moves(network, len(points), radius, stream)
    largest = float(input_gradients(network, points, moves).norms.max())
    points = points[:_STARTS]
    trace = input_gradients(network, points)
    largest = max(largest, float(trace.norms.max()))
    climbed: list[Move] | None = None
    for _ in range(_CLIMBS):
        climbed = steepest_moves(network, trace, climbed, radius)
        trace = input_gradients(network, points, climbed)
        largest = max(largest, float(trace.norms.max()))
    return largest


def random_moves(network: Network, count: int, radius: float, stream: Generator) -> list[Move]:
    """Draw moves of rank one and Frobenius norm `radius` for every layer.

    A full Gaussian matrix of that norm does less: its largest singular value is smaller.
    """
    moves = []
    for weight in network.weights:
        rows, columns = weight.shape
        left = radius * _directions(count, rows, stream)
        moves.append(Move(left, _directions(count, columns, stream)))
    return moves
