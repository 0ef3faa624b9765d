"""The Snakefile, run as a user runs it: what it plans, what it runs again, and what not."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from snakemake.exceptions import WorkflowError

from reproduce.workflow import Harness

SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def _copy(folder: Path) -> Path:
    """Lay the workflow out in a folder of its own, so that results and state are the test's."""
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


class Workflow:
    """One copy of the workflow and a way to run it."""

    def __init__(self, folder: Path, config: dict) -> None:
        self.folder = folder
        (folder / "config.yaml").write_text(json.dumps(config))

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.run(
            [SNAKEMAKE, "--cores", "2", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    def planned(self, *words: str) -> dict[str, int]:
        """Return the jobs of a dry run by rule."""
        output = self.run("-n", *words)
        text = output.stdout + output.stderr
        stats = text.split("Job stats:")[1] if "Job stats:" in text else ""
        return {
            name: int(count)
            for name, count in re.findall(r"^(\w+) +(\d+)$", stats.split("\n\n")[0], re.MULTILINE)
            if name not in ("job", "total")
        }

    def set(self, **values: object) -> None:
        path = self.folder / "config.yaml"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_paper_plan(tmp_path: Path) -> None:
    workflow = Workflow(_copy(tmp_path), {})
    planned = workflow.planned("--config", "preset=paper", "--", "table1")
    assert (planned["train"], planned["evaluate"], planned["prepare"]) == (99, 99, 1)
    output = workflow.run("-n", "--config", "preset=paper", "--", "table1").stdout
    cells = set(re.findall(r"wildcards: cell=(\S+?)(?:,|$)", output, re.MULTILINE))
    assert sum("/trades/" in cell for cell in cells) == 54
    assert sum("/at/" in cell for cell in cells) == 45
    # a second target that shares every cell adds no work
    both = workflow.planned("--config", "preset=paper", "--", "table1", "diff", "all")
    assert (both["train"], both["evaluate"]) == (99, 99)


def test_paper_plan_of_table2(tmp_path: Path) -> None:
    workflow = Workflow(_copy(tmp_path), {})
    planned = workflow.planned("--config", "preset=paper", "--", "table2")
    assert (planned["train"], planned["evaluate"], planned["prepare"]) == (24, 288, 2)
    # nine runs, and their first PGD-20, are Table 1's too
    both = workflow.planned("--config", "preset=paper", "--", "table1", "table2")
    assert (both["train"], both["evaluate"]) == (99 + 24 - 9, 99 + 288 - 9)


@pytest.mark.parametrize("preset", ["paper", "short", "mini", "demo"])
def test_every_preset_plans(tmp_path: Path, preset: str) -> None:
    assert Workflow(_copy(tmp_path), {"preset": preset}).planned()["train"] > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"preset": "papr"}, "unknown preset 'papr'"),
        ({"train": {"epoch": 3}}, "unknown key 'train.epoch'"),
        ({"train": {"attack": {"epsilon": -1}}}, "train.attack.epsilon"),
        ({"experiments": {"table1": {"architectures": ["wrn-33-1"]}}}, "6n + 4"),
    ],
)
def test_bad_configuration(tmp_path: Path, config: dict, message: str) -> None:
    process = Workflow(_copy(tmp_path), config).run("-n", check=False)
    assert process.returncode != 0
    assert message in process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Workflow:
    """A tiny experiment of four cells, run to its end."""
    from reproduce.settings import load_config

    config = load_config("{}", "demo", [f"data.folder={digits_folder}", *TINY])
    tree = config.model_dump(mode="json", exclude={"results"})
    workflow = Workflow(_copy(tmp_path_factory.mktemp("workflow")), tree)
    # the digits are prepared already; Snakemake must find its own record of that
    workflow.run("--touch", "--", str(digits_folder / "prepared" / "digits.npz"), check=False)
    workflow.run("--", "all")
    return workflow


@pytest.mark.parametrize(
    "target",
    [
        "results/paper/cells/cifar10/wrn-33-1/trades/lam-6/seed-0/run.json",
        "results/paper/cells/mnist/wrn-34-1/trades/lam-6/seed-0/run.json",
        "results/paper/cells/cifar10/wrn-34-1/trades/lam-6/seed-0/records/fab-n7-seed0.npz",
        "results/paper/tables/table9.csv",
    ],
)
def test_unknown_targets(tmp_path: Path, target: str) -> None:
    process = Workflow(_copy(tmp_path), {}).run("-n", "--", target, check=False)
    assert process.returncode != 0
    said = process.stdout + process.stderr
    assert re.search("unknown data set|6n \\+ 4|unknown attack|unknown experiment", said)


