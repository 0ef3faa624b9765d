"""The networks of Lemma 4.2, their input gradients, and the search for the largest ones.

f(x) = a^T relu(W_H ... relu(W_1 x)), with W_1 of shape (m, d) and the others (m, m), entries
N(0, 2/m), and a ~ N(0, 1)^m.  Source: Gao et al. 2019, Section 3; Wu et al. 2021, Section 4.2.

Everything is float64: the lemma's ball is smaller than float32 can tell apart.
"""

import math
import time
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from reproduce.compute.device import describe, prepare_process
from reproduce.config.schema import Config, Lemma
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive
from reproduce.core.progress import ProgressBar
from reproduce.core.provenance import provenance
from reproduce.core.rng import generator
from reproduce.experiments import paths
from reproduce.lemma.results import (
    WAYS,
    Examination,
    examination,
    read_examination,
    write_examination,
)

# points from which weights are moved, and how often each is moved anew
_STARTS, _CLIMBS = 8, 3


class Network(NamedTuple):
    """A network without biases: W_1 to W_H, and a of shape (m,)."""

    weights: tuple[Tensor, ...]
    output: Tensor


class Move(NamedTuple):
    """What is added to one weight matrix, for each of N points another: outer products.

    Moves of rank one are enough for a search: with the activation pattern held, the
    derivative of the gradient's norm with respect to a weight matrix has rank one.
    """

    left: Tensor  # (N, rows of the matrix)
    right: Tensor  # (N, columns)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the move adds to the products of its matrix with rows of `inputs`."""
        return self.left * (self.right * inputs).sum(1, keepdim=True)

    def backward(self, outputs: Tensor) -> Tensor:
        """Return the same for products from the left."""
        return self.right * (self.left * outputs).sum(1, keepdim=True)


class Trace(NamedTuple):
    """Input gradients of N points, and what they were made from."""

    gradients: Tensor  # (N, d)
    patterns: list[Tensor]  # for each layer which units are active, bool, (N, m)
    backward: list[Tensor]  # for each layer a^T D_H W_H ... W_{h+1} D_h, (N, m)

    @property
    def norms(self) -> Tensor:
        """l2 norms of the gradients, shape (N,)."""
        lengths: Tensor = self.gradients.norm(dim=1)
        return lengths


def draw_network(width: int, depth: int, dimension: int, seed: int) -> Network:
    """Draw a network at its initialisation; equal arguments give the same one."""
    place = (width, depth, dimension)
    weights = []
    for layer in range(depth):
        stream = generator(seed, "lemma/weights", *place, layer)
        # drawn in float32, which is three times as fast
        entries = torch.randn(width, width if layer else dimension, generator=stream).double()
        weights.append(entries.mul_(math.sqrt(2 / width)))
    stream = generator(seed, "lemma/output", *place)
    return Network(tuple(weights), torch.randn(width, generator=stream).double())


def draw_input(width: int, depth: int, dimension: int, seed: int) -> Tensor:
    """Draw a point of the unit sphere, shape (dimension,)."""
    stream = generator(seed, "lemma/input", width, depth, dimension)
    return normalize(torch.randn(dimension, generator=stream, dtype=torch.float64), dim=0)


def _directions(count: int, dimension: int, stream: Generator) -> Tensor:
    drawn = torch.randn(count, dimension, generator=stream, dtype=torch.float64)
    return normalize(drawn, dim=1)


def input_gradients(network: Network, points: Tensor, moves: list[Move] | None = None) -> Trace:
    """Compute the input gradient at each of N points (N, d), with `moves` of the weights or none.

    Formula A.1 of the paper: a^T D_H W_H ... D_1 W_1 with D_h the activation pattern.
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

    Tried are the point, the steps to the sphere along the gradient and against it, and random
    offsets; then, in rounds, offsets around the best one, each round half as far.
    """

    def best_of(offsets: Tensor) -> Found:
        norms = input_gradients(network, point + offsets).norms
        place = int(norms.argmax())
        return Found(float(norms[place]), offsets[place])

    along = radius * normalize(input_gradients(network, point[None]).gradients, dim=1)
    drawn = random_offsets(candidates, point, radius, stream)
    best = best_of(torch.cat([torch.zeros_like(along), along, -along, drawn]))
    for halvings in range(1, rounds + 1):
        directions = _directions(candidates, len(point), stream)
        around = best.offset + radius * 0.5**halvings * directions
        # rows that are longer than the radius are pulled back to that length
        inside = around * (radius / around.norm(dim=1, keepdim=True)).clamp(max=1)
        best = max(best, best_of(inside), key=lambda found: found.norm)
    return best


