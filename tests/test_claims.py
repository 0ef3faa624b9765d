"""Claims on tables, on made-up results whose verdicts are known."""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from claim_results import Numbers, claim_of, claims_of, width_of
from made_up import fill_metrics, write_made_up, write_run

from reproduce import paths
from reproduce.claims import judge_claims, write_claims
from reproduce.config import Config
from reproduce.experiments import Evaluation, find_experiment
from reproduce.paper import published

METRICS = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
SMALL = "{architectures: [wrn-34-1, wrn-34-5, wrn-34-10], methods: {trades: [6, 12]}}"


@pytest.fixture
def small(paper: Callable[..., Config]) -> Config:
    return paper(f"experiments.table1={SMALL}")


def _as_claimed(item: Evaluation) -> Numbers:
    """Return the paper's trends, a seed worth a tenth."""
    width, lam, seed = width_of(item), item.cell.lam, item.cell.seed
    return 40 + seed / 10, 60 + width + seed / 10, 60 - width / 2 + lam + seed / 10


def test_the_papers_own_numbers(paper: Callable[..., Config]) -> None:
    """Its Table 1, mean ± std as three seeds: mean - std, mean, mean + std."""
    config = paper()
    keys = ["architecture", "method", "lambda", "metric"]
    printed = published("table1").set_index(keys)[["mean", "std"]]

    def of_the_paper(item: Evaluation) -> Numbers:
        cell = item.cell
        rows = [printed.loc[(cell.architecture, cell.method, cell.lam, m)] for m in METRICS]
        robust, natural, stable = (row["mean"] + (cell.seed - 1) * row["std"] for row in rows)
        return robust, natural, stable

    fill_metrics(config, "table1", of_the_paper)
    found = claims_of(config)
    for name in ("wider-natural", "wider-stability", "lambda-stability"):
        assert (found[name].verdict, found[name].unit) == ("holds", "seeds"), found[name]
    # 11 rows of two steps in width, 9 columns... of 5 and 4 steps in lambda
    assert len(found["wider-natural"].effects) == 1 + 22
    assert len(found["lambda-stability"].effects) == 1 + 3 * (5 + 4)
    # one of 22 is not as the paper says: 85.82 ± .01 against 85.62 ± .81
    values = {effect.what: effect.value for effect in found["wider-natural"].effects}
    assert [what for what, value in values.items() if value < 0] == [
        next(what for what in values if "λ=1: w=10 − w=5" in what)
    ]
    effect = next(e for e in found["wider-stability"].effects if "TRADES, λ=6: w=1 − w=5" in e.what)
    assert effect.value == pytest.approx(69.33 - 68.27, abs=0.01)
    assert (effect.seeds, effect.images) == (3, 10_000)
    assert "p < 0.05 in 3 of 3 pairs" in effect.detail
    best = found["best-lambda"]
    assert [e.value for e in best.effects if e.unit == "λ"] == [9, 12, 18, 1.25, 1.75, 2]
    assert best.verdict == "holds", best.summary


def test_trends_that_hold_and_their_opposites_fail(small: Config) -> None:
    fill_metrics(small, "table1", _as_claimed)
    natural = claim_of(small, "wider-natural")
    assert natural.verdict == "holds"
    pooled = natural.effects[0]
    # on average a step in width is worth (10 - 1) / 2
    assert pooled.value == pytest.approx(4.5)
    # the middle width cancels: two cells of three seeds a lambda are left
    half = 2.776445 * 0.1 / math.sqrt(3)
    assert (pooled.value - pooled.low) < half
    assert natural.missing == ()
    found = claims_of(small)
    assert found["wider-stability"].verdict == "holds"
    lam = found["lambda-stability"]
    assert (lam.verdict, lam.effects[0].value) == ("holds", pytest.approx(6))

    def opposite(item: Evaluation) -> Numbers:
        width, lam, seed = width_of(item), item.cell.lam, item.cell.seed
        return 40 + seed / 10, 70 - width + seed / 10, 60 + width / 2 - lam + seed / 10

    fill_metrics(small, "table1", opposite)
    found = claims_of(small)
    for name in ("wider-natural", "wider-stability", "lambda-stability"):
        assert found[name].verdict == "fails", name
    text = found["wider-natural"].summary
    assert "4.50 points lower on the wider network (95 % interval 4." in text
    assert "Significantly against the claim: TRADES, λ=6: w=5 − w=1" in text


