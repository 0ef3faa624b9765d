"""The report on made-up results: its numbers, its page, what is missing and what is damaged."""
# ruff: noqa: PD011 (the values of an entry are no frame's)

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up import write_made_up, write_run
from report_cases import Element, make_up, page_of, paper_config, parse

from reproduce.cell import parse_cell
from reproduce.claims.evidence import Effect
from reproduce.claims.statements import judge_claims
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment, table_names
from reproduce.report.build import build_report, render
from reproduce.report.format import (
    effect_basis,
    effect_text,
    forest,
    hours,
    label,
    shade,
    signed,
    with_std,
)
from reproduce.report.summary import each_number_once
from reproduce.report.tables import table_section
from reproduce.results.frames import collect
from reproduce.tables.diff import DIFF_COLUMNS, JUDGED, build_diff

FIRST = "cifar10/wrn-34-1/trades/lam-6/seed-0"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Made-up results that no test changes."""
    config = paper_config(tmp_path_factory.mktemp("campaign"))
    make_up(config)
    return config


@pytest.fixture(scope="module")
def report(campaign: Config) -> dict[str, Any]:
    return build_report(campaign)


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> Element:
    return parse(render(report))


@pytest.fixture
def own(tmp_path: Path) -> Config:
    """The same results for a test that changes them."""
    config = paper_config(tmp_path)
    make_up(config)
    return config


@pytest.mark.parametrize(
    ("row", "column", "text", "look"),
    [
        (0, 0, "47.81 ± 0.10 paper 47.81 ± 0.09 0.00 ✓ (agrees) seed 0 47.71 seed 1 47.81", "near"),
        (0, 1, "50.10 ± 0.10 paper 54.45 ± 0.16 −4.35 ≠ (differs) seed 0 50.00", "below-2"),
        (1, 0, "50.00 ± 6.24 paper 48.01 ± 0.06 +1.99 ≈ (within noise)", "above-1"),
        (1, 1, "55.00 paper 55.34 ± 0.17 −0.34 ✓ (agrees) 1/3 seed 0 55.00", "near"),
        (1, 2, "– no result yet paper 55.29 ± 0.45", None),
    ],
)
def test_entries(page: Element, row: int, column: int, text: str, look: str | None) -> None:
    (table,) = page.find("section", id_="table1")
    lines = [line for line in table.find("tr") if line.find("td")]
    entry = lines[row].find("td", class_="entry")[column]
    assert entry.text.startswith(text)
    chips = [span for span in entry.find("span") if look and "difference" in str(span.attributes)]
    assert [chip.attributes["class"] for chip in chips] == ([f"difference {look}"] if look else [])
    value = entry.attributes["data-v"]
    assert value == "" if look is None else float(str(value)) == pytest.approx(float(text[:5]))


def test_first_screen(campaign: Config, report: dict[str, Any]) -> None:
    summary = report["summary"]
    assert summary["tiles"][:2] == [
        ("13 of 18", "networks trained"),
        ("13 of 18", "evaluations done"),
    ]
    experiment = find_experiment(campaign, "table1")
    diff = build_diff(campaign, experiment, collect(campaign, experiment))
    counts = {share["name"]: share["count"] for share in summary["numbers"]}
    assert counts == diff["verdict"].value_counts().to_dict()
    assert sum(counts.values()) == 18
    assert summary["tiles"][2][0] == f"{diff['difference'].abs().mean():.2f}"
    assert abs(summary["gaps"][0]["difference"]) == diff["difference"].abs().max()
    judged = diff["verdict"].isin(JUDGED).sum()
    assert summary["headline"].startswith(f"Of {judged} numbers")
    assert summary["tiles"][2][1] == f"points apart on average, over {judged} numbers"
    assert summary["missing"][:3] == [
        "Table 1: 5 of 18 networks not trained, 5 of 18 evaluations not done",
        "Lemma: lemma.json: it is not there yet, `reproduce lemma` makes it",
        "Adversarial examples: not made",
    ]
    assert summary["deviations"] == []


def test_the_page_of_a_table(page: Element) -> None:
    (table,) = page.find("section", id_="table1")
    heads = table.find("th")
    assert {head.attributes.get("scope") for head in heads} == {
        "col",
        "colgroup",
        "rowgroup",
        "row",
    }
    columns = [head.text for head in heads if head.attributes.get("scope") == "col"]
    assert columns[:3] == ["λ", "w=1 Robust accuracy (%)", "w=5 Robust accuracy (%)"]
    links = [link.attributes["href"] for link in table.find("a")]
    assert links == ["tables/table1.csv", "tables/table1.tex", "diff/table1.csv"]


def test_nothing_is_loaded_from_anywhere(page: Element, report: dict[str, Any]) -> None:
    for element in page.find("*"):
        for name in ("src", "srcset", "poster", "data", "action", "formaction"):
            assert (element.attributes.get(name) or "data:").startswith("data:")
        href = element.attributes.get("href") or "#"
        assert not re.match(r"[a-z]+:|//", href)
    assert not any(page.find(tag) for tag in ("link", "iframe", "object", "embed", "base"))
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", render(report))
    assert page.find("html")[0].attributes["lang"] == "en"


def test_the_command_writes_an_equal_page(
    campaign: Config, report: dict[str, Any], run_command: Callable[..., str]
) -> None:
    path = paths.report_file(campaign)
    assert str(path) in run_command(campaign, "report")
    assert path.read_text(encoding="utf-8") == render(report)


def test_other_settings_are_said_and_not_judged(tmp_path: Path) -> None:
    config = paper_config(tmp_path, "train.epochs=20")
    make_up(config)
    report = build_report(config)
    summary = report["summary"]
    assert {share["name"] for share in summary["numbers"]} == {"not a reproduction", "missing"}
    assert "no reproduction" in summary["headline"]
    assert "train.epochs is 20, the paper's is 100" in summary["deviations"]
    assert not any("apart" in text for _, text in summary["tiles"])
    assert summary["gaps"] == []
    page = parse(render(report))
    assert page.find("span", class_="difference below-2 framed")
    assert "The settings are not the paper’s: " in page.text


def test_nothing_at_all_makes_a_page(tmp_path: Path) -> None:
    page = page_of(paper_config(tmp_path))
    assert "No result is there yet" in page.text
    assert "18 of 18 networks not trained" in page.text
    assert "no result yet" in page.find("section", id_="table1")[0].text
    empty = paper_config(tmp_path / "empty", "experiments.table1=null")
    assert "The configuration asks for no table." in page_of(empty).text


def test_damaged_files_are_named(own: Config) -> None:
    cells = [FIRST.replace("seed-0", f"seed-{seed}") for seed in (0, 1, 2)]
    cells += [f"cifar10/wrn-34-5/trades/lam-6/seed-{seed}" for seed in (0, 1)]
    folders = [paths.root(own) / "cells" / cell for cell in cells]
    (folders[0] / "records" / "pgd20-seed0.npz").write_bytes(b"no record")
    (folders[1] / "run.json").write_text("{")
    run = read_json(folders[2] / "run.json")
    write_json(folders[2] / "run.json", run | {"pieces": "none"})
    (folders[3] / "records" / "pgd20-seed0.json").write_text('{"digest": 3}')
    (folders[4] / "trace.parquet").unlink()
    paths.throughput_file(own).write_text("[]")
    paths.lemma_file(own).write_text("{")
    page = page_of(own).text
    for text in (
        f"{folders[0]}/records/pgd20-seed0.npz does not match its checksum",
        f"{folders[1]}/run.json is damaged",
        f"{folders[2]}/run.json is damaged at 'pieces'",
        f"{folders[3]}/records/pgd20-seed0",
        f"{cells[4]} has lost trace.parquet",
        f"{paths.throughput_file(own)} is damaged",
        f"{paths.lemma_file(own)} is damaged",
        "records could not be used: the summary says which, and why.",
    ):
        assert text in page


def test_long_notes_are_folded_and_long_lists_shortened(tmp_path: Path) -> None:
    settings = ["train.epochs=20", "train.batch_size=64", "train.learning_rate=0.05"]
    settings += ["train.momentum=0.8", "train.weight_decay=0.001", "eval.epsilon=0.02"]
    settings += ["train.attack={steps: 3, step_size: 0.01, epsilon: 0.02}"]
    seeds = ", ".join(map(str, range(9)))
    config = paper_config(tmp_path, *settings, f"experiments.table1.seeds=[{seeds}]")
    for cell in find_experiment(config, "table1").cells:
        path = paths.run_file(paths.cell_folder(config, cell))
        path.parent.mkdir(parents=True)
        path.write_text("{")
    report = build_report(config)
    ((head, text),) = [note for note in report["tables"][0]["notes"] if note[0]]
    assert head == "Not the paper's protocol"
    assert "train.epochs is 20, the paper's is 100" in text
    assert len(report["summary"]["damaged"]) == 41
    assert report["summary"]["damaged"][-1] == f"and {54 - 40} more"


def test_odd_text_is_escaped(own: Config) -> None:
    odd = "<script>alert('x')</script> & \"GPU\""
    path = paths.run_file(paths.cell_folder(own, parse_cell(FIRST)))
    run = read_json(path)
    piece = {"name": odd, "device": "cuda", "seconds": 7200, "commit": odd, "versions": {odd: odd}}
    write_json(path, run | {"pieces": [piece], "data": run["data"] | {"source": odd}})
    page = page_of(own)
    assert len(page.find("script")) == 1
    assert page.find("section", id_="provenance")[0].text.count(odd) >= 4


def test_every_number_of_the_paper_finds_its_entry() -> None:
    """All comparisons of all six tables, though nothing is trained."""
    config = load_config("{}", "paper")
    for name in table_names(config):
        section = table_section(config, find_experiment(config, name), [])
        diff, rows = section["diff"], section["compared"]
        found = [
            rows[line.entries[column].key]
            for line in section["layout"].rows
            for column in section["shown"]
            if line.entries[column].key in rows
        ]
        assert len(found) == len(diff) - diff.duplicated(DIFF_COLUMNS[:6]).sum(), name
        printed = [text for row in found for text in row["printed"].split(" or ") if text]
        papers = diff.dropna(subset="paper")
        expected = map(with_std, papers["paper"], papers["paper_std"])
        assert sorted(printed) == sorted(expected), name


def test_values_behind_means_of_strategies_and_of_attacks(tmp_path: Path) -> None:
    tuning = (
        "experiments.table3={dataset: cifar10, architectures: [wrn-34-5], untuned: 9, "
        "lambdas: [6, 12], seeds: [0, 1]}"
    )
    attacks = (
        "experiments.table2={architectures: {cifar10: [wrn-34-5]}, method: trades, lambdas: [12], "
        "attacks: [pgd20, cw20], attack_seeds: [0, 1]}"
    )
    config = paper_config(tmp_path, tuning, attacks, "experiments.table1=null")
    index, found = np.arange(1000), {}
    for name in ("table3", "table2"):
        for item in find_experiment(config, name).evaluations:
            if item.cell.lam == 9 and item.cell.seed:
                continue
            robust = 400 + 10 * item.cell.lam + item.cell.seed + 5 * item.seed
            chosen = 9.5 + item.cell.seed if item.cell.method == "war" else None
            write_run(config, item, final_lambda=chosen)
            write_made_up(config, item, index, index < robust)
    for name in ("table3", "table2"):
        layout = table_section(config, find_experiment(config, name), [])["layout"]
        for row in layout.rows:
            for column, entry in zip(layout.columns, row.entries, strict=True):
                key = row.keys.get("tuning", row.keys.get("lambda")), column.key
                found[key] = {word: round(value, 2) for word, value in entry.values.items()}
    assert found["untuned", "robust_accuracy"] == {"seed 0": 49.0}
    assert found["manual", "robust_accuracy"] == {"seed 0": 52.0, "seed 1": 52.1}
    assert found["war", "robust_accuracy"] == {"seed 0": 40.0, "seed 1": 40.1}
    assert found["war", "lambda"] == {"seed 0": 9.5, "seed 1": 10.5}
    assert found[12, "cw20"] == {"start 0": 52.0, "start 1": 52.5}
    assert found["war", "hours"] == found[12, "worst case"] == {}


def test_a_number_of_two_tables_counts_once(tmp_path: Path) -> None:
    """Table 3's networks without tuning, and those of its search, are Table 1's."""
    tuning = (
        "experiments.table3={dataset: cifar10, architectures: [wrn-34-5], untuned: 6, "
        "lambdas: [6, 9], seeds: [0, 1, 2]}"
    )
    config = paper_config(tmp_path, tuning)
    make_up(config)
    # lambda 9 is the better one, of all three seeds
    for item in find_experiment(config, "table1").evaluations:
        if item.cell.architecture == "wrn-34-5" and item.cell.lam == 9:
            index = np.arange(10_000)
            write_run(config, item)
            write_made_up(config, item, index, index < 5500, index < 8000)
    diffs: dict[str, pd.DataFrame] = {
        name: table_section(config, find_experiment(config, name), [])["diff"]
        for name in ("table1", "table3")
    }
    numbers = each_number_once(config, diffs)
    assert len(numbers[numbers["table"] == "table1"]) == len(diffs["table1"])
    third = diffs["table3"].query("metric == 'robust_accuracy'").set_index("method")["paper"]
    first = diffs["table1"].query("architecture == 'wrn-34-5' and metric == 'robust_accuracy'")
    # the paper's own search ended with another lambda, 12: that is another number
    assert [name for name in third.index if third[name] in set(first["paper"])] == ["untuned"]
    kept = numbers[(numbers["table"] == "table3") & (numbers["metric"] == "robust_accuracy")]
    assert set(kept["method"]) == {"manual", "war"}


def test_claims_on_the_page(campaign: Config, report: dict[str, Any], page: Element) -> None:
    claims = judge_claims(campaign)
    articles = page.find("article", class_="claim")
    assert [one.attributes["id"] for one in articles] == [f"claim-{one.name}" for one in claims]
    assert sum(share["count"] for share in report["summary"]["claims"]) == len(claims)
    held = sum(claim.verdict == "holds" for claim in claims)
    assert report["summary"]["tiles"][3][0] == f"{held} of {len(claims)}"


def test_an_effect_and_its_interval() -> None:
    effect = Effect("wider", 2.0, -1.0, 5.0, "points", 3.0, 3, 10_000, 0.0004)
    assert effect_text(effect) == "2 points, 95 % interval −1 to 5; threshold 3"
    assert effect_basis(effect) == "3 seeds, 10,000 images, p < 0.001"
    # the scale runs from -1 to 5 between margins of 6 percent
    assert forest(effect, (effect,)) == {
        "low": 6.0,
        "high": 94.0,
        "value": 50.0,
        "zero": pytest.approx(6 + 88 / 6, abs=0.01),
        "threshold": pytest.approx(6 + 88 * 4 / 6, abs=0.01),
    }
    nothing = Effect("wider", math.nan, images=1)
    assert (effect_text(nothing), effect_basis(nothing)) == ("no value yet", "1 image")
    assert forest(nothing, (nothing, effect)) is None
    assert effect_text(Effect("shown alone", 2.0, threshold=None)) == "2 points"


@pytest.mark.parametrize(
    ("verdict", "difference", "expected"),
    [
        ("agrees", -1.0, "near"),
        ("differs", 1.01, "above-1"),
        ("within noise", -3.5, "below-2"),
        ("differs", -9.0, "below-3"),
        ("not a reproduction", 0.2, "near framed"),
        ("not judged", 20.0, ""),
        ("missing", math.nan, ""),
    ],
)
def test_shades(verdict: str, difference: float, expected: str) -> None:
    assert shade(verdict, difference) == expected


@pytest.mark.parametrize(
    ("write", "values", "expected"),
    [
        (label, ("table1", "figure3", "war", "all"), ["Table 1", "Figure 3", "WAR", "All"]),
        (signed, (0.42, -1.3, -0.001, math.nan), ["+0.42", "−1.30", "0.00", ""]),
        (hours, (0, 0.01234, 1.5, 12, 1234), ["0", "0.0123", "1.50", "12.0", "1,234"]),
    ],
)
def test_names_and_numbers(write: Callable[[Any], str], values: Any, expected: list[str]) -> None:
    assert [write(value) for value in values] == expected
