"""Table 2 and its comparison with the paper, on made-up records whose outcome is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import IMAGES, write_made_up, write_run
from scipy import stats

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import worst_case
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.paper.published import published
from reproduce.results.frames import collect
from reproduce.results.statistics import subset_interval
from reproduce.tables.diff import build_diff, diff_notes, write_diff
from reproduce.tables.write import write_table

GRID = "experiments.table2={architectures: {cifar10: [wrn-34-1, wrn-34-10, densenet-bc-40-12]}}"


@pytest.fixture
def paper(tmp_path: Path) -> Callable[..., Config]:
    return lambda *sets: load_config("{}", "paper", [f"results={tmp_path}", GRID, *sets])


def _fill(
    config: Config, percent: Callable[[Evaluation], float | None], images: int = IMAGES
) -> None:
    """Make up records; the images that hold are the first ones, shifted by the attack."""
    for item in find_experiment(config, "table2").evaluations:
        value = percent(item)
        if value is not None:
            write_run(config, item)
            held = np.arange(images) < round(images * value / 100)
            index = np.arange(images) * (IMAGES // images)
            write_made_up(config, item, index, held)


def _table(config: Config) -> str:
    experiment = find_experiment(config, "table2")
    return write_table(config, experiment, collect(config, experiment))


def _diff(config: Config) -> pd.DataFrame:
    experiment = find_experiment(config, "table2")
    return build_diff(config, experiment, collect(config, experiment))


def test_the_papers_grid_is_planned() -> None:
    """Every number of the paper's Table 2 has a cell and an attack, and none is too many."""
    keys = ["dataset", "architecture", "method", "lambda", "attack"]
    experiment = find_experiment(load_config("{}", "paper"), "table2")
    planned = {
        (e.cell.dataset, e.cell.architecture, e.cell.method, e.cell.lam, e.attack)
        for e in experiment.evaluations
    }
    assert {tuple(row) for row in published("table2")[keys].to_numpy()} == planned
    assert (len(experiment.cells), len(experiment.evaluations)) == (24, 288)
    first = find_experiment(load_config("{}", "paper"), "table1")
    shared = set(first.cells) & set(experiment.cells)
    assert len(shared) == 9
    assert {cell.seed for cell in shared} == {0}
    # their PGD-20 of the first seed is one evaluation, not two
    assert len(set(first.evaluations) & set(experiment.evaluations)) == 9


def test_a_complete_table(paper: Callable[..., Config]) -> None:
    numbers = {"pgd20": 47.0, "cw20": 45.0, "fab": 44.0, "square": 49.0}
    config = paper()
    _fill(config, lambda e: numbers[e.attack] + e.cell.lam / 10 + e.seed / 10)
    markdown = _table(config)
    heads = [cell.strip() for cell in markdown.splitlines()[4].split("|")[1:-1]]
    assert heads == ["Network", "width", "λ", "PGD-20", "C&W", "FAB", "Square", "Worst case"]
    assert "## CIFAR-10" in markdown
    rows = [line.split("|")[1:-1] for line in markdown.splitlines() if line.startswith("| Wide")]
    assert len(rows) == 6
    assert [cell.strip() for cell in rows[0][1:]] == [
        "w=1",
        "6",
        "47.70 ± 0.10",
        "45.70 ± 0.10",
        "44.70 ± 0.10",
        "49.70 ± 0.10",
        "44.60",
    ]
    # the best of a column is marked within its kind of network
    assert "**48.90 ± 0.10**" in rows[2][3]
    assert markdown.count("**48.90 ± 0.10**") == 3
    assert "no result yet" not in markdown
    frame = pd.read_csv(paths.table_file(config, "table2", "csv"))
    assert frame["fab"].iloc[0] == 44.7
    assert frame["worst case seeds"].tolist() == [12] * 9
    assert "fab low" not in frame
    latex = paths.table_file(config, "table2", "tex").read_text()
    assert r"C\&W" in latex
    lines = [line for line in latex.splitlines() if line.endswith(r"\\") and "multicol" not in line]
    assert {line.count("&") - line.count(r"\&") for line in lines} == {7}


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
    assert seen.tolist() == [1, 2]
    assert robust.tolist() == [True, False]
    with pytest.raises(HarnessError, match="no image was seen by all"):
        worst_case([first, (np.array([77]), np.array([True]))])
    with pytest.raises(HarnessError, match="no image was seen by all"):
        worst_case([])


def test_the_worst_case_in_the_table(paper: Callable[..., Config]) -> None:
    config = paper()
    item, *others = find_experiment(config, "table2").evaluations
    write_run(config, item)
    held = np.ones(IMAGES, dtype=bool)
    for number, other in enumerate([item, *others[:3]]):
        robust = held.copy()
        robust[number * 100 : number * 100 + 100] = False
        write_made_up(config, other, np.arange(IMAGES), robust)
    row = next(line for line in _table(config).splitlines() if line.startswith("| Wide"))
    # each attack breaks another hundred of ten thousand images
    assert "99.00 ± 0.00" in row
    assert "96.00 (4/12)" in row


