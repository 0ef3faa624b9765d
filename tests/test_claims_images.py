"""Claims judged on single images, where there is one training seed."""

from collections.abc import Callable

import numpy as np
import pytest
from claim_results import claim_of, width_of
from made_up import write_made_up, write_run

from reproduce.config import Config
from reproduce.experiments import find_experiment

METRICS = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
SMALL = "{architectures: [wrn-34-1, wrn-34-5, wrn-34-10], methods: {trades: [6, 12]}}"


def test_one_seed_is_judged_over_images(paper: Callable[..., Config]) -> None:
    grid = "{architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6]}, seeds: [0]}"
    config = paper(f"experiments.table1={grid}")

    def write(natural: dict[int, np.ndarray]) -> None:
        for item in find_experiment(config, "table1").evaluations:
            write_run(config, item)
            right = natural[width_of(item)]
            write_made_up(config, item, np.arange(1000), np.zeros(1000, bool), right)

    place = np.arange(1000)
    # right for the wide one alone: 90 images, for the thin one alone: 40
    write({1: place < 500, 5: (place >= 40) & (place < 590)})
    claim = claim_of(config, "wider-natural")
    assert (claim.verdict, claim.unit) == ("holds", "images")
    (effect,) = claim.effects
    assert effect.value == pytest.approx(5)
    assert (effect.seeds, effect.images) == (1, 1000)
    assert effect.p_value == pytest.approx(1.36e-5, rel=0.01)
    assert effect.detail == "90 images for w=5 alone, 40 images for w=1 alone"
    assert "these very networks, not of another training seed" in claim.summary
    # as many either way: nothing to be told
    write({1: place < 500, 5: (place >= 90) & (place < 590)})
    assert claim_of(config, "wider-natural").verdict == "too little data"
    write({1: (place >= 40) & (place < 590), 5: place < 500})
    assert claim_of(config, "wider-natural").verdict == "fails"


def _by_seed(config: Config, seeds: dict[int, set[int]], right: Callable[[int, int], int]) -> None:
    """Make up records of some widths and seeds; so many of the first images are right."""
    for item in find_experiment(config, "table1").evaluations:
        width, seed = width_of(item), item.cell.seed
        if seed in seeds[width]:
            write_run(config, item)
            natural = np.arange(1000) < right(width, seed)
            write_made_up(config, item, np.arange(1000), np.zeros(1000, bool), natural)


def test_images_are_of_one_training_seed(paper: Callable[..., Config]) -> None:
    """The middle network has seed 1 alone; of seed 0 the widest is worse than the thinnest."""
    grid = "{architectures: [wrn-34-1, wrn-34-5, wrn-34-10], methods: {trades: [6]}}"
    config = paper(f"experiments.table1={grid}")
    of_seed = {0: {1: 900, 10: 400}, 1: {1: 500, 5: 600, 10: 700}}
    _by_seed(config, {1: {0, 1}, 5: {1}, 10: {0, 1}}, lambda width, seed: of_seed[seed][width])
    claim = claim_of(config, "wider-natural")
    assert (claim.verdict, claim.unit) == ("holds", "images")
    assert [effect.value for effect in claim.effects] == pytest.approx([10, 10, 10])


def test_networks_of_different_seeds_are_no_pair(paper: Callable[..., Config]) -> None:
    grid = "{architectures: [wrn-34-1, wrn-34-5, wrn-34-10], methods: {trades: [6]}}"
    config = paper(f"experiments.table1={grid}")
    _by_seed(config, {1: {0, 2}, 5: {0}, 10: {2}}, lambda width, _: 500 + 10 * width)
    claim = claim_of(config, "wider-natural")
    assert claim.verdict == "too little data"
    assert claim.summary.startswith("So far, judged on 1 of 2 comparisons")


def test_records_of_other_test_sets_cost_their_claim_alone(paper: Callable[..., Config]) -> None:
    grid = "{architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6]}, seeds: [0]}"
    config = paper(f"experiments.table1={grid}")
    for item in find_experiment(config, "table1").evaluations:
        write_run(config, item)
        index = np.arange(0, 100) + (1000 if width_of(item) == 5 else 0)
        write_made_up(config, item, index, np.zeros(100, bool))
    claim = claim_of(config, "wider-natural")
    assert claim.verdict == "too little data"
    assert "share fewer than two images" in claim.summary
    assert claim_of(config, "identity").verdict == "holds"
