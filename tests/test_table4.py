"""Table 4 through the workflow: stand-ins for a published checkpoint, CIFAR and extra images."""

import json
from pathlib import Path

import pandas as pd
import pytest
from cifar_runs import IMAGES, LIGHT, cifar_config, write_checkpoint, write_extra
from workflow_copy import Workflow, copy

from reproduce.core.files import read_json
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths

pytestmark = pytest.mark.slow

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
def finished(tmp_path_factory: pytest.TempPathFactory, preloaded: str) -> Workflow:
    """The table, made with one published checkpoint missing."""
    folder = tmp_path_factory.mktemp("table4")
    config = cifar_config(folder, *SETS)
    write_extra(folder)
    write_checkpoint(folder / "zoo")
    tree = json.loads(config.model_dump_json(exclude={"results"}))
    workflow = Workflow(copy(tmp_path_factory.mktemp("workflow")), tree, preloaded)
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
    assert "does not exist" in line
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


def test_nothing_runs_twice_and_deleting_the_small_file_tries_again(finished: Workflow) -> None:
    assert finished.planned("--", "table4") == {}
    zoo = Path(json.loads((finished.folder / "config.yaml").read_text())["data"]["folder"]) / "zoo"
    outcome = finished.folder / OUTCOME.format(ABSENT)
    paths.zoo_file(zoo, "cifar10", ABSENT).write_text("<html>quota exceeded</html>")
    assert finished.planned("--", OUTCOME.format(ABSENT)) == {}
    outcome.unlink()
    assert finished.planned("--", OUTCOME.format(ABSENT)) == {"evaluate_published": 1}
    finished.run("--", OUTCOME.format(ABSENT))
    assert "is a web page" in read_json(outcome)["reason"]
    assert finished.planned("--", OUTCOME.format(ABSENT)) == {}