@pytest.fixture
def done(finished: Workflow) -> Callable[[], Workflow]:
    """The finished experiment, put back as it was after the test."""
    saved = (finished.folder / "config.yaml").read_text()
    yield finished
    (finished.folder / "config.yaml").write_text(saved)


def test_nothing_runs_twice(done: Workflow) -> None:
    assert done.planned() == {}
    assert done.planned("--", "table1") == {}
    assert (done.folder / "results/demo/tables/table1.md").exists()
    assert (done.folder / "results/demo/diff/table1.csv").exists()


def test_a_setting_that_changes_no_result_changes_nothing(done: Workflow) -> None:
    config = json.loads((done.folder / "config.yaml").read_text())
    done.set(machine={**config["machine"], "eval_batch": 7, "max_minutes": 60})
    assert done.planned() == {}


def test_a_changed_setting_reruns_the_cells_it_touches(done: Workflow) -> None:
    config = json.loads((done.folder / "config.yaml").read_text())
    done.set(train={**config["train"], "bn_forwards": 3})
    planned = done.planned()
    # two TRADES cells of four read it
    assert (planned["train"], planned["evaluate"]) == (2, 2)
    done.set(train={**config["train"], "weight_decay": 0.001})
    assert done.planned()["train"] == 4


def test_another_seed_adds_its_cells(done: Workflow) -> None:
    config = json.loads((done.folder / "config.yaml").read_text())
    config["experiments"]["table1"]["seeds"] = [0, 1, 2]
    done.set(experiments=config["experiments"])
    planned = done.planned()
    assert (planned["train"], planned["evaluate"], planned["table"]) == (2, 2, 1)


def test_another_attack_setting_reruns_evaluations(done: Workflow) -> None:
    """Validation uses the same attack, so the checkpoints are chosen anew as well."""
    config = json.loads((done.folder / "config.yaml").read_text())
    done.set(eval={**config["eval"], "epsilon": 0.1})
    planned = done.planned()
    assert (planned["train"], planned["evaluate"]) == (4, 4)


def _kept(workflow: Workflow) -> dict[str, int]:
    """Return when each training run of the workflow was finished, by its run.json's content."""
    root = workflow.folder / "results/demo/cells"
    return {str(p): json.loads(p.read_text())["pieces"][0]["began"] for p in root.rglob("run.json")}


def test_moved_images_retrain_nothing(done: Workflow, tmp_path: Path) -> None:
    """Snakemake starts the jobs again, and they keep what is there."""
    config = json.loads((done.folder / "config.yaml").read_text())
    before = _kept(done)
    shutil.copytree(config["data"]["folder"], tmp_path / "moved")
    done.set(data={**config["data"], "folder": str(tmp_path / "moved")})
    assert done.planned()["train"] == 4  # Snakemake would run them all again
    done.run("--", "all")
    assert done.planned() == {}
    assert _kept(done) == before
    done.set(data=config["data"])
    done.run("--", "all")
    assert done.planned() == {}


def test_a_rule_whose_text_changed_retrains_nothing(done: Workflow) -> None:
    path = done.folder / "workflow/rules/train.smk"
    text = path.read_text()
    before = _kept(done)
    path.write_text(text.replace("> {log} 2>&1", ">{log} 2>&1"))
    assert done.planned()["train"] == 4  # Snakemake would run them all again
    done.run("--", "all")
    assert done.planned() == {}
    assert _kept(done) == before
    path.write_text(text)
    done.run("--", "all")
    assert _kept(done) == before


def test_losing_one_result_reruns_that_one(done: Workflow) -> None:
    root = done.folder / "results/demo"
    record = next(root.glob("cells/*/*/trades/*/seed-0/records/pgd20-seed0.npz"))
    before = record.read_bytes()
    record.unlink()
    planned = done.planned()
    assert planned["evaluate"] == 1
    assert "train" not in planned
    done.run("--", "all")
    assert record.read_bytes() == before
    assert done.planned() == {}


