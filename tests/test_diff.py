"""Numbers beside the paper's, and the verdicts on them, from made-up records."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import (
    IMAGES,
    fill,
    fill_attacks,
    fill_tuning,
    write_made_up,
    write_published,
    write_run,
)
from scipy import stats

from reproduce.cell import Cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.paper.published import published
from reproduce.results.frames import Results, collect
from reproduce.results.reader import is_evaluated, record_path
from reproduce.tables.diff import build_diff, write_diff
from reproduce.tables.write import write_table

TABLE1 = "experiments.table1={architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 9]}}"
ONE = "experiments.table1={architectures: [wrn-34-1], methods: {trades: [6]}, seeds: [0]}"
TABLE2 = (
    "experiments.table2={architectures: {cifar10: [wrn-34-1, wrn-34-10]}, lambdas: [6], "
    "attack_seeds: [0, 1]}"
)


def _results(config: Config, name: str) -> Results:
    return collect(config, find_experiment(config, name))


def _diff(config: Config, name: str = "table1") -> pd.DataFrame:
    return build_diff(config, find_experiment(config, name), _results(config, name))


def _table(config: Config, name: str = "table1") -> str:
    return write_table(config, find_experiment(config, name), _results(config, name))


def test_verdicts_of_table_1(paper: Callable[..., Config]) -> None:
    # the paper: 47.81 ± .09 (width 1, lambda 6), 54.45 ± .16 (5, 6), 48.01 ± .06 (1, 9)
    numbers = {
        ("wrn-34-1", 6): lambda seed: 48.7 + 0.01 * seed,
        ("wrn-34-5", 6): lambda seed: 50.0 + 0.01 * seed,
        ("wrn-34-1", 9): lambda seed: 40.0 + 6 * seed,
    }

    def made_up(cell: Cell) -> tuple[float, float] | None:
        make = numbers.get((cell.architecture, int(cell.lam)))
        return None if make is None else (make(cell.seed), 76.26)

    config = paper(TABLE1)
    fill(config, made_up)
    assert "Not the paper's protocol" not in _table(config)
    frame = _diff(config)
    # the metrics of a network are one below the other
    assert frame["architecture"].tolist() == 2 * [*["wrn-34-1"] * 3, *["wrn-34-5"] * 3]
    robust = frame[frame["metric"] == "robust_accuracy"].set_index(["architecture", "lambda"])
    assert robust["verdict"].to_dict() == {
        ("wrn-34-1", 6): "agrees",
        ("wrn-34-5", 6): "differs",
        ("wrn-34-1", 9): "within noise",
        ("wrn-34-5", 9): "missing",
    }
    agrees = robust.loc["wrn-34-1", 6]
    assert agrees[["paper", "paper_std", "seeds"]].tolist() == [47.81, 0.09, 3]
    assert agrees["difference"] == pytest.approx(0.9)
    write_diff(config, find_experiment(config, "table1"), frame)
    saved = pd.read_csv(paths.diff_file(config, "table1"))
    assert saved["verdict"].tolist() == frame["verdict"].tolist()


def test_one_seed_has_no_interval_and_images_may_not_be_verified(
    paper: Callable[..., Config],
) -> None:
    config = paper(ONE)
    fill(config, lambda _: (40.0, 76.0), official=False)
    row = _diff(config).set_index("metric").loc["robust_accuracy"]
    assert row["verdict"] == "too few seeds"
    assert row["difference"] == pytest.approx(-7.81)
    assert np.isnan(row["interval"])
    assert "(50000 training, 10000 test) are not verified" in _table(config)


@pytest.mark.parametrize(
    ("sets", "about", "note"),
    [
        (["train.epochs=20"], {}, "train.epochs is 20"),
        (["preset=short"], {}, "preset is short"),
        (["experiments.table1.checkpoint=last"], {}, "table1 shows checkpoint last, the paper"),
        ([], {"images": 1000}, "50000 training and 1000 test images here, officially 50000 and"),
    ],
)
def test_another_protocol_is_never_a_reproduction(
    tmp_path: Path, sets: list[str], about: dict[str, int], note: str
) -> None:
    config = load_config("{}", None, [f"results={tmp_path}", ONE, *sets])
    fill(config, lambda _: (47.81, 76.26), **about)
    assert set(_diff(config)["verdict"]) == {"not a reproduction"}
    assert note in _table(config)


def test_a_number_with_two_readings_is_compared_with_both(paper: Callable[..., Config]) -> None:
    config, images = paper(), np.arange(50_000)
    for item in find_experiment(config, "table5").evaluations:
        if item.cell.architecture == "wrn-50-2":
            write_run(config, item, train=1_281_167, test=len(images))
            top5 = images < 35_000
            write_made_up(config, item, images, images < 25_825, images < 30_000, top5=top5)
    frame = _diff(config, "table5")
    chosen = frame[frame["architecture"] == "wrn-50-2"].set_index("metric")
    natural = chosen.loc["top5_natural_accuracy"]
    assert natural["paper"].tolist() == [66.67, 70.10]
    assert natural["difference"].tolist() == pytest.approx([3.33, -0.10])
    assert chosen.loc["perturbation_stability", "paper"].tolist() == [70.10, 66.67]
    assert set(chosen.drop("robust_accuracy")["verdict"]) == {"not judged"}
    assert chosen.loc["robust_accuracy", "verdict"] == "agrees"


def test_verdicts_of_table_2(paper: Callable[..., Config]) -> None:
    """Settings of one attack concern its numbers alone; starts do not tell how runs differ."""
    # the paper: PGD 47.92 ± .01, C&W 44.95 ± .03, FAB 44.31 ± .04, Square 49.25 ± .02
    numbers = {"pgd20": (47.5, 0.0), "cw20": (40.0, 0.1), "square": (49.0, 0.0)}

    def percent(item: Evaluation) -> float | None:
        entry = numbers.get(item.attack)
        wide = item.cell.architecture == "wrn-34-10"
        return None if entry is None or wide else entry[0] + entry[1] * item.seed

    config = paper(TABLE2, "eval.attacks.square.queries=1000", "eval.attacks.fab.images=1000")
    fill_attacks(config, percent)
    for item in find_experiment(config, "table2").evaluations[:8]:
        if item.attack == "fab":
            write_made_up(config, item, np.arange(1000) * 10, np.arange(1000) < 479)
    frame = _diff(config, "table2")
    narrow, wide = frame.iloc[:4], frame.iloc[4:]
    assert narrow.set_index("attack")["verdict"].to_dict() == {
        "pgd20": "agrees",
        "cw20": "too few seeds",
        "fab": "subset",
        "square": "not a reproduction",
    }
    assert narrow["interval"].isna().tolist() == [True, True, False, True]
    noted = narrow["note"].str.contains("random starts on one network").tolist()
    assert noted == [True, True, False, False]
    # a column of the paper that cannot be read
    assert wide["verdict"].tolist() == ["no paper value", *["missing"] * 3]
    assert "not legible" in wide["note"].iloc[0]


@pytest.mark.parametrize(
    ("seeds", "apart", "verdict"),
    [(3, 0.1, "differs"), (3, 2.0, "within noise"), (1, 0.1, "too few seeds")],
)
def test_the_runs_of_table_1_tell_how_far_runs_lie_apart(
    paper: Callable[..., Config], seeds: int, apart: float, verdict: str
) -> None:
    """Under PGD-20 alone: Table 1 has no other attack."""
    config = paper(TABLE2)
    fill_attacks(config, lambda e: 46.0 if e.cell.architecture == "wrn-34-1" else None)
    for item in find_experiment(config, "table1").evaluations:
        cell = item.cell
        this = (cell.architecture, cell.method, cell.lam) == ("wrn-34-1", "trades", 6)
        if this and 0 < cell.seed < seeds:
            write_run(config, item)
            held = np.arange(IMAGES) < round(IMAGES * (0.46 + cell.seed * apart / 100))
            write_made_up(config, item, np.arange(IMAGES), held)
    frame = _diff(config, "table2").set_index(["architecture", "attack"]).loc["wrn-34-1"]
    row = frame.loc["pgd20"]
    assert row["verdict"] == verdict
    if seeds > 1:
        # of one run each: that of Table 1's 47.81 ± .09, and of ours
        error = np.hypot(apart, 0.09)
        freedom = error**4 / (apart**4 / 2 + 0.09**4 / 2)
        assert row["interval"] == pytest.approx(stats.t.ppf(0.975, freedom) * error)
        assert "training runs of Table 1" in row["note"]
    assert frame.loc["cw20", "verdict"] == "too few seeds"


def test_table_3(paper: Callable[..., Config]) -> None:
    config = paper("war.alpha=0.2", "experiments.table3={untuned: 9, seeds: [0]}")
    assert set(_diff(config, "table3")["verdict"]) == {"missing"}
    fill_tuning(config, lambda cell: (cell.architecture, cell.lam) != ("wrn-34-10", 15))
    frame = _diff(config, "table3")
    assert len(frame) == 27 == len(published("table3"))
    robust = frame[frame["metric"] == "robust_accuracy"].set_index(["architecture", "method"])
    assert robust.loc[("wrn-34-5", "war"), "paper"] == 55.62
    # the paper prints no deviation here
    assert robust.loc[("wrn-34-5", "manual"), "verdict"] == "too few seeds"
    assert robust.loc[("wrn-34-1", "manual"), "difference"] == pytest.approx(51.1 - 48.11, abs=1)
    # the settings of WAR and of the untuned strategy concern their rows
    for name in ("war", "untuned"):
        assert robust.loc[("wrn-34-1", name), "verdict"] == "not a reproduction"
    # without all trials of a network the search has found nothing, but has its hours
    assert robust.loc[("wrn-34-10", "manual"), "verdict"] == "missing"
    others = frame[(frame["metric"] != "robust_accuracy") & (frame["seeds"] > 0)]
    assert set(others["verdict"]) == {"not judged"}
    assert others["interval"].isna().all()
    hours = frame[(frame["metric"] == "gpu_hours") & (frame["method"] == "manual")]
    assert hours["paper"].tolist() == [72, 120, 192]


def test_table_4(paper: Callable[..., Config], tmp_path: Path) -> None:
    config = paper(f"data.folder={tmp_path}")
    experiment = find_experiment(config, "table4")
    frame = _diff(config, "table4")
    assert frame["paper"].notna().sum() == len(published("table4")) == 10
    assert frame.loc[frame["paper"].isna(), "method"].tolist() == ["rst"]
    held = {"Carmon2019Unlabeled": 5950, "Sehwag2020Hydra": 5500}
    for item in experiment.published:
        if item.name in held:
            write_published(config, item, held[item.name])
            assert is_evaluated(config, item)
    for item in experiment.evaluations:
        # other extra images than the published ones
        wide = "28-20" in item.cell.architecture
        extra = {"images": 500_000 if wide else 60_000, "sha256": "0"}
        write_run(config, item, **({"extra": extra} if "rst" in item.cell.method else {}))
        write_made_up(config, item, np.arange(10_000), np.arange(10_000) < 6184)
    verdicts = _diff(config, "table4").set_index(["method", "architecture"])["verdict"]
    assert verdicts["Carmon2019Unlabeled", "wrn-28-10"] == "agrees"
    # the same weights: no other seed explains it
    assert verdicts["Sehwag2020Hydra", "wrn-28-10"] == "differs"
    assert verdicts["Wang2020Improving", "wrn-28-10"] == "missing"
    assert verdicts["war", "wrn-34-10"] == "too few seeds"
    assert verdicts["rst-war", "wrn-28-10"] == "not a reproduction"
    table = _table(config, "table4")
    assert "Zhang2019Theoretically: reported at epsilon 0.031, measured here at 0.03137." in table
    # the best of its section
    assert table.count("**61.84**") == 3
    first = experiment.published[0]
    write_published(config, first, 5308, data={"train": 50, "test": 9, "official": False})
    verdicts = _diff(config, "table4").set_index("method")["verdict"]
    assert verdicts[first.name] == "not a reproduction"
    # radii are those of the table's attack
    other = paper(f"data.folder={tmp_path}", "eval.attacks.autoattack.epsilon=4/255")
    said = "Carmon2019Unlabeled: reported at epsilon 0.03137, measured here at 0.01569."
    assert said in _table(other, "table4")


def test_published_records_that_cannot_be_used(
    paper: Callable[..., Config], tmp_path: Path
) -> None:
    config = paper(f"data.folder={tmp_path}")
    experiment = find_experiment(config, "table4")
    first, second, third = experiment.published[:3]
    write_published(config, first, 5000, digest="other settings")
    path = write_published(config, second, 5000)
    path.write_bytes(path.read_bytes()[:-1])
    outcome = paths.published_outcome(record_path(config, third))
    write_json(outcome, {"model": third.name, "evaluated": False, "reason": "no weights"})
    results = collect(config, experiment)
    assert "was made with other settings" in results.problems[0]
    assert "does not match its checksum" in results.problems[1]
    assert results.published == {}
    assert not is_evaluated(config, first)
    assert results.unavailable == {third: "no weights"}
    table = write_table(config, experiment, results)
    assert f"{third.name} could not be had: no weights." in table


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["published=[]", "trained={}"], "there is nothing to compare"),
        (["published=[../up]"], "experiments.table4.published.0"),
        (["trained={digits/wrn-10-1/war/lam-0/seed-0: last}"], "is not of dataset cifar10"),
        (["trained={cifar10/wrn-10-1/war/lam-0/seed-0: best-val}"], "held-out images"),
    ],
)
def test_bad_grids(paper: Callable[..., Config], sets: list[str], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        paper(*(f"experiments.table4.{item}" for item in sets))
