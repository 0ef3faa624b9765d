"""Tables 3 and 6 and their comparison with the paper, on made-up runs whose cost is known."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from made_up import IMAGES, write_made_up, write_run

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.paper.published import published
from reproduce.results.frames import collect
from reproduce.results.plan import plan
from reproduce.tables.diff import build_diff, write_diff
from reproduce.tables.tuning import Strategy, compare_strategies
from reproduce.tables.write import write_table

THIN = parse_cell("cifar10/wrn-34-0.5/trades/lam-6/seed-0")
HOURS = {"wrn-34-0.5": 3.0, "wrn-34-1": 12.0, "wrn-34-5": 20.0, "wrn-34-10": 32.0}


def _robust(cell: Cell) -> float:
    """Robust accuracy: best at lambda 15, WAR a little below, a seed worth a tenth."""
    return (50.0 if cell.method == "war" else 51 - abs(cell.lam - 15) / 10) + cell.seed / 10


def _fill(
    config: Config, table: str, wanted: Callable[[Evaluation], bool] = lambda _: True
) -> None:
    held = np.arange(IMAGES)
    for item in find_experiment(config, table).evaluations:
        if wanted(item):
            cell = item.cell
            hours = HOURS[cell.architecture] + cell.seed / 10
            lam = 12.5 + cell.seed if cell.method == "war" else cell.lam
            write_run(config, item, final_lambda=lam, seconds=3600 * hours)
            robust = held < round(IMAGES * _robust(cell) / 100)
            write_made_up(config, item, held, robust, held < 8000)


def _strategies(config: Config) -> dict[str, Strategy]:
    experiment = find_experiment(config, "table3")
    grid = config.experiments.table3
    assert grid is not None
    found = compare_strategies(config, grid, collect(config, experiment))
    return {f"{one.architecture} {one.name}": one for one in found}


def _table(config: Config, name: str = "table3") -> str:
    experiment = find_experiment(config, name)
    return write_table(config, experiment, collect(config, experiment))


def _diff(config: Config, name: str = "table3") -> pd.DataFrame:
    experiment = find_experiment(config, name)
    return build_diff(config, experiment, collect(config, experiment))


def test_the_plan_shares_table_1(paper: Callable[..., Config]) -> None:
    """Beside Table 1's runs there are nine of WAR and the thin network, trained first."""
    config = paper()
    first, third = (set(find_experiment(config, name).cells) for name in ("table1", "table3"))
    own = third - first
    assert {str(cell) for cell in own} == {str(THIN)} | {
        f"cifar10/wrn-34-{width}/war/lam-0/seed-{seed}"
        for width in (1, 5, 10)
        for seed in (0, 1, 2)
    }
    cells = list(find_experiment(config, "table3").cells)
    assert cells.index(THIN) < min(i for i, cell in enumerate(cells) if cell.method == "war")
    together = plan(config, ["table1", "table3"])[-1]
    assert (together.name, together.cells) == ("all", len(first | third))


def test_costs_are_counted_as_the_paper_prints_them(paper: Callable[..., Config]) -> None:
    """12 + 18 = 30, 12 x 6 = 72 and so on, with a tenth of an hour a seed, mean 0.1."""
    config = paper()
    _fill(config, "table3")
    found = _strategies(config)
    for width in (1, 5, 10):
        run = HOURS[f"wrn-34-{width}"] + 0.1
        for name, hours in (("untuned", run + 18), ("manual", 6 * run), ("war", run + 18)):
            assert found[f"wrn-34-{width} {name}"].hours == pytest.approx(hours)
    manual, war = found["wrn-34-5 manual"], found["wrn-34-5 war"]
    assert manual.lam[:1] == (15.0,)
    assert manual.robust.mean == pytest.approx(51.1)
    assert (war.lam.mean, war.robust.mean) == (pytest.approx(13.5), pytest.approx(50.1))
    assert found["wrn-34-5 untuned"].robust.mean == pytest.approx(50.2)


def test_the_table(paper: Callable[..., Config]) -> None:
    config = paper()
    _fill(config, "table3")
    text = _table(config)
    row = "| w=5     | WAR      | 13.50 ± 1.00 | 50.10 ± 0.10     |"
    assert row in text
    assert "**51.10 ± 0.10**" in text
    assert "| 14.37       | **55.62**" in text  # the paper's WAR at width 5
    assert "wrn-34-5: the search by hand costs 3.2 times WAR's hours (paper: 3.2)" in text
    assert "as each run measured them on made up" in text
    assert "Not the paper's protocol" not in text
    frame = pd.read_csv(paths.table_file(config, "table3", "csv"))
    assert frame["hours"].round(1).tolist()[:3] == [30.1, 72.6, 30.1]
    tex = paths.table_file(config, "table3", "tex").read_text()
    assert tex.count(r"\\") > 9
    # what LaTeX cannot read stands in comments only
    body = [line for line in tex.splitlines() if not line.startswith("%")]
    assert all(line.isascii() for line in body)


