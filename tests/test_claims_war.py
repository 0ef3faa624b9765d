"""Claims on WAR, on made-up results whose verdicts are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from claim_results import claims_of
from made_up import write_made_up, write_run

from reproduce import paths
from reproduce.config import Config
from reproduce.experiments import find_experiment
from reproduce.settings import load_config


@pytest.fixture
def tuned(tmp_path: Path) -> Callable[..., Config]:
    grid = "{architectures: [wrn-34-1, wrn-34-5], untuned: 6, lambdas: [6, 9, 12]}"
    return lambda *sets: load_config(
        "{}", "paper", [f"results={tmp_path}", f"experiments.table3={grid}", *sets]
    )


def _fill_war(config: Config, lams: dict[str, float], gain: float, spread: float = 0.2) -> None:
    """Make up Table 3: 9 is best, WAR ends with some lambdas and gains some robust accuracy."""
    place = np.arange(10_000)
    for item in find_experiment(config, "table3").evaluations:
        cell = item.cell
        of_war = cell.method == "war"
        lam = lams[cell.architecture] + cell.seed * spread if of_war else cell.lam
        write_run(config, item, final_lambda=lam)
        robust = 50 + gain if of_war else 50 - abs(cell.lam - 9) / 3
        write_made_up(config, item, place, place < round(100 * robust) + 10 * cell.seed)


def test_war_lands_near_and_is_not_worse(tuned: Callable[..., Config]) -> None:
    config = tuned()
    _fill_war(config, {"wrn-34-1": 8, "wrn-34-5": 10}, gain=0.1)
    found = claims_of(config)
    near, good = found["war-lambda"], found["war-robustness"]
    assert near.verdict == "holds"
    assert [e.value for e in near.effects] == pytest.approx([-0.8, 1.2])
    assert [(e.threshold, e.unit, e.seeds) for e in near.effects] == [(3, "λ", 3)] * 2
    # Student's interval of three seeds
    assert near.effects[0].high - near.effects[0].value == pytest.approx(4.302653 * 0.2 / 3**0.5)
    assert (good.verdict, good.unit) == ("holds", "seeds")
    assert good.effects[0].value == pytest.approx(0.1)
    assert good.effects[0].threshold == -0.5
    # a little less is within the margin
    _fill_war(config, {"wrn-34-1": 8, "wrn-34-5": 10}, gain=-0.2)
    assert claims_of(config)["war-robustness"].verdict == "holds"


def test_war_far_off_and_worse(tuned: Callable[..., Config]) -> None:
    config = tuned()
    _fill_war(config, {"wrn-34-1": 8, "wrn-34-5": 14}, gain=-2)
    found = claims_of(config)
    assert found["war-lambda"].verdict == "fails"
    assert (
        "+5.20 for w=5 (95 % interval +4.70 to +5.70; allowed ± 3)" in found["war-lambda"].summary
    )
    assert found["war-robustness"].verdict == "fails"
    assert "2.00 points below that of the search by hand" in found["war-robustness"].summary


def _forget_war(config: Config, architecture: str) -> None:
    for item in find_experiment(config, "table3").evaluations:
        if item.cell.method == "war" and item.cell.architecture == architecture:
            folder = paths.cell_folder(config, item.cell)
            paths.record_file(folder, item.checkpoint, item.attack, item.seed).unlink()


def test_war_that_scatters_or_is_missing(tuned: Callable[..., Config]) -> None:
    config = tuned()
    _fill_war(config, {"wrn-34-1": 8, "wrn-34-5": 8}, gain=0.1, spread=2)
    assert claims_of(config)["war-lambda"].verdict == "too little data"
    _forget_war(config, "wrn-34-5")
    found = claims_of(config)
    assert "judged on 1 of 2 networks" in found["war-lambda"].summary
    assert len(found["war-lambda"].missing) == 3
    assert "judged on 1 of 2 comparisons" in found["war-robustness"].summary
    # one width that is near is too little as well
    _fill_war(config, {"wrn-34-1": 8, "wrn-34-5": 10}, gain=0.1)
    assert claims_of(config)["war-lambda"].verdict == "holds"
    _forget_war(config, "wrn-34-5")
    found = claims_of(config)
    assert found["war-lambda"].verdict == found["war-robustness"].verdict == "too little data"


def test_war_beside_a_search_of_one(tuned: Callable[..., Config]) -> None:
    config = tuned("experiments.table3.lambdas=[9]")
    _fill_war(config, {"wrn-34-1": 9, "wrn-34-5": 9}, gain=0.1)
    claim = claims_of(config)["war-lambda"]
    assert claim.verdict == "too little data"
    assert "single λ" in claim.summary


def test_war_with_one_seed(tuned: Callable[..., Config]) -> None:
    config = tuned("experiments.table3.seeds=[0]")
    _fill_war(config, {"wrn-34-1": 8, "wrn-34-5": 10}, gain=0.2)
    found = claims_of(config)
    assert found["war-lambda"].verdict == "too little data"
    assert "needs two training seeds" in found["war-lambda"].summary
    # robust accuracy over images: 20 of 10,000 more hold, none fewer
    assert (found["war-robustness"].verdict, found["war-robustness"].unit) == ("holds", "images")
