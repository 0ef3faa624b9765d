"""What claims are judged on: records, runs, traces and epochs, from their files."""

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from claim_worlds import judged
from histories import EPOCHS, STEPS, write_history
from made_up import fill, write_made_up, write_published, write_run

from reproduce.cell import Cell
from reproduce.claims.evidence import Evidence, Key
from reproduce.claims.metrics import METRICS, after_drops, before_drop, slope
from reproduce.claims.statements import judge_claims
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.grids import curve_cells, find_experiment
from reproduce.experiments.runs import as_frame
from reproduce.registry import parse_architecture

SMALL = "{architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 12]}, seeds: [0, 1]}"


def test_the_metrics_of_records(paper: Callable[..., Config]) -> None:
    config = paper(f"experiments.table1={SMALL}")
    numbers = {0: (40.0, 70.0), 1: (42.0, 72.0)}
    fill(config, lambda cell: numbers[cell.seed], images=100)
    first, second, *_ = find_experiment(config, "table1").evaluations
    folder = paths.cell_folder(config, first.cell)
    record = paths.record_file(folder, first.checkpoint, first.attack, first.seed)
    record.write_bytes(b"no zip")
    # an attack that leaves alone what is wrong tells no stability
    write_made_up(config, second, np.arange(100), np.arange(100) < 42, every_image=False)
    key = Key("cifar10", "wrn-34-1", "trades", 6.0, "pgd20")
    groups = Evidence(config).groups("table1", "robust_accuracy")
    assert len(groups) == 4
    assert groups[key].by_seed == {1: pytest.approx(42)}
    assert f"{record} does not match its checksum" in groups[key].missing[0]
    other = groups[key._replace(architecture="wrn-34-5", lam=12.0)]
    assert other.by_seed == pytest.approx({0: 40, 1: 42})
    assert other.images[0].mask.sum() == 40
    stable = Evidence(config).groups("table1", "perturbation_stability")[key]
    assert (stable.by_seed, len(stable.missing)) == ({}, 2)
    assert stable.missing[1].endswith("tells no perturbation_stability")
    assert judged(Evidence(config), "identity").effects[0].images == 600


def test_images_that_survive_every_start(paper: Callable[..., Config]) -> None:
    config = paper(
        "experiments.table2={architectures: {cifar10: [wrn-34-1], cifar100: [wrn-34-1]}, "
        "lambdas: [6], attacks: [pgd20]}"
    )
    evaluations = find_experiment(config, "table2").evaluations
    for item in (one for one in evaluations if one.cell.dataset == "cifar10"):
        write_run(config, item)
        robust = np.arange(50) < 30
        robust[item.seed] = False
        write_made_up(config, item, np.arange(50), robust)
    group, _ = Evidence(config).groups("table2", "robust_accuracy").values()
    # the start 0 breaks image 0, 1 image 1, 2 image 2
    assert group.by_seed == {0: pytest.approx(100 * 27 / 50)}
    lost = next(item for item in evaluations if item.seed == 2)
    folder = paths.cell_folder(config, lost.cell)
    paths.record_file(folder, lost.checkpoint, lost.attack, lost.seed).unlink()
    group, _ = Evidence(config).groups("table2", "robust_accuracy").values()
    assert (group.by_seed, len(group.missing)) == ({}, 1)


def test_the_best_of_the_search_is_found_exactly(paper: Callable[..., Config]) -> None:
    """The mean of three times 1.4 is another number than 1.4."""
    assert float(np.mean([1.4] * 3)) != 1.4
    grid = "{architectures: [wrn-34-1], untuned: 0.7, lambdas: [0.7, 1.4, 2.2], seeds: [0, 1, 2]}"
    config = paper(f"experiments.table3={grid}")
    robust = {0.7: 20, 1.4: 30, 2.2: 25}
    for item in find_experiment(config, "table3").evaluations:
        cell = item.cell
        of_war = cell.method == "war"
        write_run(config, item, 1.5 + cell.seed / 10 if of_war else None, 7200.0)
        held = 31 if of_war else robust.get(cell.lam, 10)
        write_made_up(config, item, np.arange(100), np.arange(100) < held + cell.seed)
    evidence = Evidence(config)
    groups = evidence.groups("table3", "robust_accuracy")
    named = {key.method: key.lam for key in groups if key.method in ("manual", "untuned", "war")}
    assert named == {"untuned": 0.7, "manual": 1.4, "war": 0.0}
    claim = judged(evidence, "war-lambda")
    assert claim.effects[0].value == pytest.approx(1.6 - 1.4)
    assert claim.effects[0].threshold == pytest.approx(0.8)
    assert judged(evidence, "war-robustness").effects[0].value == pytest.approx(1)
    hours = evidence.groups("table3", "hours")
    assert hours[Key("cifar10", "wrn-34-1", "war", 0.0, "pgd20")].by_seed == {0: 2, 1: 2, 2: 2}