def test_one_comparison_contradicts_always(small: Config) -> None:
    """Of four steps three go up by ten, one down by one: the mean holds, "always" does not."""

    def numbers(item: Evaluation) -> Numbers:
        width, lam, seed = width_of(item), item.cell.lam, item.cell.seed
        natural = {1: 50, 5: 60, 10: 59 if lam == 6 else 70}[width]
        return 40, natural + seed / 100, 60

    fill_metrics(small, "table1", numbers)
    claim = claim_of(small, "wider-natural")
    assert claim.effects[0].low > 0
    assert claim.verdict == "fails"
    assert "Significantly against the claim: TRADES, λ=6: w=10 − w=5." in claim.summary


def test_noise_does_not_contradict(small: Config) -> None:
    def numbers(item: Evaluation) -> Numbers:
        width, lam, seed = width_of(item), item.cell.lam, item.cell.seed
        natural = {1: 50, 5: 60, 10: 59.9 if lam == 6 else 70}[width]
        return 40, natural + seed / 2, 60

    fill_metrics(small, "table1", numbers)
    claim = claim_of(small, "wider-natural")
    assert claim.verdict == "holds"
    assert "1 of 4 points the other way, none significantly." in claim.summary


def test_seeds_that_scatter_are_too_little_data(small: Config) -> None:
    fill_metrics(small, "table1", lambda item: (40, 60 + width_of(item) / 10 + item.cell.seed, 70))
    claim = claim_of(small, "wider-natural")
    assert claim.verdict == "too little data"
    assert claim.effects[0].low < 0 < claim.effects[0].high


def test_missing_cells_are_counted_and_named(small: Config) -> None:
    def numbers(item: Evaluation) -> Numbers | None:
        lost = item.cell.lam == 12 and width_of(item) == 10
        return None if lost or (item.cell.lam == 6 and item.cell.seed == 2) else _as_claimed(item)

    fill_metrics(small, "table1", numbers)
    claim = claim_of(small, "wider-natural")
    assert claim.effects[0].low > 0
    assert claim.verdict == "too little data"
    assert "So far, judged on 3 of 4 comparisons: on average over 3" in claim.summary
    assert "2 training seeds" in claim.summary
    assert "cifar10/wrn-34-10/trades/lam-12/seed-1 has no record" in " ".join(claim.missing)
    assert len(claim.missing) == 3 + 3


def test_a_part_can_contradict_and_nothing_more(small: Config) -> None:
    """Of four comparisons one has its seeds."""

    def numbers(item: Evaluation, sign: int) -> Numbers | None:
        width, seed = width_of(item), item.cell.seed
        there = item.cell.lam == 6 and width < 10
        return (40, 60 + sign * width + seed / 10, 65 - seed) if there else None

    for sign, verdict in ((1, "too little data"), (-1, "fails")):
        fill_metrics(small, "table1", partial(numbers, sign=sign))
        claim = claim_of(small, "wider-natural")
        assert claim.verdict == verdict
        assert claim.summary.startswith("So far, judged on 1 of 4 comparisons: natural accuracy")


def test_a_mean_over_a_part_decides_nothing(small: Config) -> None:
    """Three of four fall by so little that none does significantly, but their mean would."""

    def numbers(item: Evaluation) -> Numbers | None:
        lost = item.cell.lam == 12 and width_of(item) == 10 and item.cell.seed
        return None if lost else (40, 70 - width_of(item) / 5 + item.cell.seed / 2, 65)

    fill_metrics(small, "table1", numbers)
    claim = claim_of(small, "wider-natural")
    assert claim.effects[0].high < 0
    assert "3 of 3 point the other way, none significantly." in claim.summary
    assert claim.verdict == "too little data"


def test_lines_tell_networks_of_one_width_apart(paper: Callable[..., Config]) -> None:
    networks = "[wrn-28-5, wrn-28-10, wrn-34-5, wrn-34-10]"
    grid = f"{{architectures: {networks}, methods: {{trades: [6, 12]}}}}"
    config = paper(f"experiments.table1={grid}")
    fill_metrics(config, "table1", _as_claimed)
    found = claims_of(config)
    for name in ("wider-natural", "wider-stability", "lambda-stability"):
        lines = [effect.what for effect in found[name].effects]
        assert len(set(lines)) == len(lines) == 1 + 4
        assert sum("WideResNet-28" in line for line in lines) == 2


def test_a_damaged_record_is_named(small: Config) -> None:
    fill_metrics(small, "table1", _as_claimed)
    item = find_experiment(small, "table1").evaluations[0]
    record = paths.record_file(
        paths.cell_folder(small, item.cell), item.checkpoint, item.attack, item.seed
    )
    record.write_bytes(b"no zip")
    claim = claim_of(small, "wider-stability")
    # the other two seeds are enough
    assert (claim.verdict, claim.effects[0].seeds) == ("holds", 2)
    assert f"{record} does not match its checksum" in " ".join(claim.missing)


