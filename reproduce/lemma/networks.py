"""The networks of Lemma 4.2, their input gradients, and moves of their weights.

f(x) = a^T relu(W_H ... relu(W_1 x)), with W_1 of shape (m, d) and the others (m, m), entries
N(0, 2/m), and a ~ N(0, 1)^m.  Source: Gao et al. 2019, Section 3; Wu et al. 2021, Section 4.2.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from reproduce.rng import generator


@dataclass(frozen=True)
class Network:
    """A network without biases.

    Attributes
    ----------
    weights : tuple of Tensor
        W_1 to W_H, float64.
    output : Tensor
        a, shape (m,).
    """

    weights: tuple[Tensor, ...]
    output: Tensor


class Move(NamedTuple):
    """What is added to one weight matrix, for each of N points another: outer products.

    Moves of rank one are enough for a search: with the activation pattern held, the
    derivative of the gradient's norm with respect to a weight matrix has rank one.

    Attributes
    ----------
    left : Tensor
        Shape (N, rows of the matrix).
    right : Tensor
        Shape (N, columns); the Frobenius norm of a move is the product of both norms.
    """

    left: Tensor
    right: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the move adds to the products of its matrix with rows of `inputs`."""
        return self.left * (self.right * inputs).sum(1, keepdim=True)

    def backward(self, outputs: Tensor) -> Tensor:
        """Return the same for products from the left."""
        return self.right * (self.left * outputs).sum(1, keepdim=True)


class Trace(NamedTuple):
    """Input gradients of N points, and what they were made from.

    Attributes
    ----------
    gradients : Tensor
        Shape (N, d).
    patterns : list of Tensor
        For each layer which units are active, bool, shape (N, m).
    backward : list of Tensor
        For each layer a^T D_H W_H ... W_{h+1} D_h, shape (N, m).
    """

    gradients: Tensor
    patterns: list[Tensor]
    backward: list[Tensor]

    @property
    def norms(self) -> Tensor:
        """l2 norms of the gradients, shape (N,)."""
        lengths: Tensor = self.gradients.norm(dim=1)
        return lengths


def draw_network(width: int, depth: int, dimension: int, seed: int) -> Network:
    """Draw a network at its initialisation; equal arguments give the same one.

    Numbers are drawn in float32, which is three times as fast, and computed with in
    float64: the lemma's ball is smaller than float32 can tell apart.
    """
    place = (width, depth, dimension)
    weights = []
    for layer in range(depth):
        columns = dimension if layer == 0 else width
        stream = generator(seed, "lemma/weights", *place, layer)
        entries = torch.randn(width, columns, generator=stream).double()
        weights.append(entries.mul_(math.sqrt(2 / width)))
    stream = generator(seed, "lemma/output", *place)
    return Network(tuple(weights), torch.randn(width, generator=stream).double())


def draw_input(width: int, depth: int, dimension: int, seed: int) -> Tensor:
    """Draw a point of the unit sphere, shape (dimension,), float64."""
    stream = generator(seed, "lemma/input", width, depth, dimension)
    return normalize(torch.randn(dimension, generator=stream, dtype=torch.float64), dim=0)


def input_gradients(network: Network, points: Tensor, moves: list[Move] | None = None) -> Trace:
    """Compute the input gradient at each of N points (N, d), each with weights of its own.

    Formula A.1 of the paper: a^T D_H W_H ... D_1 W_1 with D_h the activation pattern.

    Parameters
    ----------
    network : Network
        The weights that moves start from.
    points : Tensor
        float64, shape (N, d).
    moves : list of Move, optional
        What is added to each weight matrix, a point a row; nothing unless given.
    """
    hidden, patterns = points, []
    for layer, weight in enumerate(network.weights):
        product = hidden @ weight.T
        if moves is not None:
            product += moves[layer].forward(hidden)
        patterns.append(product > 0)
        hidden = product.clamp_(min=0)
    back: Tensor = network.output
    rows = []
    for layer in reversed(range(len(patterns))):
        active = back * patterns[layer]
        rows.append(active)
        back = active @ network.weights[layer]
        if moves is not None:
            back = back + moves[layer].backward(active)
    return Trace(back, patterns, rows[::-1])


def steepest_moves(
    network: Network, trace: Trace, moves: list[Move] | None, radius: float
) -> list[Move]:
    """Return the moves that raise the gradients' norms most, to first order.

    With the activation patterns held, the norm's derivative with respect to W_h is the
    outer product of the backward row of layer h and of the normalised gradient sent
    forward to it; the best move of Frobenius norm `radius` is a multiple of it.

    Parameters
    ----------
    network : Network
        The weights at initialisation.
    trace : Trace
        What `input_gradients` returned for `moves`.
    moves : list of Move or None
        The moves so far, at which the derivative is taken; they are replaced.
    radius : float
        Frobenius norm of each new move.
    """
    found = []
    forward = normalize(trace.gradients, dim=1)
    for layer, weight in enumerate(network.weights):
        left = normalize(trace.backward[layer], dim=1) * radius
        found.append(Move(left, normalize(forward, dim=1)))
        if layer + 1 < len(network.weights):
            product = forward @ weight.T
            if moves is not None:
                product += moves[layer].forward(forward)
            forward = product * trace.patterns[layer]
    return found
