"""Claims as the page shows them."""

import math
from pathlib import Path

import pytest
from report_cases import make_up, page_of, paper_config

from reproduce.claims.evidence import Claim, Effect
from reproduce.claims.statements import judge_claims
from reproduce.config.schema import Config
from reproduce.report.build import build_report
from reproduce.report.claims import claim_view


@pytest.fixture
def campaign(tmp_path: Path) -> Config:
    config = paper_config(tmp_path)
    make_up(config)
    return config


def _claim(effect: Effect) -> Claim:
    return Claim(
        "wider-natural",
        "Wider networks have higher natural accuracy.",
        "Table 1",
        "holds",
        "All pairs.",
        "seeds",
        (effect,),
        ("a run",),
    )


def test_claims_and_their_intervals() -> None:
    judged = Effect("wider", 2.0, -1.0, 5.0, "points", 3.0, 3, 10_000, 0.0004)
    claim = claim_view(_claim(judged))
    assert (claim.kind, claim.symbol, claim.missing) == ("agree", "✓", ("a run",))
    (effect,) = claim.effects
    assert effect.text == "2 points, 95 % interval −1 to 5; threshold 3"
    assert effect.behind == "3 seeds, 10,000 images, p < 0.001"
    assert claim.over == "Intervals over seeds"
    bar = effect.bar
    # the scale runs from -1 to 5 between margins of 6 percent
    assert bar is not None
    assert (bar.low, bar.high) == (6.0, 94.0)
    assert bar.value == pytest.approx(50.0)
    assert bar.zero == pytest.approx(6 + 88 / 6, abs=0.01)
    assert bar.threshold == pytest.approx(6 + 88 * 4 / 6, abs=0.01)


def test_claims_without_values() -> None:
    (effect,) = claim_view(_claim(Effect("wider", math.nan, images=1))).effects
    assert (effect.text, effect.bar, effect.behind) == ("no value yet", None, "1 image")
    (effect,) = claim_view(_claim(Effect("shown alone", 2.0, threshold=None))).effects
    assert effect.text == "2 points"


def test_claims_are_judged_on_these_results(campaign: Config) -> None:
    report = build_report(campaign)
    assert [claim.name for claim in report.claims] == [one.name for one in judge_claims(campaign)]
    assert sum(share.count for share in report.summary.claims) == len(report.claims)
    page = page_of(campaign)
    assert len(page.find("article", class_="claim")) == len(report.claims)
    bar = next(tile for tile in report.summary.tiles if "claims" in tile.label)
    held = sum(claim.verdict == "holds" for claim in report.claims)
    assert bar.value == f"{held} of {len(report.claims)}"
