"""Draw the networks, search each, fit, and write lemma.json."""

import time
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pandas as pd
import torch

from reproduce import paths
from reproduce.config import Config, Lemma
from reproduce.devices import describe, prepare_process
from reproduce.errors import HarnessError
from reproduce.files import exclusive, write_json
from reproduce.lemma.networks import draw_input, draw_network, input_gradients
from reproduce.lemma.results import WAYS, Examination, examination, read_examination, to_json
from reproduce.lemma.search import largest_in_ball, largest_near
from reproduce.progress import ProgressBar
from reproduce.provenance import provenance
from reproduce.rng import generator
from reproduce.specs import lemma_digest


class Norms(NamedTuple):
    """Input-gradient norms of one network: at x, and the largest found (see `QUANTITIES`)."""

    at_x: float
    ball: float
    near: float
    wide_ball: float
    wide_near: float


def examine(config: Config, say: Callable[[str], None] = print) -> Examination:
    """Examine the lemma with the configured networks, unless that was done already.

    Parameters
    ----------
    config : Config
        The configuration; `lemma` says what is drawn, `machine.threads` with how many threads.
    say : callable
        Told in a line whether results stand already.

    Raises
    ------
    HarnessError
        If a network is too narrow for a gradient, or another process is at it.
    """
    path = paths.lemma_file(config)
    with exclusive(path.with_name(f".{path.name}.lock"), "lemma.json"):
        try:
            found = read_examination(config)
        except HarnessError as error:
            say(f"{error}: made again")
            found = None
        if found is not None:
            say(f"Nothing to compute: {path} is of these settings.")
            return found
        prepare_process(config.machine)
        found = _compute(config.lemma)
        write_json(path, to_json(config.lemma, lemma_digest(config), found))
        return found


def _compute(lemma: Lemma) -> Examination:
    """Draw and search every network; the slow part."""
    began = time.monotonic()
    networks = list(product(lemma.seeds, WAYS, lemma.depths, lemma.widths))
    rows = []
    with ProgressBar("lemma", len(networks), "networks") as bar:
        for seed, way, depth, width in networks:
            rows.append(_row(lemma, way, width, depth, seed))
            bar.advance()
    about = {
        "seconds": round(time.monotonic() - began, 2),
        "hardware": describe(torch.device("cpu")),
        **provenance(),
    }
    return examination(pd.DataFrame(rows), about)


def _row(lemma: Lemma, way: str, width: int, depth: int, seed: int) -> dict[str, Any]:
    dimension = lemma.dimension if way == "fixed" else width
    return {
        "way": way,
        "m": width,
        "H": depth,
        "d": dimension,
        "seed": seed,
        "allowance": lemma.allowance(width, depth),
        "fitted": lemma.is_wide_enough(width, depth),
        **norms(lemma, width, depth, dimension, seed)._asdict(),
    }


def norms(lemma: Lemma, width: int, depth: int, dimension: int, seed: int) -> Norms:
    """Draw a network and a point, and search.

    In the lemma's ball all of the condition's allowance goes to epsilon.  Near
    initialisation it may be shared; tried are that and halves for epsilon and R / sqrt(m).
    """
    network = draw_network(width, depth, dimension, seed)
    point = draw_input(width, depth, dimension, seed)
    stream = generator(seed, "lemma/search", width, depth, dimension)
    count, allowance = lemma.candidates, lemma.allowance(width, depth)
    ball = largest_in_ball(network, point, allowance, count, lemma.rounds, stream)
    half = allowance / 2
    near = largest_near(network, point, half, half, ball.offset / 2, count, stream)
    wide = largest_in_ball(network, point, lemma.wide_epsilon, count, lemma.rounds, stream)
    radii = lemma.wide_epsilon, lemma.wide_radius
    wide_near = largest_near(network, point, *radii, wide.offset, count, stream)
    at_x = float(input_gradients(network, point[None]).norms[0])
    return Norms(at_x, ball.norm, max(ball.norm, near), wide.norm, wide_near)
