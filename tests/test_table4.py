"""Table 4 through the workflow: stand-ins for a published checkpoint, CIFAR and extra images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cifar_runs import IMAGES, LIGHT, cifar_config, write_checkpoint, write_extra
from made_up import write_made_up, write_run
from workflow_copy import Workflow, copy

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.experiments import paths
from reproduce.experiments.grids import PublishedEvaluation, find_experiment
from reproduce.experiments.spec import attack_spec
from reproduce.paper.published import published
from reproduce.results.frames import collect
from reproduce.results.plan import is_evaluated, plan
from reproduce.tables.diff import build_diff
from reproduce.tables.write import write_table

RST = "cifar10/wrn-10-0.5/rst/lam-6/seed-0"
ABSENT = "Zhang2020Attacks"
SETS = [
    "eval.attacks.autoattack={steps: 1, targets: 1, queries: 2, images: 10}",
    "experiments={table1: null, table2: null, table3: null, table6: null}",
    f"experiments.table4.published=[{LIGHT}, {ABSENT}]",
    f"experiments.table4.trained={{{RST}: last}}",
    "experiments.table4.dataset=cifar10",
]
OUTCOME = "results/mini/models/cifar10/{}/autoattack-n10-seed0.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The table, made with one published checkpoint missing."""
    folder = tmp_path_factory.mktemp("table4")
    config = cifar_config(folder, *SETS)
    write_extra(folder)
    write_checkpoint(folder / "zoo")
    tree = json.loads(config.model_dump_json(exclude={"results"}))
    workflow = Workflow(copy(tmp_path_factory.mktemp("workflow")), tree)
    workflow.run("--", "table4")
    return workflow


def test_the_whole_table_is_made_and_says_what_is_missing(finished: Workflow) -> None:
    folder = finished.folder / "results" / "mini"
    table = (folder / "tables" / "table4.md").read_text()
    frame = pd.read_csv(folder / "tables" / "table4.csv").set_index("method")
    measured = frame["autoattack"].notna()
    assert measured.to_dict() == {LIGHT: True, ABSENT: False, RST: True}
    assert frame.loc[LIGHT, ["leaderboard", "reported"]].tolist() == [43.21, 46.06]
    assert frame.loc[ABSENT, "paper"] == 53.51
    missing = f"{ABSENT} could not be had: "
    (line,) = (line for line in table.splitlines() if line.startswith(f"- {missing}"))
    assert line.removeprefix(f"- {missing}").startswith("/")
    assert "1 of 3 evaluations have no result yet" in table
    assert "RST, λ=6 (last)" in table
    outcome = read_json(finished.folder / OUTCOME.format(ABSENT))
    assert outcome["evaluated"] is False
    assert "put RobustBench's file there" in outcome["reason"]
    diff = pd.read_csv(folder / "diff" / "table4.csv").set_index("method")["verdict"]
    assert diff[LIGHT] == diff["rst"] == "no paper value"
    assert diff[ABSENT] == "missing"
    # as many images as the records of a whole evaluation
    record = read_record(next(folder.glob(f"models/cifar10/{LIGHT}/records/*.npz")))
    assert len(record.index) == 10
    assert record.info["data"]["test"] == IMAGES


def test_nothing_runs_twice_and_what_may_now_be_had_is_tried_again(finished: Workflow) -> None:
    assert finished.planned("--", "table4") == {}
    zoo = Path(json.loads((finished.folder / "config.yaml").read_text())["data"]["folder"]) / "zoo"
    outcomes = [OUTCOME.format(name) for name in (LIGHT, ABSENT)]

    def tried(count: int) -> None:
        """Expect so many attacks to be planned, make them, and expect none."""
        # not the others, and not the run
        assert finished.planned("--", *outcomes) == {"evaluate_published": count}
        finished.run("--", *outcomes)
        assert finished.planned("--", *outcomes) == {}

    (record,) = finished.folder.glob(f"results/mini/models/cifar10/{LIGHT}/records/*.npz")
    record.unlink()
    assert finished.planned("--", *outcomes) == {"evaluate_published": 1}
    # a file that cannot be used takes the place of none, and one is gone with its results
    paths.zoo_file(zoo, "cifar10", ABSENT).write_text("<html>quota exceeded</html>")
    paths.zoo_file(zoo, "cifar10", LIGHT).unlink()
    shutil.rmtree(finished.folder / "results/mini/models/cifar10" / LIGHT)
    tried(2)
    assert "is a web page" in read_json(finished.folder / outcomes[1])["reason"]
    # one arrives late
    write_checkpoint(zoo)
    tried(1)
    assert read_json(finished.folder / outcomes[0])["evaluated"]