def test_a_published_network(paper: Callable[..., Config]) -> None:
    config = paper()
    plan = find_experiment(config, "table4")
    item = next(one for one in plan.published if one.name == "Zhang2019Theoretically")
    write_published(config, item, 53, images=100)
    groups = Evidence(config).groups("table4", "robust_accuracy")
    theirs = groups[Key("cifar10", "wrn-34-10", item.name, 0.0, "autoattack")]
    assert theirs.by_seed == {0: pytest.approx(53)}
    other = groups[Key("cifar10", "wrn-28-10", "Carmon2019Unlabeled", 0.0, "autoattack")]
    assert (other.by_seed, len(other.missing)) == ({}, 1)
    (ours,) = (one for one in plan.evaluations if one.cell.method == "war")
    write_run(config, ours)
    write_made_up(config, ours, np.arange(100), np.arange(100) < 60, every_image=False)
    claim = judged(Evidence(config), "war-trades")
    assert (claim.unit, claim.effects[0].value) == ("images", pytest.approx(7))
    # one that the paper has not
    without = paper("experiments.table4.published=[Rade2021Helper_R18_ddpm]")
    assert "Not in this configuration" in judged(Evidence(without), "war-trades").summary


def test_records_of_other_test_sets_cost_their_claim_alone(paper: Callable[..., Config]) -> None:
    config = paper(f"experiments.table1={SMALL}", "experiments.table1.seeds=[0]")
    for item in find_experiment(config, "table1").evaluations:
        write_run(config, item)
        index = np.arange(0, 100) + (1000 if item.cell.architecture == "wrn-34-5" else 0)
        write_made_up(config, item, index, np.zeros(100, bool))
    claim = judged(Evidence(config), "wider-natural")
    assert claim.verdict == "too little data"
    assert "share fewer than two images" in claim.summary
    assert judged(Evidence(config), "identity").verdict == "holds"


CURVES = (
    "{dataset: digits, architectures: [wrn-10-0.25, wrn-10-0.5, wrn-10-1], method: trades, "
    "lambdas: [6], seeds: [0, 1]}"
)


def _trace(cell: Cell) -> pd.DataFrame:
    """Return a trace of which the first quarter of training, the first epoch, is another."""
    width = parse_architecture(cell.architecture).width
    rows = []
    for row in range(EPOCHS * STEPS):
        epoch = 1 + row // STEPS
        natural = 2 - width + cell.seed / 100 + 100 * width * (epoch == 1)
        rows.append([epoch, natural, 0.5 if epoch == EPOCHS else 1.0, cell.lam, 0.1, width])
    return as_frame(rows)


def test_traces(tiny: Callable[..., Config]) -> None:
    """Made-up runs of six epochs, natural risk 2 - width and a hundredth a seed."""
    traced = tiny(f"experiments.figure1={CURVES}", f"train.epochs={EPOCHS}")
    cells = curve_cells(traced.experiments.figure1)
    for cell in cells:
        write_history(traced, cell, _trace(cell))
    groups = Evidence(traced).groups("figure1", "natural_risk")
    key = Key("digits", "wrn-10-0.5", "trades", 6.0)
    assert groups[key].by_seed == pytest.approx({0: 1.5, 1: 1.51})
    # WAR's ratio, of the last epoch
    ratios = Evidence(traced).groups("figure1", "log_ratio")
    assert ratios[key].by_seed == pytest.approx({0: math.log(3), 1: math.log(3.02)})
    assert judged(Evidence(traced), "wider-risk").verdict == "holds"
    # a run that diverged in its last step, a file that is damaged, a run that is not there
    diverged = _trace(cells[0])
    diverged.loc[diverged.index[-1], "natural_risk"] = math.nan
    write_history(traced, cells[0], diverged)
    paths.trace_file(paths.cell_folder(traced, cells[2])).write_bytes(b"no trace")
    paths.run_file(paths.cell_folder(traced, cells[4])).unlink()
    groups = Evidence(traced).groups("figure1", "natural_risk")
    assert [len(group.by_seed) for group in groups.values()] == [1, 1, 1]
    first, second, third = (group.missing[0] for group in groups.values())
    assert first == f"{cells[0]}: the numbers in its traces are too few or not finite"
    assert f"{cells[2]}/trace.parquet is damaged" in second
    assert str(cells[4]) in third


LATE = (
    "experiments.figure3={dataset: digits, architectures: [wrn-10-0.25, wrn-10-0.5], "
    "method: trades-step, lambdas: [6], seeds: [0, 1]}",
    "train_for={trades-step: {schedule: step, milestones: [0.5, 0.8], validation: {start: 0}}}",
)


