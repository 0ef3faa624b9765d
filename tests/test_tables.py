"""Tables in the paper's layout, on made-up records whose outcome is known."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from made_up import HOURS, IMAGES, fill, fill_attacks, fill_tuning, write_made_up, write_run

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import worst_case
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.paper.published import published
from reproduce.results.frames import collect
from reproduce.results.statistics import subset_interval
from reproduce.results.status import plan
from reproduce.tables.layouts import lay_out
from reproduce.tables.tuning import Strategy, compare_strategies
from reproduce.tables.write import write_table

TABLE1 = "experiments.table1={architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 9]}}"
TABLE2 = (
    "experiments.table2={architectures: {cifar10: [wrn-34-1, densenet-bc-40-12]}, "
    "lambdas: [6, 12], attack_seeds: [0, 1]}"
)
TABLE3 = "experiments.table3={architectures: [wrn-34-1, wrn-34-5], lambdas: [6, 15], seeds: [0, 1]}"
THIN = parse_cell("cifar10/wrn-34-0.5/trades/lam-6/seed-0")


def _table(config: Config, name: str) -> tuple[str, pd.DataFrame, str]:
    """Write a table and return its three forms; every row of LaTeX has all its columns."""
    experiment = find_experiment(config, name)
    layout = lay_out(config, experiment, collect(config, experiment))
    markdown = write_table(config, experiment, collect(config, experiment))
    latex = paths.table_file(config, name, "tex").read_text()
    rows = [x for x in latex.splitlines() if x.endswith(r"\\") and "multicol" not in x]
    columns = len(layout.labels) + len(layout.columns)
    assert {line.count("&") - line.count(r"\&") for line in rows} == {columns - 1}
    return markdown, pd.read_csv(paths.table_file(config, name, "csv")), latex


def _row(markdown: str) -> list[str]:
    """Return the entries of the first row of Table 2."""
    row = next(line for line in markdown.splitlines() if line.startswith("| Wide"))
    return [text.strip() for text in row.split("|")[2:-1]]


def test_every_paper_number_is_planned() -> None:
    """The paper preset's grids are the paper's: no number without a cell, none too many."""
    config = load_config("{}", "paper")
    keys = ["dataset", "architecture", "method", "lambda", "attack"]
    for name in ("table1", "table2", "table5", "table6"):
        planned = {
            (e.cell.dataset, e.cell.architecture, e.cell.method, e.cell.lam, e.attack)
            for e in find_experiment(config, name).evaluations
        }
        assert {tuple(row) for row in published(name)[keys].to_numpy()} == planned
    first, second, third = (find_experiment(config, f"table{number}") for number in (1, 2, 3))
    assert (len(second.cells), len(second.evaluations)) == (24, 288)
    # what tables share is one run and one evaluation, not two
    assert len(set(first.cells) & set(second.cells)) == 9
    assert len(set(first.evaluations) & set(second.evaluations)) == 9
    own = {str(cell) for cell in set(third.cells) - set(first.cells)}
    assert own == {str(THIN)} | {
        f"cifar10/wrn-34-{width}/war/lam-0/seed-{seed}" for width in (1, 5, 10) for seed in range(3)
    }
    # WAR measures zeta on the thin network, which is trained first
    assert third.cells.index(THIN) < min(
        place for place, cell in enumerate(third.cells) if cell.method == "war"
    )
    union = plan(config, ["table1", "table3"])[-1]
    assert (union.name, union.cells) == ("all", len({*first.cells, *third.cells}))


def test_table_1(paper: Callable[..., Config]) -> None:
    config = paper(TABLE1)
    fill(config, lambda c: (45.0, 70.0) if c.lam == 6 and c.seed < 2 else None)
    markdown, _, latex = _table(config, "table1")
    assert "| 6   | 45.00 ± 0.00 (2/3)" in markdown
    assert "| 9   | –" in markdown
    assert "8 of 12 evaluations have no result yet" in markdown
    # the best of those that are not whole is not marked
    assert "**" not in markdown
    assert "-- &" in latex
    fill(config, lambda c: (40 + c.lam + c.seed / 10, 70 - c.lam))
    markdown, frame, latex = _table(config, "table1")
    assert "| 9   | **49.10 ± 0.10** |" in markdown
    assert "| 6   | 46.10 ± 0.10 " in markdown
    assert "checkpoint best-test" in markdown
    assert "no result yet" not in markdown
    assert "Not the paper's" not in markdown
    assert frame["lambda"].tolist() == [6.0, 9.0]
    assert frame["natural_accuracy wrn-34-5"].tolist() == [64.0, 61.0]
    assert frame["natural_accuracy wrn-34-5 seeds"].tolist() == [3, 3]
    assert r"9 & \textbf{49.10 $\pm$ 0.10} &" in latex
    assert latex.count(r"\multicolumn{2}{c}") == 3
    # an entry knows the values behind it, and its row of the comparison with the paper
    experiment = find_experiment(config, "table1")
    entry = lay_out(config, experiment, collect(config, experiment)).rows[0].entries[0]
    assert dict(entry.values) == {"seed 0": 46.0, "seed 1": 46.1, "seed 2": 46.2}
    assert entry.key == ("cifar10", "wrn-34-1", "trades", 6.0, "pgd20", "robust_accuracy")
    # a record that is damaged is named and left out
    item = experiment.evaluations[0]
    folder = paths.cell_folder(config, item.cell)
    paths.record_file(folder, item.checkpoint, item.attack, item.seed).write_bytes(b"no zip")
    markdown, *_ = _table(config, "table1")
    assert "- Left out: record" in markdown
    assert "1 of 12 evaluations have no result yet" in markdown


@pytest.mark.parametrize(("table", "count"), [("table2", 32), ("table4", 11)])
def test_an_empty_table(paper: Callable[..., Config], table: str, count: int) -> None:
    markdown, *_ = _table(paper(TABLE2, TABLE3), table)
    assert f"{count} of {count} evaluations have no result yet" in markdown


def test_table_2(paper: Callable[..., Config]) -> None:
    numbers = {"pgd20": 47.0, "cw20": 45.0, "fab": 44.0, "square": 49.0}
    config = paper(TABLE2)
    fill_attacks(config, lambda e: numbers[e.attack] + e.cell.lam / 10 + e.seed / 10)
    markdown, frame, latex = _table(config, "table2")
    heads = [cell.strip() for cell in markdown.splitlines()[4].split("|")[1:-1]]
    assert heads == ["Network", "width", "λ", "PGD-20", "C&W", "FAB", "Square", "Worst case"]
    assert "## CIFAR-10" in markdown
    numbers_of_row = ["47.65 ± 0.07", "45.65 ± 0.07", "44.65 ± 0.07", "49.65 ± 0.07", "44.60"]
    assert _row(markdown) == ["w=1", "6", *numbers_of_row]
    # the best of a column is marked within its kind of network
    assert markdown.count("**48.25 ± 0.07**") == 2
    assert frame["fab"].iloc[0] == 44.65
    assert frame["worst case seeds"].tolist() == [8] * 4
    assert "fab low" not in frame
    assert r"C\&W" in latex


def test_the_worst_case_is_the_minimum_per_example() -> None:
    index = np.arange(6)
    first = (index, np.array([1, 1, 1, 0, 0, 1], dtype=bool))
    second = (index, np.array([1, 0, 1, 1, 0, 1], dtype=bool))
    seen, robust = worst_case([first, second])
    # 4 of 6 under either, 3 of 6 under both: neither the average nor the smaller number
    assert (first[1].mean(), second[1].mean(), robust.mean()) == (4 / 6, 4 / 6, 3 / 6)
    assert np.array_equal(seen, index)
    part = (np.array([1, 2, 9]), np.array([True, False, True]))
    seen, robust = worst_case([first, part])
    assert (seen.tolist(), robust.tolist()) == ([1, 2], [True, False])
    for apart in ([first, (np.array([77]), np.array([True]))], []):
        with pytest.raises(HarnessError, match="no image was seen by all"):
            worst_case(apart)


def test_the_worst_case_and_warnings_in_the_table(paper: Callable[..., Config]) -> None:
    config = paper(TABLE2)
    experiment = find_experiment(config, "table2")
    items = experiment.evaluations[:8:2]
    write_run(config, items[0])
    for number, item in enumerate(items):
        robust = np.ones(IMAGES, dtype=bool)
        # Square breaks most: the gradients of the others mislead
        robust[number * 100 : number * 100 + (600 if item.attack == "square" else 100)] = False
        odd = ["something is odd"] if number == 0 else []
        write_made_up(config, item, np.arange(IMAGES), robust, warnings=odd)
    markdown, *_ = _table(config, "table2")
    # each attack breaks other images
    assert _row(markdown)[2::4] == ["99.00 (1/2)", "91.00 (4/8)"]
    assert f"Warning: {items[0].cell}: something is odd." in markdown
    (line,) = (line for line in markdown.splitlines() if "Square lowers" in line)
    assert "from 99.00 to 94.00" in line


def test_a_subset_is_marked_and_never_mixed_with_full_results(
    paper: Callable[..., Config],
) -> None:
    """FAB on 1,000 images: its numbers say so, the others stay what they are."""
    preview = "eval.attacks.autoattack={version: preview, images: 500}"
    full, part = paper(TABLE2), paper(TABLE2, "eval.attacks.fab.images=1000")
    narrow = find_experiment(full, "table2").evaluations[0].cell
    fill_attacks(full, lambda e: 47.9 if e.cell == narrow else None)
    assert _row(_table(part, "table2")[0])[4] == "–"
    for item in find_experiment(part, "table2").evaluations:
        if item.attack == "fab" and item.cell == narrow:
            write_made_up(part, item, np.arange(1000) * 10, np.arange(1000) < 479)
    markdown, frame, _ = _table(part, "table2")
    assert "FAB (n=1000)" in markdown
    assert "Worst case (n=1000)" in markdown
    assert "fab: 1000 of 10000 test images" in markdown
    assert "up to ± 2.9 points" in markdown
    interval = subset_interval(47.9, 1000, IMAGES)
    assert frame["fab low"].iloc[0] == pytest.approx(interval.low, abs=1e-3)
    assert "pgd20 low" not in frame
    assert "worst case low" in frame
    config = paper(TABLE2, preview, "experiments.table2.attacks=[pgd20, autoattack]")
    markdown, *_ = _table(config, "table2")
    assert "AutoAttack (preview, n=500)" in markdown
    assert "Worst case (preview, n=500)" in markdown
    assert "eval.attacks.autoattack.version is preview, the paper's is standard" in markdown


def _strategies(config: Config) -> dict[str, Strategy]:
    results = collect(config, find_experiment(config, "table3"))
    found = compare_strategies(config, config.experiments.table3, results)
    return {f"{one.architecture} {one.name}": one for one in found}


def test_costs_are_counted_as_the_paper_prints_them(paper: Callable[..., Config]) -> None:
    """12 + 18 = 30, 12 x 6 = 72 and so on, with a tenth of an hour a seed, mean 0.05."""
    config = paper("experiments.table3={architectures: [wrn-34-1, wrn-34-5], seeds: [0, 1]}")
    fill_tuning(config)
    found = _strategies(config)
    for width in (1, 5):
        run = HOURS[f"wrn-34-{width}"] + 0.05
        for name, hours in (("untuned", run + 18), ("manual", 6 * run), ("war", run + 18)):
            assert found[f"wrn-34-{width} {name}"].hours == pytest.approx(hours)
    manual, war = found["wrn-34-5 manual"].rows, found["wrn-34-5 war"].rows
    assert manual["final_lambda"].tolist() == [15.0, 15.0]
    assert manual["robust_accuracy"].tolist() == pytest.approx([51.0, 51.1])
    assert war["final_lambda"].tolist() == [12.5, 13.5]
    text, frame, latex = _table(config, "table3")
    assert "| w=5     | WAR      | 13.00 ± 0.71 | 50.05 ± 0.07     |" in text
    assert "**51.05 ± 0.07**" in text
    assert "| 14.37       | **55.62**" in text  # the paper's WAR at width 5
    assert "as each run measured them on made up (the paper" in text
    assert "Not the paper's protocol" not in text
    assert frame["hours"].tolist()[:3] == [30.05, 72.3, 30.05]
    # what LaTeX cannot read is in comments only
    assert all(line.isascii() for line in latex.splitlines() if not line.startswith("%"))


def test_what_is_missing_is_not_guessed(paper: Callable[..., Config]) -> None:
    """A trial of the search, a seed of it, the thin network: each leaves its hole."""
    config = paper(TABLE3)
    lost = parse_cell("cifar10/wrn-34-5/trades/lam-15/seed-1")
    fill_tuning(config, lambda cell: cell not in (lost, THIN))
    found = _strategies(config)
    # lambda 15 has one of two seeds, and the best of the others may be another
    assert len(found["wrn-34-5 manual"].rows) == 0
    assert len(found["wrn-34-1 manual"].rows) == 2
    assert found["wrn-34-5 manual"].hours == pytest.approx(2 * 20.05, abs=0.1)
    assert math.isnan(found["wrn-34-5 war"].hours)
    assert len(found["wrn-34-5 war"].rows) == 2
    text, *_ = _table(config, "table3")
    assert "2 of 13 evaluations have no result yet" in text
    given = paper(TABLE3, "war.zeta=30")
    assert THIN not in find_experiment(given, "table3").cells
    fill_tuning(given, lambda cell: cell.architecture == "wrn-34-1")
    assert _strategies(given)["wrn-34-1 war"].hours == pytest.approx(12.05)
