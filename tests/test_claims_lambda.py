"""Claims on lambda, on made-up results whose verdicts are known."""

from collections.abc import Callable

import numpy as np
import pytest
from claim_results import Numbers, claim_of, width_of
from made_up import fill_metrics, write_made_up, write_run

from reproduce.config import Config
from reproduce.experiments import Evaluation, find_experiment


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        ({1: 9, 5: 12, 10: 18}, "holds"),
        ({1: 12, 5: 12, 10: 12}, "holds"),
        ({1: 18, 5: 12, 10: 9}, "fails"),
        # at the edge the order of the widths is not known
        ({1: 18, 5: 18, 10: 18}, "too little data"),
        ({1: 9, 5: 18, 10: 18}, "too little data"),
    ],
)
def test_best_lambda(paper: Callable[..., Config], best: dict[int, int], verdict: str) -> None:
    grid = "{architectures: [wrn-34-1, wrn-34-5, wrn-34-10], methods: {trades: [9, 12, 18]}}"
    config = paper(f"experiments.table1={grid}")

    def numbers(item: Evaluation) -> Numbers:
        distance = abs(item.cell.lam - best[width_of(item)])
        return 50 - distance / 3 + item.cell.seed / 10, 80, 60

    fill_metrics(config, "table1", numbers)
    claim = claim_of(config, "best-lambda")
    assert claim.verdict == verdict
    assert [e.value for e in claim.effects if e.unit == "λ"] == list(best.values())
    unknown = "the order of the widths is not known" in claim.summary
    assert unknown == (verdict == "too little data" or verdict == "fails")
    # the draws are a function of a seed
    assert claim_of(config, "best-lambda") == claim


def test_best_lambda_of_a_coin_toss(paper: Callable[..., Config]) -> None:
    """Two widths, two lambdas, all four cells alike: the best falls in a quarter of draws."""
    grid = "{architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 12], at: [1]}}"
    config = paper(f"experiments.table1={grid}")
    fill_metrics(config, "table1", lambda item: (50 + item.cell.seed, 80, 60))
    claim = claim_of(config, "best-lambda")
    assert claim.verdict == "too little data"
    share = claim.effects[0]
    assert share.value == pytest.approx(75, abs=1.5)
    assert share.unit == "% of draws"
    # adversarial training has one lambda
    assert all("TRADES" in effect.what for effect in claim.effects)


@pytest.mark.parametrize("seeds", [0, 1])
def test_best_lambda_of_some_lambdas_is_none(paper: Callable[..., Config], seeds: int) -> None:
    """The widest, best at 12, has only 6 and 9 so far; the thinnest is best at 9."""
    grid = "{architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 9, 12], at: [1, 2, 3]}}"
    config = paper(f"experiments.table1={grid}")

    def numbers(item: Evaluation) -> Numbers | None:
        cell, wide = item.cell, width_of(item) == 5
        if cell.method == "trades" and wide and cell.lam == 12 and cell.seed >= seeds:
            return None
        # of the two lambdas that both have the wide one's best is the smaller
        at_best = {(False, 9), (True, 6)} if cell.method == "trades" else {(False, 1), (True, 2)}
        return 50 + 3 * ((wide, cell.lam) in at_best) + cell.seed / 10, 80, 60

    fill_metrics(config, "table1", numbers)
    claim = claim_of(config, "best-lambda")
    assert claim.verdict == "too little data"
    assert "So far, judged on 1 of 2 methods: best λ by width: Adversarial" in claim.summary
    assert "TRADES, WideResNet-34 has two seeds that differ in 5 of 6 cells." in claim.summary
    assert all("TRADES" not in effect.what for effect in claim.effects)


def test_best_lambda_needs_seeds(paper: Callable[..., Config]) -> None:
    grid = "{architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 12]}, seeds: [0]}"
    config = paper(f"experiments.table1={grid}")
    fill_metrics(config, "table1", lambda item: (50 + item.cell.lam, 80, 70))
    claim = claim_of(config, "best-lambda")
    assert claim.verdict == "too little data"
    assert "two seeds" in claim.summary


def _attacked(config: Config, gain: Callable[[Evaluation], float]) -> None:
    """Make up Table 2: a larger lambda is worth `gain` points; starts break other images."""
    for item in find_experiment(config, "table2").evaluations:
        write_run(config, item)
        place = np.arange(2000)
        robust = place < 1000 + 20 * gain(item) * (item.cell.lam == 12)
        robust[item.seed] = False
        write_made_up(config, item, place, robust)


def test_larger_lambda_under_every_attack(paper: Callable[..., Config]) -> None:
    grid = (
        "{architectures: {cifar10: [wrn-34-1, wrn-34-5, densenet-bc-40-12], cifar100: [wrn-34-5]},"
        "lambdas: [6, 12, 18], attacks: [pgd20, fab]}"
    )
    config = paper(f"experiments.table2={grid}")
    _attacked(config, lambda _: 3)
    claim = claim_of(config, "lambda-transfers")
    assert (claim.verdict, claim.unit) == ("holds", "images")
    # the widest of three kinds, two attacks, and their mean; 12 against 6, not 18
    assert len(claim.effects) == 1 + 3 * 2
    assert [effect.value for effect in claim.effects] == pytest.approx([3] * 7)
    assert all("λ=12 − λ=6" in effect.what for effect in claim.effects[1:])
    # the survivors of all three starts: three images fewer than of one
    _attacked(config, lambda item: -3 if item.attack == "fab" else 3)
    claim = claim_of(config, "lambda-transfers")
    assert claim.verdict == "fails"
    assert claim.summary.count("fab: λ=12 − λ=6") == 3


def test_awp_gains_from_a_larger_lambda(paper: Callable[..., Config]) -> None:
    config = paper()
    gains = {6.0: 0.0, 12.0: 2.0, 18.0: -5.0}
    fill_metrics(config, "table6", lambda item: (50 + gains[item.cell.lam], 80, 60))
    claim = claim_of(config, "awp-lambda")
    assert (claim.verdict, claim.unit) == ("holds", "images")
    assert [effect.value for effect in claim.effects] == [pytest.approx(2)]
    # without the paper's 12 it is the next above the smallest
    other = paper("experiments.table6.methods={awp-trades: [6, 18]}")
    assert claim_of(other, "awp-lambda").verdict == "fails"