def test_what_is_missing_is_not_guessed(paper: Callable[..., Config]) -> None:
    """A trial of the search, a seed of it, the thin network: each leaves its hole."""
    config = paper()
    lost = parse_cell("cifar10/wrn-34-5/trades/lam-15/seed-1")
    _fill(config, "table3", lambda item: item.cell not in (lost, THIN))
    found = _strategies(config)
    # lambda 15 has two of three seeds, and the best of the others may be another
    assert found["wrn-34-5 manual"].robust.n == 0
    assert found["wrn-34-1 manual"].robust.n == 3
    assert found["wrn-34-5 manual"].hours == pytest.approx(6 * 20.1, abs=0.1)
    assert math.isnan(found["wrn-34-5 war"].hours)
    assert not math.isnan(found["wrn-34-5 war"].robust.mean)
    text = _table(config)
    assert "2 of 64 evaluations have no result yet" in text
    assert "times WAR's hours" not in text
    # hours are compared, though the search has not chosen a network yet
    assert (_diff(config).set_index("metric").loc["gpu_hours", "ours"] > 0).sum() == 3


def test_nothing_yet(paper: Callable[..., Config]) -> None:
    config = paper()
    assert "64 of 64 evaluations have no result yet" in _table(config)
    assert set(_diff(config)["verdict"]) == {"missing"}


def test_a_given_zeta_costs_no_thin_network(paper: Callable[..., Config]) -> None:
    config = paper("war.zeta=30")
    assert THIN not in find_experiment(config, "table3").cells
    _fill(config, "table3")
    assert _strategies(config)["wrn-34-1 war"].hours == pytest.approx(12.1)


def test_diff(paper: Callable[..., Config]) -> None:
    config = paper()
    _fill(config, "table3")
    frame = _diff(config)
    assert len(frame) == 27 == len(published("table3"))
    robust = frame[frame["metric"] == "robust_accuracy"].set_index(["architecture", "method"])
    assert robust.loc[("wrn-34-5", "war"), "paper"] == 55.62
    # the paper prints no deviation here
    assert robust.loc[("wrn-34-5", "war"), "verdict"] == "too few seeds"
    assert robust.loc[("wrn-34-1", "untuned"), "difference"] == pytest.approx(50.2 - 47.81)
    others = frame[frame["metric"] != "robust_accuracy"]
    assert set(others["verdict"]) == {"not judged"}
    assert others["interval"].isna().all()
    hours = others[(others["metric"] == "gpu_hours") & (others["method"] == "manual")]
    assert hours["paper"].tolist() == [72, 120, 192]
    write_diff(config, find_experiment(config, "table3"), frame)


def test_war_settings_concern_the_row_of_war(paper: Callable[..., Config]) -> None:
    config = paper("war.alpha=0.2")
    _fill(config, "table3")
    frame = _diff(config)
    frame = frame[frame["metric"] == "robust_accuracy"].set_index(["architecture", "method"])
    assert frame.loc[("wrn-34-1", "war"), "verdict"] == "not a reproduction"
    assert frame.loc[("wrn-34-1", "manual"), "verdict"] != "not a reproduction"


def test_table6(paper: Callable[..., Config]) -> None:
    config = paper()
    cells = find_experiment(config, "table6").cells
    assert [str(cell) for cell in cells] == [
        f"cifar10/wrn-34-10/awp-trades/lam-{lam}/seed-0" for lam in (6, 12, 18)
    ]
    _fill(config, "table6")
    assert "| 12  | **50.70**" in _table(config, "table6").replace("     ", " ")
    frame = _diff(config, "table6")
    assert frame["paper"].tolist()[:3] == [59.01, 84.82, 73.95]
    assert set(frame["verdict"]) == {"too few seeds"}


def test_another_grid_cannot_agree(paper: Callable[..., Config]) -> None:
    """The keys of the rows stay the same; what they mean does not."""
    config = paper("experiments.table3.untuned=9", "experiments.table6.checkpoint=last")
    _fill(config, "table3")
    _fill(config, "table6")
    frame = _diff(config)
    frame = frame[frame["metric"] == "robust_accuracy"].set_index("method")
    assert set(frame.loc["untuned", "verdict"]) == {"not a reproduction"}
    assert "not a reproduction" not in set(frame.loc["manual", "verdict"])
    assert set(_diff(config, "table6")["verdict"]) == {"not a reproduction"}
    assert "table6 shows checkpoint last" in _table(config, "table6")
