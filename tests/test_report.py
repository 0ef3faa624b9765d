"""The report on made-up results: its numbers, its page, what is missing and what is damaged."""
# ruff: noqa: PD011 (the values of an entry are no frame's)

import base64
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up import fill
from PIL import Image
from report_cases import Element, make_up, paper_config, parse

from reproduce.cell import parse_cell
from reproduce.claims.evidence import Effect
from reproduce.claims.statements import judge_claims
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.examples.files import AttackedImage, Example, Prediction
from reproduce.experiments import paths
from reproduce.experiments.cost import PAPER_SPEEDS
from reproduce.experiments.grids import find_experiment, table_names
from reproduce.lemma.search import examine
from reproduce.report.build import build_report, exponents, render
from reproduce.report.format import forest, hours, number, shade, signed, with_std
from reproduce.report.pictures import examples_note, pictures
from reproduce.report.provenance import costs_section, provenance_section, read_runs
from reproduce.report.summary import each_number_once
from reproduce.report.tables import table_section
from reproduce.results.frames import collect
from reproduce.results.status import status_frame
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
    assert [number for number, _ in summary["tiles"][:2]] == ["13 of 18", "13 of 18"]
    experiment = find_experiment(campaign, "table1")
    diff = build_diff(campaign, experiment, collect(campaign, experiment))
    counts = {share["name"]: share["count"] for share in summary["numbers"]}
    assert counts == diff["verdict"].value_counts().to_dict()
    assert summary["tiles"][2][0] == f"{diff['difference'].abs().mean():.2f}"
    assert abs(summary["gaps"][0]["difference"]) == diff["difference"].abs().max()
    judged = diff["verdict"].isin(JUDGED).sum()
    assert summary["headline"].startswith(f"Of {judged} numbers")
    assert summary["missing"][0] == (
        "Table 1: 5 of 18 networks not trained, 5 of 18 evaluations not done"
    )
    assert "Adversarial examples: not made" in summary["missing"]
    assert summary["deviations"] == []
    claims = judge_claims(campaign)
    assert sum(share["count"] for share in summary["claims"]) == len(claims)
    held = sum(claim.verdict == "holds" for claim in claims)
    assert summary["tiles"][3][0] == f"{held} of {len(claims)}"


def test_the_page(page: Element, report: dict[str, Any]) -> None:
    (table,) = page.find("section", id_="table1")
    heads = table.find("th")
    scopes = {head.attributes.get("scope") for head in heads}
    assert scopes == {"col", "colgroup", "rowgroup", "row"}
    columns = [head.text for head in heads if head.attributes.get("scope") == "col"]
    assert columns[:3] == ["λ", "w=1 Robust accuracy (%)", "w=5 Robust accuracy (%)"]
    links = [link.attributes["href"] for link in table.find("a")]
    assert links == ["tables/table1.csv", "tables/table1.tex", "diff/table1.csv"]
    articles = page.find("article", class_="claim")
    claims = [f"claim-{claim.name}" for claim in report["claims"]]
    assert [one.attributes["id"] for one in articles] == claims
    (total,) = page.find("table", id_="cost-tables")[0].find("tfoot")
    assert total.text == "All, each run once 291 13.0 0.6915 0 13.0"


def test_nothing_is_loaded_from_anywhere(page: Element, report: dict[str, Any]) -> None:
    for element in page.find("*"):
        for name in ("src", "srcset", "poster", "data", "action", "formaction"):
            assert (element.attributes.get(name) or "data:").startswith("data:")
        assert not re.match(r"[a-z]+:|//", element.attributes.get("href") or "#")
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
    page = parse(render(build_report(paper_config(tmp_path))))
    assert "No result is there yet" in page.text
    assert "18 of 18 networks not trained" in page.text
    assert "no result yet" in page.find("section", id_="table1")[0].text
    empty = paper_config(tmp_path / "empty", "experiments.table1=null")
    text = parse(render(build_report(empty))).text
    assert "The configuration asks for no table." in text


