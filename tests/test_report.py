"""The report on made-up results: its numbers, and that it stands whatever is missing or broken."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up import write_made_up, write_run
from report_cases import Element, make_up, paper_config, parse

from reproduce import paths
from reproduce.analysis import build_diff, collect
from reproduce.analysis.layouts import lay_out
from reproduce.cells import parse_cell
from reproduce.claims import Claim, Effect, judge_claims
from reproduce.config import Config
from reproduce.experiments import find_experiment, table_names
from reproduce.files import read_json, write_json
from reproduce.report import write_report
from reproduce.report.beside import Comparison, is_papers, place_of, seeds_behind
from reproduce.report.build import build_report
from reproduce.report.claims import claim_view
from reproduce.report.verdicts import shade
from reproduce.report.view import Number, Report
from reproduce.report.words import label, signed
from reproduce.settings import load_config


@pytest.fixture
def campaign(tmp_path: Path) -> Config:
    config = paper_config(tmp_path)
    make_up(config)
    return config


def _page(config: Config) -> Element:
    return parse(write_report(config).read_text(encoding="utf-8"))


def _entry(report: Report, row: int, column: int) -> Number:
    return report.tables[0].sections[0].rows[row].numbers[column]


def test_entries_beside_the_papers(campaign: Config) -> None:
    report = build_report(campaign)
    assert report.tables[0].columns[:3] == tuple(
        (width, "Robust accuracy (%)") for width in ("w=1", "w=5", "w=10")
    )
    agrees, differs, spread = (_entry(report, *at) for at in ((0, 0), (0, 1), (1, 0)))
    assert (agrees.mean, agrees.std, agrees.paper) == ("47.81", "0.10", "47.81 ± 0.09")
    assert (agrees.difference, agrees.verdict, agrees.shade) == ("0.00", "agrees", "near")
    assert agrees.seeds == (("seed 0", "47.71"), ("seed 1", "47.81"), ("seed 2", "47.91"))
    assert (differs.mean, differs.difference) == ("50.10", "−4.35")
    assert (differs.verdict, differs.shade) == ("differs", "below-2")
    assert (spread.mean, spread.verdict, spread.shade) == ("50.00", "within noise", "above-1")
    partial, missing = (_entry(report, 1, place) for place in (1, 2))
    assert (partial.count, partial.std, len(partial.seeds)) == ("1/3", "", 1)
    assert (missing.mean, missing.value, missing.paper) == ("–", None, "55.29 ± 0.45")
    assert missing.verdict == "missing"


def test_first_screen(campaign: Config) -> None:
    summary = build_report(campaign).summary
    assert [(tile.value, tile.label) for tile in summary.tiles[:2]] == [
        ("13 of 18", "networks trained"),
        ("13 of 18", "evaluations done"),
    ]
    experiment = find_experiment(campaign, "table1")
    diff = build_diff(campaign, experiment, collect(campaign, experiment))
    counts = {share.name: share.count for share in summary.numbers}
    assert counts == diff["verdict"].value_counts().to_dict()
    assert sum(counts.values()) == 18
    apart = diff["difference"].abs()
    assert summary.tiles[2].value == f"{apart.mean():.2f}"
    assert summary.gaps[0].difference == signed(diff["difference"][apart.idxmax()])
    assert summary.headline.startswith(f"Of {18 - counts['missing']} numbers")
    assert summary.missing[0] == (
        "Table 1: 5 of 18 networks not trained, 5 of 18 evaluations not done"
    )
    assert summary.missing[1].startswith("Lemma: lemma.json")
    assert summary.missing[2] == "Adversarial examples: not made"
    assert summary.deviations == ()


def test_the_page_shows_what_the_view_says(campaign: Config) -> None:
    page = _page(campaign)
    (table,) = page.find("section", id_="table1")
    rows = [row for row in table.find("tr") if row.find("td")]
    first = rows[0].find("td")[0]
    assert first.attributes["data-v"].startswith("47.81")
    for words in ("47.81 ± 0.10", "paper 47.81 ± 0.09", "seed 2 47.91", "agrees"):
        assert words in first.text
    assert rows[1].find("td")[2].text == "– no result yet paper 55.29 ± 0.45"
    heads = [head.attributes.get("scope") for head in table.find("th")]
    assert set(heads) == {"col", "colgroup", "rowgroup", "row"}
    assert [link.attributes["href"] for link in table.find("a")] == [
        "tables/table1.csv",
        "tables/table1.tex",
        "diff/table1.csv",
    ]


def test_nothing_is_loaded_from_anywhere(campaign: Config) -> None:
    page = _page(campaign)
    for element in page.find("*"):
        for name in ("src", "srcset", "poster", "data", "action", "formaction"):
            assert (element.attributes.get(name) or "data:").startswith("data:")
        href = element.attributes.get("href") or "#"
        assert not re.match(r"[a-z]+:|//", href)
    assert not any(page.find(tag) for tag in ("link", "iframe", "object", "embed", "base"))
    text = paths.report_file(campaign).read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
    assert page.find("html")[0].attributes["lang"] == "en"


def test_equal_results_give_equal_pages(campaign: Config) -> None:
    first = write_report(campaign).read_bytes()
    assert write_report(campaign).read_bytes() == first


def test_other_settings_are_said_and_not_judged(tmp_path: Path) -> None:
    config = paper_config(tmp_path, "train.epochs=20")
    make_up(config)
    summary = build_report(config).summary
    assert {share.name for share in summary.numbers} == {"not a reproduction", "missing"}
    assert "no reproduction" in summary.headline
    assert "train.epochs is 20, the paper's is 100" in summary.deviations
    assert "framed" in _entry(build_report(config), 0, 1).shade
    assert "The settings are not the paper’s: " in _page(config).text


def test_nothing_at_all_makes_a_page(tmp_path: Path) -> None:
    page = _page(paper_config(tmp_path))
    assert "No result is there yet" in page.text
    assert "18 of 18 networks not trained" in page.text
    assert "no result yet" in page.find("section", id_="table1")[0].text
    empty = paper_config(tmp_path / "empty", "experiments.table1=null")
    assert "The configuration asks for no table." in _page(empty).text


def test_damaged_files_are_named(campaign: Config) -> None:
    cells = [parse_cell(f"cifar10/wrn-34-1/trades/lam-6/seed-{seed}").id for seed in (0, 1, 2)] + [
        "cifar10/wrn-34-5/trades/lam-6/seed-0",
        "cifar10/wrn-34-5/trades/lam-6/seed-1",
    ]
    folders = [paths.root(campaign) / "cells" / cell for cell in cells]
    (folders[0] / "records" / "pgd20-seed0.npz").write_bytes(b"no record")
    (folders[1] / "run.json").write_text("{")
    run = read_json(folders[2] / "run.json")
    write_json(folders[2] / "run.json", run | {"pieces": "none"})
    (folders[3] / "records" / "pgd20-seed0.json").write_text('{"digest": 3}')
    (folders[4] / "trace.parquet").unlink()
    paths.throughput_file(campaign).write_text("[]")
    damaged = build_report(campaign).summary.damaged
    expected = [
        f"{folders[0]}/records/pgd20-seed0.npz does not match its checksum",
        f"{folders[1]}/run.json is damaged",
        f"{folders[2]}/run.json is damaged at 'pieces'",
        f"{folders[3]}/records/pgd20-seed0",
        f"{cells[4]} has lost trace.parquet",
        f"{paths.throughput_file(campaign)} is damaged",
    ]
    for words in expected:
        assert any(words in line for line in damaged), words
    page = _page(campaign)
    assert "1 record could not be used" in page.text or "records could not be used" in page.text
    assert "has lost trace.parquet" in page.text


def test_odd_text_is_escaped(campaign: Config) -> None:
    odd = "<script>alert('x')</script> & \"GPU\""
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    path = paths.run_file(paths.cell_folder(campaign, cell))
    run = read_json(path)
    piece = {"name": odd, "device": "cuda", "seconds": 7200, "commit": odd, "versions": {odd: odd}}
    write_json(path, run | {"pieces": [piece], "data": run["data"] | {"source": odd}})
    page = _page(campaign)
    assert len(page.find("script")) == 1
    assert page.find("section", id_="provenance")[0].text.count(odd) >= 4


def test_every_number_of_the_paper_finds_its_entry() -> None:
    """All comparisons of all six tables, though nothing is trained."""
    config = load_config("{}", "paper")
    for name in table_names(config):
        experiment = find_experiment(config, name)
        results = collect(config, experiment)
        layout = lay_out(config, experiment, results)
        diff = build_diff(config, experiment, results)
        comparison, grid = Comparison(diff), getattr(config.experiments, name)
        found = [
            row
            for line in layout.rows
            for column in layout.columns
            if not is_papers(column)
            and (row := comparison.of(place_of(grid, line, column))) is not None
        ]
        assert len(found) == len(diff), name
        printed = sorted(row["paper"] for row in found if not math.isnan(row["paper"]))
        assert printed == sorted(diff["paper"].dropna()), name


def test_seeds_of_strategies_and_of_attacks(tmp_path: Path) -> None:
    tuning = (
        "experiments.table3={dataset: cifar10, architectures: [wrn-34-5], untuned: 6, "
        "lambdas: [6, 12], seeds: [0, 1]}"
    )
    attacks = (
        "experiments.table2={architectures: {cifar10: [wrn-34-5]}, method: trades, lambdas: [12], "
        "attacks: [pgd20, cw20], attack_seeds: [0, 1]}"
    )
    config = paper_config(tmp_path, tuning, attacks, "experiments.table1=null")
    index = np.arange(1000)
    for name in ("table3", "table2"):
        for item in find_experiment(config, name).evaluations:
            if item.cell.lam == 6 and item.cell.architecture == "wrn-34-5" and item.cell.seed:
                continue
            robust = 400 + 10 * item.cell.lam + item.cell.seed + 5 * item.seed
            chosen = 9.5 + item.cell.seed if item.cell.method == "war" else None
            write_run(config, item, final_lambda=chosen)
            write_made_up(config, item, index, index < robust)
    found = {}
    for name in ("table3", "table2"):
        experiment = find_experiment(config, name)
        results = collect(config, experiment)
        layout = lay_out(config, experiment, results)
        grid = getattr(config.experiments, name)
        for row, entries in zip(layout.rows, layout.entries, strict=True):
            for column in layout.columns:
                place = place_of(grid, row, column)
                seeds = seeds_behind(grid, place, entries[0].sample.mean, results)
                key = row.keys.get("tuning", row.keys.get("lambda")), column.key
                found[key] = [(word, round(value, 2)) for word, value in seeds]
    assert found["untuned", "robust_accuracy"] == [("seed 0", 46.0)]
    assert found["manual", "robust_accuracy"] == [("seed 0", 52.0), ("seed 1", 52.1)]
    assert found["war", "robust_accuracy"] == [("seed 0", 40.0), ("seed 1", 40.1)]
    assert found["war", "lambda"] == [("seed 0", 9.5), ("seed 1", 10.5)]
    assert found["war", "hours"] == []
    assert found[12, "cw20"] == [("start 0", 52.0), ("start 1", 52.5)]
    assert found[12, "worst case"] == []


def test_hours_count_every_run_once(campaign: Config) -> None:
    costs = build_report(campaign).costs
    # 13 runs of an hour
    assert [cell.value for cell in costs.by_table.total[1:]][1] == pytest.approx(13)
    assert sum(float(row[2].value) for row in costs.by_cell.rows) == pytest.approx(13)
    assert len(costs.by_cell.rows) == 18
    assert costs.by_table.rows[0][0].text == "Table 1"
    assert "GPU-hours" in costs.note


def test_hours_of_several_devices_count_each(campaign: Config) -> None:
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    path = paths.run_file(paths.cell_folder(campaign, cell))
    pieces = [{"seconds": 3600, "processes": 4}, {"seconds": 1800, "processes": 2}]
    write_json(path, read_json(path) | {"pieces": pieces})
    rows = {row[0].text: row for row in build_report(campaign).costs.by_cell.rows}
    assert rows[cell.id][2].value == pytest.approx(5)


def test_provenance_can_be_used_again(campaign: Config, tmp_path: Path) -> None:
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    path = paths.run_file(paths.cell_folder(campaign, cell))
    piece = {
        "began": "2026-01-02T03:04:05+00:00",
        "name": "NVIDIA V100",
        "device": "cuda",
        "commit": f"{'ab' * 20}-dirty",
        "versions": {"torch": "2.13.0"},
    }
    write_json(path, read_json(path) | {"pieces": [piece]})
    provenance = build_report(campaign).provenance
    facts = dict(provenance.facts)
    assert facts["Commits"] == (
        f"{'ab' * 20} with changes that were not committed (1 piece of work)",
    )
    assert facts["Hardware"] == ("NVIDIA V100 (cuda)",)
    assert facts["Training runs"] == ("13",)
    assert facts["Runs began"] == ("2026-01-02T03:04:05+00:00",)
    assert f"git checkout {'ab' * 20}\n" in provenance.commands
    again = tmp_path / "config.yaml"
    again.write_text(provenance.configuration)
    assert load_config(str(again)) == campaign
    (images,) = provenance.data.rows
    assert (images[0].text, images[3].value) == ("CIFAR-10", 50_000)
    assert len(provenance.models.rows) == 13


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
    page = _page(campaign)
    assert len(page.find("article", class_="claim")) == len(report.claims)
    bar = next(tile for tile in report.summary.tiles if "claims" in tile.label)
    held = sum(claim.verdict == "holds" for claim in report.claims)
    assert bar.value == f"{held} of {len(report.claims)}"


@pytest.mark.parametrize(
    ("verdict", "difference", "expected"),
    [
        ("agrees", -1.0, "near"),
        ("differs", 1.01, "above-1"),
        ("within noise", -3.5, "below-2"),
        ("differs", -9.0, "below-3"),
        ("not a reproduction", 0.2, "near framed"),
        ("for information", 20.0, ""),
        ("missing", math.nan, ""),
    ],
)
def test_shades(verdict: str, difference: float, expected: str) -> None:
    assert shade(verdict, difference) == expected


def test_words() -> None:
    assert [label(name) for name in ("table1", "figure3", "war", "all")] == [
        "Table 1",
        "Figure 3",
        "WAR",
        "All",
    ]
    assert [signed(value) for value in (0.42, -1.3, -0.001, math.nan)] == [
        "+0.42",
        "−1.30",
        "0.00",
        "",
    ]


def test_the_command(campaign: Config, run_command: Callable[..., str]) -> None:
    assert str(paths.report_file(campaign)) in run_command(campaign, "report")
