"""Tables and their comparison with the paper, on made-up records whose outcome is known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import fill, write_made_up, write_run
from scipy import stats

from reproduce.cell import Cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.paper.published import published
from reproduce.report.summary import each_number_once
from reproduce.report.tables import table_section
from reproduce.results.frames import collect
from reproduce.results.plan import is_evaluated, plan
from reproduce.results.statistics import Sample, difference_interval, sample
from reproduce.tables.diff import build_diff, diff_caveats, diff_notes, write_diff
from reproduce.tables.write import write_table


@pytest.fixture
def paper(tmp_path: Path) -> Config:
    grid = "experiments.table1={architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 9]}}"
    return load_config("{}", "paper", [f"results={tmp_path}", grid])


def test_sample() -> None:
    assert sample([]).n == 0
    assert math.isnan(sample([]).mean)
    assert sample([4.0])[:1] == (4.0,)
    assert math.isnan(sample([4.0]).std)
    assert sample([1.0, 2.0, 3.0]) == Sample(2.0, 1.0, 3)


def test_difference_interval_is_welchs() -> None:
    a, b = [47.8, 47.9, 47.7, 48.1], [48.4, 48.1, 48.9]
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    half = (expected.high - expected.low) / 2
    assert difference_interval(sample(a), sample(b)) == pytest.approx(half)
    assert math.isnan(difference_interval(sample([1.0]), sample(b)))
    assert math.isnan(difference_interval(Sample(1, 0, 3), Sample(2, 0, 3)))


@pytest.mark.parametrize(
    ("architecture", "printed"), [("wrn-34-1", (46.92, 0.05)), ("wrn-34-5", (55.21, 0.02))]
)
def test_numbers_that_were_wrong_once(architecture: str, printed: tuple[float, float]) -> None:
    table = published("table2").query("dataset == 'cifar10' and `lambda` == 18")
    row = table[(table["architecture"] == architecture) & (table["attack"] == "pgd20")]
    assert row[["mean", "std"]].to_numpy().tolist() == [list(printed)]


def test_published_numbers() -> None:
    table = published("table1")
    assert len(table) == 11 * 9
    row = table[
        (table["architecture"] == "wrn-34-10")
        & (table["method"] == "trades")
        & (table["lambda"] == 18)
        & (table["metric"] == "robust_accuracy")
    ]
    assert row[["mean", "std"]].to_numpy().tolist() == [[56.43, 0.17]]
    unread = published("table2")["note"].str.contains("not legible")
    assert unread.sum() == 3
    assert published("table2").loc[unread, "mean"].isna().all()


def test_every_paper_number_is_planned() -> None:
    """The paper preset's grid is the paper's Table 1: no number without a cell, none too many."""
    config = load_config("{}", "paper")
    keys = ["dataset", "architecture", "method", "lambda"]
    planned = {
        (c.dataset, c.architecture, c.method, c.lam)
        for c in find_experiment(config, "table1").cells
    }
    assert {tuple(row) for row in published("table1")[keys].to_numpy()} == planned


def test_a_damaged_record_does_not_count_as_done(paper: Config) -> None:
    fill(paper, lambda _: (50.0, 80.0), images=100)
    item = find_experiment(paper, "table1").evaluations[0]
    assert is_evaluated(paper, item)
    (before,) = plan(paper, ["table1"])
    folder = paths.cell_folder(paper, item.cell)
    record = paths.record_file(folder, item.checkpoint, "pgd20", item.seed)
    record.write_bytes(record.read_bytes()[:500])
    assert not is_evaluated(paper, item)
    (after,) = plan(paper, ["table1"])
    assert after.evaluated == before.evaluated - 1


def test_table_of_complete_results(paper: Config) -> None:
    fill(paper, lambda c: (40 + c.lam + c.seed / 10, 70 - c.lam))
    experiment = find_experiment(paper, "table1")
    markdown = write_table(paper, experiment, collect(paper, experiment))
    assert "| 9   | **49.10 ± 0.10** |" in markdown
    assert "| 6   | 46.10 ± 0.10 " in markdown
    assert "checkpoint best-test" in markdown
    assert "3 training seed(s)" in markdown
    assert "no result yet" not in markdown
    frame = pd.read_csv(paths.table_file(paper, "table1", "csv"))
    assert frame["lambda"].tolist() == [6.0, 9.0]
    assert frame["natural_accuracy wrn-34-5"].tolist() == [64.0, 61.0]
    assert frame["natural_accuracy wrn-34-5 seeds"].tolist() == [3, 3]
    latex = paths.table_file(paper, "table1", "tex").read_text()
    assert r"9 & \textbf{49.10 $\pm$ 0.10} &" in latex
    assert latex.count(r"\multicolumn{2}{c}") == 3
    rows = [line for line in latex.splitlines() if line.endswith(r"\\") and "multicol" not in line]
    assert {line.count("&") for line in rows} == {6}


def test_table_of_what_exists(paper: Config) -> None:
    fill(paper, lambda c: (45.0, 70.0) if c.lam == 6 and c.seed < 2 else None)
    experiment = find_experiment(paper, "table1")
    markdown = write_table(paper, experiment, collect(paper, experiment))
    assert "45.00 ± 0.00 (2/3)" in markdown
    assert "| 9   | –" in markdown
    assert "8 of 12 evaluations have no result yet" in markdown
    assert "**" not in markdown
    assert "-- &" in paths.table_file(paper, "table1", "tex").read_text()


def test_an_empty_table(paper: Config) -> None:
    experiment = find_experiment(paper, "table1")
    results = collect(paper, experiment)
    assert "12 of 12 evaluations have no result yet" in write_table(paper, experiment, results)
    assert set(build_diff(paper, experiment, results)["verdict"]) == {"missing"}


def test_outdated_and_damaged_records_are_left_out(paper: Config) -> None:
    fill(paper, lambda _: (45.0, 70.0))
    experiment = find_experiment(paper, "table1")
    paths_ = [
        paths.record_file(paths.cell_folder(paper, e.cell), e.checkpoint, e.attack, e.seed)
        for e in experiment.evaluations
    ]
    paths_[0].write_bytes(b"no zip")
    results = collect(paper, experiment)
    assert results.missing == 1
    assert "does not match its checksum" in results.problems[0]
    assert "Left out: record" in write_table(paper, experiment, results)
    changed = paper.model_copy(update={"train": paper.train.model_copy(update={"epochs": 99})})
    results = collect(changed, experiment)
    assert results.missing == 12
    assert "made with other settings" in results.problems[-1]


def _verdict(frame: pd.DataFrame, architecture: str, lam: float, metric: str) -> pd.Series:
    chosen = frame[
        (frame["architecture"] == architecture)
        & (frame["lambda"] == lam)
        & (frame["metric"] == metric)
    ]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_verdicts(paper: Config) -> None:
    # the paper: 47.81 ± .09 (width 1, lambda 6), 54.45 ± .16 (5, 6), 48.01 ± .06 (1, 9)
    numbers = {
        ("wrn-34-1", 6): lambda seed: 48.7 + 0.01 * seed,
        ("wrn-34-5", 6): lambda seed: 50.0 + 0.01 * seed,
        ("wrn-34-1", 9): lambda seed: 40.0 + 6 * seed,
    }

    def made_up(cell: Cell) -> tuple[float, float] | None:
        make = numbers.get((cell.architecture, int(cell.lam)))
        return None if make is None else (make(cell.seed), 76.26)

    fill(paper, made_up)
    experiment = find_experiment(paper, "table1")
    results = collect(paper, experiment)
    assert diff_notes(paper, experiment, results) == []
    frame = build_diff(paper, experiment, results)
    assert len(frame) == 2 * 2 * 3
    agrees = _verdict(frame, "wrn-34-1", 6, "robust_accuracy")
    assert (agrees["verdict"], agrees["paper"], agrees["paper_std"]) == ("agrees", 47.81, 0.09)
    assert agrees["difference"] == pytest.approx(0.9)
    assert agrees["seeds"] == 3
    assert _verdict(frame, "wrn-34-5", 6, "robust_accuracy")["verdict"] == "differs"
    assert _verdict(frame, "wrn-34-1", 9, "robust_accuracy")["verdict"] == "within noise"
    assert _verdict(frame, "wrn-34-5", 9, "robust_accuracy")["verdict"] == "missing"
    write_diff(paper, experiment, frame)
    saved = pd.read_csv(paths.diff_file(paper, "table1"))
    assert saved["verdict"].tolist() == frame["verdict"].tolist()


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    grid = "experiments.table1={architectures: [wrn-34-1], methods: {trades: [6]}, seeds: [0]}"
    config = load_config("{}", "paper", [f"results={tmp_path}", grid])
    fill(config, lambda _: (40.0, 76.0))
    experiment = find_experiment(config, "table1")
    frame = build_diff(config, experiment, collect(config, experiment))
    row = _verdict(frame, "wrn-34-1", 6, "robust_accuracy")
    assert row["verdict"] == "too few seeds"
    assert row["difference"] == pytest.approx(-7.81)
    assert math.isnan(row["interval"])


def test_a_number_with_two_readings_stands_beside_both(tmp_path: Path) -> None:
    config = load_config("{}", "paper", [f"results={tmp_path}"])
    experiment = find_experiment(config, "table5")
    images = np.arange(50_000)
    for item in experiment.evaluations:
        write_run(config, item, train=1_281_167, test=len(images))
        top5 = images < 35_000
        write_made_up(config, item, images, images < 25_825, images < 30_000, top5=top5)
    frame = build_diff(config, experiment, collect(config, experiment))
    chosen = frame[frame["architecture"] == "wrn-50-2"].set_index("metric")
    natural = chosen.loc["top5_natural_accuracy"]
    assert natural["paper"].tolist() == [66.67, 70.10]
    assert natural["difference"].tolist() == pytest.approx([3.33, -0.10])
    assert chosen.loc["perturbation_stability", "paper"].tolist() == [70.10, 66.67]
    assert set(chosen.drop("robust_accuracy")["verdict"]) == {"not judged"}
    assert chosen.loc["robust_accuracy", "verdict"] == "agrees"
    section = table_section(config, experiment, [])
    shown = {
        entry.key[-1]: section["compared"][entry.key]
        for entries in section["layout"].entries
        for entry in entries
        if entry.key[1] == "wrn-50-2"
    }
    natural, robust = shown["top5_natural_accuracy"], shown["robust_accuracy"]
    assert (natural["printed"], natural["verdict"]) == ("66.67 or 70.10", "not judged")
    assert math.isnan(natural["difference"])
    assert shown["perturbation_stability"]["printed"] == "70.10 or 66.67"
    assert (robust["printed"], robust["verdict"]) == ("51.65", "agrees")
    summed = each_number_once(config, {"table5": section["diff"]})
    assert (summed["verdict"] == "not judged").sum() == 2


@pytest.mark.parametrize("change", ["train.epochs=20", "eval.epsilon=0.031", "preset=short"])
def test_another_protocol_is_never_a_reproduction(tmp_path: Path, change: str) -> None:
    grid = "experiments.table1={architectures: [wrn-34-1], methods: {trades: [6]}, seeds: [0]}"
    config = load_config("{}", None, [f"results={tmp_path}", grid, change])
    fill(config, lambda _: (47.81, 76.26))
    experiment = find_experiment(config, "table1")
    results = collect(config, experiment)
    assert set(build_diff(config, experiment, results)["verdict"]) == {"not a reproduction"}
    assert diff_notes(config, experiment, results)


def test_a_part_of_the_test_set_is_never_a_reproduction(paper: Config) -> None:
    fill(paper, lambda _: (47.81, 76.26), images=1000)
    experiment = find_experiment(paper, "table1")
    results = collect(paper, experiment)
    assert diff_notes(paper, experiment, results) == [
        "cifar10 has 50000 training and 1000 test images here, officially 50000 and 10000"
    ]
    assert set(build_diff(paper, experiment, results)["verdict"]) == {"not a reproduction"}


def test_fewer_training_images_are_never_a_reproduction(paper: Config) -> None:
    fill(paper, lambda _: (47.81, 76.26), train=1000)
    experiment = find_experiment(paper, "table1")
    frame = build_diff(paper, experiment, collect(paper, experiment))
    assert set(frame["verdict"]) == {"not a reproduction"}


def test_images_that_are_not_verified_are_named(paper: Config) -> None:
    fill(paper, lambda _: (47.81, 76.26), official=False)
    experiment = find_experiment(paper, "table1")
    results = collect(paper, experiment)
    assert diff_notes(paper, experiment, results) == []
    (caveat,) = diff_caveats(results)
    assert "not verified by md5" in caveat
    assert caveat in write_table(paper, experiment, results)


def test_records_of_older_weights_are_left_out(paper: Config) -> None:
    fill(paper, lambda _: (47.81, 76.26))
    experiment = find_experiment(paper, "table1")
    run = paths.run_file(paths.cell_folder(paper, experiment.cells[0]))
    write_json(run, read_json(run) | {"models": {"best-test": "trained again"}})
    results = collect(paper, experiment)
    assert results.missing == 1
    assert "is of other weights than the run's" in results.problems[0]
    run.write_text("[]")
    assert "holds no JSON object" in collect(paper, experiment).problems[0]
    write_json(run, {"digest": "x", "models": {}})
    assert "damaged at 'data'" in collect(paper, experiment).problems[0]


def test_cells_the_paper_does_not_have(tmp_path: Path) -> None:
    grid = "experiments.table1={architectures: [wrn-34-2], methods: {trades: [6]}, seeds: [0]}"
    config = load_config("{}", "paper", [f"results={tmp_path}", grid])
    fill(config, lambda _: (47.81, 76.26))
    experiment = find_experiment(config, "table1")
    frame = build_diff(config, experiment, collect(config, experiment))
    assert set(frame["verdict"]) == {"no paper value"}