def test_damaged_files_are_named_and_odd_text_is_escaped(own: Config) -> None:
    cells = [FIRST.replace("seed-0", f"seed-{seed}") for seed in (0, 1, 2)]
    cells += [f"cifar10/wrn-34-5/trades/lam-6/seed-{seed}" for seed in (0, 1, 2)]
    folders = [paths.root(own) / "cells" / cell for cell in cells]
    (folders[0] / "records" / "pgd20-seed0.npz").write_bytes(b"no record")
    (folders[1] / "run.json").write_text("{")
    run = read_json(folders[2] / "run.json")
    write_json(folders[2] / "run.json", run | {"pieces": "none"})
    (folders[3] / "records" / "pgd20-seed0.json").write_text('{"digest": 3}')
    (folders[4] / "trace.parquet").unlink()
    paths.throughput_file(own).write_text("[]")
    paths.lemma_file(own).write_text("{")
    odd = "<script>alert('x')</script> & \"GPU\""
    run = read_json(folders[5] / "run.json")
    piece = {"name": odd, "device": "cuda", "seconds": 7200, "commit": odd, "versions": {odd: odd}}
    write_json(
        folders[5] / "run.json", run | {"pieces": [piece], "data": run["data"] | {"source": odd}}
    )
    examples = paths.examples_file(own, "cifar10")
    examples.parent.mkdir(parents=True)
    examples.write_bytes(b"")
    examples.with_suffix(".json").write_text("{}")
    page = parse(render(build_report(own)))
    for text in (
        f"{folders[0]}/records/pgd20-seed0.npz does not match its checksum",
        f"{folders[1]}/run.json is damaged",
        f"{folders[2]}/run.json is damaged at 'pieces'",
        f"{folders[3]}/records/pgd20-seed0",
        f"{cells[4]} has lost trace.parquet",
        f"{paths.throughput_file(own)} is damaged",
        f"{paths.lemma_file(own)} is damaged",
        f"{examples.with_suffix('.json')} is damaged at 'attack'",
    ):
        assert text in page.text
    assert len(page.find("script")) == 1
    assert page.find("section", id_="provenance")[0].text.count(odd) >= 4


def test_every_number_of_the_paper_finds_its_entry() -> None:
    """All comparisons of all six tables, though nothing is trained."""
    config = load_config("{}", "paper")
    for name in table_names(config):
        section = table_section(config, find_experiment(config, name))
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


def test_a_number_of_two_tables_counts_once(tmp_path: Path) -> None:
    """Table 3's networks without tuning, and those of its search, are Table 1's."""
    tuning = (
        "experiments.table3={dataset: cifar10, architectures: [wrn-34-5], untuned: 6, "
        "lambdas: [6, 9], seeds: [0, 1, 2]}"
    )
    config = paper_config(tmp_path, tuning)
    # lambda 9 is the better one
    fill(config, lambda cell: (50 + cell.lam / 2 + cell.seed / 10, 80.0))
    diffs: dict[str, pd.DataFrame] = {
        name: table_section(config, find_experiment(config, name))["diff"]
        for name in ("table1", "table3")
    }
    numbers = each_number_once(diffs)
    assert len(numbers[numbers["table"] == "table1"]) == len(diffs["table1"])
    kept = numbers[(numbers["table"] == "table3") & (numbers["metric"] == "robust_accuracy")]
    # the paper's own search ended with another lambda, 12: that is another number
    assert set(kept["method"]) == {"manual", "war"}


def test_the_scale_of_an_effect() -> None:
    effect = Effect("wider", 2.0, -1.0, 5.0, threshold=3.0, seeds=3, images=10_000)
    # it runs from -1 to 5 between margins of 6 percent
    placed = {"low": 6, "high": 94, "value": 50, "zero": 6 + 88 / 6, "threshold": 6 + 88 * 4 / 6}
    assert forest(effect, (effect,)) == pytest.approx(placed, abs=0.01)
    zero = Effect("no difference", 0.0)
    assert forest(zero, (zero,)) is None


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


def test_numbers() -> None:
    assert [signed(x) for x in (0.42, -1.3, -0.001, math.nan)] == ["+0.42", "−1.30", "0.00", ""]
    assert [hours(x) for x in (0, 0.01234, 1.5, 12, 1234)] == [
        "0",
        "0.0123",
        "1.50",
        "12.0",
        "1,234",
    ]
    assert [number(x) for x in (50_000, -0.25, math.nan)] == ["50,000", "−0.25", "–"]


def _costs(config: Config) -> dict[str, Any]:
    experiment = find_experiment(config, "table1")
    runs = read_runs(config, experiment.cells, [])
    status = status_frame(config, ["table1"], PAPER_SPEEDS)
    return costs_section([experiment], status, runs, {}, PAPER_SPEEDS)


def _set_pieces(config: Config, cell: str, *pieces: dict) -> None:
    path = paths.run_file(paths.cell_folder(config, parse_cell(cell)))
    write_json(path, read_json(path) | {"pieces": pieces})


def test_hours_count_every_run_and_every_device_once(own: Config) -> None:
    costs = _costs(own)
    # 13 runs of an hour; whatever device the configuration names now
    assert costs["by_table"]["Training spent"].tolist() == [13, 13]
    assert costs["by_cell"]["Training spent"].sum() == 13
    assert len(costs["by_cell"]) == 18
    assert costs["kind"] == "GPU-hours"
    four = {"device": "cuda", "seconds": 3600, "processes": 4}
    _set_pieces(own, FIRST, four, {"device": "cuda", "seconds": 1800, "processes": 2})
    by_cell = _costs(own)["by_cell"].set_index("Cell")["Training spent"]
    assert by_cell[FIRST] == 5
    # everybody means the same hours
    frame = collect(own, find_experiment(own, "table1")).frame
    assert frame.loc[frame["model"] == FIRST, "device_hours"].tolist() == [5]
    _set_pieces(own, FIRST, {"device": "cpu", "seconds": 3600, "processes": 4})
    costs = _costs(own)
    assert costs["kind"] == "Device-hours"
    assert costs["by_cell"].set_index("Cell")["Training spent"][FIRST] == 1


