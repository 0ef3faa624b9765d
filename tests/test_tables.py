"""Tables in the paper's layout, on made-up records whose outcome is known."""

import math
from collections.abc import Callable
from pathlib import Path

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
TABLE2 = "experiments.table2={architectures: {cifar10: [wrn-34-1, wrn-34-10, densenet-bc-40-12]}}"
THIN = parse_cell("cifar10/wrn-34-0.5/trades/lam-6/seed-0")


def _table(config: Config, name: str) -> str:
    experiment = find_experiment(config, name)
    return write_table(config, experiment, collect(config, experiment))


def _file(config: Config, name: str, suffix: str) -> Path:
    return paths.table_file(config, name, suffix)


def _columns_of_latex(config: Config, name: str) -> set[int]:
    """Return the numbers of separators in the rows of a LaTeX table."""
    lines = _file(config, name, "tex").read_text().splitlines()
    rows = [line for line in lines if line.endswith(r"\\") and "multicol" not in line]
    return {line.count("&") - line.count(r"\&") for line in rows}


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
    fill(config, lambda c: (40 + c.lam + c.seed / 10, 70 - c.lam))
    markdown = _table(config, "table1")
    assert "| 9   | **49.10 ± 0.10** |" in markdown
    assert "| 6   | 46.10 ± 0.10 " in markdown
    assert "checkpoint best-test" in markdown
    assert "3 training seed(s)" in markdown
    assert "no result yet" not in markdown
    frame = pd.read_csv(_file(config, "table1", "csv"))
    assert frame["lambda"].tolist() == [6.0, 9.0]
    assert frame["natural_accuracy wrn-34-5"].tolist() == [64.0, 61.0]
    assert frame["natural_accuracy wrn-34-5 seeds"].tolist() == [3, 3]
    latex = _file(config, "table1", "tex").read_text()
    assert r"9 & \textbf{49.10 $\pm$ 0.10} &" in latex
    assert latex.count(r"\multicolumn{2}{c}") == 3
    assert _columns_of_latex(config, "table1") == {6}
    # an entry knows the values behind it, and its row of the comparison with the paper
    experiment = find_experiment(config, "table1")
    entry = lay_out(config, experiment, collect(config, experiment)).entries[0][0]
    seeds = entry.values  # noqa: PD011, it is no frame
    assert seeds == {"seed 0": 46.0, "seed 1": 46.1, "seed 2": 46.2}
    assert entry.key == ("cifar10", "wrn-34-1", "trades", 6.0, "pgd20", "robust_accuracy")


@pytest.mark.parametrize(
    ("table", "count"), [("table1", 12), ("table2", 108), ("table3", 64), ("table4", 11)]
)
def test_an_empty_table(paper: Callable[..., Config], table: str, count: int) -> None:
    markdown = _table(paper(TABLE1, TABLE2), table)
    assert f"{count} of {count} evaluations have no result yet" in markdown


def test_a_table_of_what_exists(paper: Callable[..., Config]) -> None:
    config = paper(TABLE1)
    fill(config, lambda c: (45.0, 70.0) if c.lam == 6 and c.seed < 2 else None)
    markdown = _table(config, "table1")
    assert "45.00 ± 0.00 (2/3)" in markdown
    assert "| 9   | –" in markdown
    assert "8 of 12 evaluations have no result yet" in markdown
    assert "**" not in markdown
    assert "-- &" in _file(config, "table1", "tex").read_text()


def test_what_cannot_be_used_is_named(paper: Callable[..., Config]) -> None:
    config = paper(TABLE1)
    fill(config, lambda _: (45.0, 70.0))
    item = find_experiment(config, "table1").evaluations[0]
    folder = paths.cell_folder(config, item.cell)
    paths.record_file(folder, item.checkpoint, item.attack, item.seed).write_bytes(b"no zip")
    markdown = _table(config, "table1")
    assert "- Left out: record" in markdown
    assert "does not match its checksum" in markdown
    assert "1 of 12 evaluations have no result yet" in markdown