def test_epochs(tiny: Callable[..., Config]) -> None:
    """Twelve epochs whose rate drops in the sixth and the ninth; a run's best is its sixth."""
    config = tiny(*LATE, "train.epochs=12")
    for cell in curve_cells(config.experiments.figure3):
        rows = [
            {
                "epoch": epoch,
                "test_robust_accuracy": 50 + cell.seed - abs(epoch - 6),
                "test_natural_accuracy": math.nan if epoch == 3 and cell.seed else 60.0 + epoch,
                "test_perturbation_stability": 90.0 - 2 * epoch,
            }
            for epoch in range(1, 13)
        ]
        write_history(config, cell, epochs=rows)
    evidence = Evidence(config)
    key = Key("digits", "wrn-10-0.5", "trades-step", 6.0)
    best = evidence.groups("figure3", "best_robust_accuracy")
    assert best[key].by_seed == {0: 50, 1: 51}
    # beside them the runs of the exp schedule, as far as they are planned: here they are not
    falls = evidence.groups("figure3", "late_fall")
    assert set(falls) == {key, key._replace(architecture="wrn-10-0.25")}
    assert falls[key].by_seed == pytest.approx({0: 1, 1: 1})
    # slopes are of runs that measured every metric in every epoch
    slopes = evidence.groups("figure3", "faster_fall_after")
    assert slopes[key].by_seed == pytest.approx({0: 1 + 2})
    assert len(judged(evidence, "overfitting").missing) == 2
    # where they are planned they are missing
    both = tiny(*LATE, "train.epochs=12", "experiments.figure1=" + CURVES)
    groups = Evidence(both).groups("figure3", "late_fall")
    assert len(groups) == 4
    assert len(groups[key._replace(method="trades")].missing) == 2


def test_a_slope_against_least_squares_with_a_level_for_each_window() -> None:
    stream = np.random.default_rng(0)
    epochs = pd.DataFrame({"epoch": range(1, 21), "metric": stream.normal(size=20)})
    windows = [[5, 6], [9, 10, 11, 12], [15, 16, 17]]
    rows = epochs[epochs["epoch"].isin(np.concatenate(windows))]
    levels = [rows["epoch"].isin(window) for window in windows]
    design = np.column_stack([rows["epoch"], *levels]).astype(float)
    expected = np.linalg.lstsq(design, rows["metric"].to_numpy())[0][0]
    assert slope(epochs, "metric", windows) == pytest.approx(expected)
    for few in ([[4]], [[4, 5]], [[4], [5], [6]], []):
        assert math.isnan(slope(epochs, "metric", few))


def _epochs() -> pd.DataFrame:
    """A hundred epochs with slopes before and after a drop in the 75th, and a jump at each drop."""
    epoch = np.arange(1, 101)
    early, late = np.minimum(epoch, 74), np.maximum(0, epoch - 75)
    jump = 8.0 * (epoch >= 75) + 1.0 * (epoch >= 90)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "robust_accuracy": jump + 0.4 * early - 0.2 * late,
            "natural_accuracy": jump + 0.5 * early + 0.3 * late,
            "perturbation_stability": jump - 0.6 * early - 0.1 * late,
        }
    )


def test_slopes_of_the_papers_schedules() -> None:
    train = load_config("{}", "paper").train_of("trades-step")
    assert before_drop(train) == [list(range(1, 75))]
    assert after_drops(train) == [list(range(76, 90)), list(range(91, 101))]
    expected = {
        "stability_fall_before": 0.6,
        "robust_rise_before": 0.4,
        "natural_rise_before": 0.5,
        "robust_fall_after": 0.2,
        "stability_fall_after": 0.1,
        "faster_fall_after": 0.1 + 0.3,
        # over epochs 88 to 100
        "late_fall": 0.2,
    }
    for name, value in expected.items():
        assert METRICS[name].take(_epochs(), train) == pytest.approx(value), name
    # halved in every epoch from 75 on, to all but zero in 88: what comes before plays no part
    smooth = pd.DataFrame({"epoch": range(1, 101)})
    smooth["robust_accuracy"] = 50 - 0.2 * np.maximum(0, smooth["epoch"] - 87)
    exp = load_config("{}", "paper").train_of("trades")
    assert METRICS["late_fall"].take(smooth, exp) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("setting", "metric"),
    [
        # halved in every epoch: what the rate does and what time does are one
        ("schedule=exp", "robust_fall_after"),
        ("milestones=[0.02]", "stability_fall_before"),
        # no drop of the learning rate
        ("schedule=cosine", "late_fall"),
    ],
)
def test_too_few_epochs_for_a_slope(setting: str, metric: str) -> None:
    train = load_config("{}", "paper", [f"train_for.trades-step.{setting}"]).train_of("trades-step")
    assert math.isnan(METRICS[metric].take(_epochs(), train))


def test_the_file_is_strict_json(
    paper: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    config = paper(f"experiments.table1={SMALL}", "train.epochs=20")
    # one pair with two seeds; the others have numbers and no interval
    fill(config, lambda c: (40 + c.seed, 60) if c.seed < 1 + (c.lam == 6) else None, images=100)
    shown = run_command(config, "claims")
    first, second, *_ = shown.splitlines()
    assert first.startswith("Preset paper; data: CIFAR-10, CIFAR-100, ImageNet.")
    assert second.startswith("Not the paper's protocol: train.epochs is 20")
    text = paths.claims_file(config).read_text()
    assert "NaN" not in text
    found = {claim["name"]: claim for claim in json.loads(text)["claims"]}
    assert list(found) == [claim.name for claim in judge_claims(config)]
    lows = [effect["low"] for effect in found["wider-natural"]["effects"]]
    assert None in lows
    assert all(name in shown for name in found)
