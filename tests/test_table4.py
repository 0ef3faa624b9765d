"""Table 4 through the workflow: stand-ins for a published checkpoint, CIFAR and extra images."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from cifar_runs import IMAGES, LIGHT, cifar_config, write_checkpoint, write_extra
from workflow_copy import Workflow, copy

from reproduce.core.files import read_json
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths

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
