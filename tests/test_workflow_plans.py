"""The Snakefile, asked as a user asks it what it would run; nothing is run here."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from snakemake.exceptions import WorkflowError
from workflow_copy import Workflow, copy

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.experiments.grids import repeated_evaluations
from reproduce.workflow.harness import Harness


def test_paper_plan(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {})
    planned = workflow.planned("--config", "preset=paper", "--", "table1")
    assert (planned["train"], planned["evaluate"], planned["prepare"]) == (99, 99, 1)
    output = workflow.run("-n", "--config", "preset=paper", "--", "table1").stdout
    cells = set(re.findall(r"wildcards: cell=(\S+?)(?:,|$)", output, re.MULTILINE))
    assert sum("/trades/" in cell for cell in cells) == 54
    assert sum("/at/" in cell for cell in cells) == 45
    # a second target that shares every cell adds no work
    both = workflow.planned("--config", "preset=paper", "--", "table1", "diff", "all")
    # ... beside those of the other tables: 15 of Table 2, 9 WAR and their thin network, 3 with
    # extra images, 2 on ImageNet, 3 AWP; and 9 of Figure 3
    assert (both["train"], both["evaluate"]) == (99 + 15 + 10 + 3 + 2 + 3 + 9, 378 + 10 + 4 + 2 + 3)


def test_paper_plan_of_table2(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {})
    planned = workflow.planned("--config", "preset=paper", "--", "table2")
    assert (planned["train"], planned["evaluate"], planned["prepare"]) == (24, 288, 2)
    # nine runs, and their first PGD-20, are Table 1's too
    both = workflow.planned("--config", "preset=paper", "--", "table1", "table2")
    assert (both["train"], both["evaluate"]) == (99 + 24 - 9, 99 + 288 - 9)


def test_runs_of_table_1_bring_no_work_to_table_2_but_another_comparison(tmp_path: Path) -> None:
    harness = Harness({"preset": "paper", "results": str(tmp_path)})
    assert harness.compared_runs("table2") == []
    assert len(repeated_evaluations(harness.config, "table2")) == 3 * 3 * 3
    record = tmp_path / "paper/cells/cifar10/wrn-34-1/trades/lam-6/seed-1/records/pgd20-seed0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    first = harness.compared_runs("table2")
    record.write_text("[]")
    assert len(first) == len(harness.compared_runs("table2")) == 1
    assert first != harness.compared_runs("table2")
    assert harness.compared_runs("table1") == harness.compared_runs("table4") == []


def test_paper_plan_of_tables_3_and_6(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {})
    planned = workflow.planned("--config", "preset=paper", "--", "table3")
    assert (planned["train"], planned["evaluate"]) == (54 + 9 + 1, 54 + 9 + 1)
    planned = workflow.planned("--config", "preset=paper", "--", "table6")
    assert (planned["train"], planned["evaluate"]) == (3, 3)
    # all of Table 3 but WAR and its thin network is Table 1's
    both = workflow.planned("--config", "preset=paper", "--", "table1", "table3")
    assert (both["train"], both["evaluate"]) == (99 + 10, 99 + 10)


def test_a_run_of_war_plans_its_thin_network(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {})
    run = "results/paper/cells/cifar10/wrn-34-1/war/lam-0/seed-2/run.json"
    assert workflow.planned("--", run)["train"] == 2
    workflow.set(war={"zeta": 30})
    assert workflow.planned("--", run)["train"] == 1


def test_paper_plan_of_table4(tmp_path: Path) -> None:
    planned = Workflow(copy(tmp_path), {}).planned("--", "table4")
    # two WAR networks, RST and WAR of one width, and the thin network of their ratio
    assert (planned["train"], planned["evaluate"]) == (5, 4)
    # CIFAR-10 and the extra images
    assert (planned["evaluate_published"], planned["prepare"]) == (7, 2)


def test_paper_plan_of_table5(tmp_path: Path) -> None:
    config = {"data": {"imagenet": "images"}, "machine": {"threads": 2, "loaders": 3}}
    workflow = Workflow(copy(tmp_path), config)
    planned = workflow.planned("--config", "preset=paper", "--", "table5")
    assert (planned["train"], planned["evaluate"], planned["prepare"]) == (2, 2, 1)
    # what decodes files is counted, as far as there are cores: training, then the attack
    for cores, threads in ((8, ("5", "3")), (4, ("4", "3"))):
        words = ("--cores", str(cores), "-n", "--config", "preset=paper", "--", "table5")
        plan = workflow.run(*words).stdout
        found = dict(re.findall(r"rule (train|evaluate):.*?threads: (\d+)", plan, re.DOTALL))
        assert (found["train"], found["evaluate"]) == threads


@pytest.mark.parametrize("preset", ["paper", "short", "mini", "demo"])
def test_every_preset_plans(tmp_path: Path, preset: str) -> None:
    assert Workflow(copy(tmp_path), {"preset": preset}).planned()["train"] > 0


@pytest.mark.parametrize("words", [(), ("--workflow-profile", "profiles/slurm")])
def test_one_profile_counts(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Of one GPU by itself; of a cluster in its place."""
    workflow = Workflow(copy(tmp_path), {"preset": "demo"})
    path = workflow.folder / "profiles/slurm/config.yaml"
    # its executor need not be installed here
    path.write_text("printshellcmds: true\n")
    said = workflow.run(*words, "-n", "--", "lemma").stderr
    asked = words[1] if words else "profiles/default"
    assert f"Using workflow specific profile {asked} for" in said
    assert said.count("profiles/") == 1