def test_what_exists(paper: Callable[..., Config]) -> None:
    config = paper()
    _fill(config, lambda e: 40.0 if e.attack != "fab" and e.seed < 2 and e.cell.lam < 9 else None)
    markdown = _table(config)
    assert "40.00 ± 0.00 (2/3)" in markdown
    assert "40.00 (6/12)" in markdown
    assert "90 of 108 evaluations have no result yet" in markdown


def test_an_empty_table(paper: Callable[..., Config]) -> None:
    assert "108 of 108 evaluations have no result yet" in _table(paper())
    assert set(_diff(paper())["verdict"]) == {"missing", "no paper value"}


def test_the_illegible_column_is_shown_as_such(paper: Callable[..., Config]) -> None:
    config = paper()
    _fill(config, lambda _: 50.0)
    frame = _diff(config)
    unread = frame[frame["note"].str.contains("not legible")]
    assert set(unread["architecture"]) == {"wrn-34-10"}
    assert set(unread["attack"]) == {"pgd20"}
    assert set(unread["verdict"]) == {"no paper value"}
    assert unread["paper"].isna().all()
    assert len(unread) == 3


def test_verdicts(paper: Callable[..., Config]) -> None:
    """Starts on one network cannot tell how far training runs lie apart."""
    # the paper: PGD 47.92 ± .01, C&W 44.95 ± .03, FAB 44.31 ± .04, Square 49.25 ± .02
    numbers = {"pgd20": (47.5, 0.0), "cw20": (40.0, 0.1), "fab": (38.0, 4.0), "square": None}

    def percent(item: Evaluation) -> float | None:
        entry = numbers[item.attack]
        return None if entry is None else entry[0] + entry[1] * item.seed

    config = paper()
    _fill(config, percent)
    frame = _diff(config)
    chosen = frame[(frame["architecture"] == "wrn-34-1") & (frame["lambda"] == 6)]
    found = dict(zip(chosen["attack"], chosen["verdict"], strict=True))
    assert found == {
        "pgd20": "agrees",
        "cw20": "too few seeds",
        "fab": "too few seeds",
        "square": "missing",
    }
    assert chosen["interval"].isna().all()
    assert chosen["note"].str.contains("random starts on one network").tolist() == 3 * [True] + [
        False
    ]
    assert set(frame["metric"]) == {"robust_accuracy"}
    write_diff(config, find_experiment(config, "table2"), frame)
    assert len(pd.read_csv(paths.diff_file(config, "table2"))) == 36


@pytest.mark.parametrize(
    ("seeds", "apart", "verdict"),
    [(3, 0.1, "differs"), (3, 2.0, "within noise"), (1, 0.1, "too few seeds")],
)
def test_the_runs_of_table_1_tell_how_far_runs_lie_apart(
    paper: Callable[..., Config], seeds: int, apart: float, verdict: str
) -> None:
    """Under PGD-20 alone: Table 1 has no other attack."""
    config = paper()
    _fill(config, lambda _: 46.0)
    for item in find_experiment(config, "table1").evaluations:
        cell = item.cell
        this = (cell.architecture, cell.method, cell.lam) == ("wrn-34-1", "trades", 6)
        if this and 0 < cell.seed < seeds:
            write_run(config, item)
            held = np.arange(IMAGES) < round(IMAGES * (0.46 + cell.seed * apart / 100))
            write_made_up(config, item, np.arange(IMAGES), held)
    frame = _diff(config)
    row = frame[(frame["architecture"] == "wrn-34-1") & (frame["lambda"] == 6)].iloc[0]
    assert (row["attack"], row["verdict"]) == ("pgd20", verdict)
    if seeds > 1:
        # of one run each: that of Table 1's 47.81 ± .09, and of ours
        error = np.hypot(apart, 0.09)
        freedom = error**4 / (apart**4 / 2 + 0.09**4 / 2)
        assert row["interval"] == pytest.approx(stats.t.ppf(0.975, freedom) * error)
        assert "training runs of Table 1" in row["note"]
    assert "too few seeds" in set(frame.loc[frame["attack"] == "cw20", "verdict"])