def test_table_2(paper: Callable[..., Config]) -> None:
    numbers = {"pgd20": 47.0, "cw20": 45.0, "fab": 44.0, "square": 49.0}
    config = paper(TABLE2)
    fill_attacks(config, lambda e: numbers[e.attack] + e.cell.lam / 10 + e.seed / 10)
    markdown = _table(config, "table2")
    heads = [cell.strip() for cell in markdown.splitlines()[4].split("|")[1:-1]]
    assert heads == ["Network", "width", "λ", "PGD-20", "C&W", "FAB", "Square", "Worst case"]
    assert "## CIFAR-10" in markdown
    rows = [line.split("|")[2:-1] for line in markdown.splitlines() if line.startswith("| Wide")]
    assert len(rows) == 6
    numbers_of_row = ["47.70 ± 0.10", "45.70 ± 0.10", "44.70 ± 0.10", "49.70 ± 0.10", "44.60"]
    assert [cell.strip() for cell in rows[0]] == ["w=1", "6", *numbers_of_row]
    # the best of a column is marked within its kind of network
    assert "**48.90 ± 0.10**" in rows[2][2]
    assert markdown.count("**48.90 ± 0.10**") == 3
    frame = pd.read_csv(_file(config, "table2", "csv"))
    assert frame["fab"].iloc[0] == 44.7
    assert frame["worst case seeds"].tolist() == [12] * 9
    assert "fab low" not in frame
    assert r"C\&W" in _file(config, "table2", "tex").read_text()
    assert _columns_of_latex(config, "table2") == {7}


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
    items = find_experiment(config, "table2").evaluations[:4]
    write_run(config, items[0])
    for number, item in enumerate(items):
        robust = np.ones(IMAGES, dtype=bool)
        robust[number * 100 : number * 100 + 100] = False
        odd = ["something is odd"] if number == 0 else []
        write_made_up(config, item, np.arange(IMAGES), robust, warnings=odd)
    markdown = _table(config, "table2")
    row = next(line for line in markdown.splitlines() if line.startswith("| Wide"))
    # each attack breaks another hundred of ten thousand images
    assert "99.00 ± 0.00" in row
    assert "96.00 (4/12)" in row
    assert f"Warning: {items[0].cell}: something is odd." in markdown


def test_square_below_all_white_box_attacks_is_a_warning(paper: Callable[..., Config]) -> None:
    config = paper(TABLE2)
    fill_attacks(config, lambda e: 30.0 if e.attack == "square" and e.cell.lam == 6 else 45.0)
    lines = [line for line in _table(config, "table2").splitlines() if "Square lowers" in line]
    assert len(lines) == 3
    assert "from 45.00 to 30.00" in lines[0]


def test_a_subset_is_marked_and_never_mixed_with_full_results(
    paper: Callable[..., Config],
) -> None:
    """FAB on 1,000 images: its numbers say so, the others stay what they are."""
    full, part = paper(TABLE2), paper(TABLE2, "eval.attacks.fab.images=1000")
    fill_attacks(full, lambda _: 47.9)
    row = next(line for line in _table(part, "table2").splitlines() if line.startswith("| Wide"))
    assert row.split("|")[6].strip() == "–"
    for item in find_experiment(part, "table2").evaluations:
        if item.attack == "fab":
            write_made_up(part, item, np.arange(1000) * 10, np.arange(1000) < 479)
    markdown = _table(part, "table2")
    assert "FAB (n=1000)" in markdown
    assert "Worst case (n=1000)" in markdown
    assert "fab on CIFAR-10: 1000 of 10000 test images" in markdown
    assert "up to ± 2.9 points" in markdown
    assert markdown.count("of 10000 test images") == 1
    frame = pd.read_csv(_file(part, "table2", "csv"))
    interval = subset_interval(47.9, 1000, IMAGES)
    assert frame["fab low"].iloc[0] == pytest.approx(interval.low, abs=1e-3)
    assert "pgd20 low" not in frame
    assert "worst case low" in frame


