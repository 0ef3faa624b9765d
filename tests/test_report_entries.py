"""Which number of the paper stands beside which entry, and which values are behind it."""

import math
from pathlib import Path

import numpy as np
import pytest
from made_up import write_made_up, write_run
from report_cases import make_up, paper_config

from reproduce.config.load import load_config
from reproduce.experiments.grids import find_experiment, table_names
from reproduce.report.beside import Comparison, is_papers, place_of, seeds_behind
from reproduce.report.build import build_report
from reproduce.report.numbers import each_once
from reproduce.report.tables import collect_table
from reproduce.report.verdicts import shade
from reproduce.report.words import label, signed, with_std
from reproduce.results.frames import collect
from reproduce.tables.diff import DIFF_COLUMNS, JUDGED, build_diff
from reproduce.tables.layouts import lay_out


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
        assert len(found) == len(diff) - diff.duplicated(DIFF_COLUMNS[:6]).sum(), name
        printed = [text for row in found for text in row["printed"].split(" or ") if text]
        papers = diff.dropna(subset="paper")
        expected = map(with_std, papers["paper"], papers["paper_std"])
        assert sorted(printed) == sorted(expected), name


def test_seeds_of_strategies_and_of_attacks(tmp_path: Path) -> None:
    tuning = (
        "experiments.table3={dataset: cifar10, architectures: [wrn-34-5], untuned: 9, "
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
            if item.cell.lam == 9 and item.cell.seed:
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
    assert found["untuned", "robust_accuracy"] == [("seed 0", 49.0)]
    assert found["manual", "robust_accuracy"] == [("seed 0", 52.0), ("seed 1", 52.1)]
    assert found["war", "robust_accuracy"] == [("seed 0", 40.0), ("seed 1", 40.1)]
    assert found["war", "lambda"] == [("seed 0", 9.5), ("seed 1", 10.5)]
    assert found["war", "hours"] == []
    assert found[12, "cw20"] == [("start 0", 52.0), ("start 1", 52.5)]
    assert found[12, "worst case"] == []


@pytest.mark.parametrize(
    ("verdict", "difference", "expected"),
    [
        ("agrees", -1.0, "near"),
        ("differs", 1.01, "above-1"),
        ("within noise", -3.5, "below-2"),
        ("differs", -9.0, "below-3"),
        ("not a reproduction", 0.2, "near framed"),
        ("too few seeds", 1.5, "above-1"),
        ("not judged", 20.0, ""),
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
    collected = [collect_table(config, find_experiment(config, n)) for n in ("table1", "table3")]
    numbers = each_once(config, collected)
    assert len(numbers[numbers["table"] == "table1"]) == len(collected[0].diff)
    third = collected[1].diff
    one_number = third[third["metric"] == "robust_accuracy"].set_index("method")["paper"]
    first = collected[0].diff.query("architecture == 'wrn-34-5' and metric == 'robust_accuracy'")
    twice = [name for name in ("untuned", "manual") if one_number[name] in set(first["paper"])]
    # the paper's own search ended with another lambda, 12: that is another number
    assert twice == ["untuned"]
    kept = numbers[(numbers["table"] == "table3") & (numbers["metric"] == "robust_accuracy")]
    assert set(kept["method"]) == {"untuned", "manual", "war"} - set(twice)
    summary = build_report(config).summary
    judged = numbers["verdict"].isin(JUDGED)
    assert summary.headline.startswith(f"Of {judged.sum()} numbers")
    assert f"over {judged.sum()} numbers" in summary.tiles[2].label
    places = [(gap.where, gap.paper) for gap in summary.gaps]
    assert len(places) == len(set(places))