def test_no_results_at_all(paper: Callable[..., Config]) -> None:
    config = paper("experiments.table5=null")
    found = judge_claims(config)
    assert {claim.verdict for claim in found} == {"too little data"}
    summaries = {claim.name: claim.summary for claim in found}
    assert "experiments.table5 is null" in summaries["imagenet-natural"]
    assert summaries["wider-natural"] == "No results yet; 22 comparisons to make."
    assert len({claim.name for claim in found}) == len(found) == 16


def test_a_single_width_has_nothing_to_compare(paper: Callable[..., Config]) -> None:
    config = paper("experiments.table1={architectures: [wrn-34-1], methods: {at: [1]}}")
    assert "Nothing to compare" in claim_of(config, "wider-natural").summary
    assert "Nothing to compare" in claim_of(config, "lambda-stability").summary


def test_imagenet(paper: Callable[..., Config]) -> None:
    config = paper()
    for item in find_experiment(config, "table5").evaluations:
        wide = item.cell.architecture == "wrn-50-2"
        place = np.arange(1000)
        top5 = place < (660 if wide else 530)
        write_run(config, item, test=1000)
        robust = place < (300 if wide else 400)
        write_made_up(config, item, place, robust, robust, 0, top5=top5)
    natural, stable = (claim_of(config, f"imagenet-{name}") for name in ("natural", "stability"))
    assert (natural.verdict, natural.effects[0].value) == ("holds", pytest.approx(13))
    assert (stable.verdict, stable.effects[0].value) == ("holds", pytest.approx(10))
    assert natural.unit == stable.unit == "images"


def test_the_identity(paper: Callable[..., Config]) -> None:
    config = paper("experiments.table1.methods={trades: [6]}")
    first, second, third, *_ = find_experiment(config, "table1").evaluations
    place = np.arange(10_000)
    for item in (first, second, third):
        write_run(config, item)
        every = item is not third
        recovered = {first: 10, second: 3, third: 500}[item]
        write_made_up(
            config, item, place, place < 4000, place < 8000, 0, recovered, every_image=every
        )
    claim = claim_of(config, "identity")
    # the third attack left alone what was wrong: its record cannot tell
    (effect,) = claim.effects
    assert (claim.verdict, effect.value, effect.images) == ("holds", pytest.approx(0.1), 20_000)
    assert "19,987 of 20,000 attacked images in 2 records" in claim.summary
    assert f"{len(claim.missing)} planned records cannot be read yet" in claim.summary
    for recovered, verdict in ((11, "too little data"), (30, "fails")):
        write_made_up(config, first, place, place < 4000, place < 8000, 0, recovered)
        assert claim_of(config, "identity").verdict == verdict


def _numbers(tree: object) -> Iterator[object]:
    for value in tree.values() if isinstance(tree, dict) else tree:
        yield from _numbers(value) if isinstance(value, dict | list) else [value]


def test_the_file_is_strict_json(small: Config, run_command: Callable[..., str]) -> None:
    # one pair with two seeds; the others have numbers and no interval
    fill_metrics(
        small,
        "table1",
        lambda i: _as_claimed(i) if i.cell.seed < 1 + (i.cell.lam == 6) else None,
    )
    shown = run_command(small, "claims")
    assert "Preset paper; data: CIFAR-10, CIFAR-100, ImageNet." in shown

    def refuse(word: str) -> None:
        raise AssertionError(word)

    tree = json.loads(paths.claims_file(small).read_text(), parse_constant=refuse)
    assert [claim["name"] for claim in tree["claims"]] == [c.name for c in judge_claims(small)]
    assert None in list(_numbers(tree["claims"]))
    assert "experiments.table1.architectures" not in str(tree["deviations"])
    for claim in tree["claims"]:
        assert claim["name"] in shown
        assert claim["verdict"] in ("holds", "fails", "too little data")


def test_another_protocol_is_said_first(small: Config, run_command: Callable[..., str]) -> None:
    other = small.model_copy(update={"preset": "short"})
    first, second, *_ = run_command(other, "claims").splitlines()
    assert first.startswith("Preset short; data:")
    assert second.startswith("Not the paper's protocol: preset is short")
    write_claims(other, [])
    assert json.loads(paths.claims_file(other).read_text())["claims"] == []