def test_a_preview_is_marked(paper: Callable[..., Config]) -> None:
    attack = "eval.attacks.autoattack={version: preview, images: 500}"
    markdown = _table(
        paper(TABLE2, attack, "experiments.table2.attacks=[pgd20, autoattack]"), "table2"
    )
    assert "AutoAttack (preview, n=500)" in markdown
    assert "Worst case (preview, n=500)" in markdown
    assert "autoattack is a preview: the two APGD attacks, an upper bound" in markdown
    assert "eval.attacks.autoattack.version is preview, the paper's is standard" in markdown


def _strategies(config: Config) -> dict[str, Strategy]:
    results = collect(config, find_experiment(config, "table3"))
    found = compare_strategies(config, config.experiments.table3, results)
    return {f"{one.architecture} {one.name}": one for one in found}


def test_costs_are_counted_as_the_paper_prints_them(paper: Callable[..., Config]) -> None:
    """12 + 18 = 30, 12 x 6 = 72 and so on, with a tenth of an hour a seed, mean 0.1."""
    config = paper()
    fill_tuning(config)
    found = _strategies(config)
    for width in (1, 5, 10):
        run = HOURS[f"wrn-34-{width}"] + 0.1
        for name, hours in (("untuned", run + 18), ("manual", 6 * run), ("war", run + 18)):
            assert found[f"wrn-34-{width} {name}"].hours == pytest.approx(hours)
    manual, war = found["wrn-34-5 manual"], found["wrn-34-5 war"]
    assert manual.lambdas == {"seed 0": 15.0, "seed 1": 15.0, "seed 2": 15.0}
    assert manual.accuracies == {"seed 0": 51.0, "seed 1": 51.1, "seed 2": 51.2}
    assert war.lambdas == {"seed 0": 12.5, "seed 1": 13.5, "seed 2": 14.5}
    text = _table(config, "table3")
    assert "| w=5     | WAR      | 13.50 ± 1.00 | 50.10 ± 0.10     |" in text
    assert "**51.10 ± 0.10**" in text
    assert "| 14.37       | **55.62**" in text  # the paper's WAR at width 5
    assert "wrn-34-5: the search by hand costs 3.2 times WAR's hours (paper: 3.2)" in text
    assert "as each run measured them on made up" in text
    assert "Not the paper's protocol" not in text
    frame = pd.read_csv(_file(config, "table3", "csv"))
    assert frame["hours"].round(1).tolist()[:3] == [30.1, 72.6, 30.1]
    # what LaTeX cannot read stands in comments only
    tex = _file(config, "table3", "tex").read_text().splitlines()
    assert all(line.isascii() for line in tex if not line.startswith("%"))


def test_what_is_missing_is_not_guessed(paper: Callable[..., Config]) -> None:
    """A trial of the search, a seed of it, the thin network: each leaves its hole."""
    config = paper()
    lost = parse_cell("cifar10/wrn-34-5/trades/lam-15/seed-1")
    fill_tuning(config, lambda cell: cell not in (lost, THIN))
    found = _strategies(config)
    # lambda 15 has two of three seeds, and the best of the others may be another
    assert len(found["wrn-34-5 manual"].accuracies) == 0
    assert len(found["wrn-34-1 manual"].accuracies) == 3
    assert found["wrn-34-5 manual"].hours == pytest.approx(6 * 20.1, abs=0.1)
    assert math.isnan(found["wrn-34-5 war"].hours)
    assert len(found["wrn-34-5 war"].accuracies) == 3
    text = _table(config, "table3")
    assert "2 of 64 evaluations have no result yet" in text
    assert "times WAR's hours" not in text


def test_a_given_zeta_costs_no_thin_network(paper: Callable[..., Config]) -> None:
    config = paper("war.zeta=30")
    assert THIN not in find_experiment(config, "table3").cells
    fill_tuning(config)
    assert _strategies(config)["wrn-34-1 war"].hours == pytest.approx(12.1)


def test_table_6(paper: Callable[..., Config]) -> None:
    config = paper()
    assert [str(cell) for cell in find_experiment(config, "table6").cells] == [
        f"cifar10/wrn-34-10/awp-trades/lam-{lam}/seed-0" for lam in (6, 12, 18)
    ]
    fill_tuning(config, table="table6")
    assert "| 12  | **50.70**" in _table(config, "table6").replace("     ", " ")