def test_provenance_can_be_used_again(own: Config, tmp_path: Path) -> None:
    piece = {
        "began": "2026-01-02T03:04:05+00:00",
        "name": "NVIDIA V100",
        "device": "cuda",
        "seconds": 1,
        "commit": f"{'ab' * 20}-dirty",
        "versions": {"torch": "2.13.0"},
    }
    _set_pieces(own, FIRST, piece)
    runs = read_runs(own, find_experiment(own, "table1").cells, [])
    section = provenance_section(own, runs, {})
    facts = section["facts"]
    assert facts["Commits"] == [
        "not a checkout (12 pieces of work)",
        f"{'ab' * 20} with changes that were not committed (1 piece of work)",
    ]
    assert facts["Hardware"] == ["NVIDIA V100 (cuda)", "made up (cuda)"]
    assert facts["Runs began"] == ["2026-01-02T03:04:05+00:00"]
    again = tmp_path / "config.yaml"
    again.write_text(section["configuration"])
    assert load_config(str(again)) == own
    assert section["data"][["Data set", "Training images"]].values.tolist() == [
        ["CIFAR-10", 50_000]
    ]
    assert len(section["models"]) == 13
    assert "git checkout" not in section["commands"]
    assert "snakemake all --cores 2 --resources gpu=1\n" in section["commands"]
    first = {cell: run for cell, run in runs.items() if cell.id == FIRST}
    assert f"git checkout {'ab' * 20}\n" in provenance_section(own, first, {})["commands"]


def _attacked(width: str, adversarial: np.ndarray, seen: int) -> AttackedImage:
    return AttackedImage(
        parse_cell(f"cifar10/wrn-34-{width}/trades/lam-6/seed-0"),
        "best-test",
        adversarial,
        np.full_like(adversarial, 0.5),
        Prediction(3, "cat", 0.914),
        Prediction(0, "airplane", 0.2),
        Prediction(seen, "cat" if seen == 3 else "<dog>", 0.5),
        as_recorded=seen == 3,
    )


def _decoded(source: str) -> np.ndarray:
    kind, _, content = source.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_the_pixels(report: dict[str, Any], channels: int) -> None:
    image = np.arange(2 * 2 * channels, dtype=np.uint8).reshape(2, 2, channels)
    moved = image.astype(np.float32) / 255 + np.float32(0.1)
    networks = _attacked("1", moved, 5), _attacked("10", moved, 3)
    example = Example("cifar10", "pgd20", 0.03, 7, 3, "cat", image, "wide", networks)
    note = examples_note([example])
    assert "magnified 16.7 times" in note
    assert "1 of these predictions differ" in note
    narrow, wide = (list(pictures(example, attacked)) for attacked in example.networks)
    clean, perturbation, adversarial = narrow
    image = image[:, :, 0] if channels == 1 else image
    np.testing.assert_array_equal(_decoded(clean["source"]), image)
    assert (_decoded(perturbation["source"]) == 128).all()
    # a tenth of 255, rounded
    np.testing.assert_array_equal(_decoded(adversarial["source"]), np.round(image + 25.5))
    assert [picture["right"] for picture in narrow] == [True, None, False]
    assert wide[2]["right"] is True
    (section,) = parse(render(report | {"examples": [example]})).find("section", id_="examples")
    images = section.find("img")
    assert len(images) == 6
    assert images[0].attributes["alt"] == (
        "Clean image of “cat”; WideResNet-34, width 1 takes it for “cat”"
    )
    assert "Test image 7, “cat”: only the wide network holds" in section.text
    assert "<dog> ✗ wrong 50 %" in section.text


def test_the_lemma_s_exponents(tiny: Callable[..., Config], report: dict[str, Any]) -> None:
    found = examine(tiny(), lambda _: None)
    rows = exponents(found)
    row = rows[(rows["Largest norm"] == "at x") & rows["Input dimension"].str.contains("= m")]
    fit = found.fits["growing", "at_x"]
    assert row["Exponent in m"].item() == pytest.approx(fit.width.value, abs=5e-4)
    assert row["Bound"].item() == fit.bound
    section = parse(render(report | {"lemma": rows})).find("section", id_="lemma-fits")[0]
    assert "in the wider ball *" in section.text