def test_a_subset_is_marked_and_judged_as_one(paper: Callable[..., Config]) -> None:
    """FAB on 1,000 images: its numbers say so, the others stay what they are."""
    config = paper("eval.attacks.fab.images=1000")
    _fill(config, lambda _: 47.9, images=1000)
    markdown = _table(config)  # made with all attacks on a thousand images ...
    assert "FAB (n=1000)" in markdown
    assert "Worst case (n=1000)" in markdown
    config = paper("eval.attacks.fab.images=1000")
    for item in find_experiment(config, "table2").evaluations:
        images = 1000 if item.attack == "fab" else IMAGES
        index = np.arange(images) * (IMAGES // images)
        write_made_up(config, item, index, np.arange(images) < images * 0.479)
    markdown = _table(config)
    assert "fab on CIFAR-10: 1000 of 10000 test images" in markdown
    assert "up to ± 2.9 points" in markdown
    assert markdown.count("of 10000 test images") == 1
    frame = pd.read_csv(paths.table_file(config, "table2", "csv"))
    interval = subset_interval(47.9, 1000, IMAGES)
    assert interval is not None
    assert frame["fab low"].iloc[0] == pytest.approx(interval.low, abs=1e-3)
    assert "pgd20 low" not in frame
    assert "worst case low" in frame
    verdicts = _diff(config)
    narrow = verdicts[verdicts["architecture"] == "wrn-34-1"].groupby("attack")["verdict"].first()
    assert narrow.to_dict() == {
        "pgd20": "agrees",
        "cw20": "too few seeds",
        "fab": "subset",
        "square": "too few seeds",
    }
    experiment = find_experiment(config, "table2")
    assert diff_notes(config, experiment, collect(config, experiment)) == []


def test_subsets_are_never_mixed_with_full_results(paper: Callable[..., Config]) -> None:
    full, part = paper(), paper("eval.attacks.fab.images=1000")
    _fill(full, lambda _: 40.0)
    row = next(line for line in _table(part).splitlines() if line.startswith("| Wide"))
    assert [cell.strip() for cell in row.split("|")[6:7]] == ["–"]
    # a record of the full set under the subset's name is refused
    item = next(e for e in find_experiment(full, "table2").evaluations if e.attack == "fab")
    folder = paths.cell_folder(full, item.cell)
    names = [
        paths.record_file(folder, item.checkpoint, config.eval.label("fab"), 0)
        for config in (full, part)
    ]
    for suffix in (".npz", ".json"):
        names[1].with_suffix(suffix).write_bytes(names[0].with_suffix(suffix).read_bytes())
    results = collect(part, find_experiment(part, "table2"))
    assert "made with other settings" in results.problems[0]


def test_a_preview_is_marked(paper: Callable[..., Config]) -> None:
    config = paper(
        "eval.attacks.autoattack={version: preview, images: 500}",
        "experiments.table2.attacks=[pgd20, autoattack]",
    )
    markdown = _table(config)
    assert "AutoAttack (preview, n=500)" in markdown
    assert "Worst case (preview, n=500)" in markdown
    assert "autoattack is a preview: the two APGD attacks, an upper bound" in markdown
    assert "eval.attacks.autoattack.version is preview, the paper's is standard" in markdown


def test_warnings_reach_the_table(paper: Callable[..., Config]) -> None:
    config = paper()
    item = find_experiment(config, "table2").evaluations[0]
    write_run(config, item)
    robust = np.ones(IMAGES, dtype=bool)
    write_made_up(config, item, np.arange(IMAGES), robust, warnings=["something is odd"])
    assert f"Warning: {item.cell}: something is odd." in _table(config)


def test_square_below_all_white_box_attacks_is_a_warning(paper: Callable[..., Config]) -> None:
    config = paper()
    _fill(config, lambda e: 30.0 if e.attack == "square" and e.cell.lam == 6 else 45.0)
    lines = [line for line in _table(config).splitlines() if "Square lowers" in line]
    assert len(lines) == 3
    assert "from 45.00 to 30.00" in lines[0]


def test_other_settings_of_one_attack_concern_its_numbers_alone(
    paper: Callable[..., Config],
) -> None:
    config = paper("eval.attacks.square.queries=1000")
    _fill(config, lambda _: 47.9)
    frame = _diff(config)
    square = frame["attack"] == "square"
    assert set(frame.loc[square, "verdict"]) == {"not a reproduction"}
    assert "not a reproduction" not in set(frame.loc[~square, "verdict"])


def test_subset_interval() -> None:
    assert subset_interval(50.0, 10_000, 10_000) is None
    assert subset_interval(float("nan"), 10, 10_000) is None
    low, high = subset_interval(50.0, 1000, 10_000)
    assert (high - low) / 2 == pytest.approx(1.96 * 50 * (0.9 / 1000) ** 0.5, rel=0.01)
    low, high = subset_interval(0.0, 100, 10_000)
    assert low == pytest.approx(0, abs=1e-9)
    assert 2 < high < 5
    # how often it holds the truth, by drawing subsets
    stream = np.random.default_rng(0)
    whole = np.arange(2000) < 900
    hits = 0
    for _ in range(400):
        share = 100 * stream.permutation(whole)[:200].mean()
        interval = subset_interval(share, 200, 2000)
        hits += interval.low <= 45 <= interval.high
    assert 0.92 < hits / 400 < 0.98