def _paper(folder: Path, *sets: str) -> Config:
    places = [f"results={folder}", f"data.folder={folder}"]
    return load_config("{}", "paper", [*places, *sets])


def _attacked(config: Config, item: PublishedEvaluation, held: int, **info: object) -> None:
    """Make up the record of a published checkpoint, of which so many images hold."""
    index = np.arange(10_000)
    labels = index % 10
    adversarial = np.where(index < held, labels, (labels + 1) % 10)
    about = {
        "digest": attack_spec(config, item.attack, item.seed, item.dataset).digest,
        "model_sha256": "0",
        "parts": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "every_image": False,
        "warnings": [],
        "data": {"train": 50_000, "test": 10_000, "official": True},
        **info,
    }
    path = paths.published_record(config, item.dataset, item.name, "autoattack", item.seed)
    broken = np.where(index < held, -1, 0)
    write_record(path, Record(index, labels, labels, adversarial, broken, about))


def test_ten_numbers_of_the_paper_and_a_baseline() -> None:
    config = load_config("{}", "paper")
    experiment = find_experiment(config, "table4")
    frame = build_diff(config, experiment, collect(config, experiment))
    assert frame["paper"].notna().sum() == len(published("table4")) == 10
    assert frame.loc[frame["paper"].isna(), "method"].tolist() == ["rst"]
    cells = {cell.id for cell in experiment.cells}
    # WAR measures its ratio on the thin network
    assert "cifar10/wrn-34-0.5/trades/lam-6/seed-0" in cells
    assert len(cells) == 5
    by_id = {row.method: row.architecture for row in frame.itertuples()}
    assert by_id["Pang2020Boosting"] == "wrn-34-20"
    (entry,) = plan(config, ["table4"])
    assert (entry.cells, entry.evaluations) == (5, 11)


def test_verdicts_of_published_checkpoints(tmp_path: Path) -> None:
    config = _paper(tmp_path)
    experiment = find_experiment(config, "table4")
    held = {"Carmon2019Unlabeled": 5950, "Sehwag2020Hydra": 5500}
    for item in experiment.published:
        if item.name in held:
            _attacked(config, item, held[item.name])
            assert is_evaluated(config, item)
    for item in experiment.evaluations:
        write_run(config, item)
        write_made_up(config, item, np.arange(10_000), np.arange(10_000) < 6184)
    results = collect(config, experiment)
    verdicts = build_diff(config, experiment, results).set_index(["method", "architecture"])
    verdict = verdicts["verdict"].to_dict()
    assert verdict["Carmon2019Unlabeled", "wrn-28-10"] == "agrees"
    # the same weights: no other seed explains it
    assert verdict["Sehwag2020Hydra", "wrn-28-10"] == "differs"
    assert verdict["Wang2020Improving", "wrn-28-10"] == "missing"
    assert verdict["rst-war", "wrn-28-20"] == "agrees"
    assert verdict["rst-war", "wrn-28-10"] == "too few seeds"
    table = write_table(config, experiment, results)
    assert "Zhang2019Theoretically: the leaderboard's number, and so the paper's, is at" in table
    # the best of its section
    assert table.count("**61.84**") == 3
    _attacked(
        config, experiment.published[0], 5308, data={"train": 50, "test": 9, "official": False}
    )
    frame = build_diff(config, experiment, collect(config, experiment))
    assert frame["verdict"][0] == "not a reproduction"