def test_the_default_profile_is_of_one_gpu() -> None:
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert (profile["cores"], profile["resources"]) == (1, {"gpu": 1})


def test_files_of_settings_lie_one_over_the_other(tmp_path: Path) -> None:
    """As in the commands: axes are replaced whole; Windows' mark and line ends do not matter."""
    workflow = Workflow(copy(tmp_path), {})
    path = workflow.folder / "config.yaml"
    grid = b"experiments: {table1: {methods: {trades: [1, 6]}, seeds: [0]}}"
    path.write_bytes(b"\xef\xbb\xbfpreset: demo\r\n" + grid + b"\r\n")
    (workflow.folder / "other.yaml").write_text("experiments: {table1: {methods: {at: [1]}}}")
    words = ("--configfile", "other.yaml", "--config", "experiments={table1: {seeds: [0, 1, 2]}}")
    assert workflow.planned("--", "table1")["train"] == 2 * 2
    assert workflow.planned(*words, "--", "table1")["train"] == 2 * 3
    path.write_text("")
    assert workflow.planned("--", "table6")["train"] == 3


@pytest.mark.parametrize("name", ["config.yaml", "other.yaml"])
def test_a_key_that_stands_twice(tmp_path: Path, name: str) -> None:
    workflow = Workflow(copy(tmp_path), {"preset": "demo"})
    (workflow.folder / name).write_text("preset: demo\ntrain: {epochs: 3}\ntrain: {epochs: 4}\n")
    process = workflow.run("-n", "--configfile", name, check=False)
    assert f"{name} is not YAML: key 'train' is written twice" in process.stdout
    assert "Traceback" not in process.stdout


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
    process = Workflow(copy(tmp_path), config).run("-n", check=False)
    assert process.returncode != 0
    assert message in process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr


def test_settings_on_snakemakes_command_line(tmp_path: Path) -> None:
    """It leaves what stands inside a mapping as text."""
    settings = [
        "train={epochs: 2, attack: {epsilon: 4/255, steps: 3}, nesterov: true}",
        "machine={max_minutes: 110}",
        "experiments={table5: null, table1: {seeds: [0, 3]}}",
    ]
    workflow = Workflow(copy(tmp_path), {"preset": "demo"})
    planned = workflow.planned("--config", *settings, "--", "table1")
    # two widths and the two seeds of two lambdas of TRADES and one of adversarial training
    assert planned["train"] == 2 * 2 * 3


def test_a_table_may_be_left_out(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {"preset": "demo", "experiments": {"table2": None}})
    assert workflow.planned("--", "table1")["train"] == 12
    process = workflow.run("-n", "--", "table2", check=False)
    assert process.returncode != 0
    assert "table2 is left out (experiments.table2 is null)" in process.stdout + process.stderr


def test_claims_are_judged_on_everything(tmp_path: Path) -> None:
    workflow = Workflow(copy(tmp_path), {"preset": "demo"})
    planned = workflow.planned("--", "claims")
    assert planned["claims"] == 1
    everything = workflow.planned("--", "all")
    assert everything["claims"] == 1
    assert [planned[job] for job in ("train", "evaluate")] == [
        everything[job] for job in ("train", "evaluate")
    ]


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
    process = Workflow(copy(tmp_path), {}).run("-n", "--", target, check=False)
    assert process.returncode != 0
    said = process.stdout + process.stderr
    assert re.search("unknown data set|6n \\+ 4|unknown attack|unknown experiment", said)


def test_planning_says_once_which_methods_keep_their_own_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("REPRODUCE_CONFIG", "")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    settings = {"preset": "paper", "train": {"epochs": 3}}
    for _ in range(2):  # and a process that gets the configuration handed on
        Harness(settings)
    said = capsys.readouterr().err
    assert said.count("train.epochs=3 is not for rst (200)") == 1
    assert len(said.splitlines()) == 1


def test_planning_names_finished_runs_of_other_settings(
    tiny: Callable[..., Config],
    attacked: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("REPRODUCE_CONFIG", "")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    for epochs, count in ((3, 0), (4, 1)):
        config = tiny(f"results={attacked}", f"train.epochs={epochs}")
        monkeypatch.setenv("REPRODUCE_CONFIG", "")
        Harness(config.model_dump(mode="json"))
        assert capsys.readouterr().err.count("--forcerun train evaluate") == count


def test_jobs_get_the_paths_that_were_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRODUCE_CONFIG", "")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    Harness({"preset": "demo", "results": "$SCRATCH/r", "data": {"folder": "$SCRATCH/d"}})
    monkeypatch.setenv("SCRATCH", "elsewhere")
    config = load_config(os.environ["REPRODUCE_CONFIG"])
    assert (config.results, config.data.folder) == (tmp_path / "r", tmp_path / "d")


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