def random_offsets(count: int, point: Tensor, radius: float, stream: Generator) -> Tensor:
    """Draw offsets, shape (count, d): even rows on the sphere, odd ones uniform in the ball."""
    dimension = len(point)
    shares = torch.rand(count, 1, generator=stream, dtype=torch.float64).pow(1 / dimension)
    shares[::2] = 1
    return radius * shares * _directions(count, dimension, stream)


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

    Points lie within `epsilon` of x.  To each weight matrix at most `radius` (Frobenius norm,
    R / sqrt(m)) is added: at random, and from several points in the direction in which the norm
    rises most, computed anew a few times because moves change activation patterns.
    """
    offsets = random_offsets(candidates, point, epsilon, stream)
    points = point + torch.cat([torch.zeros_like(start)[None], start[None], offsets])
    tried = [input_gradients(network, points, random_moves(network, len(points), radius, stream))]
    moves: list[Move] | None = None
    for _ in range(_CLIMBS):
        tried.append(input_gradients(network, points[:_STARTS], moves))
        moves = steepest_moves(network, tried[-1], moves, radius)
    tried.append(input_gradients(network, points[:_STARTS], moves))
    return max(float(trace.norms.max()) for trace in tried)


def random_moves(network: Network, count: int, radius: float, stream: Generator) -> list[Move]:
    """Draw moves of rank one and Frobenius norm `radius` for every layer."""
    moves = []
    for weight in network.weights:
        rows, columns = weight.shape
        left = radius * _directions(count, rows, stream)
        moves.append(Move(left, _directions(count, columns, stream)))
    return moves


def steepest_moves(
    network: Network, trace: Trace, moves: list[Move] | None, radius: float
) -> list[Move]:
    """Return the moves of norm `radius` that raise the gradients' norms most, to first order.

    With the activation patterns held, the norm's derivative with respect to W_h is the outer
    product of the backward row of layer h and of the normalised gradient sent forward to it.
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


def norms(lemma: Lemma, width: int, depth: int, dimension: int, seed: int) -> dict[str, float]:
    """Draw a network and a point, and search: the norms of `QUANTITIES`."""
    network = draw_network(width, depth, dimension, seed)
    point = draw_input(width, depth, dimension, seed)
    stream = generator(seed, "lemma/search", width, depth, dimension)
    count, allowance = lemma.candidates, lemma.allowance(width, depth)
    ball = largest_in_ball(network, point, allowance, count, lemma.rounds, stream)
    # near initialisation the allowance may be shared: halves for epsilon and R / sqrt(m)
    half = allowance / 2
    near = largest_near(network, point, half, half, ball.offset / 2, count, stream)
    wide = largest_in_ball(network, point, lemma.wide_epsilon, count, lemma.rounds, stream)
    radii = lemma.wide_epsilon, lemma.wide_radius
    return {
        "at_x": float(input_gradients(network, point[None]).norms[0]),
        "ball": ball.norm,
        "near": max(ball.norm, near),
        "wide_ball": wide.norm,
        "wide_near": largest_near(network, point, *radii, wide.offset, count, stream),
    }


def examine(config: Config, say: Callable[[str], None] = print) -> Examination:
    """Examine the lemma with the configured networks, unless that was done already."""
    path, lemma = paths.lemma_file(config), config.lemma
    with exclusive(path.with_name(f".{path.name}.lock"), "lemma.json"):
        try:
            found = read_examination(config)
        except HarnessError as error:
            say(f"{error}: computing it again")
            found = None
        if found is not None:
            say(f"Nothing to compute: {path} is of these settings.")
            return found
        prepare_process(config.machine)
        began = time.monotonic()
        networks = list(product(lemma.seeds, WAYS, lemma.depths, lemma.widths))
        rows: list[dict[str, Any]] = []
        with ProgressBar("lemma", len(networks), "networks") as bar:
            for seed, way, depth, width in networks:
                dimension = lemma.dimension if way == "fixed" else width
                place = {"way": way, "m": width, "H": depth, "d": dimension, "seed": seed}
                allowance = lemma.allowance(width, depth)
                fitted = lemma.is_wide_enough(width, depth)
                found_norms = norms(lemma, width, depth, dimension, seed)
                rows.append({**place, "allowance": allowance, "fitted": fitted, **found_norms})
                bar.advance()
        about = {
            "seconds": round(time.monotonic() - began, 2),
            "hardware": describe(torch.device("cpu")),
            **provenance(),
        }
        found = examination(pd.DataFrame(rows), about)
        write_examination(config, found)
        return found