def test_radii_are_those_of_the_tables_attack(tmp_path: Path) -> None:
    config = _paper(tmp_path, "eval.attacks.autoattack.epsilon=4/255")
    experiment = find_experiment(config, "table4")
    table = write_table(config, experiment, collect(config, experiment))
    assert (
        "Carmon2019Unlabeled: the leaderboard's number, and so the paper's, is at epsilon 0.03137; "
        "measured here at 0.01569." in table
    )


def test_a_folder_of_images_finds_its_records(tmp_path: Path) -> None:
    """Their digests have the crop."""
    config = _paper(tmp_path)
    item = PublishedEvaluation("Known", "imagenet", "autoattack", seed=0)
    table4 = find_experiment(config, "table4")
    experiment = replace(table4, evaluations=(), cells=(), published=(item,))
    # as `evaluate` makes them
    digest = attack_spec(config, item.attack, item.seed, "imagenet").digest
    _attacked(config, item, 5000, digest=digest)
    assert collect(config, experiment).problems == ()
    assert list(collect(config, experiment).published) == [item]
    assert is_evaluated(config, item)


def test_other_extra_images_are_no_reproduction(tmp_path: Path) -> None:
    config = _paper(tmp_path)
    experiment = find_experiment(config, "table4")
    for item in experiment.evaluations:
        extra = {"images": 500_000 if "rst-war" in item.cell.id else 60_000, "sha256": "0"}
        write_run(config, item, **({"extra": extra} if "rst" in item.cell.method else {}))
        write_made_up(config, item, np.arange(10_000), np.arange(10_000) < 5473)
    frame = build_diff(config, experiment, collect(config, experiment)).set_index("method")
    assert frame.loc["war", "verdict"] == "agrees"
    assert set(frame.loc["rst-war", "verdict"]) == {"too few seeds"}
    for item in experiment.evaluations:
        if item.cell.method == "rst-war":
            write_run(config, item, extra={"images": 60_000, "sha256": "0"})
    frame = build_diff(config, experiment, collect(config, experiment)).set_index("method")
    assert set(frame.loc["rst-war", "verdict"]) == {"not a reproduction"}


def test_records_that_cannot_be_used(tmp_path: Path) -> None:
    config = _paper(tmp_path)
    experiment = find_experiment(config, "table4")
    first, second = experiment.published[:2]
    _attacked(config, first, 5000, digest="other settings")
    _attacked(config, second, 5000)
    path = paths.published_record(config, "cifar10", second.name, "autoattack", 0)
    path.write_bytes(path.read_bytes()[:-1])
    results = collect(config, experiment)
    assert "was made with other settings" in results.problems[0]
    assert "does not match its checksum" in results.problems[1]
    assert results.published == {}
    assert not is_evaluated(config, first)
    third = experiment.published[2]
    outcome = paths.published_outcome(config, "cifar10", third.name, "autoattack", 0)
    write_json(outcome, {"model": third.name, "evaluated": False, "reason": "no weights"})
    assert collect(config, experiment).unavailable == {third: "no weights"}
    # a reason that begins with the name does not repeat it
    for reason in (f"{third.name}: no weights", f"{third.name} could not be downloaded from x"):
        write_json(outcome, {"model": third.name, "evaluated": False, "reason": reason})
        told = reason.removeprefix(third.name).removeprefix(": ").strip()
        table = write_table(config, experiment, collect(config, experiment))
        assert f"{third.name} could not be had: {told}." in table


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["published=[]", "trained={}"], "there is nothing to compare"),
        ([f"published=[{LIGHT}, {LIGHT}]"], "published': it lists a value twice"),
        (["published=[../up]"], "experiments.table4.published.0"),
        (["trained={cifar10/wrn-9-1/war/lam-0/seed-0: last}"], "6n \\+ 4"),
        (["trained={digits/wrn-10-1/war/lam-0/seed-0: last}"], "is not of dataset cifar10"),
        (["trained={cifar10/wrn-10-1/war/lam-0/seed-0: best-val}"], "held-out images"),
        (["attack=strong"], "table4: unknown attack 'strong'"),
    ],
)
def test_bad_grids(tmp_path: Path, sets: list[str], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        _paper(tmp_path, *(f"experiments.table4.{item}" for item in sets))