def test_losing_a_checkpoint_trains_that_cell(done: Workflow) -> None:
    root = done.folder / "results/demo"
    weights = next(root.glob("cells/*/*/at/*/seed-1/model.safetensors"))
    before = weights.read_bytes()
    weights.unlink()
    planned = done.planned()
    assert (planned["train"], planned["evaluate"]) == (1, 1)
    done.run("--", "all")
    assert weights.read_bytes() == before
    assert done.planned() == {}


def test_a_stopped_job_continues_in_the_next_run(done: Workflow) -> None:
    config = json.loads((done.folder / "config.yaml").read_text())
    grid = config["experiments"]["table1"] | {"seeds": [7], "methods": {"trades": [2]}}
    done.set(experiments={"table1": grid}, machine={**config["machine"], "max_minutes": 0.000001})
    process = done.run("--", "table1", check=False)
    assert process.returncode != 0
    cell = done.folder / "results/demo/cells/digits/wrn-10-0.25/trades/lam-2/seed-7"
    assert len(list(cell.glob("state-*.safetensors"))) == 1
    done.set(machine=config["machine"])
    done.run("--", "table1")
    log = done.folder / "results/demo/logs/train/digits/wrn-10-0.25/trades/lam-2/seed-7.log"
    assert "continuing in epoch 1" in log.read_text()
    assert len(json.loads((cell / "run.json").read_text())["pieces"]) == 2


def test_table2_runs_on_the_cells_that_exist(done: Workflow) -> None:
    """One subset, one full attack; then a changed shard concerns the packaged attack alone."""
    config = json.loads((done.folder / "config.yaml").read_text())
    grid = {
        "architectures": {"digits": ["wrn-10-0.25"]},
        "method": "trades",
        "lambdas": [2],
        "attacks": ["pgd20", "fab"],
        "attack_seeds": [0, 1],
    }
    attacks = config["eval"]["attacks"]
    attacks["fab"] = {"kind": "fab", "steps": 3, "restarts": 1, "images": 20}
    done.set(
        experiments={**config["experiments"], "table2": grid},
        eval={**config["eval"], "attacks": attacks},
    )
    planned = done.planned("--", "table2")
    assert "train" not in planned
    assert planned["evaluate"] == 3
    done.run("--", "table2")
    assert done.planned("--", "table2") == {}
    folder = done.folder / "results/demo/cells/digits/wrn-10-0.25/trades/lam-2/seed-0/records"
    assert {path.name for path in folder.glob("*.npz")} == {
        "pgd20-seed0.npz",
        "pgd20-seed1.npz",
        "fab-n20-seed0.npz",
        "fab-n20-seed1.npz",
    }
    assert "FAB (n=20)" in (done.folder / "results/demo/tables/table2.md").read_text()
    done.set(eval={**config["eval"], "attacks": attacks, "shard": 10})
    assert done.planned("--", "table2")["evaluate"] == 2


def test_harness_answers_for_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRODUCE_CONFIG", "")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    harness = Harness({"preset": "mini", "results": str(tmp_path), "data": {"cifar100": "/x"}})
    cell = "cifar10/wrn-10-1/at/lam-2/seed-1"
    assert json.loads(os.environ["REPRODUCE_CONFIG"])["preset"] == "mini"
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert harness.gpus == 0
    assert Harness({"preset": "paper"}).gpus == 1
    assert harness.source("cifar100") == "/x"
    assert harness.source("digits") == "embedded"
    assert harness.manifest(cell).name == "cifar10.json"
    assert len(harness.training_digest(cell)) == 12
    seeds = [harness.evaluation_digest(cell, "-last", "pgd20", seed) for seed in ("0", "1")]
    assert seeds[0] != seeds[1]
    outputs = harness.outputs("table1")
    assert len(outputs) == len(set(outputs))
    assert [harness.attack(name) for name in ("pgd20", "fab-n100")] == ["pgd20", "fab"]
    with pytest.raises(WorkflowError, match="unknown attack 'fab'"):
        harness.attack("fab")
    # three forms, a diff, two files a record, six files a run with held-out images
    assert len(outputs) == 4 + 12 * (2 + 6)
    assert harness.table_digest("table1") != harness.table_digest("table2")
    with pytest.raises(WorkflowError, match="unknown preset"):
        Harness({"preset": "x"})
