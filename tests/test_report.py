"""The report on made-up results: its numbers, and that it stands whatever is missing or broken."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from report_cases import make_up, page_of, paper_config

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.report.build import build_report
from reproduce.report.view import Number, Report
from reproduce.report.words import signed
from reproduce.report.write import write_report
from reproduce.results.frames import collect
from reproduce.tables.diff import build_diff


@pytest.fixture
def campaign(tmp_path: Path) -> Config:
    config = paper_config(tmp_path)
    make_up(config)
    return config


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
    page = page_of(campaign)
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
    page = page_of(campaign)
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
    assert [tile.label for tile in summary.tiles[:2]] == ["networks trained", "evaluations done"]
    assert not any("apart" in tile.label for tile in summary.tiles)
    assert summary.gaps == ()
    assert "framed" in _entry(build_report(config), 0, 1).shade
    assert "The settings are not the paper’s: " in page_of(config).text


def test_nothing_at_all_makes_a_page(tmp_path: Path) -> None:
    page = page_of(paper_config(tmp_path))
    assert "No result is there yet" in page.text
    assert "18 of 18 networks not trained" in page.text
    assert "no result yet" in page.find("section", id_="table1")[0].text
    empty = paper_config(tmp_path / "empty", "experiments.table1=null")
    assert "The configuration asks for no table." in page_of(empty).text


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
    page = page_of(campaign)
    assert "1 record could not be used" in page.text or "records could not be used" in page.text
    assert "has lost trace.parquet" in page.text


def test_odd_text_is_escaped(campaign: Config) -> None:
    odd = "<script>alert('x')</script> & \"GPU\""
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    path = paths.run_file(paths.cell_folder(campaign, cell))
    run = read_json(path)
    piece = {"name": odd, "device": "cuda", "seconds": 7200, "commit": odd, "versions": {odd: odd}}
    write_json(path, run | {"pieces": [piece], "data": run["data"] | {"source": odd}})
    page = page_of(campaign)
    assert len(page.find("script")) == 1
    assert page.find("section", id_="provenance")[0].text.count(odd) >= 4


def test_the_command(campaign: Config, run_command: Callable[..., str]) -> None:
    assert str(paths.report_file(campaign)) in run_command(campaign, "report")
